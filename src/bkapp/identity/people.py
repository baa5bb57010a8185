"""Who is behind a cookie or an access token."""

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.db import Lookup, Sessions
from bkapp.errors import Unauthenticated
from bkapp.identity import rules
from bkapp.identity.jose import BadToken
from bkapp.identity.queries import Live
from bkapp.identity.rules import SEEN_EVERY, SignInKind
from bkapp.identity.tokens import TokenSigner

# Another request of the same device may be noting the same: nobody waits for it.
_SEEN = sa.text("""
    UPDATE sign_in SET seen_at = now() WHERE id = (
        SELECT id FROM sign_in WHERE id = :id AND ended_at IS NULL AND seen_at < now() - :every
        FOR NO KEY UPDATE SKIP LOCKED)
""").bindparams(sa.bindparam("every", SEEN_EVERY))


class SignedIn:
    """Finds people by asking for their sign-in at every request, so that ending one takes effect at once.

    ``lookup`` is a look-up of :func:`bkapp.identity.queries.sign_ins`; ``sessions`` are those that each statement
    stands alone in, and note when a device was last used.
    """

    def __init__(self, lookup: Lookup, signer: TokenSigner, sessions: Sessions) -> None:
        self._lookup = lookup
        self._signer = signer
        self._sessions = sessions
        self._noting: set[UUID] = set()

    async def of_cookie(self, secret: str) -> Caller | None:
        """Who holds this cookie; None for one that is unknown or over."""
        if not rules.is_secret(secret):
            return None
        live = await self._find(f"c:{rules.hashed(secret).hex()}")
        return None if live is None else _caller(live, by_cookie=True)

    async def of_token(self, token: str) -> Caller:
        """Who holds this access token; raise ``Unauthenticated`` for one that is not good.

        The answer does not say why, but for the code of RFC 6750 that tells an app to refresh.
        """
        refusal = Unauthenticated(
            "The access token is not valid.", authenticate='Bearer realm="bkapp", error="invalid_token"'
        )
        try:
            said = self._signer.read(token, now=datetime.now(UTC))
        except BadToken:
            raise refusal from None
        live = await self._find(f"s:{said.sign_in}")
        if live is None or live.person != said.person or live.kind is not SignInKind.NATIVE:
            raise refusal
        return _caller(live, by_cookie=False)

    def csrf_token(self, secret: str) -> str:
        """What a page must send back with a change, for browsers that do not say where it comes from."""
        return rules.csrf_token(secret)

    async def _find(self, key: str) -> Live | None:
        row = await self._lookup(key)
        if row is None:
            return None
        live = msgspec.convert(row, Live)
        if datetime.now(UTC) - live.seen_at > SEEN_EVERY:
            await self._note(live.id)
        return live

    async def _note(self, sign_in: UUID) -> None:
        """Note that a device is in use, about once a minute for each."""
        if sign_in in self._noting:
            return
        self._noting.add(sign_in)
        try:
            # Who is signed in is not turned away because this could not be written.
            with suppress(DBAPIError, NoConnectionFree):
                async with self._sessions.begin() as session:
                    await session.execute(_SEEN, {"id": sign_in})
        finally:
            self._noting.discard(sign_in)


def _caller(live: Live, *, by_cookie: bool) -> Caller:
    role = live.role or Role.CITIZEN
    reach: frozenset[int] | None = frozenset(live.scope or ())
    return Caller(
        id=str(live.person),
        role=role,
        unit_ids=None if role in {Role.MONITOR, Role.ADMIN} else reach if role is Role.OFFICER else frozenset(),
        person=live.person,
        sign_in=live.id,
        homes=frozenset(live.homes),
        level=live.level,
        acr=live.acr,
        authenticated_at=None if live.authenticated_at == rules.NOT_TOLD else live.authenticated_at,
        by_cookie=by_cookie,
    )
