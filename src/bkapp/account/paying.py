"""What a person owes and pays: bills, a try at paying, the way back from a provider, checking a confirmation."""

from datetime import UTC, date, datetime
from io import BytesIO
from typing import Annotated
from uuid import UUID, uuid5

import segno
from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath, PathParameter, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import Asking, MaybeAsking, citizen
from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.account.shared import (
    FORM,
    Answer,
    Html,
    fields_of,
    go_to,
    me_of,
    page,
    problem_of,
    record_own_read,
    refusal_of,
    refuse_page,
)
from bkapp.edge import remote_address
from bkapp.errors import DomainError, KeyMissing, NotFound
from bkapp.http import HANOI, Reading, Transaction, anyone
from bkapp.pages.account import BillCard, Choice, ClockView, FieldProblem, Line, Me, Problem, TryCard
from bkapp.payments import confirmations, references, vietqr
from bkapp.payments.confirmations import money
from bkapp.payments.flows import paying
from bkapp.payments.operations import attempts, showing
from bkapp.payments.operations.attempts import AlreadyBeingPaid, AttemptOver, BillSettled
from bkapp.payments.queries import bills as queries
from bkapp.payments.queries.bills import AttemptRow, BillRow, ReceiptRow, RefundRow
from bkapp.payments.rules import LIVE, AttemptStatus, BillStatus, CaseKind, Place, RefundStatus
from bkapp.payments.schemas.bills import payer_ip, poll_after_ms, way_on

HERE = "/toi/hoa-don"
TRYING = "/toi/thanh-toan"
SHOWN = 10  # bills on a page
TRIES_SHOWN = 8
LEAST_REFRESH = 3  # seconds: a page is more to load than an answer of the API
# Banks by their NAPAS number, for who transfers by hand; others are told by the number.
BANKS = {
    "970403": "Sacombank",
    "970405": "Agribank",
    "970407": "Techcombank",
    "970415": "VietinBank",
    "970416": "ACB",
    "970418": "BIDV",
    "970422": "MB",
    "970423": "TPBank",
    "970432": "VPBank",
    "970436": "Vietcombank",
}
_REFUNDS = {
    RefundStatus.WAITING: "đang chờ duyệt",
    RefundStatus.APPROVED: "sắp chuyển",
    RefundStatus.UNKNOWN: "đang hỏi ngân hàng",
    RefundStatus.PENDING: "ngân hàng đang chuyển",
    RefundStatus.SUCCEEDED: "đã chuyển",
    RefundStatus.FAILED: "chuyển chưa được, chúng tôi đang xử lý",
    RefundStatus.REJECTED: "không hoàn",
}

Reference = Annotated[str, PathParameter(max_length=20)]
Token = Annotated[str, PathParameter(max_length=40)]


class BillPages(Controller):
    """Khoản phải nộp."""

    path = HERE
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/", guards=[citizen])
    async def bills(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        after: Annotated[UUID | None, QueryParameter(name="sau")] = None,
    ) -> Html:
        """What one owes and what one paid, newest first."""
        me = await me_of(state, reading, request, asking)
        assert asking.person is not None, "the guard lets only people in"
        found = await queries.bills_of(reading, asking.person, limit=SHOWN + 1, after=after)
        more = str(found[SHOWN - 1].id) if len(found) > SHOWN else None
        return page("bills.html", me=me, bills=[card_of(row) for row in found[:SHOWN]], more=more)

    @get("/{bill_id:uuid}", guards=[citizen])
    async def bill(
        self, state: State, reading: Reading, asking: Asking, request: Request, bill_id: FromPath[UUID]
    ) -> Html:
        """One bill, with the ways to pay it."""
        return await _bill_page(state, reading, request, asking, bill_id)

    @post("/{bill_id:uuid}/tra", guards=[citizen], opt={"flow": True, **FORM})
    async def pay(self, state: State, asking: Asking, request: Request, bill_id: FromPath[UUID]) -> Answer:
        """Start paying.

        The id follows from the form's key and the method, so a form sent twice is one attempt.  The answer leads to a
        page of ours and never straight to the provider: browsers let a form lead to where our policy allows alone.
        """
        typed = await fields_of(request)
        key, method = typed.get("idempotency_key", ""), typed.get("method", "")
        if not key:
            raise KeyMissing("The form has no key.")
        async with state.readers.begin() as reading:
            await showing.own_bill(reading, asking, bill_id)
            known = {row.key for row in await queries.methods(reading)}
        if method not in known:
            told = Problem("Chưa chọn cách nộp", [FieldProblem("pay", "Hãy chọn một cách nộp.")])
            return await _bill_again(state, request, asking, bill_id, told, status=422)
        try:
            made = await paying.start(
                state.sessions,
                state.providers,
                state.keyring,
                home=state.base_url,
                bill_id=bill_id,
                method=method,
                attempt_id=uuid5(bill_id, f"{asking.id}\0{key}\0{method}"),
                payer_ip=payer_ip(remote_address(request.scope, state.settings.trusted_proxies)),  # type: ignore[arg-type]
                by=asking.id,
                now=datetime.now(UTC),
            )
        except (AlreadyBeingPaid, BillSettled) as error:
            return await _bill_again(state, request, asking, bill_id, problem_of(error), status=error.status)
        leaving = made.status in LIVE and made.redirect_url is not None
        return go_to(f"{TRYING}/{made.id}{'?di=1' if leaving else ''}")


