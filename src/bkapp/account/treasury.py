"""The province's treasury desk: suspense, cases, refunds, files to reconcile with, messages that were not believed."""

import re
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Annotated
from uuid import UUID

import multipart
from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import Asking, admin
from bkapp.access.operations import Caller, record_read
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
from bkapp.errors import DomainError, FieldError, Malformed
from bkapp.http import Reading, Transaction, request_id_of, today
from bkapp.pages.account import (
    CaseWork,
    Choice,
    DayView,
    EndpointView,
    FieldProblem,
    LetterView,
    Line,
    Problem,
    RefundWork,
)
from bkapp.payments import references, statements
from bkapp.payments.confirmations import money
from bkapp.payments.flows.importing import take_file
from bkapp.payments.matching import Type
from bkapp.payments.operations import refund_desk as desk
from bkapp.payments.operations.cases import HOLDING
from bkapp.payments.queries import bills, inbox, outgoing, reconciling, refunds, treasury
from bkapp.payments.queries.reconciling import Side
from bkapp.payments.queries.refunds import CaseDetails, RefundDetails
from bkapp.payments.rules import CaseKind, Place, RefundStatus
from bkapp.payments.statements import Source

HERE = "/can-bo/doi-soat"
CASES, REFUNDS, FILES = f"{HERE}/vu-viec", f"{HERE}/hoan-tien", f"{HERE}/sao-ke"
CASES_SHOWN, REFUNDS_SHOWN, DAYS_SHOWN, LETTERS_SHOWN = 2, 2, 8, 15  # the pages stay small
LOOKED_BACK = timedelta(days=7)
BESIDE = 64 * 1024  # bytes of a form beside its file
KINDS = {
    CaseKind.DUPLICATE: "Trả hai lần",
    CaseKind.AMOUNT: "Sai số tiền",
    CaseKind.CLOSED_BILL: "Tiền đến sau khi khoản thu đã hủy",
    CaseKind.UNIDENTIFIED: "Tiền chưa rõ của ai",
    CaseKind.CONFLICT: "Tiền đã hoàn một phần nhưng bị báo là chưa từng đến",
    CaseKind.OVERREFUND: "Hoàn nhiều hơn số đã thu",
    CaseKind.REFUND_FAILED: "Hoàn tiền không thành công",
    CaseKind.MISSING: "Có trong sổ, không có trong tệp đối soát",
    CaseKind.STATUS: "Kết quả khác với tệp đối soát",
}
SOURCES = [Choice(Source.PROVIDER.value, "Kênh thanh toán"), Choice(Source.BANK.value, "Ngân hàng")]
_TYPES = {
    Type.MATCHED: "khớp",
    Type.ONLY_OURS: "chỉ sổ cái có",
    Type.ONLY_THEIRS: "chỉ tệp có",
    Type.AMOUNT: "lệch tiền",
    Type.STATUS: "lệch kết quả",
    Type.DUPLICATE: "trùng",
    Type.REFUND: "lệch hoàn tiền",
}
_TRANSACTION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._/-]{2,99}")


