"""What the API of personal data takes and gives."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from msgspec import Meta, Struct

from bkapp.privacy.models import SubjectRequest
from bkapp.privacy.purposes import Basis, ConsentState
from bkapp.privacy.queries import Case, PurposeState, Read
from bkapp.privacy.rules import LIMITS, RequestKind, RequestStatus

# Without control characters: PostgreSQL takes no NUL, and the rest is no text.
_LETTER = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
Words = Annotated[str, Meta(min_length=1, max_length=2000, pattern=rf"^{_LETTER}*[^\s\x00-\x1f\x7f]{_LETTER}*$")]


class GiveConsent(Struct, frozen=True, forbid_unknown_fields=True):
    """A yes to one purpose, in the words that were shown."""

    purpose: Annotated[str, Meta(max_length=64, examples=["contact_phone"])]
    text_version: Annotated[str, Meta(max_length=32, description="The version of the text that the person saw.")]


class OwnPhone(Struct, frozen=True, forbid_unknown_fields=True):
    """A mobile number, or null to have none."""

    phone: Annotated[str, Meta(max_length=32, examples=["0912 345 678"])] | None


class AskForData(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person asks about their data; ``details`` in their own words."""

    kind: RequestKind
    details: Words | None = None


class Acknowledge(Struct, frozen=True, forbid_unknown_fields=True):
    """``with_processor``: somebody who processes for us has to act too, which has a longer limit by law."""

    with_processor: bool = False


class Extend(Struct, frozen=True, forbid_unknown_fields=True):
    """More time, once; the person sees the reason."""

    days: Annotated[int, Meta(ge=1, le=15)]
    reason: Words


class CloseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What was done; the person sees it."""

    outcome: Words


class RefuseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Why not; the person sees it."""

    reason: Words


class PurposeOut(Struct, frozen=True):
    id: str
    title: Annotated[str, Meta(description="Vietnamese.")]
    text: Annotated[str, Meta(description="Vietnamese; show it whole before asking for consent.")]
    text_version: str
    basis: Basis
    act: Annotated[str, Meta(description="The legal ground.")]
    data: Annotated[list[str], Meta(description="Kinds of data, in Vietnamese.")]
    state: Annotated[ConsentState, Meta(description="Nothing is given until the person gives it.")]
    given_version: str | None
    given_at: datetime | None
    withdrawn_at: datetime | None

    @classmethod
    def of(cls, found: PurposeState) -> Self:
        purpose = found.purpose
        return cls(
            purpose.id,
            purpose.title,
            purpose.text,
            purpose.version,
            purpose.basis,
            purpose.act,
            list(purpose.data),
            found.state,
            found.given_version,
            found.given_at,
            found.withdrawn_at,
        )


class PurposesOut(Struct, frozen=True):
    """``controller`` is the authority that answers for personal data; show it with each text."""

    controller: str
    items: list[PurposeOut]


class ReadOut(Struct, frozen=True):
    at: datetime
    who: Annotated[str, Meta(description="Vietnamese: an office, the person, or somebody of the household.")]
    what: Annotated[str, Meta(description="Vietnamese.")]
    about: Annotated[str, Meta(description="`person`, `household`, or the code of an address.")]

    @classmethod
    def of(cls, read: Read) -> Self:
        return cls(read.at, read.who, read.what, read.about)


class ReadsOut(Struct, frozen=True):
    """``next`` is what to send as ``before`` for older ones; null on the last page."""

    items: list[ReadOut]
    next: int | None


class RequestOut(Struct, frozen=True, kw_only=True):
    """A request as its person sees it.  What they wrote is not repeated here."""

    id: UUID
    kind: RequestKind
    title: Annotated[str, Meta(description="Vietnamese.")]
    status: RequestStatus
    received_at: datetime
    acknowledge_by: datetime
    acknowledged_at: datetime | None
    due_at: datetime
    extended_at: datetime | None
    extension_reason: str | None
    closed_at: datetime | None
    outcome: str | None

    @classmethod
    def of(cls, row: SubjectRequest) -> Self:
        return cls(
            id=row.id,
            kind=row.kind,
            title=LIMITS[row.kind].title,
            status=row.status,
            received_at=row.received_at,
            acknowledge_by=row.acknowledge_by,
            acknowledged_at=row.acknowledged_at,
            due_at=row.due_at,
            extended_at=row.extended_at,
            extension_reason=row.extension_reason,
            closed_at=row.closed_at,
            outcome=row.outcome,
        )


class RequestsOut(Struct, frozen=True):
    items: list[RequestOut]


class StepOut(Struct, frozen=True):
    """Where a request stands after a step of the data officer.  It is kept for repeats, so it says nothing else."""

    id: UUID
    kind: RequestKind
    status: RequestStatus
    due_at: datetime
    closed_at: datetime | None

    @classmethod
    def of(cls, row: SubjectRequest) -> Self:
        return cls(row.id, row.kind, row.status, row.due_at, row.closed_at)


class CaseOut(Struct, frozen=True, kw_only=True):
    """A request as the data officer sees it; that they saw it is recorded."""

    id: UUID
    person: UUID
    name: str | None
    restricted: Annotated[bool, Meta(description="The person's data are not to be used by consent.")]
    kind: RequestKind
    title: str
    details: str | None
    status: RequestStatus
    received_at: datetime
    acknowledge_by: datetime
    acknowledged_at: datetime | None
    due_at: datetime
    extension_reason: str | None
    next_due: datetime | None
    days_left: Annotated[int | None, Meta(description="Until the day that is due next; negative when it is past.")]
    overdue: bool
    closed_at: datetime | None
    outcome: str | None

    @classmethod
    def of(cls, case: Case, *, name: str | None, details: str | None, now: datetime) -> Self:
        standing = case.standing(now)
        return cls(
            id=case.id,
            person=case.person_id,
            name=name,
            restricted=case.restricted,
            kind=case.kind,
            title=LIMITS[case.kind].title,
            details=details,
            status=case.status,
            received_at=case.received_at,
            acknowledge_by=case.acknowledge_by,
            acknowledged_at=case.acknowledged_at,
            due_at=case.due_at,
            extension_reason=case.extension_reason,
            next_due=standing.next_due if standing else None,
            days_left=standing.days_left if standing else None,
            overdue=bool(standing and standing.overdue),
            closed_at=case.closed_at,
            outcome=case.outcome,
        )


class CasesOut(Struct, frozen=True):
    """``next`` is what to send as ``after`` for the next page; null on the last."""

    items: list[CaseOut]
    next: UUID | None
