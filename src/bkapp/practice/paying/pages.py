"""The pages of the practice providers and the bank: where a payer chooses what happens, and what was sent of it."""

import asyncio
import re
from datetime import date, datetime
from typing import Final

import msgspec
from litestar import MediaType, Request, Response, Router, get, post
from litestar.datastructures import State as Parts
from litestar.exceptions import ClientException, NotFoundException
from litestar.params import FromPath
from litestar.response import Redirect

from bkapp.payments import vietqr
from bkapp.payments.providers.wire import HANOI, read_amount
from bkapp.practice.eid_routes import NO_STORE, TEMPLATES, page
from bkapp.practice.paying import bank, keypay, momo, paygov, reports, viettel, vnpay, zalopay
from bkapp.practice.paying.answering import TurnedAway, broken_off, error_500, form_of, refused, to_page, turn_away
from bkapp.practice.paying.cashier import Cashier, Choice, Closed, Order, State
from bkapp.practice.paying.faults import Do, Fault, Faults, Twist
from bkapp.practice.paying.merchants import PREFIX, PracticeMerchant

FACADES = {module.PROVIDER: module.FACADE for module in (paygov, keypay, vnpay, momo, zalopay, viettel, bank)}
SHOWN = 50
CHOICES: Final = (
    (Choice.PAY, "Thanh toán thành công", "Trừ tiền, báo ngay cho đơn vị thu phí."),
    (Choice.FAIL, "Thất bại / hủy", "Không trừ tiền, báo không thành công."),
    (Choice.SLOW, "Chậm", "Trừ tiền; một lúc sau mới báo, trước đó tra cứu thì thấy đang xử lý."),
    (Choice.TWICE, "Trùng", "Trừ tiền hai lần: hai giao dịch, hai thông báo."),
    (Choice.LOST, "Mất thông báo", "Trừ tiền, không báo: chỉ tra cứu mới thấy."),
    (Choice.LATE, "Muộn", "Báo không thành công trước, một lúc sau lại báo đã trừ tiền."),
    (Choice.FORGED, "Sai chữ ký", "Trừ tiền; mọi thông báo đều có chữ ký sai."),
)
BY_BANK: Final = (
    (Choice.PAY, "Chuyển thành công, báo ngay"),
    (Choice.SLOW, "Chậm: một lúc sau mới báo"),
    (Choice.TWICE, "Chuyển hai lần"),
    (Choice.LOST, "Mất thông báo: chỉ tra cứu mới thấy"),
    (Choice.FORGED, "Thông báo có chữ ký sai"),
)
_STYLE = (TEMPLATES / "style.css").read_text() + (TEMPLATES / "paying" / "style.css").read_text()


def _order(state: Parts, ticket: str) -> Order:
    cashier: Cashier = state.cashier
    order = cashier.orders.get(ticket)
    if order is None:
        raise NotFoundException("Không có đơn thanh toán này.")
    return cashier.standing(order)


def _away(request: Request, error: ClientException) -> Response:
    return refused(error.detail, status=error.status_code)


@get("/style.css", media_type="text/css")
async def style() -> str:
    """How the pages look."""
    return _STYLE


@get("/")
async def orders(request: Request, state: Parts) -> Response:
    """The latest orders, the files of a day (``ngay``) to reconcile with, the script of faults."""
    cashier: Cashier = state.cashier
    merchants = list(cashier.merchants.values())
    asked = request.query_params.get("ngay", "")
    day = _day(asked, "") if asked else cashier.now().astimezone(HANOI).date()
    return page(
        "paying/orders.html",
        orders=[cashier.standing(order) for order in list(cashier.orders.values())[: -SHOWN - 1 : -1]],
        merchants=merchants,
        accounts={one.key: reports.accounts(cashier, one, day) for one in merchants},
        day=day,
        script=msgspec.json.format(msgspec.json.encode(cashier.script.faults), indent=1).decode(),
    )


@get("/don/{ticket:str}")
async def order_page(state: Parts, ticket: FromPath[str]) -> Response:
    """Where the payer chooses what happens."""
    return _shown(state.cashier, _order(state, ticket))


