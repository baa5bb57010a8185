"""Clocks, working days, purposes and words: what needs neither a database nor the time it is."""

import hashlib
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.address.operations import file_jobs
from bkapp.errors import Invalid, NotFound
from bkapp.identity.operations import upkeep
from bkapp.privacy import purposes, rules
from bkapp.privacy.purposes import PURPOSES, Basis, ConsentState, state_of
from bkapp.privacy.rules import (
    HANOI,
    LIMITS,
    NEXT,
    Clock,
    ExtendedBefore,
    ExtensionTooLate,
    IllegalStep,
    RequestKind,
    RequestStatus,
    after_working_days,
    clock,
    extend,
    is_working_day,
    move,
    standing,
    what_in_words,
)

days = st.dates(date(2024, 12, 1), date(2028, 12, 31))
moments = st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=HANOI)


class TestWorkingDays:
    @pytest.mark.parametrize(
        ("day", "works"),
        [
            ("2025-01-01", False),
            ("2025-01-24", True),  # the last Friday before Tết
            ("2025-01-27", False),
            ("2025-02-03", True),
            ("2025-04-07", False),  # Giỗ Tổ
            ("2025-04-26", True),  # a Saturday, worked for the Friday between 1 May and the weekend
            ("2025-05-02", False),
            ("2026-01-02", False),
            ("2026-01-10", True),  # a Saturday
            ("2026-02-16", False),
            ("2026-02-23", True),
            ("2026-04-26", False),  # Giỗ Tổ falls on a Sunday,
            ("2026-04-27", False),  # so the Monday is off
            ("2026-08-22", True),  # a Saturday
            ("2026-08-31", False),
            ("2026-09-02", False),
            ("2027-02-08", False),
            ("2027-04-16", False),
            ("2027-05-03", False),  # for 1 May, a Saturday
            ("2027-11-20", False),  # a Saturday like any other
            ("2031-01-01", True),  # of a year that is not listed: a deadline comes early, never late
        ],
    )
    def test_offices_work_when_the_government_says(self, day: str, works: bool) -> None:  # noqa: FBT001
        assert is_working_day(date.fromisoformat(day)) is works

    @pytest.mark.parametrize("year", [2025, 2026, 2027])
    def test_each_listed_year_has_the_holidays_of_the_labour_code(self, year: int) -> None:
        off = {day for day in rules.holidays().off if day.year == year}
        assert len(off) >= 9
        fixed = [date(year, 1, 1), date(year, 4, 30), date(year, 5, 1), date(year, 9, 2)]
        assert [day for day in fixed if is_working_day(day)] == []

    def test_a_listed_day_says_something_that_its_weekday_does_not(self) -> None:
        listed = rules.holidays()
        assert [day for day in listed.off if day.weekday() >= 5] == []
        assert [day for day in listed.work if day.weekday() < 5] == []

    @given(days, st.integers(1, 30))
    def test_the_day_it_ends_is_worked_and_so_many_are_between(self, day: date, count: int) -> None:
        end = after_working_days(day, count)
        between = [day + timedelta(days=step) for step in range(1, (end - day).days + 1)]
        assert is_working_day(end)
        assert sum(map(is_working_day, between)) == count

    @given(days, st.integers(0, 20), st.integers(0, 20))
    def test_waiting_in_two_steps_is_waiting_at_once(self, day: date, first: int, second: int) -> None:
        assert after_working_days(after_working_days(day, first), second) == after_working_days(day, first + second)

    @given(days, days, st.integers(1, 10))
    def test_who_asks_later_is_not_answered_earlier(self, one: date, other: date, count: int) -> None:
        first, second = sorted((one, other))
        assert after_working_days(first, count) <= after_working_days(second, count)


