"""What the practice providers and the bank say of a day afterwards: files to reconcile with."""

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from msgspec import Struct

from bkapp.payments.providers.wire import HANOI
from bkapp.payments.references import references_in
from bkapp.payments.statements.lines import Kind, Line, Status
from bkapp.payments.statements.reports import row_hash, write_report
from bkapp.payments.statements.sheets import COLUMNS
from bkapp.practice.paying.bank import PROVIDER as BANK
from bkapp.practice.paying.cashier import Cashier, Order, RefundState, State
from bkapp.practice.paying.merchants import PracticeMerchant

SETTLES = time(8)


class Entry(Struct, frozen=True):
    """Money that came into an account at the bank, or with an amount below zero left it."""

    account: str
    at: datetime
    transaction: str
    amount: int
    content: str


def provider_report(cashier: Cashier, merchant: PracticeMerchant, day: date) -> bytes:
    """A day's report of a provider, as :mod:`bkapp.payments.statements.reports` describes it."""
    return write_report(merchant.key, day, _lines_of(cashier, merchant, day))


def _lines_of(cashier: Cashier, merchant: PracticeMerchant, day: date) -> list[Line]:
    orders = [order for order in cashier.orders.values() if order.merchant is merchant]
    return [line for order in orders for line in _lines(cashier.standing(order)) if _day(line.at) == day]


def _lines(order: Order) -> Iterator[Line]:
    reference = _ours(order.about if order.merchant.provider == BANK else order.reference)
    for payment in order.payments:
        settled = Status.PENDING if order.state is State.PROCESSING else Status.SUCCEEDED
        yield _line(Kind.PAYMENT, reference, payment.transaction, payment.amount, settled, payment.at)
    if not order.payments and order.closed_at is not None:
        yield _line(Kind.PAYMENT, reference, "", order.amount, Status.FAILED, order.closed_at)
    for refund in order.refunds:
        done = Status.SUCCEEDED if refund.state is RefundState.DONE else Status.PENDING
        yield _line(Kind.REFUND, _ours(refund.reference), refund.transaction, refund.amount, done, refund.at)


def _ours(text: str) -> str:
    """The merchant's reference in what a provider has of it, or else that where a report can hold it."""
    return next(iter(references_in(text)), text if re.fullmatch(r"[0-9A-Za-z._-]{1,40}", text) else "")


def _line(kind: Kind, reference: str, transaction: str, amount: int, status: Status, at: datetime) -> Line:
    return Line(
        kind=kind,
        references=(reference,) if reference else (),
        transaction=transaction,
        amount=amount,
        status=status,
        at=_second(at),
    )


def statement_csv(cashier: Cashier, merchant: PracticeMerchant, day: date) -> bytes:
    """The bank's statement of a day, of every account of a merchant's money."""
    entries = _entries(cashier, merchant, day)
    rows = [f'{one.at:%Y-%m-%d %H:%M:%S},{one.transaction},{one.amount},"{one.content}"' for one in entries]
    counts = f"{len(rows)};{sum(one.amount for one in entries)}"
    head = [f"# bkapp-report;{merchant.key};{day};{counts}", ",".join(COLUMNS)]
    return "".join(f"{line}\n" for line in [*head, *rows, f"# end;{counts};{row_hash(rows)}"]).encode()


def statement_mt940(cashier: Cashier, merchant: PracticeMerchant, account: str, day: date) -> bytes:
    """The bank's statement of a day and an account as SWIFT MT940; what was there before the day does not matter."""
    entries = [one for one in _entries(cashier, merchant, day) if one.account == account]
    before = 1_000_000_000
    after = before + sum(one.amount for one in entries)
    lines = [f":20:{day:%y%m%d}{merchant.key[:9]}", f":25:{account}", ":28C:1/1", f":60F:C{day:%y%m%d}VND{before},"]
    for one in entries:
        mark = "C" if one.amount > 0 else "D"
        lines.append(f":61:{one.at:%y%m%d%m%d}{mark}{abs(one.amount)},NTRFNONREF//{one.transaction}")
        first, rest = one.content[:65], one.content[65:130].strip(" -")
        lines += [f":86:{first or '.'}", *([rest] if rest else [])]
    return "\r\n".join([*lines, f":62F:C{day:%y%m%d}VND{after},", ""]).encode()


def accounts(cashier: Cashier, merchant: PracticeMerchant, day: date) -> list[str]:
    """The accounts that there is a statement of."""
    return sorted({one.account for one in _entries(cashier, merchant, day)})


def _entries(cashier: Cashier, merchant: PracticeMerchant, day: date) -> list[Entry]:
    """What the bank has of a day.  It has every transfer that it made, whether it told of it or not, and from the other
    providers what they took the day before, in one sum."""
    if merchant.provider == BANK:
        return [
            Entry(order.facts["account"], _second(one.at), one.transaction, one.amount, order.about)
            for order in cashier.orders.values()
            for one in order.payments
            if order.merchant is merchant and _day(one.at) == day
        ]
    settled = day - timedelta(days=1)
    net = sum(line.moved for line in _lines_of(cashier, merchant, settled))
    at = datetime.combine(day, SETTLES, HANOI)
    content = f"QUYET TOAN {merchant.key.upper()} {settled}"
    return [Entry(merchant.code, at, f"QT{settled:%Y%m%d}{merchant.key.upper()}", net, content)] if net else []


def _day(at: datetime) -> date:
    return at.astimezone(HANOI).date()


def _second(at: datetime) -> datetime:
    return at.astimezone(HANOI).replace(microsecond=0)