def _shown(cashier: Cashier, order: Order) -> Response:
    can_pay = order.state is State.WAITING and order.choice is None and order.merchant.provider != bank.PROVIDER
    return page(
        "paying/order.html",
        order=order,
        open=can_pay,
        back=cashier.facade(order).way_back(order, Twist(forged=order.forged)) if order.return_url else "",
        choices=CHOICES,
        pace=cashier.pace,
    )


@post("/don/{ticket:str}", status_code=200)
async def choose(request: Request, state: Parts, ticket: FromPath[str]) -> Response:
    """Do what the payer chose, and send the browser back."""
    cashier: Cashier = state.cashier
    order, form = _order(state, ticket), await form_of(request)
    seconds = form.get("seconds", "").strip()
    try:
        choice = Choice(form.get("choice", ""))
    except ValueError:
        raise ClientException("Hãy chọn một việc.") from None
    if seconds and re.fullmatch(r"[0-9]{1,3}", seconds) is None:
        raise ClientException("Số giây là một số từ 0 đến 999.")
    if order.merchant.provider == bank.PROVIDER:
        raise ClientException("Việc chuyển khoản này đã xong.")
    return await _paid(cashier, order, choice, float(seconds) if seconds else None)


async def _paid(cashier: Cashier, order: Order, choice: Choice, after: float | None) -> Response:
    try:
        do = await cashier.pay(order, choice, after=after)
    except Closed:
        return refused("Đơn này đã kết thúc, không thanh toán được nữa.", status=409)
    if do is Do.DROP:
        return broken_off()
    if do is Do.ERROR_500:
        return error_500()
    if do is Do.TIMEOUT:
        await asyncio.sleep(cashier.pace.hang)
    if not order.return_url:
        return to_page(order)
    back = cashier.facade(order).way_back(order, Twist(forged=order.forged))
    return Redirect(back, status_code=303, headers={**NO_STORE, "Referrer-Policy": "no-referrer"})


@get("/don/{ticket:str}/nhat-ky")
async def log(state: Parts, ticket: FromPath[str]) -> Response:
    """What was sent about an order, and what was answered."""
    return page("paying/log.html", order=_order(state, ticket), clock=_clock)


def _clock(at: datetime) -> str:
    return f"{at.astimezone(HANOI):%H:%M:%S %d/%m/%Y}"


# --- the bank ----------------------------------------------------------------------------------------------------


@get("/ngan-hang")
async def bank_page() -> Response:
    """Where one makes a transfer."""
    return _bank({})


def _bank(filled: dict[str, str], *, qr: str = "", mistake: str = "", status: int = 200) -> Response:
    empty = dict.fromkeys(("bank_bin", "account", "amount", "content"), "")
    return page("paying/bank.html", status=status, filled=empty | filled, qr=qr, mistake=mistake, choices=BY_BANK)


@post("/ngan-hang/doc-ma", status_code=200)
async def read_code(request: Request) -> Response:
    """Fill the form from a VietQR code."""
    qr = (await form_of(request)).get("qr", "").strip()
    try:
        asked = vietqr.parse(qr)
    except vietqr.NotVietQr as error:
        return _bank({}, qr=qr, mistake=f"Không phải mã VietQR dùng được: {error}", status=400)
    amount = "" if asked.amount is None else str(asked.amount)
    content = asked.purpose or asked.bill_number
    return _bank({"bank_bin": asked.bank_bin, "account": asked.account, "amount": amount, "content": content}, qr=qr)