class AttemptPages(Controller):
    """Thanh toán."""

    path = TRYING
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/{attempt_id:uuid}", guards=[citizen])
    async def attempt(
        self,
        reading: Reading,
        asking: Asking,
        attempt_id: FromPath[UUID],
        go: Annotated[str, QueryParameter(name="di", max_length=1)] = "",
    ) -> Html:
        """How a try at paying stands, again and again until it is over; with ``di`` straight on to the provider."""
        return await _attempt_page(reading, asking, attempt_id, go=bool(go))

    @post("/{attempt_id:uuid}/cach-khac", guards=[citizen], opt=FORM)
    async def abandon(
        self, state: State, transaction: Transaction, asking: Asking, attempt_id: FromPath[UUID]
    ) -> Answer:
        """Choose another way."""
        row = await showing.own_attempt(transaction, asking, attempt_id)
        work = attempts.abandon(transaction, attempt_id, by=asking.id, now=datetime.now(UTC))
        error = await refusal_of(transaction, work)
        if isinstance(error, AttemptOver):
            # It has come to an end meanwhile, which the page tells.
            return go_to(f"{TRYING}/{attempt_id}")
        if error is not None:
            async with state.readers.begin() as reading:
                return await _attempt_page(reading, asking, attempt_id, problem_of(error), status=error.status)
        return go_to(f"{HERE}/{row.bill_id}")


class ReturnPages(Controller):
    """Where browsers come back to from providers, and where confirmations are checked."""

    path = "/"
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/thanh-toan/ve/{reference:str}", guards=[anyone])
    async def came_back(
        self, state: State, maybe_asking: MaybeAsking, request: Request, reference: Reference
    ) -> Answer:
        """The browser came back from the provider.  Its payer goes on to the attempt; others learn how it stands, and
        nothing else."""
        if not references.is_reference(reference):
            raise NotFound("There is no such payment.")
        made = await paying.returned(
            state.sessions,
            state.providers,
            state.keyring,
            home=state.base_url,
            reference=reference,
            query=request.scope["query_string"],
            now=datetime.now(UTC),
        )
        if maybe_asking is not None and await _is_own(state, maybe_asking, made.bill_id):
            return go_to(f"{TRYING}/{made.id}")
        return page("came_back.html", me=None, stands=made.status.value)

    @get("/xac-nhan/{token:str}", guards=[anyone])
    async def check(self, state: State, reading: Reading, token: Token) -> Html:
        """Whether a confirmation is genuine and what it is worth today.  It tells nobody's name."""
        if state.keyring is None:
            raise NotFound("There is no such confirmation.")
        found = await showing.check(reading, state.keyring, token)
        facts = [
            Line("Số", f"{found.number:07d}"),
            Line("Số tiền", money(found.amount)),
            Line("Nộp cho", found.agency),
            Line("Thủ tục", found.procedure_name),
        ]
        if found.dossier_code:
            facts.append(Line("Mã hồ sơ", confirmations.masked(found.dossier_code)))
        facts.append(Line("Thời điểm", confirmations.moment(found.received_at)))
        return page(
            "confirmation.html",
            me=None,
            valid=found.place is Place.APPLIED,
            refunded=money(found.refunded) if found.refunded else None,
            facts=facts,
        )


def card_of(row: BillRow) -> BillCard:
    """A bill as the pages show it."""
    return BillCard(
        id=str(row.id),
        code=row.code,
        title=row.description,
        status=row.status.value,
        amount=money(row.amount),
        agency=row.agency,
        dossier=row.dossier_code,
        at=row.created_at,
        due=row.due_on,
        paid=row.paid_at,
    )


async def _is_own(state: State, asking: Caller, bill_id: UUID) -> bool:
    async with state.readers.begin() as reading:
        row = await queries.bill(reading, bill_id)
    return row is not None and showing.is_own(asking, row)


async def _bill_again(
    state: State, request: Request, asking: Caller, bill_id: UUID, problem: Problem, *, status: int
) -> Html:
    async with state.readers.begin() as reading:
        return await _bill_page(state, reading, request, asking, bill_id, problem, status=status)


