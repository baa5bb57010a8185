"""Rules of households: who may be in one, how claims and invitations move, how the population register is asked."""

import hashlib
import re
from datetime import date, datetime, timedelta
from enum import StrEnum

from bkapp.errors import DomainError
from bkapp.units.names import fold

INVITATION_LASTS = timedelta(days=7)
MOST_INVITATIONS = 10  # open at a time in one household
ASK_AGAIN_AFTER = timedelta(hours=24)
"""How long an answer of the population register stands before it is asked again at a sign-in."""
ASK_ANEW_AFTER = timedelta(minutes=1)
"""How soon it may be asked again by a person who wants to know, or because it was away."""
ANSWER_TAKES = timedelta(seconds=20)
"""How long an answer may be on its way; after that, whoever asked has gone away."""
REGISTER_STANDS = timedelta(days=30)
"""How long the register's word that somebody lives in a household opens its exact place to them.

It is asked when they open the page of the household.  Who moved away must not keep the view because they never open it.
"""
ADULT_AT = 18  # Bộ luật Dân sự 2015, art. 20


class MemberRole(StrEnum):
    """A person's part in the household."""

    HEAD = "head"  # chủ hộ
    MEMBER = "member"  # thành viên hộ


class MemberSource(StrEnum):
    """How we know of it."""

    POPULATION = "population"
    INVITATION = "invitation"


class MemberStatus(StrEnum):
    """Whether it counts."""

    WAITING = "waiting"  # for an officer
    ACTIVE = "active"
    REFUSED = "refused"
    ENDED = "ended"


class ClaimStatus(StrEnum):
    """Where a claim of an address stands."""

    WAITING = "waiting"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class Outcome(StrEnum):
    """What came of a question to the population register."""

    FOUND = "found"
    NOT_FOUND = "not_found"
    MISMATCH = "mismatch"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


class Relation(StrEnum):
    """What an invited person is to the head, in the words of the residence law's forms."""

    WIFE = "Vợ"
    HUSBAND = "Chồng"
    CHILD = "Con"
    CHILD_IN_LAW = "Con dâu, con rể"
    FATHER = "Cha"
    MOTHER = "Mẹ"
    GRANDPARENT = "Ông, bà"
    GRANDCHILD = "Cháu"
    SIBLING = "Anh, chị, em"
    WARD = "Người được giám hộ"
    OTHER = "Cùng ở, không có quan hệ gia đình"


class Hindrance(StrEnum):
    """Why a person cannot claim an address for their household now."""

    NOT_CONFIRMED = "not_confirmed"  # the membership waits for an officer
    MINOR = "minor"
    HOUSED = "housed"  # the household has an address
    CLAIM_WAITING = "claim_waiting"
    REGISTERED_ELSEWHERE = "registered_elsewhere"  # not in Bắc Kạn


class ClaimDecided(DomainError):
    """The claim was confirmed, refused or withdrawn before; ``now`` says which."""

    code = "claim_decided"
    title = "Đề nghị này đã được xử lý"


class MembershipDecided(DomainError):
    """The membership was confirmed, refused or ended before; ``now`` says which."""

    code = "membership_decided"
    title = "Thành viên này đã được xử lý"


_CLAIM_NEXT: dict[ClaimStatus, frozenset[ClaimStatus]] = {
    ClaimStatus.WAITING: frozenset({ClaimStatus.CONFIRMED, ClaimStatus.REFUSED, ClaimStatus.WITHDRAWN}),
    ClaimStatus.CONFIRMED: frozenset(),
    ClaimStatus.REFUSED: frozenset(),
    ClaimStatus.WITHDRAWN: frozenset(),
}
_MEMBER_NEXT: dict[MemberStatus, frozenset[MemberStatus]] = {
    MemberStatus.WAITING: frozenset({MemberStatus.ACTIVE, MemberStatus.REFUSED, MemberStatus.ENDED}),
    MemberStatus.ACTIVE: frozenset({MemberStatus.ENDED}),
    MemberStatus.REFUSED: frozenset(),
    MemberStatus.ENDED: frozenset(),
}


def settle_claim(now: ClaimStatus, to: ClaimStatus) -> ClaimStatus:
    """Return ``to`` if a claim may go there from ``now``; a claim is decided once."""
    if to in _CLAIM_NEXT[now]:
        return to
    raise ClaimDecided(f"The claim is {now} and cannot become {to}.", now=now)


def settle_membership(now: MemberStatus, to: MemberStatus) -> MemberStatus:
    """Return ``to`` if a membership may go there from ``now``."""
    if to in _MEMBER_NEXT[now]:
        return to
    raise MembershipDecided(f"The membership is {now} and cannot become {to}.", now=now)


def register_name(name: str) -> str:
    """A name as the population register is asked for it: upper case, without marks or spaces.

    ``"Đặng Thị Hòa"`` becomes ``"DANGTHIHOA"``; hyphens and apostrophes go with the spaces.
    """
    return re.sub(r"[^A-Z0-9]", "", fold(name).upper())


def is_adult(birth: date, on: date) -> bool:
    """Whether a person is 18 on a day; born on 29 February, from 1 March of a year without one."""
    return (on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day))) >= ADULT_AT


def is_due(last: Outcome | None, asked_at: datetime | None, *, now: datetime, again: bool) -> bool:
    """Whether to ask the register about a person.

    ``last`` is what came of the last question, asked at ``asked_at``; ``again`` that the person wants it anew.  A
    question without an outcome is one whose asker went away: it counts as not asked.
    """
    if asked_at is None or last is None:
        return True
    failed = last in {Outcome.UNAVAILABLE, Outcome.REFUSED}
    return now - asked_at >= (ASK_ANEW_AFTER if again or failed else ASK_AGAIN_AFTER)


def opens_home(source: MemberSource, checked_at: datetime | None, *, now: datetime) -> bool:
    """Whether an active membership opens the exact place of the home, as far as its age goes."""
    if source is not MemberSource.POPULATION:
        return True
    return checked_at is not None and now - checked_at <= REGISTER_STANDS


def hash_of(secret: str) -> bytes:
    """How the secret of an invitation is kept: it has 256 random bits, so a fast hash is right."""
    return hashlib.sha256(secret.encode()).digest()
