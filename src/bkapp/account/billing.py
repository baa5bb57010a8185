"""Where officers ask people for fees in the name of their unit, and take that back."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import Asking, officer
from bkapp.access.operations import Caller, record_read
from bkapp.account.paying import card_of
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
from bkapp.http import Reading, Transaction, request_id_of, today
from bkapp.pages.account import Choice, FieldProblem, Problem
from bkapp.payments import confirmations, references
from bkapp.payments.operations import offices, showing
from bkapp.payments.queries import bills as queries
from bkapp.payments.queries.bills import BillRow
from bkapp.payments.schemas.bills import IssueBill
from bkapp.units import queries as units
from bkapp.units.models import Level

HERE = "/can-bo/hoa-don"
SHOWN = 6  # the page stays small
ROWS = (1, 2, 3)  # fee lines in the form; who needs more asks with the API
KINDS = [Choice(kind.value, name) for kind, name in confirmations.KINDS.items()]
# What to say of a field, by its place in what the API takes; the numbers of lines are left out.
_WORDS = {
    "unit": "Hãy chọn xã, phường.",
    "number": "Số định danh có 12 chữ số.",
    "name": "Hãy ghi họ tên, không quá 200 ký tự.",
    "dossier_code": "Mã hồ sơ gồm chữ không dấu, số và các dấu . _ / -",
    "procedure_code": "Mã thủ tục gồm chữ không dấu, số và các dấu . _ / -",
    "procedure_name": "Hãy ghi tên thủ tục, không quá 500 ký tự.",
    "description": "Hãy ghi nội dung nộp, không quá 200 ký tự.",
    "due_on": "Hãy ghi ngày, ví dụ 31/12/2026.",
    "kind": "Hãy chọn loại.",
    "line": "Hãy ghi tên khoản, không quá 200 ký tự.",
    "amount": "Hãy ghi số tiền bằng đồng, ví dụ 20000.",
}


class BillingController(Controller):
    """Khoản thu của xã."""

    path = HERE
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/", guards=[officer])
    async def show(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        after: Annotated[UUID | None, QueryParameter(name="sau")] = None,
        made: Annotated[str, QueryParameter(name="moi", max_length=20)] = "",
    ) -> Html:
        """What the officer's units have asked for, newest first."""
        made = made if references.is_reference(made) else ""
        return await _list(state, reading, request, asking, after=after, made=made)

    @get("/moi", guards=[officer])
    async def form(self, state: State, reading: Reading, asking: Asking, request: Request) -> Html:
        """The form for another one."""
        return await _form(state, reading, request, asking)

    @post("/moi", guards=[officer], opt=FORM)
    async def issue(self, state: State, transaction: Transaction, asking: Asking, request: Request) -> Answer:
        """Ask somebody for a fee."""
        typed = await fields_of(request)
        wanted, problem = _read(typed)
        if wanted is None:
            return await _form_again(state, request, asking, problem, typed, status=422)
        issued: list[BillRow] = []

        async def work() -> None:
            new = wanted.read()
            issued.append(
                await offices.issue(transaction, state.keyring, asking, new, now=datetime.now(UTC), today=today())
            )

        error = await refusal_of(transaction, work())
        if error is not None:
            return await _form_again(state, request, asking, problem_of(error, _WORDS), typed, status=error.status)
        await _seen(transaction, request, asking, showing.subject_of(issued[0]))
        return go_to(f"{HERE}?moi={issued[0].code}")

    @post("/{bill_id:uuid}/huy", guards=[officer], opt=FORM)
    async def cancel(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, bill_id: FromPath[UUID]
    ) -> Answer:
        """The fee is not owed any more."""
        error = await refusal_of(transaction, offices.cancel(transaction, asking, bill_id, now=datetime.now(UTC)))
        if error is not None:
            async with state.readers.begin() as reading:
                return await _list(state, reading, request, asking, problem_of(error), status=error.status)
        return go_to(HERE)


