"""The API's view of who is signed in, their devices and what they are told."""

from datetime import date, datetime
from typing import Any, Self
from uuid import UUID

from msgspec import Struct

from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.identity.models import Notice
from bkapp.identity.operations import Opened, Tokens
from bkapp.identity.queries import Device, Office
from bkapp.identity.rules import SignInKind, masked, rounded


class PersonOut(Struct, frozen=True):
    """Who is signed in, as far as a page needs it for a greeting."""

    id: UUID
    name: str | None


class SessionOut(Struct, frozen=True, kw_only=True):
    """Whether somebody is signed in here, and how.

    ``csrf_token`` goes back as ``X-CSRF-Token`` from a browser that says neither ``Origin`` nor ``Sec-Fetch-Site``;
    ``level`` is the identity assurance, 0 to 3; ``expires_at`` is when the session is over at the latest.
    """

    signed_in: bool
    csrf_token: str | None = None
    person: PersonOut | None = None
    role: Role | None = None
    level: int | None = None
    acr: str | None = None
    authenticated_at: datetime | None = None
    expires_at: datetime | None = None
    unread_notices: int = 0

    @classmethod
    def of(
        cls, caller: Caller, person: PersonOut, *, csrf_token: str | None, ends: datetime | None, unread: int
    ) -> Self:
        return cls(
            signed_in=True,
            csrf_token=csrf_token,
            person=person,
            role=caller.role,
            level=caller.level,
            acr=caller.acr,
            authenticated_at=caller.authenticated_at,
            expires_at=ends,
            unread_notices=unread,
        )


class OfficeOut(Struct, frozen=True):
    """An office; ``unit`` is the code of an officer's unit."""

    role: Role
    unit: str | None
    unit_name: str | None
    granted_at: datetime
    expires_at: datetime | None

    @classmethod
    def of(cls, office: Office) -> Self:
        return cls(office.role, office.unit, office.unit_name, office.granted_at, office.expires_at)


class MeOut(Struct, frozen=True, kw_only=True):
    """What is kept of the person who asks.  ``number`` is masked but for its last three digits unless asked in full."""

    id: UUID
    name: str | None
    birth: date | None
    number: str
    phone: str | None
    level: int
    office: OfficeOut | None

    @classmethod
    def of(cls, opened: Opened, office: Office | None, *, level: int, full: bool) -> Self:
        return cls(
            id=opened.id,
            name=opened.name,
            birth=opened.birth,
            number=opened.number if full else masked(opened.number),
            phone=opened.phone,
            level=level,
            office=None if office is None else OfficeOut.of(office),
        )


class DeviceOut(Struct, frozen=True, kw_only=True):
    """Where a person is signed in.  ``seen_at`` is rounded down to ten minutes; ``this`` marks the one that asks."""

    id: UUID
    kind: SignInKind
    device: str
    signed_in_at: datetime
    seen_at: datetime
    expires_at: datetime
    this: bool

    @classmethod
    def of(cls, device: Device, *, own: UUID | None) -> Self:
        return cls(
            id=device.id,
            kind=device.kind,
            device=device.device,
            signed_in_at=device.signed_in_at,
            seen_at=rounded(device.seen_at),
            expires_at=device.expires_at,
            this=device.id == own,
        )


class DevicesOut(Struct, frozen=True):
    """The devices of a person, the last used first."""

    devices: list[DeviceOut]


class SignedOutOut(Struct, frozen=True):
    """How many sessions ended."""

    ended: int


class NoticeOut(Struct, frozen=True, kw_only=True):
    """What a person is told.  ``kind`` is a word such as new_device or token_reused; ``data`` goes with it."""

    id: UUID
    kind: str
    data: dict[str, Any]
    created_at: datetime
    read_at: datetime | None

    @classmethod
    def of(cls, notice: Notice) -> Self:
        return cls(
            id=notice.id, kind=notice.kind, data=notice.data, created_at=notice.created_at, read_at=notice.read_at
        )


class NoticesOut(Struct, frozen=True):
    """Notices, newest first."""

    notices: list[NoticeOut]


class TokensOut(Struct, frozen=True, kw_only=True):
    """Tokens of an app (RFC 6749 §5.1).  Times are in seconds; the refresh token's is what is left of the sign-in."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int

    @classmethod
    def of(cls, tokens: Tokens, *, now: datetime) -> Self:
        return cls(
            access_token=tokens.access,
            token_type="Bearer",  # noqa: S106  (a kind, no secret)
            expires_in=int(tokens.access_lasts.total_seconds()),
            refresh_token=tokens.refresh,
            refresh_expires_in=max(0, int((tokens.ends_at - now).total_seconds())),
        )


class LogoutForm(Struct, frozen=True):
    """What a provider sends when somebody signed out there."""

    logout_token: str = ""