class TreasuryController(Controller):
    """Đối soát và hoàn tiền."""

    path = HERE
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/", guards=[admin])
    async def show(self, state: State, reading: Reading, asking: Asking, request: Request) -> Html:
        """Suspense beside what it is made of, and how much waits."""
        me = await me_of(state, reading, request, asking)
        suspense = await reconciling.suspense(reading)
        waiting = await treasury.waiting(reading, now=datetime.now(UTC))
        tasks = [
            ("Vụ việc đang mở", f"{waiting.cases}, quá hạn {waiting.late}"),
            ("Hoàn tiền chờ duyệt", str(waiting.to_approve)),
            ("Hoàn tiền chờ chuyển", str(waiting.to_transfer)),
        ]
        return page(
            "treasury.html",
            me=me,
            ledger=_signed(suspense.balance),
            unmatched=_signed(suspense.unmatched),
            holds=suspense.holds,
            tasks=[Line(*task) for task in tasks],
        )

    @get("/vu-viec", guards=[admin])
    async def cases(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        after: Annotated[UUID | None, QueryParameter(name="sau")] = None,
    ) -> Html:
        """The open cases, those due first first."""
        return await _cases_page(state, reading, request, asking, after=after)

    @post("/vu-viec/{case_id:uuid}/hoan", guards=[admin], opt=FORM)
    async def refund(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, case_id: FromPath[UUID]
    ) -> Answer:
        """Ask for money of a case to be given back: all that is left, or the amount that was typed."""
        typed = await fields_of(request)
        receipt, amount = _id(typed.get("receipt", "")), _amount(typed.get("amount", ""))
        wrong = []
        if amount == 0:
            wrong.append(FieldProblem(f"amount-{case_id}", "Hãy ghi số tiền bằng đồng, ví dụ 20000."))
        if not _is_reason(typed.get("reason", "")):
            wrong.append(FieldProblem(f"reason-{case_id}", "Hãy ghi lý do, từ 3 đến 500 ký tự."))
        if wrong or receipt is None:
            return await _cases_again(state, request, asking, Problem("Chưa đề nghị được", wrong), case_id, status=422)
        work = desk.ask_refund(
            transaction,
            asking,
            receipt_id=receipt,
            amount=amount,
            reason=typed["reason"],
            limit=state.settings.refund_limit,
            refund_id=None,
            now=datetime.now(UTC),
        )
        return await _after_case(state, transaction, request, asking, work, case_id)

    @post("/vu-viec/{case_id:uuid}/ghi", guards=[admin], opt=FORM)
    async def apply(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, case_id: FromPath[UUID]
    ) -> Answer:
        """Let money in suspense pay an open bill of the same amount."""
        typed = await fields_of(request)
        receipt, code = _id(typed.get("receipt", "")), typed.get("bill", "").upper()
        bill = await bills.bill_by_code(transaction, code) if references.is_reference(code) else None
        if bill is None or receipt is None:
            told = FieldProblem(f"bill-{case_id}", "Không có khoản phải nộp mang mã này.")
            problem = Problem("Chưa ghi được", [told])
            return await _cases_again(state, request, asking, problem, case_id, status=422)
        work = desk.apply_receipt(transaction, asking, receipt, bill, now=datetime.now(UTC))
        return await _after_case(state, transaction, request, asking, work, case_id)

    @post("/vu-viec/{case_id:uuid}/khep", guards=[admin], opt=FORM)
    async def close(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, case_id: FromPath[UUID]
    ) -> Answer:
        """Say how a case was settled."""
        typed = await fields_of(request)
        if not _is_reason(typed.get("outcome", "")):
            told = FieldProblem(f"outcome-{case_id}", "Hãy ghi cách xử lý, từ 3 đến 500 ký tự.")
            problem = Problem("Chưa khép lại được", [told])
            return await _cases_again(state, request, asking, problem, case_id, status=422)
        work = desk.close_case(transaction, asking, case_id, outcome=typed["outcome"], now=datetime.now(UTC))
        return await _after_case(state, transaction, request, asking, work, case_id)

    @get("/hoan-tien", guards=[admin])
    async def refunds(self, state: State, reading: Reading, asking: Asking, request: Request) -> Html:
        """Refunds that wait for a second person, and those that the treasury transfers."""
        return await _refunds_page(state, reading, request, asking)

    @post("/hoan-tien/{refund_id:uuid}/duyet", guards=[admin], opt=FORM)
    async def approve(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, refund_id: FromPath[UUID]
    ) -> Answer:
        """Agree, as a second person."""
        work = desk.approve_refund(transaction, asking, refund_id, now=datetime.now(UTC))
        return await _after_refund(state, transaction, request, asking, work, refund_id)

    @post("/hoan-tien/{refund_id:uuid}/tu-choi", guards=[admin], opt=FORM)
    async def reject(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, refund_id: FromPath[UUID]
    ) -> Answer:
        """The money is not given back."""
        reason = (await fields_of(request)).get("reason", "")
        if not _is_reason(reason):
            told = FieldProblem(f"reason-{refund_id}", "Hãy ghi lý do, từ 3 đến 500 ký tự.")
            problem = Problem("Chưa ghi lý do", [told])
            return await _refunds_again(state, request, asking, problem, refund_id, status=422)
        work = desk.reject_refund(transaction, asking, refund_id, reason=reason, now=datetime.now(UTC))
        return await _after_refund(state, transaction, request, asking, work, refund_id)

    @post("/hoan-tien/{refund_id:uuid}/da-chuyen", guards=[admin], opt=FORM)
    async def transferred(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, refund_id: FromPath[UUID]
    ) -> Answer:
        """The treasury has transferred what the provider cannot give back."""
        number = (await fields_of(request)).get("transaction", "")
        if _TRANSACTION.fullmatch(number) is None:
            told = FieldProblem(f"transaction-{refund_id}", "Hãy ghi số giao dịch như trên chứng từ của ngân hàng.")
            problem = Problem("Chưa ghi nhận được", [told])
            return await _refunds_again(state, request, asking, problem, refund_id, status=422)
        work = desk.record_transfer(transaction, asking, refund_id, transaction=number, now=datetime.now(UTC))
        return await _after_refund(state, transaction, request, asking, work, refund_id)

    @get("/sao-ke", guards=[admin])
    async def files(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        taken: Annotated[str, QueryParameter(name="nhan", max_length=3)] = "",
    ) -> Html:
        """The form for a file, and the last days three ways."""
        told = {"moi": "Đã nhận và đối soát tệp.", "cu": "Tệp này đã nhận trước đây, không ghi lại."}
        return await _files_page(state, reading, request, asking, taken=told.get(taken))

    @post("/sao-ke", guards=[admin], opt={"flow": True}, request_max_body_size=statements.MOST_BYTES + BESIDE)
    async def take(self, state: State, asking: Asking, request: Request) -> Answer:
        """Take a file and reconcile it.  The same bytes again are the same import."""
        typed, name, data = _form_of(await request.body(), request.content_type[1].get("boundary", ""))
        source = typed.get("source", "")
        try:
            if source not in set(Source) or not data:
                raise Malformed("A file and its source are needed.", [FieldError("/file", "missing")])
            taken = await take_file(
                state.sessions,
                typed.get("merchant", ""),
                source=Source(source),
                name=name,
                data=data,
                by=asking.id,
                now=datetime.now(UTC),
            )
        except DomainError as error:
            line = error.facts.get("line")
            where = f"Xem dòng {line} của tệp." if line else "Hãy chọn đúng kênh, nguồn và tệp."
            problem = Problem(error.title, [FieldProblem("file", where)])
            async with state.readers.begin() as reading:
                return await _files_page(state, reading, request, asking, problem, typed, status=error.status)
        return go_to(f"{FILES}?nhan={'moi' if taken.new else 'cu'}")

    @get("/tin-bao", guards=[admin])
    async def messages(self, state: State, reading: Reading, asking: Asking, request: Request) -> Html:
        """Messages that were not believed, and partners who do not take ours."""
        me = await me_of(state, reading, request, asking)
        since = datetime.now(UTC) - LOOKED_BACK
        counts = await treasury.refused(reading, since=since)
        letters = await inbox.letters(
            reading, outcomes=treasury.NOT_BELIEVED, merchant=None, before=None, limit=LETTERS_SHOWN
        )
        failing = [one for one in await outgoing.endpoints(reading) if one.failures or not one.active]
        words = {"refused": "bị từ chối", "broken": "gặp lỗi của ta"}
        return page(
            "messages.html",
            me=me,
            counts=[Line(f"{one.merchant}, {words[one.outcome]}", str(one.count)) for one in counts],
            letters=[
                LetterView(
                    at=one.received_at,
                    merchant=one.merchant,
                    what=one.what,
                    reason=one.reason or "",
                    bytes=one.body_bytes,
                )
                for one in letters
                if one.received_at >= since
            ],
            failing=[
                EndpointView(
                    label=one.label,
                    since=one.failing_since,
                    failures=one.failures,
                    waiting=(await outgoing.waiting_for(reading, one.id)).messages,
                    active=one.active,
                )
                for one in failing
            ],
        )


