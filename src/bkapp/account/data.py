"""A person's data: what is kept, who read it, what they agreed to, what they asked."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import ENOUGH_FOR_OWN_DATA, STEP_UP_AGE, Asking, citizen, signed_in
from bkapp.access.operations import Caller
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
from bkapp.errors import DomainError, Forbidden
from bkapp.http import Reading, Transaction
from bkapp.identity.operations import open_person
from bkapp.pages.account import Choice, FieldProblem, Line, Problem, PurposeView, ReadView, RequestView
from bkapp.privacy import operations, queries
from bkapp.privacy.models import SubjectRequest
from bkapp.privacy.purposes import Basis, ConsentState
from bkapp.privacy.queries import PurposeState, Read
from bkapp.privacy.rules import LIMITS, MYSELF, Clock, RequestKind, RequestStatus, standing

HERE = "/toi/du-lieu"
READS_SHOWN = 3
READS_LOOKED_THROUGH = 400  # for those that are not the person's own
READS_ON_A_PAGE = 40
LONGEST_WORDS = 1000
REQUESTS_SHOWN = 3
# Asking to erase has a page of its own, which says what it means.
ASKED_HERE = [kind for kind in RequestKind if kind is not RequestKind.ERASE]


class DataController(Controller):
    """Dữ liệu của tôi."""

    path = HERE
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/", guards=[signed_in])
    async def show(self, state: State, reading: Reading, asking: Asking, request: Request) -> Html:
        """What is kept, who read it, what it is used for."""
        return await _page(state, reading, request, asking)

    @get("/luot-xem", guards=[citizen])
    async def reads(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        before: Annotated[int | None, QueryParameter(name="truoc", ge=1, le=9_000_000_000_000_000)] = None,
    ) -> Html:
        """Every read there was, the person's own too, newest first."""
        me = await me_of(state, reading, request, asking)
        found = await queries.reads(reading, _person(asking), limit=READS_ON_A_PAGE + 1, before=before)
        more = found[READS_ON_A_PAGE - 1].id if len(found) > READS_ON_A_PAGE else None
        return page("reads.html", me=me, reads=_reads(found[:READS_ON_A_PAGE]), older=more)

    @post("/dong-y", guards=[signed_in], opt=FORM)
    async def answer(self, state: State, transaction: Transaction, asking: Asking, request: Request) -> Answer:
        """Agree, or not, to one purpose."""
        typed = await fields_of(request)
        person, purpose = _person(asking), typed.get("purpose", "")
        channel, now = operations.channel_of(asking), datetime.now(UTC)
        work: Any
        if typed.get("answer") == "give":
            version = typed.get("version", "")
            work = operations.give_consent(transaction, person, purpose, text_version=version, channel=channel, now=now)
        elif typed.get("answer") == "withdraw":
            work = operations.withdraw_consent(transaction, person, purpose, actor=asking.id, channel=channel, now=now)
        else:
            problem = Problem("Chưa ghi nhận được ý kiến của bạn", [FieldProblem("dong-y", "Hãy chọn lại.")])
            return await _again(state, request, asking, problem, {}, status=422)
        error = await refusal_of(transaction, work)
        if error is not None:
            return await _again(state, request, asking, problem_of(error), {}, status=error.status)
        return go_to(f"{HERE}#dong-y")

    @post("/yeu-cau", guards=[signed_in], opt=FORM)
    async def ask(self, state: State, transaction: Transaction, asking: Asking, request: Request) -> Answer:
        """Ask for something about one's data; the clock of the law begins."""
        typed = await fields_of(request)
        details = typed.get("details") or None
        if typed.get("kind") not in ASKED_HERE:
            problem = Problem("Chưa gửi được yêu cầu", [FieldProblem("kind", "Hãy chọn bạn muốn gì.")])
            return await _again(state, request, asking, problem, typed, status=422)
        if details and len(details) > LONGEST_WORDS:
            told = FieldProblem("details", f"Xin viết không quá {LONGEST_WORDS} ký tự.")
            problem = Problem("Chưa gửi được yêu cầu", [told])
            return await _again(state, request, asking, problem, typed, status=422)
        work = operations.ask(
            transaction,
            state.keyring,
            _person(asking),
            kind=RequestKind(typed["kind"]),
            details=details,
            now=datetime.now(UTC),
        )
        error = await refusal_of(transaction, work)
        if error is not None:
            problem = Problem(error.title, [FieldProblem("kind", f"{error.title}.")])
            return await _again(state, request, asking, problem, typed, status=error.status)
        return go_to(f"{HERE}#yeu-cau")

    @get("/xoa", guards=[signed_in])
    async def erasing(self, state: State, reading: Reading, asking: Asking, request: Request) -> Html:
        """What being erased means."""
        me = await me_of(state, reading, request, asking)
        return page("erase.html", me=me, consequences=_CONSEQUENCES, problem=None)

    @post("/xoa", guards=[signed_in], opt=FORM)
    async def ask_erasing(self, state: State, transaction: Transaction, asking: Asking, request: Request) -> Answer:
        """Ask to be erased."""
        work = operations.ask(
            transaction,
            state.keyring,
            _person(asking),
            kind=RequestKind.ERASE,
            details=None,
            now=datetime.now(UTC),
        )
        error = await refusal_of(transaction, work)
        if error is not None:
            async with state.readers.begin() as reading:
                me = await me_of(state, reading, request, asking)
            problem = problem_of(error)
            return page("erase.html", status=error.status, me=me, consequences=_CONSEQUENCES, problem=problem)
        return go_to(f"{HERE}#yeu-cau")


