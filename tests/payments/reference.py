"""A model of what payments promise, in a hundred lines that know no database: what the real thing is compared with.

Attempts, money and refunds of two bills.  Every step of a history is a method; :meth:`Model.seen` is what an outsider
can see afterwards.
"""

from dataclasses import dataclass, field

AUTOMATIC = 500_000


@dataclass
class Try:
    bill: int
    amount: int
    reached: int = 0  # 0 created, 1 unknown, 2 pending, 3 expired
    success: int = 0
    failure: int = 0

    @property
    def status(self) -> str:
        if self.success >= 2 and self.success >= self.failure:
            return "succeeded"
        return "failed" if self.failure else ("created", "unknown", "pending", "expired")[self.reached]


@dataclass
class Back:
    amount: int
    status: str
    ours: bool
    sent: bool = False


@dataclass
class Money:
    name: str
    amount: int
    attempt: int
    place: str = "reversed"
    back: list[Back] = field(default_factory=list)

    def total(self, *statuses: str) -> int:
        return sum(each.amount for each in self.back if each.status in statuses)

    @property
    def held(self) -> int:
        return self.total("waiting", "approved", "unknown", "succeeded")


@dataclass
class Model:
    asks: list[int]
    bills: list[str] = field(default_factory=lambda: ["open", "open"])
    tries: list[Try] = field(default_factory=list)
    money: list[Money] = field(default_factory=list)

    def open(self, bill: int) -> bool:
        under_way = any(one.bill == bill and one.status in {"created", "unknown", "pending"} for one in self.tries)
        if self.bills[bill] != "open" or under_way:
            return False
        self.tries.append(Try(bill, self.asks[bill]))
        return True

    def reach(self, at: int, far: int) -> None:
        one = self.tries[at]
        if far == 1 and one.status != "created":
            return  # who was asked and answered is not unknown
        one.reached = max(one.reached, far)

    def give_up(self, at: int) -> None:
        if self.tries[at].status in {"created", "unknown", "pending"}:
            self.tries[at].reached = 3

    def cancel(self, bill: int) -> None:
        if self.bills[bill] == "open":
            self.bills[bill] = "cancelled"
            for at, one in enumerate(self.tries):
                if one.bill == bill:
                    self.give_up(at)

    def says_failed(self, at: int, strength: int) -> None:
        one = self.tries[at]
        before, one.failure = one.status, max(one.failure, strength)
        if before == "succeeded" != one.status:
            self._deny(at)

    def says_absent(self, at: int) -> None:
        if self.tries[at].status in {"created", "unknown"}:
            self.says_failed(at, 1)

    def says_paid(self, at: int, strength: int, name: str | None, amount: int) -> None:
        one = self.tries[at]
        if strength < 2:
            return
        money = self._money(at, name, amount)
        if money is not None and (money.attempt, money.amount) != (at, amount):
            return  # somebody else's money, or another amount of the same: no success of this one
        fits, before = amount == one.amount, one.status
        if fits:
            one.success = max(one.success, strength)
        if money is None:
            money = Money(name or f"ref:{at}", amount, at)
            self.money.append(money)
        if money.place == "reversed" and (not fits or one.status == "succeeded"):
            self._place(money)
        if one.status == "succeeded" != before:
            for each in [each for each in self.money if each.attempt == at and each.amount == one.amount]:
                if each.place == "reversed":
                    self._place(each)

    def _money(self, at: int, name: str | None, amount: int) -> Money | None:
        same = [each for each in self.money if each.name == name]
        unnamed = [each for each in self.money if each.name == f"ref:{at}" and each.amount == amount]
        of_try = [each for each in self.money if each.attempt == at and each.amount == amount]
        if name is None:
            return of_try[0] if of_try else None
        if not same and unnamed:
            unnamed[0].name = name
            return unnamed[0]
        return same[0] if same else None

    def _place(self, money: Money) -> None:
        bill = self.tries[money.attempt].bill
        if money.amount == self.asks[bill] and self.bills[bill] == "open":
            money.place, self.bills[bill] = "applied", "paid"
            return
        money.place = "suspense"
        if money.amount == self.asks[bill]:
            small = "approved" if money.amount <= AUTOMATIC else "waiting"
            money.back.append(Back(money.amount, small, ours=True))

    def _withdraw(self, money: Money) -> None:
        for each in money.back:
            if each.ours and not each.sent and each.status in {"waiting", "approved"}:
                each.status = "rejected"

    def _deny(self, at: int) -> None:
        one = self.tries[at]
        for money in [each for each in self.money if each.attempt == at and each.amount == one.amount]:
            if money.place == "reversed":
                continue
            self._withdraw(money)
            if money.held:
                continue
            if money.place == "applied":
                self.bills[one.bill] = "open"
            money.place = "reversed"
        if self.bills[one.bill] == "open":
            for money in self.money:
                waits = self.tries[money.attempt].bill == one.bill and money.place == "suspense"
                if waits and money.amount == self.asks[one.bill]:
                    self._withdraw(money)
                    if not money.held:
                        money.place, self.bills[one.bill] = "applied", "paid"
                        return

    def ask_back(self, at: int, amount: int) -> bool:
        money = self.money[at]
        if money.place == "reversed" or money.held + amount > money.amount:
            return False
        money.back.append(Back(amount, "approved" if amount <= AUTOMATIC else "waiting", ours=False))
        return True

    def settle_back(self, at: int, which: int, outcome: str) -> None:
        each, money = self.money[at].back[which], self.money[at]
        if outcome == "send" and each.status == "approved":
            each.sent = True
        elif outcome == "unknown" and each.status == "approved" and each.sent:
            each.status = "unknown"
        elif outcome == "failed" and each.sent and each.status in {"approved", "unknown"}:
            each.status = "failed"
        elif outcome == "succeeded" and each.sent and each.status in {"approved", "unknown"}:
            each.status = "succeeded"
        elif outcome == "succeeded" and each.status == "failed" and money.place != "reversed":
            each.status = "succeeded" if money.held + each.amount <= money.amount else "failed"

    def seen(self) -> dict[str, object]:
        return {
            "bills": self.bills,
            "tries": [(one.status, one.success, one.failure) for one in self.tries],
            "money": [
                (m.amount, m.place, m.total("waiting", "approved", "unknown"), m.total("succeeded")) for m in self.money
            ],
            "suspense": sum(m.amount - m.total("succeeded") for m in self.money if m.place == "suspense"),
        }