# --- cases --------------------------------------------------------------------------------------------------------


async def _after_case(
    state: State,
    transaction: AsyncSession,
    request: Request,
    asking: Caller,
    work: Awaitable[object],
    case_id: UUID,
) -> Answer:
    error = await refusal_of(transaction, work)
    if error is not None:
        return await _cases_again(state, request, asking, problem_of(error), case_id, status=error.status)
    return go_to(CASES)


async def _cases_again(
    state: State, request: Request, asking: Caller, problem: Problem, case_id: UUID, *, status: int
) -> Html:
    typed = await fields_of(request)
    async with state.readers.begin() as reading:
        return await _cases_page(state, reading, request, asking, problem, of=case_id, typed=typed, status=status)


async def _cases_page(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    problem: Problem | None = None,
    *,
    after: UUID | None = None,
    of: UUID | None = None,
    typed: Mapping[str, str] | None = None,
    status: int = 200,
) -> Html:
    me = await me_of(state, reading, request, asking)
    found = await refunds.cases(reading, None, is_open=True, kind=None, limit=CASES_SHOWN + 1, after=after)
    shown = found[:CASES_SHOWN]
    if of is not None and of not in {case.id for case in shown}:
        # The one whose form was refused stands first, wherever it was.
        about = await refunds.case(reading, of)
        shown = [about, *shown] if about is not None else shown
    now = datetime.now(UTC)
    return page(
        "cases.html",
        status=status,
        me=me,
        cases=[_case(case, now) for case in shown],
        more=str(found[CASES_SHOWN - 1].id) if len(found) > CASES_SHOWN else None,
        problem=problem,
        of=str(of or ""),
        typed=typed or {},
    )


