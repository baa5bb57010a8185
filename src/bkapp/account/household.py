"""The household: its people, its address, invitations."""

from datetime import UTC, datetime
from io import BytesIO
from typing import Annotated, Any
from uuid import UUID

import segno
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath, PathParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import Asking, MaybeAsking, citizen
from bkapp.access.operations import Caller
from bkapp.account.shared import (
    FORM,
    Answer,
    Html,
    fields_of,
    go_to,
    household_of,
    me_of,
    page,
    problem_of,
    record_own_read,
    refusal_of,
    refuse_page,
)
from bkapp.address import codes
from bkapp.address import queries as addresses
from bkapp.address.queries import Summary
from bkapp.address.rules import Status
from bkapp.errors import DomainError
from bkapp.households import flows, operations, queries
from bkapp.households.operations import HouseholdView
from bkapp.households.queries import ClaimRow
from bkapp.households.rules import MemberRole, MemberSource, MemberStatus, Relation, opens_home
from bkapp.http import Reading, Transaction, anyone, today
from bkapp.pages import account as shown
from bkapp.pages.account import Card, Choice, Claim, Invited, Me, Member, Problem, Sent

HERE = "/toi/ho-gia-dinh"
RELATIONS = [Choice(relation.value, relation.value) for relation in Relation]

Token = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_-]{1,100}$")]


class HouseholdController(Controller):
    """Hộ gia đình."""

    path = HERE
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/", guards=[citizen])
    async def show(self, state: State, reading: Reading, asking: Asking, request: Request) -> Html:
        """The household as the population register has it; it is asked once a day."""
        return await _page(state, reading, request, asking)

    @post("/hoi-lai", guards=[citizen], opt={"flow": True, **FORM})
    async def ask_again(self, state: State, asking: Asking, request: Request) -> Response[None]:
        """Ask the population register anew, at most once a minute."""
        await household_of(state, request, asking, again=True)
        return go_to(HERE)

    @post("/loi-moi", guards=[citizen], opt={"flow": True, **FORM}, status_code=200)
    async def invite(self, state: State, asking: Asking, request: Request) -> Html:
        """Make an invitation and show its link, this once.

        The link is in this answer and nowhere else: no address, no cookie and no stored answer has it.
        """
        typed = await fields_of(request)
        try:
            relation = Relation(typed.get("relation", ""))
            _, token = await flows.invite(state.sessions, asking, relation)
        except ValueError:
            problem = Problem("Chưa tạo được lời mời", [shown.FieldProblem("relation", "Hãy chọn quan hệ với chủ hộ.")])
            return await _again(state, request, asking, problem, typed, status=422)
        except DomainError as error:
            return await _again(state, request, asking, problem_of(error), typed, status=error.status)
        link = f"{state.settings.base_url}/moi/{token}"
        return await _again(state, request, asking, None, {}, invited=Invited(link, _qr(link)), status=200)

    @post("/loi-moi/{invitation_id:uuid}/huy", guards=[citizen], opt=FORM)
    async def revoke(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        invitation_id: FromPath[UUID],
    ) -> Answer:
        """End an invitation."""
        work = operations.revoke(transaction, asking, invitation_id, now=datetime.now(UTC))
        error = await refusal_of(transaction, work)
        if error is not None:
            return await _again(state, request, asking, problem_of(error), {}, status=error.status)
        return go_to(HERE)

    @post("/dia-chi/{claim_id:uuid}/rut", guards=[citizen], opt=FORM)
    async def withdraw(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        claim_id: FromPath[UUID],
    ) -> Answer:
        """Take a claim back."""
        error = await refusal_of(transaction, operations.withdraw(transaction, asking, claim_id, today=today()))
        if error is not None:
            return await _again(state, request, asking, problem_of(error), {}, status=error.status)
        return go_to(HERE)

    @post("/roi", guards=[citizen], opt=FORM)
    async def leave(self, state: State, transaction: Transaction, asking: Asking, request: Request) -> Answer:
        """Leave the household one was invited to, or take back that one waits to be in it."""
        error = await refusal_of(transaction, operations.leave_own(transaction, asking, today=today()))
        if error is not None:
            return await _again(state, request, asking, problem_of(error), {}, status=error.status)
        return go_to(HERE)

    @post("/thanh-vien/{membership_id:uuid}/moi-ra", guards=[citizen], opt=FORM)
    async def end_member(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        membership_id: FromPath[UUID],
    ) -> Answer:
        """End the membership of somebody who was invited."""
        error = await refusal_of(transaction, operations.dismiss(transaction, asking, membership_id, today=today()))
        if error is not None:
            return await _again(state, request, asking, problem_of(error), {}, status=error.status)
        return go_to(HERE)


