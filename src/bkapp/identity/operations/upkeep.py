"""Forgetting what has done its work, and sealing anew."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from bkapp.identity.models import NativeCode, Person, RefreshToken, SignIn, SignInAttempt, UsedToken
from bkapp.identity.rules import GRACE
from bkapp.sealing import Keyring

ENDED_KEPT = timedelta(days=90)
"""How long a sign-in that is over can still be told of."""


async def forget(session: AsyncSession, *, now: datetime) -> int:
    """Delete attempts, codes, used tokens and sign-ins that are over; return how many rows.

    Refresh tokens go with their sign-in.  A successor is forgotten as soon as nobody may ask for it again.
    """
    day = timedelta(days=1)
    over = sa.func.coalesce(SignIn.ended_at, SignIn.expires_at)
    gone = 0
    for statement in (
        sa.delete(SignInAttempt).where(SignInAttempt.expires_at < now),
        # For a day, so that a code or a token that comes back is known for what it is.
        sa.delete(NativeCode).where(NativeCode.expires_at < now - day),
        sa.delete(UsedToken).where(UsedToken.expires_at < now - day),
        sa.delete(SignIn).where(over < now - ENDED_KEPT),
    ):
        gone += (await session.execute(statement)).rowcount  # type: ignore[attr-defined]
    await session.execute(
        sa.update(RefreshToken)
        .where(RefreshToken.successor_cipher.is_not(None), RefreshToken.rotated_at < now - GRACE)
        .values(successor_cipher=None)
    )
    return gone


class Sealed(NamedTuple):
    """A sealed column: where it stands, and the word before the id in the context that it is sealed for."""

    column: InstrumentedAttribute[Any]
    id: InstrumentedAttribute[Any]
    context: str


SEALED = (
    Sealed(Person.number_cipher, Person.id, "person.number"),
    Sealed(Person.name_cipher, Person.id, "person.name"),
    Sealed(Person.birth_cipher, Person.id, "person.birth"),
    Sealed(Person.phone_cipher, Person.id, "person.phone"),
)
"""The sealed columns of people.  A successor of a refresh token lives for seconds and is not sealed anew."""


async def reseal(session: AsyncSession, keyring: Keyring, what: Sealed, *, batch: int = 500) -> int:
    """Seal values of a column anew with the first key, those that are not; return how many, 0 when none is left.

    Each call is good by itself, so that work which was broken off goes on where it was.
    """
    kid = keyring.kid.encode() + b"\0"
    stale = sa.func.substring(what.column, 1, len(kid)) != kid
    rows = await session.execute(
        sa.select(what.id, what.column).where(what.column.is_not(None), stale).limit(batch).with_for_update()
    )
    done = 0
    for place, sealed in rows.all():
        context = f"{what.context}:{place}"
        anew = keyring.seal(keyring.open(sealed, context), context)
        await session.execute(
            sa.update(what.column.class_)
            .where(what.id == place)
            .values({what.column: anew})
            .execution_options(synchronize_session=False)
        )
        done += 1
    return done