def _case(row: CaseDetails, now: datetime) -> CaseWork:
    left = (row.amount or 0) - (row.refunded or 0) - (row.reserved or 0)
    gone = row.place is None or row.place is Place.REVERSED or left == 0
    held = row.kind in HOLDING and row.place is Place.SUSPENSE and (row.refunded or 0) < (row.amount or 0)
    return CaseWork(
        id=str(row.id),
        title=KINDS[row.kind],
        due=row.due_at,
        late=row.due_at < now,
        amount=None if row.amount is None else money(row.amount),
        left=None if gone else money(left),
        receipt=None if row.receipt_id is None else str(row.receipt_id),
        held=held,
        bill=row.bill_code,
        merchant=row.merchant_key,
        detail=row.detail,
    )


# --- refunds ------------------------------------------------------------------------------------------------------


async def _after_refund(
    state: State,
    transaction: AsyncSession,
    request: Request,
    asking: Caller,
    work: Awaitable[object],
    refund_id: UUID,
) -> Answer:
    error = await refusal_of(transaction, work)
    if error is not None:
        return await _refunds_again(state, request, asking, problem_of(error), refund_id, status=error.status)
    return go_to(REFUNDS)


async def _refunds_again(
    state: State, request: Request, asking: Caller, problem: Problem, refund_id: UUID, *, status: int
) -> Html:
    typed = await fields_of(request)
    async with state.readers.begin() as reading:
        return await _refunds_page(state, reading, request, asking, problem, of=refund_id, typed=typed, status=status)