class TestClock:
    def test_a_friday_evening_is_acknowledged_by_tuesday(self) -> None:
        assert clock(RequestKind.WITHDRAW, at("2026-03-06T22:30")).acknowledge_by == at("2026-03-10T23:59:59")

    def test_days_are_those_of_bac_kan_and_not_of_greenwich(self) -> None:
        # 23:30 UTC on Monday is Tuesday morning there.
        until = clock(RequestKind.RESTRICT, datetime(2026, 3, 9, 23, 30, tzinfo=UTC))
        assert until.acknowledge_by == at("2026-03-12T23:59:59")
        assert until.due_at == at("2026-03-25T23:59:59")

    def test_tet_is_waited_for(self) -> None:
        assert clock(RequestKind.ACCESS, at("2026-02-12T09:00")).acknowledge_by == at("2026-02-23T23:59:59")

    @pytest.mark.parametrize("kind", [RequestKind.WITHDRAW, RequestKind.RESTRICT, RequestKind.OBJECT])
    def test_15_days_and_20_with_a_processor(self, kind: RequestKind) -> None:
        assert (LIMITS[kind].days, LIMITS[kind].with_processor) == (15, 20)
        came = at("2026-06-01T08:00")
        assert clock(kind, came).due_at == at("2026-06-16T23:59:59")
        assert clock(kind, came, with_processor=True).due_at == at("2026-06-21T23:59:59")

    def test_every_kind_has_a_limit_within_the_laws_and_cites_the_act(self) -> None:
        assert set(LIMITS) == set(RequestKind)
        for limit in LIMITS.values():
            assert 10 <= limit.days <= limit.with_processor <= 20
            assert "91/2025/QH15" in limit.act

    @given(st.sampled_from(RequestKind), moments, st.booleans())
    def test_a_deadline_is_the_last_second_of_a_day_after_it_came(
        self,
        kind: RequestKind,
        came: datetime,
        processor: bool,  # noqa: FBT001
    ) -> None:
        until = clock(kind, came, with_processor=processor)
        for due in (until.acknowledge_by, until.due_at):
            there = due.astimezone(HANOI)
            assert due > came
            assert (there.hour, there.minute, there.second) == (23, 59, 59)
        assert is_working_day(until.acknowledge_by.date())

    @given(st.sampled_from(RequestKind), moments, moments)
    def test_it_is_late_after_the_last_second_and_not_before(
        self, kind: RequestKind, came: datetime, now: datetime
    ) -> None:
        until = clock(kind, came)
        for status in (RequestStatus.RECEIVED, RequestStatus.ACKNOWLEDGED):
            stands = standing(status, until, now=now)
            assert stands.overdue is (now > stands.next_due)
            assert not standing(status, until, now=stands.next_due).overdue
            assert standing(status, until, now=stands.next_due).days_left == 0
            assert standing(status, until, now=stands.next_due + timedelta(seconds=1)).overdue
            if stands.days_left < 0:
                assert stands.overdue

    def test_once_acknowledged_the_end_alone_is_due(self) -> None:
        until = Clock(at("2026-06-03T23:59:59"), at("2026-06-16T23:59:59"))
        now = at("2026-06-05T10:00")
        assert standing(RequestStatus.RECEIVED, until, now=now) == rules.Standing(until.acknowledge_by, -2, True)  # noqa: FBT003
        assert standing(RequestStatus.ACKNOWLEDGED, until, now=now) == rules.Standing(until.due_at, 11, False)  # noqa: FBT003


class TestSteps:
    def test_a_request_is_extended_once_by_at_most_15_days_and_in_time(self) -> None:
        due, now = at("2026-06-16T23:59:59"), at("2026-06-10T12:00")
        assert extend(due, days=15, extended=False, now=now) == at("2026-07-01T23:59:59")
        assert extend(due, days=1, extended=False, now=due) == at("2026-06-17T23:59:59")
        with pytest.raises(ExtendedBefore):
            extend(due, days=1, extended=True, now=now)
        with pytest.raises(ExtensionTooLate):
            extend(due, days=1, extended=False, now=due + timedelta(seconds=1))
        for wrong in (0, 16, -1):
            with pytest.raises(Invalid):
                extend(due, days=wrong, extended=False, now=now)

    @given(st.lists(st.sampled_from(RequestStatus)))
    def test_whatever_is_tried_a_closed_request_stays_closed(self, tries: list[RequestStatus]) -> None:
        status, closed = RequestStatus.RECEIVED, False
        for wanted in tries:
            try:
                status = move(status, wanted)
            except IllegalStep:
                continue
            assert not closed
            closed = not NEXT[status]