@post("/ngan-hang/chuyen-khoan", status_code=200)
async def make_transfer(request: Request, state: Parts) -> Response:
    """Make a transfer."""
    cashier: Cashier = state.cashier
    form = await form_of(request)
    bin_, account = form.get("bank_bin", "").strip(), form.get("account", "").strip()
    merchant = bank.account_holder(cashier, account)
    try:
        amount = read_amount(form.get("amount", "").strip())
        choice, scheme = Choice(form.get("choice", Choice.PAY)), form.get("scheme", bank.PAYOS)
    except ValueError:
        return _bank(form, mistake="Số tiền là một số nguyên đồng.", status=400)
    if re.fullmatch(r"[0-9]{6}", bin_) is None or re.fullmatch(r"[0-9A-Za-z]{1,19}", account) is None or not amount:
        return _bank(form, mistake="Hãy ghi đúng mã ngân hàng, số tài khoản và số tiền.", status=400)
    if merchant is None:
        return _bank(form, mistake="Không ai nhận thông báo của tài khoản này.", status=400)
    if scheme not in {bank.PAYOS, bank.STANDARD} or choice not in {one for one, _ in BY_BANK}:
        return _bank(form, mistake="Hãy chọn một việc.", status=400)
    content = form.get("content", "")
    order = bank.transfer(
        cashier, merchant, bank_bin=bin_, account=account, amount=amount, content=content, scheme=scheme
    )
    return await _paid(cashier, order, choice, None)


# --- files to reconcile with -------------------------------------------------------------------------------------


def _merchant(state: Parts, key: str) -> PracticeMerchant:
    merchant: PracticeMerchant | None = state.cashier.merchants.get(key)
    if merchant is None:
        raise NotFoundException("Không có đơn vị này.")
    return merchant


def _day(name: str, ending: str) -> date:
    try:
        return date.fromisoformat(name.removesuffix(ending))
    except ValueError:
        raise NotFoundException("Không có ngày này.") from None


@get("/doi-soat/{key:str}/{name:str}", media_type="text/csv")
async def provider_report(state: Parts, key: FromPath[str], name: FromPath[str]) -> bytes:
    """A provider's report of a day: ``…/vnpay/2026-10-20.csv``."""
    return reports.provider_report(state.cashier, _merchant(state, key), _day(name, ".csv"))


@get("/ngan-hang/{key:str}/sao-ke/{name:str}", media_type="text/csv")
async def statement_csv(state: Parts, key: FromPath[str], name: FromPath[str]) -> bytes:
    """The bank's statement of a day: ``…/vietqr/sao-ke/2026-10-20.csv``."""
    return reports.statement_csv(state.cashier, _merchant(state, key), _day(name, ".csv"))


@get("/ngan-hang/{key:str}/sao-ke/{day:str}/{name:str}", media_type=MediaType.TEXT)
async def statement_mt940(state: Parts, key: FromPath[str], day: FromPath[str], name: FromPath[str]) -> bytes:
    """The same of one account as MT940: ``…/vietqr/sao-ke/2026-10-20/0123456789.sta``."""
    merchant = _merchant(state, key)
    return reports.statement_mt940(state.cashier, merchant, name.removesuffix(".sta"), _day(day, ""))


# --- faults ------------------------------------------------------------------------------------------------------


@get("/kich-ban")
async def current_script(state: Parts) -> list[Fault]:
    """The faults that are still to come."""
    faults: list[Fault] = state.cashier.script.faults
    return faults


@post("/kich-ban", status_code=200)
async def set_script(request: Request, state: Parts) -> Response:
    """Set the script of faults, as JSON or with the form of the page; ``[]`` heals everything."""
    cashier: Cashier = state.cashier
    by_page = request.content_type[0] == "application/x-www-form-urlencoded"
    sent = (await form_of(request)).get("script", "").encode() if by_page else await request.body()
    try:
        cashier.script.faults = msgspec.json.decode(sent, type=Faults)
    except msgspec.DecodeError as error:
        raise ClientException(f"Kịch bản không đúng định dạng: {error}") from None
    return Redirect(f"{PREFIX}/", status_code=303) if by_page else Response(cashier.script.faults)


ROUTES = Router(
    path=PREFIX,
    route_handlers=[
        style,
        orders,
        order_page,
        choose,
        log,
        bank_page,
        read_code,
        make_transfer,
        provider_report,
        statement_csv,
        statement_mt940,
        current_script,
        set_script,
        *(handler for module in (paygov, keypay, vnpay, momo, zalopay, viettel, bank) for handler in module.ROUTES),
    ],
    exception_handlers={ClientException: _away, NotFoundException: _away, TurnedAway: turn_away},
)
