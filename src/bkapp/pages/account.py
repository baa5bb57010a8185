"""What the pages of who has signed in are told; see :mod:`bkapp.pages` for how.

Every page has ``me: Me``; a form that was refused has ``problem: Problem``, else it is None.

    account/home.html        notices: Sequence[NoticeView], household: HouseholdView | None, away: bool,
                             unknown: Problem | None
    account/household.html   household: HouseholdView | None, away: bool, unknown: Problem | None,
                             checked: datetime | None, invited: Invited | None, relations: Sequence[Choice],
                             problem, typed
    account/claim.html       hindrance: str | None, unknown: Problem | None, q: str,
                             hits: Sequence[Spot], hamlets: Sequence[Choice], unit_name: str | None,
                             tried: bool, problem, typed
    account/pin.html         pin: Pin, steps: Sequence[int], registered: str | None, hamlets: Sequence[Choice],
                             problem, typed
    account/review.html      found: Sequence[Line], pin: Pin | None, sent: Mapping[str, str], back: str, problem
    account/invitation.html  me: Me | None, token: str, problem
    account/devices.html     devices: Sequence[Device], problem
    account/data.html        profile: Sequence[Line], purposes: Sequence[PurposeView], tasks: Sequence[Line],
                             requests: Sequence[RequestView], sure: bool, reads: Sequence[ReadView], recent: bool,
                             asks: Sequence[Choice], problem, typed
    account/reads.html       reads: Sequence[ReadView], older: int | None
    account/erase.html       consequences: Sequence[str], problem
    account/work.html        claims: Sequence[ClaimWork], more_claims: bool, memberships: Sequence[MemberWork],
                             more_memberships: bool, problem, of: str
    account/requests.html    requests: Sequence[RequestWork], more: str | None, most_days: int, typed,
                             problem, of: str
    account/bills.html       bills: Sequence[BillCard], more: str | None
    account/bill.html        bill: BillCard, parts, facts, back: Sequence[Line], clocks: Sequence[ClockView],
                             live: TryCard | None, methods: Sequence[Choice], tries: Sequence[TryCard], problem
    account/attempt.html     attempt: TryCard, paid: bool, twice: date | None, transfer: Sequence[Line],
                             refresh: int | None (seconds), go: str | None, problem
    account/came_back.html   me: None, stands: str
    account/confirmation.html me: None, valid: bool, refunded: str | None, facts: Sequence[Line]
    account/issued_bills.html bills: Sequence[BillCard], more: str | None, made: str | None, problem
    account/issue_bill.html  units, kinds: Sequence[Choice], rows: Sequence[int], problem, typed
    account/treasury.html    ledger, unmatched: str, holds: bool, tasks: Sequence[Line], problem
    account/cases.html       cases: Sequence[CaseWork], more: str | None, problem, of: str, typed
    account/refunds.html     waiting, by_hand: Sequence[RefundWork], problem, of: str, typed
    account/statements.html  merchants, sources: Sequence[Choice], days: Sequence[DayView], taken: str | None, problem,
                             typed
    account/messages.html    counts: Sequence[Line], letters: Sequence[LetterView], failing: Sequence[EndpointView]
    account/step_up.html     href: str
    account/assurance.html   nothing
"""

from collections.abc import Sequence
from datetime import date, datetime

from msgspec import Struct


class Me(Struct, frozen=True, kw_only=True):
    """Who has signed in.  ``name`` is None where it may not be told."""

    name: str | None
    officer: bool = False
    registrar: bool = False


class FieldProblem(Struct, frozen=True):
    """What is wrong with a field, by the name it has in the form; ``""`` where it is no field's."""

    field: str
    text: str


class Problem(Struct, frozen=True):
    """A refusal, as it is told above a form."""

    title: str
    fields: Sequence[FieldProblem] = ()

    def of(self, field: str) -> str:
        """What is wrong with one field."""
        return " ".join(problem.text for problem in self.fields if problem.field == field)


class NoticeView(Struct, frozen=True):
    """What a person is told.  ``kind`` is one of identity's or payments' kinds, ``device`` a browser in few words,
    ``bill`` the id of the bill it is about."""

    id: str
    kind: str
    at: datetime
    device: str | None = None
    bill: str | None = None


class Member(Struct, frozen=True, kw_only=True):
    """A person of the household.  ``can_end``: they were invited, and the head who reads this may end that."""

    id: str
    name: str | None
    head: bool
    relation: str | None = None
    me: bool = False
    waiting: bool = False
    can_end: bool = False


class Card(Struct, frozen=True, kw_only=True):
    """The household's address."""

    code: str
    display: str
    door: str | None
    hamlet: str | None
    unit_name: str


class Claim(Struct, frozen=True, kw_only=True):
    """The household's last claim of an address."""

    id: str
    display: str
    new: bool
    status: str
    at: datetime
    reason: str | None = None
    mine: bool = True


class Sent(Struct, frozen=True, kw_only=True):
    """An invitation that has not been used."""

    id: str
    relation: str | None
    until: datetime