# A word changed without a new version would put words into the mouths of those who agreed before.
TEXTS = {
    ("sign_in", "1"): "7cb353afb9460838",
    ("household_register", "1"): "c20ebbe6dd64bf4f",
    ("address_register", "1"): "5f94997459984762",
    ("payments", "1"): "b6bc4302dfb44aeb",
    ("contact_phone", "1"): "67ffc113528d751b",
    ("notices", "1"): "d0ac028837556968",
    ("statistics", "1"): "642cc8caa6dbec58",
    ("assisted_service", "1"): "7fa8e6a453a0bba3",
}


class TestPurposes:
    def test_each_says_who_may_what_on_which_ground(self) -> None:
        assert {"sign_in", "household_register", "address_register", "contact_phone", "notices", "statistics"} < set(
            PURPOSES
        )
        for name, purpose in PURPOSES.items():
            assert purpose.id == name
            assert all([purpose.title, purpose.text, purpose.act, purpose.data, purpose.version])
        by_consent = {purpose.id for purpose in PURPOSES.values() if purpose.basis is Basis.CONSENT}
        assert by_consent == {"contact_phone", "notices", "assisted_service"}

    def test_no_text_changes_without_its_version(self) -> None:
        found = {
            (purpose.id, purpose.version): hashlib.sha256(
                "\0".join([purpose.title, purpose.text, *purpose.data]).encode()
            ).hexdigest()[:16]
            for purpose in PURPOSES.values()
        }
        assert found == TEXTS

    def test_nothing_is_given_until_it_is_and_an_old_text_does_not_count(self) -> None:
        asked, task = PURPOSES["contact_phone"], PURPOSES["sign_in"]
        assert state_of(asked, live=None, withdrawn=False) is ConsentState.NOT_GIVEN
        assert state_of(asked, live=asked.version, withdrawn=False) is ConsentState.GIVEN
        assert state_of(asked, live="0", withdrawn=False) is ConsentState.OUTDATED
        assert state_of(asked, live=None, withdrawn=True) is ConsentState.WITHDRAWN
        assert state_of(task, live=None, withdrawn=False) is ConsentState.NOT_NEEDED

    def test_only_what_rests_on_consent_is_consented_to(self) -> None:
        with pytest.raises(purposes.NoConsentNeeded):
            purposes.of_consent("sign_in")
        with pytest.raises(NotFound):
            purposes.of_consent("advertising")
        with pytest.raises(purposes.TextChanged) as caught:
            purposes.require_shown(PURPOSES["notices"], "0")
        assert caught.value.facts == {
            "purpose": "notices",
            "text_version": PURPOSES["notices"].version,
            "text": PURPOSES["notices"].text,
        }


class TestRetention:
    def test_each_says_what_how_long_and_why(self) -> None:
        for what, kept in rules.RETENTION.items():
            assert kept.what == what
            assert kept.days > 0
            assert all([kept.title, kept.counted_from, kept.why, kept.task])

    def test_the_table_says_what_the_tasks_do(self) -> None:
        assert timedelta(days=rules.RETENTION["geocode_files"].days) == file_jobs.KEPT
        assert timedelta(days=rules.RETENTION["ended_sign_ins"].days) == upkeep.ENDED_KEPT


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("/api/v1/addresses/{code:str}", "Xem chi tiết địa chỉ"),
        ("/api/v1/addresses/{code:str}/history", "Xem lịch sử địa chỉ"),
        ("/api/v1/addresses/{code:str}/correct-door", "Cập nhật địa chỉ"),
        ("/api/v1/me/household/refresh", "Tra cứu Cơ sở dữ liệu quốc gia về dân cư"),
        ("/api/v1/me/export.pdf", "Tải dữ liệu cá nhân"),
        ("/api/v1/privacy/requests", "Giải quyết yêu cầu về dữ liệu cá nhân"),
        ("/api/v1/bills", "Lập hoặc xem khoản phải nộp"),
        ("/api/v1/bills/{bill_id:uuid}/confirmation.pdf", "Tải xác nhận thanh toán"),
        ("/toi/hoa-don/{bill_id:uuid}", "Xem khoản phải nộp"),
        ("/can-bo/hoa-don", "Lập hoặc xem khoản phải nộp"),
        ("/can-bo/doi-soat/hoan-tien", "Đối soát, hoàn tiền"),
        ("/somewhere/new", "Xem dữ liệu"),
        ("", "Xem dữ liệu"),
    ],
)
def test_what_was_read_is_told_in_words(what: str, words: str) -> None:
    assert what_in_words(what) == words