async def _refunds_page(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    problem: Problem | None = None,
    *,
    of: UUID | None = None,
    typed: Mapping[str, str] | None = None,
    status: int = 200,
) -> Html:
    me = await me_of(state, reading, request, asking)
    waiting = await refunds.refunds(reading, status=RefundStatus.WAITING, limit=REFUNDS_SHOWN, after=None)
    by_hand = await treasury.to_transfer(reading, limit=REFUNDS_SHOWN)
    subjects = [str(row.person or f"receipt:{row.receipt_id}") for row in [*waiting, *by_hand]]
    for subject in dict.fromkeys(subjects):
        await record_read(
            reading,
            asking,
            subject=subject,
            what=str(request.scope["path_template"]),
            request_id=request_id_of(request.scope),
        )
    return page(
        "refunds.html",
        status=status,
        me=me,
        waiting=[_refund(row, asking) for row in waiting],
        by_hand=[_refund(row, asking) for row in by_hand],
        problem=problem,
        of=str(of or ""),
        typed=typed or {},
    )


def _refund(row: RefundDetails, asking: Caller) -> RefundWork:
    return RefundWork(
        id=str(row.id),
        reference=row.reference,
        amount=money(row.amount),
        reason=row.reason,
        at=row.requested_at,
        bill=row.bill_code,
        receipt=row.receipt_number,
        merchant=row.merchant_key,
        own=row.requested_by == asking.id,
    )


# --- files --------------------------------------------------------------------------------------------------------


async def _files_page(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    problem: Problem | None = None,
    typed: Mapping[str, str] | None = None,
    *,
    taken: str | None = None,
    status: int = 200,
) -> Html:
    me = await me_of(state, reading, request, asking)
    until = today()
    days = await reconciling.days(reading, until - timedelta(days=30), until)
    return page(
        "statements.html",
        status=status,
        me=me,
        merchants=[Choice(one.key, one.title) for one in await treasury.merchants(reading)],
        sources=SOURCES,
        days=[
            DayView(
                title=row.title,
                day=row.date,
                received=f"{row.received.count} khoản, {money(row.received.amount)}",
                provider=_side(row.provider),
                bank=_side(row.bank),
                open=row.open,
            )
            for row in days[:DAYS_SHOWN]
        ],
        taken=taken,
        problem=problem,
        typed=typed or {},
    )


def _side(side: Side | None) -> str | None:
    """What a file's lines came to, by type."""
    if side is None:
        return None
    found = ", ".join(f"{one.count} {_TYPES[one.kind]}" for one in side.found)
    return f"{side.lines} dòng" + (f": {found}" if found else "")


def _form_of(body: bytes, boundary: str) -> tuple[dict[str, str], str, bytes]:
    """The fields of a form with a file, the file's name and its bytes, all in memory."""
    fields: dict[str, str] = {}
    name, data = "", b""
    try:
        parts = multipart.MultipartParser(
            BytesIO(body), boundary, strict=True, part_limit=10, spool_limit=len(body) + 1, memory_limit=len(body) + 1
        ).parts()
        for part in parts:
            if part.filename is None:
                fields[part.name] = part.value[:200]
            else:
                name, data = part.filename, part.raw
            part.close()
    except (multipart.MultipartError, UnicodeDecodeError):
        raise Malformed("The form cannot be read.", [FieldError("", "no multipart/form-data")]) from None
    last = re.split(r"[/\\]", name)[-1]
    return fields, "".join(sign for sign in last if sign.isprintable())[:120] or "khong-ten", data


# --- what was typed -----------------------------------------------------------------------------------------------


def _signed(amount: int) -> str:
    return money(amount) if amount >= 0 else f"−{money(-amount)}"


def _is_reason(text: str) -> bool:
    return 3 <= len(text) <= 500


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _amount(text: str) -> int | None:
    """Đồng as people write them, None for nothing; 0, which nobody gives back, for what is no amount."""
    if not text:
        return None
    digits = re.sub(r"[.\s]", "", text)
    return int(digits) if re.fullmatch(r"[0-9]{1,10}", digits) else 0