_CONSEQUENCES = (
    "Tên, số định danh, ngày sinh, điện thoại của bạn bị xóa khỏi hệ thống.",
    "Bạn bị đăng xuất khỏi mọi thiết bị, và không còn trong hộ gia đình trên hệ thống.",
    "Địa chỉ của ngôi nhà vẫn còn, nhưng không gắn với bạn nữa.",
    "Sổ tiền đã nộp và nhật ký hệ thống còn giữ con số, không có tên bạn. Luật yêu cầu như vậy.",
    "Khi bạn đang nộp tiền, hoặc còn tiền chờ hoàn, phải chờ xong rồi mới xóa được.",
    "Dữ liệu ở Cơ sở dữ liệu quốc gia về dân cư và VNeID không thay đổi.",
    "Lần sau đăng nhập, bạn bắt đầu lại từ đầu.",
    f"Cán bộ dữ liệu của tỉnh giải quyết trong {LIMITS[RequestKind.ERASE].days} ngày. Trước lúc đó chưa có gì bị xóa.",
)


def _person(asking: Caller) -> Any:
    if asking.person is None:
        raise Forbidden("This is for a person who has signed in.")
    return asking.person


async def _again(
    state: State, request: Request, asking: Caller, problem: Problem, typed: dict[str, str], *, status: int
) -> Html:
    async with state.readers.begin() as reading:
        return await _page(state, reading, request, asking, problem, typed, status=status)


async def _page(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    problem: Problem | None = None,
    typed: dict[str, str] | None = None,
    *,
    status: int = 200,
) -> Html:
    me = await me_of(state, reading, request, asking)
    person, now = _person(asking), datetime.now(UTC)
    recent = asking.authenticated_at is not None and now - asking.authenticated_at <= STEP_UP_AGE
    sure = asking.level >= ENOUGH_FOR_OWN_DATA
    found = await queries.reads(reading, person, limit=READS_LOOKED_THROUGH) if sure else []
    others = [one for one in found if one.who != MYSELF]
    purposes = await queries.purposes_for(reading, person)
    asked = await queries.requests_of(reading, person)
    # Those whose clock runs come first; each part has the newest first.
    requests = sorted(asked, key=lambda one: one.closed_at is not None)[:REQUESTS_SHOWN]
    return page(
        "data.html",
        status=status,
        me=me,
        profile=await _profile(state, reading, asking, whole=recent),
        purposes=[_purpose(one) for one in purposes if one.purpose.basis is Basis.CONSENT],
        tasks=[Line(one.purpose.title, one.purpose.act) for one in purposes if one.purpose.basis is Basis.TASK],
        sure=sure,
        requests=[_request(one, now) for one in requests],
        reads=_reads(others)[:READS_SHOWN],
        recent=recent,
        controller=state.settings.data_controller,
        asks=[Choice(kind.value, LIMITS[kind].title) for kind in ASKED_HERE],
        problem=problem,
        typed=typed or {},
    )


async def _profile(state: State, reading: AsyncSession, asking: Caller, *, whole: bool) -> list[Line]:
    """What is kept of who asks.  The number is shown whole only a short time after signing in."""
    opened = await open_person(reading, state.keyring, _person(asking))
    number = opened.number if whole else f"•••••••• {opened.number[-4:]}"
    return [
        Line("Họ tên", opened.name or "Chưa có"),
        Line("Số định danh", number),
        Line("Ngày sinh", f"{opened.birth:%d/%m/%Y}" if opened.birth else "Chưa có"),
        Line("Điện thoại", opened.phone or "Chưa có"),
        Line("Mức độ định danh", str(asking.level)),
    ]


def _purpose(found: PurposeState) -> PurposeView:
    stands = found.state in {ConsentState.GIVEN, ConsentState.OUTDATED}
    return PurposeView(
        key=found.purpose.id,
        title=found.purpose.title,
        text=found.purpose.text,
        data=", ".join(found.purpose.data),
        version=found.purpose.version,
        given=found.given_at if stands else None,
        outdated=found.state is ConsentState.OUTDATED,
        withdrawn=found.withdrawn_at if found.state is ConsentState.WITHDRAWN else None,
    )


def _reads(found: Sequence[Read]) -> list[ReadView]:
    """Reads for the page: what one person read within a minute by the same way is one line."""
    lines = []
    for (_, who, what), together in groupby(found, lambda one: (f"{one.at:%Y%m%d%H%M}", one.who, one.what)):
        reads = list(together)
        lines.append(ReadView(reads[0].at, who, what, len(reads)))
    return lines


def _request(row: SubjectRequest, now: datetime) -> RequestView:
    # The page tells the day it is done by, so the days are counted to that one.
    clock = Clock(row.acknowledge_by, row.due_at)
    left = standing(RequestStatus.ACKNOWLEDGED, clock, now=now).days_left if not row.closed_at else 0
    return RequestView(
        title=LIMITS[row.kind].title,
        status=row.status.value,
        at=row.received_at,
        due=row.due_at,
        left=days_in_words(left),
        reason=row.extension_reason if not row.closed_at else None,
        closed=row.closed_at,
        outcome=row.outcome,
    )


def days_in_words(left: int) -> str:
    """How a clock stands, in words."""
    if left < 0:
        return f"Quá hạn {-left} ngày"
    return f"Còn {left} ngày" if left else "Hạn hôm nay"