class InvitationController(Controller):
    """Lời mời vào hộ gia đình: the page that an invitation's link opens."""

    path = "/moi"
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/{token:str}", guards=[anyone])
    async def show(
        self, state: State, reading: Reading, maybe_asking: MaybeAsking, request: Request, token: Token
    ) -> Html:
        """What it means to accept.  Whose household it is stays unsaid: a link may be read over a shoulder."""
        known = maybe_asking is not None and maybe_asking.person is not None
        me = await me_of(state, reading, request, maybe_asking) if known and maybe_asking else None
        return page("invitation.html", me=me, token=token, problem=None)

    @post("/{token:str}", guards=[citizen], opt=FORM)
    async def accept(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, token: Token
    ) -> Answer:
        """Accept; from here on an officer decides."""
        work = operations.accept(transaction, asking, token, now=datetime.now(UTC))
        error = await refusal_of(transaction, work)
        if error is not None:
            async with state.readers.begin() as reading:
                me = await me_of(state, reading, request, asking)
            return page("invitation.html", status=error.status, me=me, token=token, problem=problem_of(error))
        return go_to(HERE)


async def view_of(
    session: AsyncSession, request: Request, asking: Caller, found: HouseholdView, me: Me
) -> shown.HouseholdView | None:
    """A household for its page.  The reads of people are recorded where they were made; that of the address here."""
    own = found.membership
    if own is None:
        return None
    waiting = own.status is not MemberStatus.ACTIVE
    home = next((home for home in found.addresses if home.status is Status.CURRENT), None)
    claim = found.claim
    if claim is None and home is None and not waiting:
        claim = next(iter(await queries.claims_of(session, own.household_id, limit=1)), None)
    head = own.role is MemberRole.HEAD and not waiting
    exact = opens_home(own.source, own.checked_at, now=datetime.now(UTC))
    return shown.HouseholdView(
        members=[
            Member(
                id=str(member.id),
                name=me.name if member.is_me else member.name,
                head=member.role is MemberRole.HEAD,
                relation=member.relation,
                me=member.is_me,
                waiting=member.status is MemberStatus.WAITING,
                can_end=member.can_end,
            )
            for member in found.members
        ],
        head=head,
        waiting=waiting,
        can_leave=own.source is MemberSource.INVITATION,
        address=await _card(session, request, asking, home, exact=exact) if home else None,
        claim=_claim(claim, asking) if claim else None,
        hindrance=found.hindrance,
        invitations=await _open_invitations(session, own.household_id) if head else [],
    )


async def _card(session: AsyncSession, request: Request, asking: Caller, home: Summary, *, exact: bool) -> Card:
    details = await addresses.details(session, home.code) if exact else None
    await record_own_read(session, request, asking, home.code)
    parts: list[str | None] = []
    if details is not None:
        number = f"Số {details.house_number}" if details.house_number else None
        parts = [details.door, details.floor, details.building, number, details.street]
    return Card(
        code=home.code,
        display=codes.display(home.code),
        door=", ".join(part for part in parts if part) or None,
        hamlet=home.hamlet,
        unit_name=home.unit.name,
    )


def _claim(row: ClaimRow, asking: Caller) -> Claim:
    return Claim(
        id=str(row.id),
        display=codes.display(row.code),
        new=row.is_new,
        status=row.status.value,
        at=row.created_at,
        reason=row.reason,
        mine=row.person_id == asking.person,
    )


async def _open_invitations(session: AsyncSession, household_id: UUID) -> list[Sent]:
    now = datetime.now(UTC)
    return [
        Sent(id=str(row.id), relation=row.relation, until=row.expires_at)
        for row in await queries.invitations(session, household_id)
        if row.used_at is None and row.revoked_at is None and row.expires_at > now
    ]


async def _again(
    state: State,
    request: Request,
    asking: Caller,
    problem: Problem | None,
    typed: dict[str, str],
    *,
    status: int,
    invited: Invited | None = None,
) -> Html:
    """The page once more, from a form."""
    async with state.readers.begin() as reading:
        return await _page(
            state, reading, request, asking, problem, typed, invited=invited, within=reading, status=status
        )


async def _page(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    problem: Problem | None = None,
    typed: dict[str, str] | None = None,
    *,
    invited: Invited | None = None,
    within: AsyncSession | None = None,
    status: int = 200,
) -> Html:
    found, away, unknown = await household_of(state, request, asking, within=within)
    me = await me_of(state, reading, request, asking)
    values: dict[str, Any] = {"problem": problem, "typed": typed or {}, "invited": invited, "relations": RELATIONS}
    return page(
        "household.html",
        status=status,
        me=me,
        household=await view_of(reading, request, asking, found, me) if found else None,
        away=away,
        unknown=unknown,
        checked=found.checked_at if found else None,
        **values,
    )


def _qr(link: str) -> str:
    file = BytesIO()
    segno.make(link, error="m").save(file, kind="svg", xmldecl=False, svgns=True, nl=False, omitsize=True, border=2)
    return file.getvalue().decode().replace("<svg ", '<svg role="img" aria-label="Mã QR của lời mời" ', 1)
