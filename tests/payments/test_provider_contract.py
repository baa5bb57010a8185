"""What holds for every payment provider, against the practice one that speaks its protocol over a real socket."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec
import pytest

from bkapp.payments.providers import (
    Call,
    HookRefused,
    Merchant,
    NoAnswer,
    NotSent,
    Order,
    Outcome,
    RefundOrder,
    Refunds,
    Refused,
    Verdict,
)
from bkapp.payments.references import new_reference
from tests.practice.peers import address_of, listening
from tests.practice.tills import NAMES, Heard, Till, a_till, an_order, eventually

PROVIDERS = pytest.mark.parametrize("name", NAMES)
TELLS_OF_FAILURE = {"paygov", "keypay", "vnpay", "momo", "viettel"}
BRINGS_PROOF_BACK = {"vnpay", "momo", "zalopay", "viettel"}
REFUNDING = ("vnpay", "momo", "zalopay")


@pytest.fixture(scope="module")
async def till() -> AsyncIterator[Till]:
    async with a_till() as running:
        yield running


async def first(till: Till, order: Order) -> Heard:
    return (await till.told(order))[0]


@PROVIDERS
async def test_what_is_paid_is_told_and_found(till: Till, name: str) -> None:
    order = an_order(23_000)

    begun = await till.begin(name, order)
    before = await till.inquire(name, order) if name not in {"vnpay", "viettel"} else None
    await till.pay(begun)
    told = (await first(till, order)).finding
    found = await till.inquire(name, order)

    assert before is None or before.outcome is Outcome.PENDING
    for finding in (told, found):
        assert (finding.outcome, finding.amount) == (Outcome.PAID, 23_000)
        assert order.reference in finding.references
    assert told.transaction == found.transaction == till.asked(order).payments[0].transaction
    assert await eventually(lambda: till.asked(order).deliveries[-1].done)


@PROVIDERS
async def test_an_order_that_nobody_brought_is_absent_or_not_to_be_told(till: Till, name: str) -> None:
    order = an_order()

    if name == "keypay":  # it has no word for that
        with pytest.raises(NoAnswer):
            await till.inquire(name, order)
    else:
        expected = Outcome.PENDING if name == "vietqr" else Outcome.ABSENT
        assert (await till.inquire(name, order)).outcome is expected


@pytest.mark.parametrize("name", [name for name in NAMES if name != "vietqr"])
async def test_what_is_cancelled_has_failed(till: Till, name: str) -> None:
    order = an_order()

    await till.choose(await till.begin(name, order), "that-bai")
    found = await till.inquire(name, order)

    assert found.outcome is Outcome.FAILED
    if name in TELLS_OF_FAILURE:
        told = (await first(till, order)).finding
        assert (told.outcome, told.transaction) == (Outcome.FAILED, None)
    else:
        assert not till.asked(order).deliveries


@pytest.mark.parametrize("name", [name for name in NAMES if name != "vietqr"])
async def test_the_browser_comes_back_to_where_the_order_says(till: Till, name: str) -> None:
    order = an_order()

    answer = await till.pay(await till.begin(name, order))

    back = urlsplit(answer.headers["location"])
    assert (answer.status_code, back._replace(query="").geturl()) == (303, order.return_url)
    provider, merchant, now = till.providers[name], till.merchants[name], datetime.now(UTC)
    finding = provider.came_back(merchant, back.query.encode(), now=now)
    if name in BRINGS_PROOF_BACK:
        assert finding is not None
        assert (finding.outcome, list(finding.references), finding.amount) == (Outcome.PAID, [order.reference], 20_000)
        assert provider.came_back(merchant, back.query.replace("20000", "20001").encode(), now=now) is None
    else:
        assert finding is None


@PROVIDERS
async def test_a_message_is_believed_whole_with_a_key_in_force_and_in_time(till: Till, name: str) -> None:
    order, provider, merchant = an_order(), till.providers[name], till.merchants[name]
    await till.pay(await till.begin(name, order))
    heard = await first(till, order)
    now = datetime.now(UTC)

    rotated = with_secrets(merchant, lambda secrets: ["whsec_" + "A" * 40, *secrets])
    assert provider.hear(rotated, heard.call, now=now).event_id == heard.hearing.event_id  # type: ignore[union-attr]
    with pytest.raises(HookRefused) as refused:
        provider.hear(with_secrets(merchant, lambda _: ["whsec_" + "A" * 40]), heard.call, now=now)
    assert refused.value.verdict is Verdict.BAD_SIGNATURE
    with pytest.raises(HookRefused):
        provider.hear(merchant, other_amount(heard.call), now=now)


def with_secrets(merchant: Merchant, change: object) -> Merchant:
    secrets = {purpose: change(list(secrets)) for purpose, secrets in merchant.secrets.items()}  # type: ignore[operator]
    return msgspec.structs.replace(merchant, secrets=secrets)


def other_amount(call: Call) -> Call:
    """The same message about ten times the money."""
    return msgspec.structs.replace(
        call, query=call.query.replace(b"20000", b"200000"), body=call.body.replace(b"20000", b"200000")
    )


@PROVIDERS
async def test_the_same_message_again_is_the_same_event_and_other_money_another(till: Till, name: str) -> None:
    order = an_order()
    await till.script({"on": "webhook", "do": "duplicate", "times": 2, "merchant": name})

    await till.pay(await till.begin(name, order), "trung")
    heard = await till.told(order, 4)

    numbers = {one.finding.transaction for one in heard}
    events = {(one.finding.transaction, one.hearing.event_id) for one in heard if one.hearing}
    assert len(numbers) == len(events) == 2
    assert {one.finding.amount for one in heard} == {20_000}
    assert (await till.inquire(name, order)).transaction in numbers


@PROVIDERS
async def test_what_was_never_told_is_found_by_asking(till: Till, name: str) -> None:
    order = an_order()

    await till.pay(await till.begin(name, order), "mat-thong-bao")

    found = await till.inquire(name, order)
    assert (found.outcome, found.amount) == (Outcome.PAID, 20_000)
    assert not till.about(order)


@PROVIDERS
async def test_an_answer_that_cannot_be_read_is_no_answer(till: Till, name: str) -> None:
    order = an_order()
    await till.pay(await till.begin(name, order))

    await till.script(*({"on": "inquire", "do": do, "merchant": name} for do in ("garbage", "error500", "drop")))
    for _ in range(3):
        with pytest.raises(NoAnswer):
            await till.inquire(name, order)
    assert (await till.inquire(name, order)).outcome is Outcome.PAID


# --- giving back -----------------------------------------------------------------------------------------------------


async def paid(till: Till, name: str, amount: int = 20_000) -> tuple[Refunds, Order, str]:
    order = an_order(amount)
    await till.pay(await till.begin(name, order))
    told = (await first(till, order)).finding
    provider = till.providers[name]
    assert isinstance(provider, Refunds)
    assert told.transaction is not None
    return provider, order, told.transaction


def a_refund(order: Order, transaction: str, amount: int) -> RefundOrder:
    return RefundOrder(
        reference=new_reference("HT"),
        amount=amount,
        reason="Nop hai lan",
        requested_at=datetime.now(UTC).replace(microsecond=0),
        order=order,
        transaction=transaction,
        paid_at=order.created_at,
        full=amount == order.amount,
    )


@pytest.mark.parametrize("name", REFUNDING)
@pytest.mark.parametrize("amount", [5_000, 20_000])
async def test_money_is_given_back_once_in_part_or_whole(till: Till, name: str, amount: int) -> None:
    provider, order, transaction = await paid(till, name)
    refund, merchant = a_refund(order, transaction, amount), till.merchants[name]

    done = await provider.refund(merchant, refund, now=datetime.now(UTC))
    again = await repeated(provider, merchant, refund)
    found = await provider.inquire_refund(merchant, refund, now=datetime.now(UTC))

    assert done.outcome is found.outcome is Outcome.PAID
    assert list(found.references) == [refund.reference]
    assert done.transaction == found.transaction != transaction
    assert again is not Outcome.FAILED
    assert [one.amount for one in till.asked(order).refunds] == [amount]


async def repeated(provider: Refunds, merchant: Merchant, refund: RefundOrder) -> Outcome:
    """What the provider says to the same refund again: that it has it, or nothing certain."""
    try:
        return (await provider.refund(merchant, refund, now=datetime.now(UTC))).outcome
    except NoAnswer:
        return Outcome.PENDING


@pytest.mark.parametrize("name", REFUNDING)
async def test_more_than_was_paid_is_not_given_back(till: Till, name: str) -> None:
    provider, order, transaction = await paid(till, name)
    merchant, now = till.merchants[name], datetime.now(UTC)
    await provider.refund(merchant, a_refund(order, transaction, 12_000), now=now)

    with pytest.raises(Refused):
        await provider.refund(merchant, a_refund(order, transaction, 9_000), now=now)

    assert sum(one.amount for one in till.asked(order).refunds) == 12_000


@pytest.mark.parametrize("name", REFUNDING)
async def test_a_refund_whose_answer_was_lost_is_found_by_asking(till: Till, name: str) -> None:
    provider, order, transaction = await paid(till, name)
    refund, merchant = a_refund(order, transaction, 20_000), till.merchants[name]

    await till.script({"on": "refund", "do": "garbage", "merchant": name})
    with pytest.raises(NoAnswer):
        await provider.refund(merchant, refund, now=datetime.now(UTC))

    found = await provider.inquire_refund(merchant, refund, now=datetime.now(UTC))
    assert (found.outcome, len(till.asked(order).refunds)) == (Outcome.PAID, 1)


@pytest.mark.parametrize("name", REFUNDING)
async def test_a_slow_refund_is_pending_until_it_is_done(till: Till, name: str) -> None:
    provider, order, transaction = await paid(till, name)
    refund, merchant = a_refund(order, transaction, 20_000), till.merchants[name]

    await till.script({"on": "refund", "do": "slow", "merchant": name})
    till.go_on.clear()
    asked = await provider.refund(merchant, refund, now=datetime.now(UTC))
    till.go_on.set()
    await eventually(lambda: till.asked(order).refunds[0].state == "done")
    found = await provider.inquire_refund(merchant, refund, now=datetime.now(UTC))

    assert (asked.outcome, found.outcome) == (Outcome.PENDING, Outcome.PAID)


async def test_only_those_refund_that_can(till: Till) -> None:
    assert {name for name, provider in till.providers.items() if isinstance(provider, Refunds)} == set(REFUNDING)


@PROVIDERS
async def test_a_provider_that_nobody_reaches_was_not_asked(till: Till, name: str) -> None:
    merchant, dead = till.merchants[name], listening()
    options = {option: value.replace(till.site, address_of(dead)) for option, value in merchant.options.items()}

    gone = msgspec.structs.replace(merchant, options=options)
    with dead, pytest.raises(NotSent):
        await till.providers[name].inquire(gone, an_order(), now=datetime.now(UTC))