async def _bill_page(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    bill_id: UUID,
    problem: Problem | None = None,
    *,
    status: int = 200,
) -> Html:
    row = await showing.own_bill(reading, asking, bill_id)
    me = await me_of(state, reading, request, asking)
    await record_own_read(reading, request, asking, showing.subject_of(row))
    tries = [_try(one, row) for one in await queries.attempts(reading, row.id, limit=TRIES_SHOWN)]
    receipts = await queries.receipts(reading, row.id)
    cases = await queries.cases(reading, row.id)
    open_now = row.status is BillStatus.OPEN
    return page(
        "bill.html",
        status=status,
        me=me,
        bill=card_of(row),
        parts=[
            Line(f"{confirmations.KINDS[line.kind]}: {line.name}", money(line.amount))
            for line in await queries.lines(reading, row.id)
        ],
        facts=_facts(state, row),
        clocks=[
            ClockView(case.kind.value, _day(case.due_at), None if case.amount is None else money(case.amount))
            for case in cases
        ],
        back=_back(receipts, await queries.refunds(reading, [receipt.id for receipt in receipts])),
        live=next((one for one in tries if AttemptStatus(one.status) in LIVE), None),
        methods=[Choice(one.key, one.title) for one in await queries.methods(reading)] if open_now else [],
        tries=tries,
        problem=problem,
    )


def _facts(state: State, row: BillRow) -> list[Line]:
    facts = [("Người nộp", showing.payer_name(state.keyring, row)), ("Thủ tục", row.procedure_name)]
    facts += [("Mã hồ sơ", row.dossier_code), ("Nộp cho", row.agency), ("Xã, phường lập", row.unit_name)]
    facts += [("Hạn nộp", f"{row.due_on:%d/%m/%Y}" if row.due_on else None), ("Mã khoản nộp", row.code)]
    return [Line(label, value) for label, value in facts if value]


def _back(receipts: list[ReceiptRow], refunds: list[RefundRow]) -> list[Line]:
    """Money on its way back, and of what."""
    titles = {receipt.id: receipt.title for receipt in receipts}
    return [
        Line(
            f"{_REFUNDS[one.status]}, khoản trả qua {titles[one.receipt_id]}, mã {one.reference}",
            money(one.amount),
        )
        for one in refunds
        if one.status is not RefundStatus.REJECTED
    ]


async def _attempt_page(
    reading: AsyncSession,
    asking: Caller,
    attempt_id: UUID,
    problem: Problem | None = None,
    *,
    go: bool = False,
    status: int = 200,
) -> Html:
    row = await showing.own_attempt(reading, asking, attempt_id)
    bill = await showing.own_bill(reading, asking, row.bill_id)
    shown = _try(row, bill)
    twice = None
    if row.status is AttemptStatus.SUCCEEDED:
        cases = await queries.cases(reading, bill.id)
        twice = next((_day(case.due_at) for case in cases if case.kind is CaseKind.DUPLICATE), None)
    live = row.status in LIVE
    wait = poll_after_ms(datetime.now(UTC) - row.created_at) // 1000
    return page(
        "attempt.html",
        status=status,
        # Loaded again and again, so it names nobody, and there is no read of a name to record each time.
        me=Me(name=None, officer=asking.role in {Role.OFFICER, Role.ADMIN}, registrar=asking.role is Role.ADMIN),
        attempt=shown,
        paid=bill.status is BillStatus.PAID,
        twice=twice,
        transfer=_transfer(row.qr, bill) if shown.qr and row.qr else [],
        refresh=max(LEAST_REFRESH, wait) if live else None,
        go=shown.href if go else None,
        problem=problem,
    )


def _try(row: AttemptRow, bill: BillRow) -> TryCard:
    live = row.status in LIVE
    return TryCard(
        id=str(row.id),
        bill=str(bill.id),
        code=bill.code,
        title=bill.description,
        status=row.status.value,
        amount=money(row.amount),
        method=row.title,
        reference=row.reference,
        at=row.created_at,
        until=row.expires_at,
        href=way_on(row.redirect_url) if live else None,
        qr=_qr(row.qr) if live and row.qr else None,
        unreachable=row.failure_code == "unreachable",
        abandoned=row.failure_code == "abandoned",
    )


def _day(at: datetime) -> date:
    """The day it is in Bắc Kạn at a moment."""
    return at.astimezone(HANOI).date()


def _transfer(code: str, bill: BillRow) -> list[Line]:
    """What to type where a QR code cannot be scanned: what stands in the code itself."""
    asked = vietqr.parse(code)
    lines = [
        Line("Ngân hàng", BANKS.get(asked.bank_bin, f"Mã NAPAS {asked.bank_bin}")),
        Line("Số tài khoản", asked.account),
        Line("Chủ tài khoản", bill.account_name),
        Line("Số tiền", money(asked.amount or 0)),
        Line("Nội dung", asked.purpose),
    ]
    return [line for line in lines if line.value]


def _qr(text: str) -> str:
    file = BytesIO()
    segno.make_qr(text, error="M").save(file, kind="svg", xmldecl=False, svgns=True, nl=False, omitsize=True, border=4)
    return file.getvalue().decode().replace("<svg ", '<svg role="img" aria-label="Mã VietQR để chuyển khoản" ', 1)
