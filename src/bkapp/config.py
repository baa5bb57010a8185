"""Settings: read once from the environment, checked at the start, frozen afterwards."""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

# Anybody can read this seed, so it signs nothing but demo plates and is refused outside demo mode.
DEMO_SEED = b"bkapp demo, signs nothing real!!"
DEMO_SIGNING_KEYS = "demo:" + base64.urlsafe_b64encode(DEMO_SEED).decode().rstrip("=")


class BadSetting(ValueError):
    """A setting is missing or wrong.  The sentence names the variable and never repeats a secret."""


class Settings(Struct, frozen=True, kw_only=True):
    """One field per variable; ``docs/settings.md`` explains each."""

    database_url: str
    redis_url: str | None
    demo: bool
    base_url: str
    signing_keys: str
    host: str
    port: int
    web_workers: int
    pool_size: int
    rate_limit: str
    cors_origins: tuple[str, ...]
    trusted_proxies: int
    max_body_bytes: int
    log_level: str
    release: str


VARIABLES: dict[str, str] = {
    "database_url": "DATABASE_URL",
    "redis_url": "REDIS_URL",
    "demo": "BKAPP_DEMO",
    "base_url": "BKAPP_BASE_URL",
    "signing_keys": "BKAPP_SIGNING_KEYS",
    "host": "BKAPP_HOST",
    "port": "BKAPP_PORT",
    "web_workers": "BKAPP_WEB_WORKERS",
    "pool_size": "BKAPP_POOL_SIZE",
    "rate_limit": "BKAPP_RATE_LIMIT",
    "cors_origins": "BKAPP_CORS_ORIGINS",
    "trusted_proxies": "BKAPP_TRUSTED_PROXIES",
    "max_body_bytes": "BKAPP_MAX_BODY_BYTES",
    "log_level": "BKAPP_LOG_LEVEL",
    "release": "BKAPP_RELEASE",
}


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raise :class:`BadSetting` with one sentence at the first wrong one."""
    demo = _flag(environ, "BKAPP_DEMO", default=False)
    port = _number(environ, "BKAPP_PORT", 8000, least=1, most=65535)
    return Settings(
        database_url=_address(environ, "DATABASE_URL", {"postgres", "postgresql", "postgresql+psycopg"}),
        redis_url=_address(environ, "REDIS_URL", {"redis", "rediss", "unix"}) if environ.get("REDIS_URL") else None,
        demo=demo,
        base_url=_base_url(environ, f"http://localhost:{port}" if demo else None),
        signing_keys=_signing_keys(environ, demo=demo),
        host=environ.get("BKAPP_HOST") or "::",
        port=port,
        web_workers=_number(environ, "BKAPP_WEB_WORKERS", 1, least=1, most=64),
        pool_size=_number(environ, "BKAPP_POOL_SIZE", 10, least=1, most=200),
        rate_limit=_rate(environ, "BKAPP_RATE_LIMIT", "600/minute"),
        cors_origins=_origins(environ, "BKAPP_CORS_ORIGINS"),
        trusted_proxies=_number(environ, "BKAPP_TRUSTED_PROXIES", 0, least=0, most=8),
        max_body_bytes=_number(environ, "BKAPP_MAX_BODY_BYTES", 262_144, least=1024, most=104_857_600),
        log_level=_choice(environ, "BKAPP_LOG_LEVEL", "info", {"debug", "info", "warning", "error"}),
        release=environ.get("BKAPP_RELEASE") or "dev",
    )


def _flag(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environ.get(name, "").strip().lower()
    if text in {"", "0", "false", "no"}:
        return default if text == "" else False
    if text in {"1", "true", "yes"}:
        return True
    raise BadSetting(f"{name} must be 1 or 0, not {text!r}.")


def _number(environ: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text[:12]) <= most:
        raise BadSetting(f"{name} must be a whole number from {least} to {most}, not {text!r}.")
    return int(text)


def _choice(environ: Mapping[str, str], name: str, default: str, choices: set[str]) -> str:
    text = environ.get(name, "").strip().lower() or default
    if text not in choices:
        raise BadSetting(f"{name} must be one of {', '.join(sorted(choices))}, not {text!r}.")
    return text


def _address(environ: Mapping[str, str], name: str, schemes: set[str]) -> str:
    text = environ.get(name, "").strip()
    if not text:
        raise BadSetting(f"{name} is not set: it must be an address such as {min(schemes)}://…")
    # The value may hold a password, so it is not repeated.
    if text.partition("://")[0] not in schemes or not text.partition("://")[2]:
        raise BadSetting(f"{name} must begin with {' or '.join(f'{scheme}://' for scheme in sorted(schemes))}.")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise BadSetting(f"{name} is no address that can be read: look at its port and brackets.") from None
    return text


def _base_url(environ: Mapping[str, str], default: str | None) -> str:
    text = environ.get("BKAPP_BASE_URL", "").strip().rstrip("/") or default
    if not text:
        raise BadSetting("BKAPP_BASE_URL is not set: it is the public address that plates carry, such as https://….")
    try:
        parts = urlsplit(text)
        wrong = parts.scheme not in {"http", "https"} or not parts.hostname or bool(parts.query or parts.fragment)
    except ValueError:
        wrong = True
    if wrong:
        raise BadSetting(f"BKAPP_BASE_URL must be a web address such as https://bkapp.example, not {text!r}.")
    return text


def _signing_keys(environ: Mapping[str, str], *, demo: bool) -> str:
    name = "BKAPP_SIGNING_KEYS"
    text = environ.get(name, "").strip()
    if not text and demo:
        return DEMO_SIGNING_KEYS
    if not text:
        raise BadSetting(
            f"{name} is not set: make one with `bkapp keys signing` (there is no default outside demo mode)."
        )
    kids: set[str] = set()
    for entry in text.split(","):
        kid, _, seed = entry.strip().partition(":")
        try:
            raw = base64.urlsafe_b64decode(seed + "=" * (-len(seed) % 4))
        except (binascii.Error, ValueError):
            raw = b""
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,16}", kid) or len(raw) != 32:
            raise BadSetting(
                f"{name} must be kid:seed pairs separated by commas: ids of 1 to 16 letters, digits, dots or dashes, "
                "seeds of 32 bytes in base64url."
            )
        if kid in kids:
            raise BadSetting(f"{name} uses the id {kid!r} twice.")
        kids.add(kid)
        if not demo and raw == DEMO_SEED:
            raise BadSetting(f"{name} holds the published demo key, which signs nothing outside demo mode.")
    return text


def _rate(environ: Mapping[str, str], name: str, default: str) -> str:
    text = environ.get(name, "").strip().lower() or default
    number, slash, period = text.partition("/")
    if (
        not slash
        or not number.isascii()
        or not number.isdigit()
        or int(number[:9]) < 1
        or period not in {"second", "minute", "hour"}
    ):
        raise BadSetting(f"{name} must read like 600/minute, not {text!r}.")
    return text


def _origins(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    origins = tuple(origin.strip().rstrip("/") for origin in environ.get(name, "").split(",") if origin.strip())
    for origin in origins:
        if not origin.startswith(("https://", "http://")) or origin.count("/") != 2:
            raise BadSetting(f"{name} must list origins such as https://bkapp.example, not {origin!r}.")
    return origins


def describe(settings: Settings) -> dict[str, Any]:
    """The settings that may be logged: no address of a store and no key."""
    return {
        field: getattr(settings, field)
        for field in ("demo", "base_url", "host", "port", "web_workers", "pool_size", "rate_limit", "release")
    }
