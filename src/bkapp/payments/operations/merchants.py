"""Our accounts with payment providers, their secrets, and how often we may ask."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit.operations import append
from bkapp.db import carry_out, violated
from bkapp.errors import DomainError, NotFound
from bkapp.payments import providers
from bkapp.payments.models import Merchant, MerchantSecret
from bkapp.sealing import Keyring


class TwoSecretsInForce(DomainError):
    """A purpose has two secrets in force already; retire one first."""

    code = "two_secrets_in_force"
    title = "Đã có hai khóa đang dùng, hãy thu hồi một khóa trước"


class MerchantExists(DomainError):
    """There is a merchant with this key."""

    code = "merchant_exists"
    title = "Đã có tài khoản thanh toán mang khóa này"


async def merchant_row(session: AsyncSession, key: str) -> Merchant:
    """The merchant with a key; raise ``NotFound``."""
    found = await session.scalar(select(Merchant).where(Merchant.key == key))
    if found is None:
        raise NotFound("There is no such payment method.")
    return found


VERSION = """m.id, m.xmin::text, ARRAY(
        SELECT s.id FROM merchant_secret s WHERE s.merchant_id = m.id AND s.retired_at IS NULL ORDER BY s.created_at)"""
"""What changes with a merchant ``m``, and with its secrets in force."""
_BY_KEY = f"SELECT {VERSION} FROM merchant m WHERE m.key = %(key)s"
_opened: dict[str, tuple[Sequence[Any], Keyring, Merchant, providers.Merchant]] = {}


async def opened_by_key(
    session: AsyncSession, keyring: Keyring, key: str, home: str
) -> tuple[Merchant, providers.Merchant]:
    """The merchant with a key, which the session does not hold, and as its provider wants it.  Raise ``NotFound``."""
    found = await carry_out(session, _BY_KEY, {"key": key})
    if not found:
        raise NotFound("There is no such payment method.")
    return await opened_as(session, keyring, key, home, found[0])


async def opened_as(
    session: AsyncSession, keyring: Keyring, key: str, home: str, version: Sequence[Any]
) -> tuple[Merchant, providers.Merchant]:
    """:func:`opened_by_key` for who has just read the merchant's :data:`VERSION`.

    Opened once and kept while nothing of it changes: so a secret that is retired is believed no more from that moment
    on.
    """
    known = _opened.get(key)
    if known is None or known[:2] != (version, keyring) or known[3].home != home:
        row = await merchant_row(session, key)
        known = _opened[key] = version, keyring, row, await opened(session, keyring, row, home)
        session.expunge(row)
    return known[2:]


async def opened(session: AsyncSession, keyring: Keyring, row: Merchant, home: str) -> providers.Merchant:
    """A merchant as its provider wants it: with its secrets opened, the newest of a purpose first."""
    kept = await session.execute(
        select(MerchantSecret.id, MerchantSecret.purpose, MerchantSecret.secret_cipher)
        .where(MerchantSecret.merchant_id == row.id, MerchantSecret.retired_at.is_(None))
        .order_by(MerchantSecret.created_at.desc())
    )
    secrets: dict[str, list[str]] = {}
    for secret_id, purpose, cipher in kept:
        secrets.setdefault(purpose, []).append(keyring.open(cipher, f"merchant_secret:{secret_id}"))
    return providers.Merchant(
        key=row.key, provider=row.provider, code=row.code, secrets=secrets, options=row.options, home=home
    )


async def add_merchant(
    session: AsyncSession,
    *,
    key: str,
    provider: str,
    code: str,
    title: str,
    options: Mapping[str, str],
    allowed_ips: Sequence[str] = (),
    position: int = 0,
    by: str,
) -> Merchant:
    """Open an account of ours with a provider; raise :class:`MerchantExists`."""
    row = Merchant(
        key=key,
        provider=provider,
        code=code,
        title=title,
        options=dict(options),
        allowed_ips=list(allowed_ips),
        position=position,
    )
    session.add(row)
    try:
        await session.flush()
    except IntegrityError as error:
        if violated(error) != "uq_merchant_key":
            raise
        raise MerchantExists(f"There is a merchant {key} already.") from None
    await append(session, kind="merchant_added", actor=by, subject=key)
    return row


async def add_secret(
    session: AsyncSession, keyring: Keyring, merchant: Merchant, *, purpose: str, secret: str, by: str
) -> UUID:
    """A new secret of a purpose, which signs from now on; raise :class:`TwoSecretsInForce`.

    The constraint on the two slots is what refuses a third, also when two people add one at the same time.
    """
    new = uuid4()
    taken = set(
        await session.scalars(
            select(MerchantSecret.slot).where(
                MerchantSecret.merchant_id == merchant.id,
                MerchantSecret.purpose == purpose,
                MerchantSecret.retired_at.is_(None),
            )
        )
    )
    try:
        await session.execute(
            insert(MerchantSecret).values(
                id=new,
                merchant_id=merchant.id,
                purpose=purpose,
                slot=1 if 1 not in taken else 2,
                secret_cipher=keyring.seal(secret, f"merchant_secret:{new}"),
            )
        )
    except IntegrityError as error:
        if violated(error) != "uq_merchant_secret_merchant_id":
            raise
        raise TwoSecretsInForce(f"{merchant.key} has two secrets for {purpose} in force.") from None
    await append(session, kind="merchant_secret_added", actor=by, subject=merchant.key, purpose=purpose)
    return new


async def retire_secret(session: AsyncSession, merchant: Merchant, secret_id: UUID, *, by: str, now: datetime) -> None:
    """A secret is believed no more.  Safe to repeat."""
    await session.execute(
        update(MerchantSecret)
        .where(
            MerchantSecret.id == secret_id,
            MerchantSecret.merchant_id == merchant.id,
            MerchantSecret.retired_at.is_(None),
        )
        .values(retired_at=now)
    )
    await append(session, kind="merchant_secret_retired", actor=by, subject=merchant.key)


# Clocks of processes differ, and one that lags must not have the same time counted twice.
_TAKE = text("""
    UPDATE merchant SET refilled_at = greatest(refilled_at, :now),
        call_tokens = least(calls_per_minute, call_tokens
            + greatest(extract(epoch FROM :now - refilled_at), 0) * calls_per_minute / 60.0) - 1
    WHERE id = :id AND least(calls_per_minute, call_tokens
            + greatest(extract(epoch FROM :now - refilled_at), 0) * calls_per_minute / 60.0) >= 1""")


async def take_call(session: AsyncSession, merchant_id: UUID, now: datetime) -> bool:
    """Whether we may ask a merchant's provider once more: a bucket of ``calls_per_minute``, refilled all the time."""
    taken = await session.execute(_TAKE, {"id": merchant_id, "now": now})
    return bool(taken.rowcount)  # type: ignore[attr-defined]