class HouseholdView(Struct, frozen=True, kw_only=True):
    """A household as its members see it.

    ``waiting``: the reader's own membership waits for an officer; ``can_leave``: it began with an invitation.
    ``hindrance`` is why no address can be claimed now.
    """

    members: Sequence[Member]
    head: bool
    waiting: bool
    address: Card | None
    claim: Claim | None
    hindrance: str | None = None
    invitations: Sequence[Sent] = ()
    can_leave: bool = False


class Invited(Struct, frozen=True):
    """An invitation that was just made: its link, which is shown once, and the same as a QR code (SVG)."""

    link: str
    qr: str


class Choice(Struct, frozen=True):
    """A line of a list to choose from."""

    value: str
    text: str


class Spot(Struct, frozen=True):
    """A place that was found, with the map around it."""

    text: str
    href: str


class Pin(Struct, frozen=True, kw_only=True):
    """A point on the map, in degrees.  ``near`` says what is there; ``unit_name`` is None outside of Bắc Kạn."""

    lon: str
    lat: str
    zoom: int
    closer: int | None
    wider: int | None
    step: int
    accuracy_m: str | None
    near: str | None
    unit_name: str | None
    map_href: str


class Line(Struct, frozen=True):
    """A value with its label."""

    label: str
    value: str


class Device(Struct, frozen=True, kw_only=True):
    """A sign-in of a person."""

    id: str
    name: str
    app: bool
    since: datetime
    seen: datetime
    here: bool


class PurposeView(Struct, frozen=True, kw_only=True):
    """A purpose of processing that needs a yes, and whether it was given."""

    key: str
    title: str
    text: str
    version: str
    given: datetime | None
    outdated: bool = False
    data: str = ""  # the kinds of it
    withdrawn: datetime | None = None


class RequestView(Struct, frozen=True, kw_only=True):
    """What a person asked about their data."""

    title: str
    status: str
    at: datetime
    due: datetime
    left: str
    reason: str | None = None  # why it takes longer
    closed: datetime | None = None
    outcome: str | None = None


class ReadView(Struct, frozen=True):
    """Somebody read something of a person's, ``times`` pieces of it at once."""

    at: datetime
    who: str
    what: str
    times: int = 1


class ClaimWork(Struct, frozen=True, kw_only=True):
    """A claim that waits for an officer."""

    id: str
    who: str
    display: str
    new: bool
    place: str
    at: datetime
    map_href: str | None = None


class MemberWork(Struct, frozen=True, kw_only=True):
    """A membership that waits for an officer."""

    id: str
    who: str
    relation: str | None
    home: str | None
    at: datetime


class RequestWork(Struct, frozen=True, kw_only=True):
    """A data subject's request, as the data officer sees it."""

    id: str
    who: str
    title: str
    erase: bool
    at: datetime
    acknowledge_left: str | None
    due: datetime
    left: str
    late: bool
    extended: bool
    details: str | None


class BillCard(Struct, frozen=True, kw_only=True):
    """What somebody owes or has paid; ``amount`` as people write it."""

    id: str
    code: str
    title: str
    status: str
    amount: str
    agency: str
    dossier: str | None
    at: datetime
    due: date | None
    paid: datetime | None


class ClockView(Struct, frozen=True):
    """Money of the payer's that somebody settles by the end of ``due``."""

    kind: str
    due: date
    amount: str | None


class TryCard(Struct, frozen=True, kw_only=True):
    """A try at paying.

    ``bill``, ``code`` and ``title`` are the bill's; ``href`` is where the payer goes on and ``qr`` the code for their
    bank (SVG), while it waits for them.  ``unreachable``: the provider was not reached; ``abandoned``: another way was
    chosen.
    """

    id: str
    bill: str
    code: str
    title: str
    status: str
    amount: str
    method: str
    reference: str
    at: datetime
    until: datetime
    href: str | None = None
    qr: str | None = None
    unreachable: bool = False
    abandoned: bool = False


class CaseWork(Struct, frozen=True, kw_only=True):
    """Something about money for the treasury desk.

    ``receipt`` is the id of the money it is about and ``left`` what can still be given back of it; ``held``: the money
    is in suspense, so the case closes by what becomes of it.
    """

    id: str
    title: str
    due: datetime
    late: bool
    amount: str | None
    left: str | None
    receipt: str | None
    held: bool
    bill: str | None
    merchant: str | None
    detail: str


class RefundWork(Struct, frozen=True, kw_only=True):
    """A refund that waits for the treasury desk; ``own``: the reader asked for it, so another one decides."""

    id: str
    reference: str
    amount: str
    reason: str
    at: datetime
    bill: str | None
    receipt: int
    merchant: str
    own: bool


class DayView(Struct, frozen=True, kw_only=True):
    """A merchant's day: what came, and what the files of the provider and of the bank say; None where one is not
    there."""

    title: str
    day: date
    received: str
    provider: str | None
    bank: str | None
    open: int


class LetterView(Struct, frozen=True, kw_only=True):
    """A message of a provider that was not believed."""

    at: datetime
    merchant: str
    what: str
    reason: str
    bytes: int


class EndpointView(Struct, frozen=True, kw_only=True):
    """A partner's address that does not take what we tell it."""

    label: str
    since: datetime | None
    failures: int
    waiting: int
    active: bool
