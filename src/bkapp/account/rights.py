"""What people asked about their data, as the province's data officer works on it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import STEP_UP_AGE, Asking, admin, require_recent
from bkapp.access.operations import Caller, record_read
from bkapp.account.data import days_in_words
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
from bkapp.errors import DomainError
from bkapp.households.operations import name_of
from bkapp.http import Reading, Transaction, request_id_of
from bkapp.pages.account import FieldProblem, Problem, RequestWork
from bkapp.privacy import operations, queries
from bkapp.privacy.operations import ErasureBlocked
from bkapp.privacy.queries import Case
from bkapp.privacy.rules import EXTEND_BY_AT_MOST, LIMITS, Clock, RequestKind, RequestStatus, standing

HERE = "/can-bo/quyen-du-lieu"
SHOWN = 2  # the page stays small
LONGEST_WORDS = 1000
_DAYS = {str(days) for days in range(1, EXTEND_BY_AT_MOST + 1)}


class RightsController(Controller):
    """Yêu cầu về dữ liệu cá nhân."""

    path = HERE
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/", guards=[admin])
    async def show(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        after: Annotated[UUID | None, QueryParameter(name="sau")] = None,
    ) -> Html:
        """The open requests, those due first first; one that cannot be done yet hides none behind it."""
        return await _page(state, reading, request, asking, after=after)

    @post("/{request_id:uuid}/tiep-nhan", guards=[admin], opt=FORM)
    async def acknowledge(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, request_id: FromPath[UUID]
    ) -> Answer:
        """Tell the person that their request is being worked on."""
        typed = await fields_of(request)
        work = operations.acknowledge(
            transaction,
            request_id,
            actor=asking.id,
            with_processor="with_processor" in typed,
            now=datetime.now(UTC),
        )
        return await _after(state, request, asking, await refusal_of(transaction, work))

    @post("/{request_id:uuid}/gia-han", guards=[admin], opt=FORM)
    async def prolong(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, request_id: FromPath[UUID]
    ) -> Answer:
        """Take more time, once."""
        typed = await fields_of(request)
        of, days = str(request_id), typed.get("days", "")
        if days not in _DAYS:
            told = FieldProblem(f"days-{request_id}", f"Gia hạn từ 1 đến {EXTEND_BY_AT_MOST} ngày.")
            return await _again(state, request, asking, Problem("Chưa gia hạn được", [told]), of, status=422)
        if (wrong := _without_words(typed, of)) is not None:
            return await _again(state, request, asking, wrong, of, status=422)
        work = operations.prolong(
            transaction,
            request_id,
            actor=asking.id,
            days=int(days),
            reason=typed["words"],
            now=datetime.now(UTC),
        )
        return await _after(state, request, asking, await refusal_of(transaction, work), of)

    @post("/{request_id:uuid}/xong", guards=[admin], opt=FORM)
    async def close(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, request_id: FromPath[UUID]
    ) -> Answer:
        """Close a request that was carried out."""
        typed = await fields_of(request)
        of = str(request_id)
        if (wrong := _without_words(typed, of)) is not None:
            return await _again(state, request, asking, wrong, of, status=422)
        work = operations.carry_out(
            transaction, request_id, actor=asking.id, outcome=typed["words"], now=datetime.now(UTC)
        )
        return await _after(state, request, asking, await refusal_of(transaction, work), of)

    @post("/{request_id:uuid}/tu-choi", guards=[admin], opt=FORM)
    async def refuse(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, request_id: FromPath[UUID]
    ) -> Answer:
        """Close a request that is not carried out."""
        typed = await fields_of(request)
        of = str(request_id)
        if (wrong := _without_words(typed, of)) is not None:
            return await _again(state, request, asking, wrong, of, status=422)
        work = operations.refuse(transaction, request_id, actor=asking.id, reason=typed["words"], now=datetime.now(UTC))
        return await _after(state, request, asking, await refusal_of(transaction, work), of)

    @post("/{request_id:uuid}/xoa", guards=[admin], opt=FORM)
    async def erase(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, request_id: FromPath[UUID]
    ) -> Answer:
        """Erase who asked to be; that closes their requests.  It cannot be undone, so the sign-in must be fresh."""
        now = datetime.now(UTC)
        if asking.person is not None:
            require_recent(asking, STEP_UP_AGE, now=now)
        work = _erase(transaction, state, request_id, actor=asking.id, now=now)
        return await _after(state, request, asking, await refusal_of(transaction, work), str(request_id))


async def _erase(session: AsyncSession, state: State, request_id: UUID, *, actor: str, now: datetime) -> None:
    request = await operations.to_erase(session, request_id)
    await operations.erase(session, state.keyring, request.person_id, actor=actor, now=now)


def _without_words(typed: Mapping[str, str], of: str) -> Problem | None:
    if 1 <= len(typed.get("words", "")) <= LONGEST_WORDS:
        return None
    told = FieldProblem(f"words-{of}", f"Hãy ghi cho người dân biết, không quá {LONGEST_WORDS} ký tự.")
    return Problem("Chưa ghi nội dung", [told])


async def _after(state: State, request: Request, asking: Caller, error: DomainError | None, of: str = "") -> Answer:
    if error is None:
        return go_to(HERE)
    problem = problem_of(error)
    if isinstance(error, ErasureBlocked):
        blockers: Any = error.facts["blockers"]
        problem = Problem(error.title, [FieldProblem("", f"{blocker.title}.") for blocker in blockers])
    return await _again(state, request, asking, problem, of, status=error.status)


async def _again(state: State, request: Request, asking: Caller, problem: Problem, of: str, *, status: int) -> Html:
    """The first page once more, with what was typed."""
    typed = await fields_of(request)
    async with state.readers.begin() as reading:
        return await _page(state, reading, request, asking, problem, of=of, typed=typed, status=status)


async def _page(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    problem: Problem | None = None,
    *,
    of: str = "",
    typed: Mapping[str, str] | None = None,
    after: UUID | None = None,
    status: int = 200,
) -> Html:
    me = await me_of(state, reading, request, asking)
    found = await queries.cases(reading, is_open=True, limit=SHOWN + 1, after=after)
    for case in found[:SHOWN]:
        await record_read(
            reading,
            asking,
            subject=str(case.person_id),
            what=str(request.scope["path_template"]),
            request_id=request_id_of(request.scope),
        )
    now = datetime.now(UTC)
    return page(
        "requests.html",
        status=status,
        me=me,
        requests=[_work(state, case, now) for case in found[:SHOWN]],
        more=str(found[SHOWN - 1].id) if len(found) > SHOWN else None,
        most_days=EXTEND_BY_AT_MOST,
        problem=problem,
        of=of,
        typed=typed or {},
    )


def _work(state: State, case: Case, now: datetime) -> RequestWork:
    clock = Clock(case.acknowledge_by, case.due_at)
    whole = standing(RequestStatus.ACKNOWLEDGED, clock, now=now)
    first = standing(case.status, clock, now=now) if case.acknowledged_at is None else None
    return RequestWork(
        id=str(case.id),
        who=name_of(state.keyring, case.person_id, case.name_cipher) or "Người chưa rõ tên",
        title=LIMITS[case.kind].title,
        erase=case.kind is RequestKind.ERASE,
        at=case.received_at,
        acknowledge_left=days_in_words(first.days_left).lower() if first else None,
        due=case.due_at,
        left=days_in_words(whole.days_left),
        late=whole.overdue or bool(first and first.overdue),
        extended=case.extension_reason is not None,
        details=operations.details_of(state.keyring, case.id, case.details_cipher),
    )
