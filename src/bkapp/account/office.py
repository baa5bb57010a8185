"""What officers of communes decide: claims of addresses, and who belongs to a household."""

from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import Asking, officer
from bkapp.access.operations import Caller, record_read, require_reach
from bkapp.account.claiming import drawn
from bkapp.account.maps import View
from bkapp.account.shared import (
    FORM,
    Answer,
    Html,
    fields_of,
    go_to,
    me_of,
    page,
    problem_of,
    refusal_of,
    refuse_page,
)
from bkapp.address import codes
from bkapp.errors import DomainError, NotFound
from bkapp.households import operations, queries
from bkapp.households.queries import ClaimRow, InvitedRow
from bkapp.households.rules import ClaimStatus, MemberStatus
from bkapp.http import Reading, Transaction, request_id_of, today
from bkapp.pages.account import ClaimWork, FieldProblem, MemberWork, Problem

HERE = "/can-bo/viec"
SHOWN = 3  # of each; the page stays small, and the next come up as these are done
SHORTEST_REASON, LONGEST_REASON = 3, 500


class WorkController(Controller):
    """Việc cần làm."""

    path = HERE
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/", guards=[officer])
    async def show(self, state: State, reading: Reading, asking: Asking, request: Request) -> Html:
        """What waits in the officer's units, oldest first."""
        return await _page(state, reading, request, asking)

    @get("/dia-chi/{claim_id:uuid}/ban-do.svg", guards=[officer])
    async def drawing(
        self, state: State, reading: Reading, asking: Asking, request: Request, claim_id: FromPath[UUID]
    ) -> Response[str]:
        """Where a claimed address is.  Its place stands in no address of a page, which browsers keep."""
        claim = await queries.claim(reading, claim_id)
        if claim is None:
            raise NotFound("There is no such claim.")
        require_reach(asking, claim.unit_id)
        await _seen(reading, request, asking, claim.code)
        answer = await drawn(state, reading, View(claim.lon, claim.lat, 16), claim.point_accuracy_m)
        answer.headers["Cache-Control"] = "no-store"
        return answer

    @post("/dia-chi/{claim_id:uuid}/xac-nhan", guards=[officer], opt=FORM)
    async def confirm_claim(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, claim_id: FromPath[UUID]
    ) -> Answer:
        """The address is the household's."""
        work = operations.confirm_claim(transaction, asking, claim_id, today=today())
        return await _after(state, request, asking, await refusal_of(transaction, work))

    @post("/dia-chi/{claim_id:uuid}/tu-choi", guards=[officer], opt=FORM)
    async def refuse_claim(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, claim_id: FromPath[UUID]
    ) -> Answer:
        """The address is not the household's."""
        reason = (await fields_of(request)).get("reason", "")
        if not SHORTEST_REASON <= len(reason) <= LONGEST_REASON:
            return await _without_reason(state, request, asking, claim_id)
        work = operations.refuse_claim(transaction, asking, claim_id, reason=reason, today=today())
        return await _after(state, request, asking, await refusal_of(transaction, work))

    @post("/thanh-vien/{membership_id:uuid}/xac-nhan", guards=[officer], opt=FORM)
    async def confirm_member(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, membership_id: FromPath[UUID]
    ) -> Answer:
        """The person belongs to the household."""
        work = operations.confirm_member(transaction, asking, membership_id)
        return await _after(state, request, asking, await refusal_of(transaction, work))

    @post("/thanh-vien/{membership_id:uuid}/tu-choi", guards=[officer], opt=FORM)
    async def refuse_member(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, membership_id: FromPath[UUID]
    ) -> Answer:
        """The person does not belong to the household."""
        reason = (await fields_of(request)).get("reason", "")
        if not SHORTEST_REASON <= len(reason) <= LONGEST_REASON:
            return await _without_reason(state, request, asking, membership_id)
        work = operations.refuse_member(transaction, asking, membership_id, reason=reason)
        return await _after(state, request, asking, await refusal_of(transaction, work))


async def _after(state: State, request: Request, asking: Caller, error: DomainError | None) -> Answer:
    if error is None:
        return go_to(HERE)
    async with state.readers.begin() as reading:
        return await _page(state, reading, request, asking, problem_of(error), status=error.status)


async def _without_reason(state: State, request: Request, asking: Caller, one: UUID) -> Html:
    told = FieldProblem(f"reason-{one}", "Hãy ghi lý do, từ 3 đến 500 ký tự, để người dân biết.")
    async with state.readers.begin() as reading:
        return await _page(state, reading, request, asking, Problem("Chưa ghi lý do", [told]), of=str(one), status=422)


async def _page(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    problem: Problem | None = None,
    *,
    of: str = "",
    status: int = 200,
) -> Html:
    me = await me_of(state, reading, request, asking)
    claims = await queries.claims_for(reading, asking.unit_ids, status=ClaimStatus.WAITING, limit=SHOWN + 1, after=None)
    members = await queries.invited_for(
        reading, asking.unit_ids, status=MemberStatus.WAITING, limit=SHOWN + 1, after=None
    )
    shown_claims, shown_members = claims[:SHOWN], members[:SHOWN]
    subjects = [claim.code for claim in shown_claims]
    subjects += [f"household:{member.household_id}" for member in shown_members]
    subjects += [str(claim.person_id) for claim in shown_claims]
    subjects += [str(member.person_id) for member in shown_members]
    for subject in dict.fromkeys(subjects):
        await _seen(reading, request, asking, subject)
    return page(
        "work.html",
        status=status,
        me=me,
        claims=[_claim(state, claim) for claim in shown_claims],
        more_claims=len(claims) > SHOWN,
        memberships=[_member(state, member) for member in shown_members],
        more_memberships=len(members) > SHOWN,
        problem=problem,
        of=of,
    )


async def _seen(reading: AsyncSession, request: Request, asking: Caller, subject: str) -> None:
    what = str(request.scope["path_template"])
    await record_read(reading, asking, subject=subject, what=what, request_id=request_id_of(request.scope))


def _claim(state: State, row: ClaimRow) -> ClaimWork:
    number = f"số {row.house_number}" if row.house_number else None
    parts = [row.door, row.floor, row.building, number, row.street, row.unit_name]
    return ClaimWork(
        id=str(row.id),
        who=operations.name_of(state.keyring, row.person_id, row.name_cipher) or "Người chưa rõ tên",
        display=codes.display(row.code),
        new=row.is_new,
        place=", ".join(part for part in parts if part),
        at=row.created_at,
        map_href=f"{HERE}/dia-chi/{row.id}/ban-do.svg",
    )


def _member(state: State, row: InvitedRow) -> MemberWork:
    return MemberWork(
        id=str(row.id),
        who=operations.name_of(state.keyring, row.person_id, row.name_cipher) or "Người chưa rõ tên",
        relation=row.relation,
        home=codes.display(row.code) if row.code else None,
        at=row.created_at,
    )
