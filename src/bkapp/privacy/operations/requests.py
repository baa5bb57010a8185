"""What people ask about their data: taken, acknowledged, extended, carried out or refused, each step by its clock."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit.operations import append
from bkapp.db import violated
from bkapp.errors import DomainError, NotFound
from bkapp.identity.models import Person
from bkapp.identity.operations import tell
from bkapp.privacy.models import SubjectRequest
from bkapp.privacy.operations.consents import locked, withdraw_all
from bkapp.privacy.rules import Channel, RequestKind, RequestStatus, clock, extend, move
from bkapp.sealing import Keyring, Unsealable

TOLD = "data_request"
"""The notice of a step; its data are ``request`` (an id), ``asked`` (the kind) and ``status``."""


class RequestOpen(DomainError):
    """A request of this kind is open; there is one at a time."""

    code = "request_open"
    title = "Bạn đang có một yêu cầu cùng loại chưa giải quyết xong"


class NeedsErasing(DomainError):
    """A request to erase is done by erasing, which closes it, and by nothing else."""

    code = "request_needs_erasing"
    title = "Yêu cầu xóa chỉ được đóng bằng việc xóa dữ liệu"


class NoErasure(DomainError):
    """The request asks for something else than erasing, so nothing is erased by it."""

    code = "request_is_no_erasure"
    title = "Đây không phải là yêu cầu xóa dữ liệu"


async def ask(
    session: AsyncSession, keyring: Keyring, person_id: UUID, *, kind: RequestKind, details: str | None, now: datetime
) -> SubjectRequest:
    """Take a request; its clock begins.  ``details`` are the person's own words and are sealed."""
    await locked(session, person_id)
    until = clock(kind, now)
    request_id = uuid4()
    request = SubjectRequest(
        id=request_id,
        person_id=person_id,
        kind=kind,
        status=RequestStatus.RECEIVED,
        details_cipher=keyring.seal(details, context(request_id)) if details else None,
        received_at=now,
        acknowledge_by=until.acknowledge_by,
        due_at=until.due_at,
    )
    try:
        async with session.begin_nested():
            session.add(request)
    except IntegrityError as error:
        if violated(error) != "uq_subject_request_open":
            raise
        raise RequestOpen(f"A request to {kind} is open.", kind=kind.value) from None
    await _note(session, request, "request_received", actor=str(person_id))
    return request


async def acknowledge(
    session: AsyncSession, request_id: UUID, *, actor: str, with_processor: bool, now: datetime
) -> SubjectRequest:
    """Tell the person that their request is being worked on.

    ``with_processor`` says that somebody who processes for us has to act too, which has a longer limit by law.
    """
    request = await _locked(session, request_id)
    request.status = move(request.status, RequestStatus.ACKNOWLEDGED)
    request.acknowledged_at = now
    if with_processor:
        # The difference is added, so that an extension taken before stays.
        longer = clock(request.kind, request.received_at, with_processor=True).due_at
        request.due_at += longer - clock(request.kind, request.received_at).due_at
    await _note(session, request, "request_acknowledged", actor=actor, told=True, with_processor=with_processor)
    return request


async def prolong(
    session: AsyncSession, request_id: UUID, *, actor: str, days: int, reason: str, now: datetime
) -> SubjectRequest:
    """Take more time, once, with a reason that the person sees."""
    request = await _locked(session, request_id)
    _require_open(request)
    request.due_at = extend(request.due_at, days=days, extended=request.extended_at is not None, now=now)
    request.extended_at = now
    request.extension_reason = reason
    await _note(session, request, "request_extended", actor=actor, told=True, days=days)
    return request


async def carry_out(
    session: AsyncSession, request_id: UUID, *, actor: str, outcome: str, now: datetime
) -> SubjectRequest:
    """Close a request that was carried out.

    What can be done here is done with it: ``restrict`` marks the person, ``withdraw`` ends their consents.
    """
    request = await _locked(session, request_id)
    _require_open(request)
    if request.kind is RequestKind.ERASE:
        raise NeedsErasing("Erase the person instead; that closes the request.")
    person = await locked(session, request.person_id)
    _close(request, RequestStatus.DONE, actor=actor, outcome=outcome, now=now)
    if request.kind is RequestKind.RESTRICT:
        person.restricted_at = person.restricted_at or now
    if request.kind is RequestKind.WITHDRAW:
        await withdraw_all(session, person.id, actor=actor, channel=Channel.OFFICE, now=now)
    await _note(session, request, "request_done", actor=actor, told=True)
    return request


async def refuse(session: AsyncSession, request_id: UUID, *, actor: str, reason: str, now: datetime) -> SubjectRequest:
    """Close a request that is not carried out, with a reason that the person sees."""
    request = await _locked(session, request_id)
    _close(request, RequestStatus.REFUSED, actor=actor, outcome=reason, now=now)
    await _note(session, request, "request_refused", actor=actor, told=True)
    return request


async def to_erase(session: AsyncSession, request_id: UUID) -> SubjectRequest:
    """The open request to erase of this id."""
    request = await _locked(session, request_id)
    _require_open(request)
    if request.kind is not RequestKind.ERASE:
        raise NoErasure(f"This request is to {request.kind}.")
    return request


async def lift_restriction(session: AsyncSession, person_id: UUID, *, actor: str) -> None:
    """The person wants their data to be used again.  Safe to repeat."""
    person = await locked(session, person_id)
    if person.restricted_at is None:
        return
    person.restricted_at = None
    await session.flush()
    await append(session, kind="restriction_lifted", actor=actor, subject=str(person_id))


def details_of(keyring: Keyring, request_id: UUID, sealed: bytes | None) -> str | None:
    """The words of a request.  Whoever calls this records the read."""
    if sealed is None:
        return None
    try:
        return keyring.open(sealed, context(request_id))
    except Unsealable:
        return None


def context(request_id: UUID) -> str:
    """What the details of a request are sealed for."""
    return f"request.details:{request_id}"


def _close(request: SubjectRequest, to: RequestStatus, *, actor: str, outcome: str, now: datetime) -> None:
    request.status = move(request.status, to)
    request.closed_at = now
    request.closed_by = actor
    request.outcome = outcome


def _require_open(request: SubjectRequest) -> None:
    move(request.status, RequestStatus.DONE)


async def _locked(session: AsyncSession, request_id: UUID) -> SubjectRequest:
    """A request that nobody else changes until we are done; its person first, as erasing locks them."""
    of = select(SubjectRequest.person_id).where(SubjectRequest.id == request_id).scalar_subquery()
    await session.execute(select(Person.id).where(Person.id == of).with_for_update())
    request = await session.get(SubjectRequest, request_id, with_for_update=True, populate_existing=True)
    if request is None:
        raise NotFound("There is no such request.")
    return request


async def _note(
    session: AsyncSession,
    request: SubjectRequest,
    kind: str,
    *,
    actor: str,
    told: bool = False,
    **data: int | bool,
) -> None:
    """Tell the person if they did not do it themselves, and add it to the chain."""
    await session.flush()
    about = {"request": str(request.id), "asked": request.kind.value}
    if told:
        await tell(session, request.person_id, TOLD, **about, status=request.status.value)
    await append(
        session,
        kind=kind,
        actor=actor,
        subject=str(request.person_id),
        **about,
        **data,
    )
