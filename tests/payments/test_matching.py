"""Comparing files with our books: whatever is changed in a file is found, as what it is, and nothing else is."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from msgspec import Struct
from msgspec.structs import replace

from bkapp.payments import references, statements
from bkapp.payments.matching import Books, Day, Item, Money, Repayment, Try, Type, compare, days_in, settle
from bkapp.payments.rules import AttemptStatus, RefundStatus
from bkapp.payments.statements import Kind, Line, Source, Status
from tests.payments import statement_files
from tests.payments.statement_files import Movement

SEEDS = 400
AT = datetime(2026, 10, 20, 3, tzinfo=UTC)


class World(Struct):
    """Our books, and the file that says the same."""

    books: Books
    lines: list[Line]
    changed: set[str] = set()  # references; two changes of one payment are another difference than each of them

    def pick(self, dice: random.Random) -> int:
        """A line that was not changed."""
        free = [at for at, line in enumerate(self.lines) if line.references[0] not in self.changed]
        at = dice.choice(free)
        self.changed.add(self.lines[at].references[0])
        return at

    def beside(self, line: Line) -> list[Line]:
        """The other lines of its attempt or refund."""
        return [one for one in self.lines if one.references == line.references and one is not line]


def a_world(dice: random.Random) -> World:
    """A day of about sixty payments, tries that failed, and refunds."""
    money, tries, repayments, lines = [], [], [], []
    for at in range(dice.randint(40, 60)):
        reference, amount = named("TT", at), dice.randrange(1, 50) * 1_000
        ended = dice.random()
        status = AttemptStatus.SUCCEEDED if ended < 0.8 else AttemptStatus.FAILED
        if ended > 0.95:
            status = dice.choice((AttemptStatus.PENDING, AttemptStatus.EXPIRED))
        tries.append(Try(reference=reference, amount=amount, status=status))
        number = f"9{at:07}"
        if status is AttemptStatus.SUCCEEDED:
            told = dice.random() < 0.9
            confirmed = dice.random() < 0.05
            money.append(
                Money(
                    id=UUID(int=at + 1),
                    reference=reference,
                    transaction=number if told else "",
                    amount=amount,
                    stands=True,
                    expected=dice.random() < 0.95,
                    confirmed=confirmed,
                )
            )
            if confirmed:
                continue  # it is in another day's file
        said = {AttemptStatus.SUCCEEDED: Status.SUCCEEDED, AttemptStatus.FAILED: Status.FAILED}
        lines.append(a_line(Kind.PAYMENT, reference, number, amount, said.get(status, Status.PENDING)))
        if status is AttemptStatus.SUCCEEDED and dice.random() < 0.1:
            # A try that failed beside the one that was paid.
            lines.append(a_line(Kind.PAYMENT, reference, f"8{at:07}", amount, Status.FAILED))
    for at in range(dice.randint(3, 8)):
        reference, amount = named("HT", at), dice.randrange(1, 20) * 1_000
        status_of = dice.choice((RefundStatus.SUCCEEDED, RefundStatus.SUCCEEDED, RefundStatus.PENDING))
        done = status_of is RefundStatus.SUCCEEDED
        repayments.append(
            Repayment(
                id=UUID(int=1_000 + at),
                reference=reference,
                transaction=f"7{at:07}" if done else "",
                amount=amount,
                status=status_of,
                expected=done,
            )
        )
        said_of = Status.SUCCEEDED if done else Status.PENDING
        lines.append(a_line(Kind.REFUND, reference, f"7{at:07}", amount, said_of))
    dice.shuffle(lines)
    return World(Books(money, tries, repayments), lines)


def named(prefix: str, at: int) -> str:
    """A reference with its check character, the same every time."""
    body = f"{prefix}{at:09}"
    return body + references._check(body)


def a_line(kind: Kind, reference: str, number: str, amount: int, status: Status) -> Line:
    return Line(kind=kind, references=(reference,), transaction=number, amount=amount, status=status, at=AT)


def differences(world: World) -> Counter[tuple[Type, str]]:
    """What comparing found, but for what matches: each type, and the number or reference it is about."""
    found = compare(world.books, world.lines)
    assert [item.line for item in found[: len(world.lines)]] == list(range(len(world.lines)))
    names: dict[UUID, str] = {one.id: one.transaction or one.reference for one in world.books.money}
    names |= {one.id: one.reference for one in world.books.repayments}
    return Counter((item.type, about(world, item, names)) for item in found if item.type is not Type.MATCHED)


def about(world: World, item: Item, names: dict[UUID, str]) -> str:
    if item.line is not None:
        return f"line {world.lines[item.line].transaction}"
    assert item.receipt or item.refund
    return names[item.receipt or item.refund]  # type: ignore[index]


def expected_of(world: World, line: Line) -> tuple[Type, str] | None:
    """What a file without the line lacks of ours."""
    if line.kind is Kind.REFUND:
        repayment = next(one for one in world.books.repayments if one.reference == line.references[0])
        return (Type.REFUND, repayment.reference) if repayment.expected else None
    if line.status is not Status.SUCCEEDED:
        return None
    money = next(one for one in world.books.money if one.reference == line.references[0])
    return (Type.ONLY_OURS, money.transaction or money.reference) if money.expected else None


# Each mutation changes the file and says which differences there have to be then; None if it is about nothing here.
Expected = list[tuple[Type, str]]


def drop(dice: random.Random, world: World) -> Expected | None:
    line = world.lines.pop(world.pick(dice))
    beside = world.beside(line)
    lacking = expected_of(world, line)
    if line.status is Status.SUCCEEDED and beside:
        # Without the line that says it was paid, the one that says it was not is no try beside it any more.
        return [(Type.STATUS, f"line {beside[0].transaction}")]
    return [] if lacking is None else [lacking]


def add(dice: random.Random, world: World) -> Expected:
    number = "5" + str(dice.randrange(10**6))
    kind = dice.choice((Kind.PAYMENT, Kind.REFUND))
    status = dice.choice(list(Status)) if any(line.status is not Status.SUCCEEDED for line in world.lines) else None
    line = a_line(kind, "TT9" + number, number, 5_000, status or Status.SUCCEEDED)
    world.changed.add(line.references[0])
    world.lines.insert(dice.randrange(len(world.lines) + 1), line)
    return [(Type.ONLY_THEIRS if kind is Kind.PAYMENT else Type.REFUND, f"line {number}")]


def pay_again(dice: random.Random, world: World) -> Expected | None:
    line = world.lines[world.pick(dice)]
    if line.kind is Kind.REFUND or line.status is not Status.SUCCEEDED:
        return None
    if not next(one for one in world.books.money if one.reference == line.references[0]).transaction:
        return None  # which of two is the one that we have without a number, nobody can tell
    world.lines.append(replace(line, transaction="4" + line.transaction))
    return [(Type.DUPLICATE, f"line 4{line.transaction}")]


def change_amount(dice: random.Random, world: World) -> Expected | None:
    at = world.pick(dice)
    line = world.lines[at]
    if line.status is Status.FAILED and world.beside(line):
        return None  # what a try beside the paid one was of is of no interest
    world.lines[at] = replace(line, amount=line.amount + dice.choice((-1, 1, 1_000)))
    return [(Type.REFUND if line.kind is Kind.REFUND else Type.AMOUNT, f"line {line.transaction}")]


def flip_status(dice: random.Random, world: World) -> Expected | None:
    at = world.pick(dice)
    line = world.lines[at]
    if world.beside(line):
        return None
    tried = next((one for one in world.books.tries if one.reference == line.references[0]), None)
    to = dice.choice([status for status in Status if status is not line.status])
    world.lines[at] = replace(line, status=to)
    if line.kind is Kind.REFUND:
        return [(Type.REFUND, f"line {line.transaction}")]
    assert tried is not None
    if tried.status is AttemptStatus.PENDING and to is Status.SUCCEEDED:
        return [(Type.ONLY_THEIRS, f"line {line.transaction}")]
    if tried.status is AttemptStatus.EXPIRED:
        return [] if to is Status.FAILED else [(Type.ONLY_THEIRS, f"line {line.transaction}")]
    return [(Type.STATUS, f"line {line.transaction}")]


def repeat(dice: random.Random, world: World) -> Expected:
    line = world.lines[world.pick(dice)]
    world.lines.insert(dice.randrange(len(world.lines) + 1), line)
    return [(Type.DUPLICATE, f"line {line.transaction}")]


def turn_around(dice: random.Random, world: World) -> Expected | None:
    """A refund becomes a payment, or a payment a refund."""
    at = world.pick(dice)
    line = world.lines[at]
    if world.beside(line):
        return None
    lacking = expected_of(world, line)
    other = Kind.PAYMENT if line.kind is Kind.REFUND else Kind.REFUND
    world.lines[at] = replace(line, kind=other)
    found = [(Type.ONLY_THEIRS if other is Kind.PAYMENT else Type.REFUND, f"line {line.transaction}")]
    return found + ([] if lacking is None else [lacking])


MUTATIONS: tuple[Callable[[random.Random, World], Expected | None], ...] = (
    drop,
    add,
    pay_again,
    change_amount,
    flip_status,
    repeat,
    turn_around,
)


def worlds() -> Iterator[tuple[random.Random, World]]:
    for seed in range(SEEDS):
        dice = random.Random(seed)  # noqa: S311  (dice that always fall the same)
        yield dice, a_world(dice)


def test_a_file_that_says_the_same_has_no_differences() -> None:
    for _, world in worlds():
        assert differences(world) == Counter()


def test_every_difference_is_found_as_what_it_is_and_nothing_else() -> None:
    seen: Counter[str] = Counter()
    types: Counter[Type] = Counter()
    for dice, world in worlds():
        expected: Counter[tuple[Type, str]] = Counter()
        for _ in range(dice.randint(1, 6)):
            mutate = dice.choice(MUTATIONS)
            found = mutate(dice, world)
            if found is not None:
                expected += Counter(found)
                seen[mutate.__name__] += 1
        differing = differences(world)
        assert differing == expected
        types.update(kind for kind, _ in differing)
    assert set(seen) == {mutate.__name__ for mutate in MUTATIONS}
    assert min(seen.values()) > 60, seen
    assert set(types) == set(Type) - {Type.MATCHED}


# A bank says nothing of tries that failed.
OF_BANKS = tuple(mutate for mutate in MUTATIONS if mutate is not flip_status)
WRITERS: dict[str, Callable[[date, list[Movement]], bytes]] = {
    "csv": statement_files.csv_file,
    "xlsx": statement_files.workbook,
    "mt940": statement_files.mt940,
    "camt053": statement_files.camt053,
}


@pytest.mark.parametrize(("form", "seeds"), [("csv", 200), ("xlsx", 20), ("mt940", 100), ("camt053", 100)])
def test_differences_are_found_in_the_bytes_of_bank_statements(form: str, seeds: int) -> None:
    found: Counter[Type] = Counter()
    for seed, (dice, world) in enumerate(worlds()):
        if seed == seeds:
            break
        world.lines = [line for line in world.lines if line.status is Status.SUCCEEDED]
        expected: Counter[tuple[Type, str]] = Counter()
        for _ in range(dice.randint(0, 5)):
            expected += Counter(dice.choice(OF_BANKS)(dice, world) or [])
        movements = [
            Movement(line.transaction, line.moved, f"MBVCB.32789 {line.references[0].lower()} nop phi")
            for line in world.lines
        ]
        read = statements.read(WRITERS[form](AT.date(), movements), Source.BANK)
        assert differences(World(world.books, list(read.lines))) == expected, seed
        found.update(kind for kind, _ in expected)
    assert set(found) >= {Type.ONLY_OURS, Type.ONLY_THEIRS, Type.AMOUNT, Type.DUPLICATE, Type.REFUND}


def test_comparing_is_the_same_however_often_and_in_whatever_order() -> None:
    for dice, world in list(worlds())[:100]:
        first = differences(world)
        dice.shuffle(world.lines)
        assert differences(world) == first == differences(world)


# --- single rules -------------------------------------------------------------------------------------------------


def money(number: int = 1, **changes: object) -> Money:
    values: dict[str, object] = {
        "id": UUID(int=number),
        "reference": f"TT{number}",
        "transaction": f"9{number}",
        "amount": 5_000,
        "stands": True,
        "expected": True,
    }
    return Money(**{**values, **changes})  # type: ignore[arg-type]


def one(books: Books, line: Line) -> Item:
    return compare(books, [line])[0]


PAID = a_line(Kind.PAYMENT, "TT1", "91", 5_000, Status.SUCCEEDED)


@pytest.mark.parametrize(
    ("ours", "said", "kind", "news"),
    [
        (AttemptStatus.PENDING, Status.SUCCEEDED, Type.ONLY_THEIRS, True),
        (AttemptStatus.EXPIRED, Status.SUCCEEDED, Type.ONLY_THEIRS, True),
        (AttemptStatus.FAILED, Status.SUCCEEDED, Type.STATUS, True),
        (AttemptStatus.PENDING, Status.FAILED, Type.STATUS, True),
        (AttemptStatus.UNKNOWN, Status.FAILED, Type.STATUS, True),
        (AttemptStatus.EXPIRED, Status.FAILED, Type.MATCHED, False),
        (AttemptStatus.FAILED, Status.FAILED, Type.MATCHED, False),
        (AttemptStatus.FAILED, Status.PENDING, Type.STATUS, False),
        (AttemptStatus.PENDING, Status.PENDING, Type.MATCHED, False),
        (AttemptStatus.EXPIRED, Status.PENDING, Type.MATCHED, False),
    ],
)
def test_attempts_without_money(ours: AttemptStatus, said: Status, kind: Type, news: bool) -> None:  # noqa: FBT001
    books = Books(tries=[Try(reference="TT1", amount=5_000, status=ours)])
    found = one(books, replace(PAID, status=said))
    assert (found.type, found.news) == (kind, news)


def test_money_that_was_reversed_is_news_when_the_file_has_it() -> None:
    tried = [Try(reference="TT1", amount=5_000, status=AttemptStatus.FAILED)]
    books = Books([money(stands=False)], tried)
    assert (one(books, PAID).type, one(books, PAID).news) == (Type.STATUS, True)
    assert one(books, replace(PAID, status=Status.FAILED)).type is Type.MATCHED
    assert len(compare(books, [])) == 0


def test_money_that_went_to_another_attempt_than_the_file_says_is_a_difference() -> None:
    tries = [Try(reference=name, amount=5_000, status=AttemptStatus.SUCCEEDED) for name in ("TT1", "TT2")]
    found = one(Books([money(), money(2)], tries), replace(PAID, references=("TT2",)))
    assert (found.type, found.news, found.receipt) == (Type.STATUS, False, UUID(int=1))


def test_a_line_of_another_day_is_about_money_we_have() -> None:
    tried = [Try(reference="TT1", amount=5_000, status=AttemptStatus.SUCCEEDED)]
    assert one(Books([money(expected=False)], tried), PAID).type is Type.MATCHED


def test_money_without_a_number_is_that_of_its_attempt() -> None:
    tried = [Try(reference="TT1", amount=5_000, status=AttemptStatus.SUCCEEDED)]
    books = Books([money(transaction="")], tried)
    assert [item.type for item in compare(books, [PAID])] == [Type.MATCHED]
    assert [item.type for item in compare(books, [PAID, replace(PAID, transaction="92")])] == [
        Type.MATCHED,
        Type.DUPLICATE,
    ]


def test_of_two_lines_of_a_number_the_one_that_succeeded_counts() -> None:
    tried = [Try(reference="TT1", amount=5_000, status=AttemptStatus.SUCCEEDED)]
    found = compare(Books([money()], tried), [replace(PAID, status=Status.PENDING), PAID])
    assert [item.type for item in found] == [Type.DUPLICATE, Type.MATCHED]


def test_a_payment_and_a_refund_may_have_one_number() -> None:
    tried = [Try(reference="TT1", amount=5_000, status=AttemptStatus.SUCCEEDED)]
    found = compare(Books([money()], tried), [PAID, replace(PAID, kind=Kind.REFUND, references=())])
    assert [item.type for item in found] == [Type.MATCHED, Type.REFUND]


def test_that_they_still_wait_for_what_we_have_is_a_difference_and_no_news() -> None:
    tried = [Try(reference="TT1", amount=5_000, status=AttemptStatus.SUCCEEDED)]
    for number in ("91", ""):
        found = one(Books([money()], tried), replace(PAID, status=Status.PENDING, transaction=number))
        assert (found.type, found.news, found.receipt) == (Type.STATUS, False, UUID(int=1))


def test_a_try_that_failed_beside_one_of_another_day_is_no_difference() -> None:
    tried = [Try(reference="TT1", amount=5_000, status=AttemptStatus.SUCCEEDED)]
    known = money(transaction="", expected=False, confirmed=True)
    failed = replace(PAID, status=Status.FAILED)
    assert one(Books([known], tried), failed).type is Type.MATCHED
    assert one(Books([replace(known, confirmed=False)], tried), failed).type is Type.STATUS


def test_a_refund_given_back_twice_is_found() -> None:
    back = Repayment(
        id=UUID(int=3),
        reference="HT1",
        transaction="71",
        amount=5_000,
        status=RefundStatus.SUCCEEDED,
        expected=True,
    )
    line = a_line(Kind.REFUND, "HT1", "71", 5_000, Status.SUCCEEDED)
    again = replace(line, transaction="72")
    assert [item.type for item in compare(Books(repayments=[back]), [line, again])] == [Type.MATCHED, Type.REFUND]
    failed = replace(again, status=Status.FAILED)
    assert [item.type for item in compare(Books(repayments=[back]), [failed, line])] == [Type.MATCHED, Type.MATCHED]
    waiting = replace(back, status=RefundStatus.PENDING, expected=False)
    found = one(Books(repayments=[waiting]), line)
    assert (found.type, found.news) == (Type.REFUND, True)
    found = one(Books(repayments=[waiting]), replace(line, amount=6_000))
    assert (found.type, found.news) == (Type.REFUND, False)


# --- whole days ---------------------------------------------------------------------------------------------------

D = date(2026, 10, 20)


def credit(number: str, amount: int, content: str) -> Line:
    return Line(
        kind=Kind.PAYMENT if amount > 0 else Kind.REFUND,
        references=(),
        transaction=number,
        amount=abs(amount),
        status=Status.SUCCEEDED,
        at=AT,
        content=content,
    )


@pytest.mark.parametrize(
    ("content", "days"),
    [
        ("VNPAY TT GD NGAY 20/10/2026", [D]),
        ("VNPAY TT GD NGAY 20-10-2026", [D]),
        ("VNPAY20102026 CHUYEN TIEN", [D]),
        ("2026-10-20 MOMO", [D]),
        ("MOMO.20261020.5", [D]),
        ("31/02/2026 va 20/10/2026", [D]),
        ("so 120102026", []),
        ("khong co ngay", []),
    ],
)
def test_days_in_the_content_of_a_transfer(content: str, days: list[date]) -> None:
    assert days_in(content) == days


def test_settlements_find_their_days() -> None:
    days = [Day(D, 5_000), Day(D + timedelta(1), 7_000), Day(D + timedelta(2), -1_000), Day(D - timedelta(1), 9, "S0")]
    lines = [
        credit("S1", 7_000, "khong ngay"),
        credit("S2", 5_500, "NGAY 20/10/2026"),
        credit("S3", -1_000, "HOAN LAI"),
        credit("S4", 4, ""),
        credit("S5", 5_000, "NGAY 20/10/2026"),
        credit("S5", 5_000, "NGAY 20/10/2026"),
        credit("S0", 9, ""),
        credit("S6", 9, "NGAY 19/10/2026"),
    ]
    found = settle(days, lines)
    assert [(one.item.type, one.day) for one in found] == [
        (Type.MATCHED, D + timedelta(1)),
        (Type.AMOUNT, D),
        (Type.MATCHED, D + timedelta(2)),
        (Type.ONLY_THEIRS, None),
        (Type.DUPLICATE, None),
        (Type.DUPLICATE, None),
        (Type.MATCHED, D - timedelta(1)),
        (Type.DUPLICATE, None),
    ]