def _read(typed: Mapping[str, str]) -> tuple[IssueBill | None, Problem | None]:
    """What a form asks for, under the rules of the API; or the first thing that is wrong with it."""
    rows = [row for row in ROWS if row == 1 or typed.get(f"line{row}") or typed.get(f"amount{row}")]
    fields: dict[str, Any] = {
        "unit": typed.get("unit", ""),
        "description": typed.get("description", ""),
        "procedure_code": typed.get("procedure_code", ""),
        "procedure_name": typed.get("procedure_name", ""),
        "dossier_code": typed.get("dossier_code") or None,
        # 31/12/2026 as the API wants it; anything else stays and is refused.
        "due_on": re.sub(r"^(\d\d)[/.-](\d\d)[/.-](\d{4})$", r"\3-\2-\1", typed.get("due_on", "")) or None,
        "payer": {"number": typed.get("number", ""), "name": typed.get("name", "")},
        "lines": [
            {
                "kind": typed.get(f"kind{row}", ""),
                "code": f"{row:02d}",
                "name": typed.get(f"line{row}", ""),
                "amount": _amount(typed.get(f"amount{row}", "")),
            }
            for row in rows
        ],
    }
    try:
        return msgspec.convert(fields, IssueBill), None
    except msgspec.ValidationError as error:
        found = re.search(r"`\$\.(?:payer\.(\w+)|lines\[(\d)\]\.(\w+)|(\w+))`", str(error))
    payer, line, of_line, other = found.groups() if found else (None, None, None, None)
    part = payer or other or ("line" if of_line == "name" else of_line) or ""
    field = f"{part}{rows[int(line)]}" if line else part
    told = FieldProblem(field, _WORDS[part]) if part in _WORDS else FieldProblem("", "Tổng số tiền quá lớn.")
    return None, Problem("Chưa lập được khoản phải nộp", [told])


def _amount(text: str) -> int:
    """Đồng as people write them, ``1.250.000``; 0, which no line may have, for what is no amount."""
    digits = re.sub(r"[.\s]", "", text)
    return int(digits) if re.fullmatch(r"[0-9]{1,10}", digits) else 0


async def _list(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    problem: Problem | None = None,
    *,
    after: UUID | None = None,
    made: str = "",
    status: int = 200,
) -> Html:
    me = await me_of(state, reading, request, asking)
    found = await queries.bills_in(reading, asking.unit_ids, limit=SHOWN + 1, after=after)
    for subject in dict.fromkeys(showing.subject_of(row) for row in found[:SHOWN]):
        await _seen(reading, request, asking, subject)
    return page(
        "issued_bills.html",
        status=status,
        me=me,
        bills=[card_of(row) for row in found[:SHOWN]],
        more=str(found[SHOWN - 1].id) if len(found) > SHOWN else None,
        made=made or None,
        problem=problem,
    )


async def _form_again(
    state: State, request: Request, asking: Caller, problem: Problem | None, typed: dict[str, str], *, status: int
) -> Html:
    async with state.readers.begin() as reading:
        return await _form(state, reading, request, asking, problem, typed, status=status)


async def _form(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    problem: Problem | None = None,
    typed: dict[str, str] | None = None,
    *,
    status: int = 200,
) -> Html:
    return page(
        "issue_bill.html",
        status=status,
        me=await me_of(state, reading, request, asking),
        units=await _units(reading, asking),
        kinds=KINDS,
        rows=ROWS,
        problem=problem,
        typed=typed or {},
    )


async def _units(reading: AsyncSession, asking: Caller) -> list[Choice]:
    """Today's communes that the caller reaches; all of Bắc Kạn for the province."""
    if asking.unit_ids is None:
        found = await units.units_on(reading, today(), level=Level.COMMUNE, in_bac_kan=True)
    else:
        found = await units.units_by_ids(reading, asking.unit_ids)
    now = [unit for unit in found if unit.level is Level.COMMUNE and (unit.valid_to is None or unit.valid_to > today())]
    return [Choice(unit.code, unit.full_name) for unit in sorted(now, key=lambda unit: unit.full_name)]


async def _seen(session: AsyncSession, request: Request, asking: Caller, subject: str) -> None:
    what = str(request.scope["path_template"])
    await record_read(session, asking, subject=subject, what=what, request_id=request_id_of(request.scope))
