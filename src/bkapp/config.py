"""Settings: read once from the environment, checked at the start, frozen afterwards."""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from bkapp import base64url

# Anybody can read this seed, so it signs nothing but demo plates and is refused outside demo mode.
DEMO_SEED = b"bkapp demo, signs nothing real!!"
DEMO_SIGNING_KEYS = "demo:" + base64.urlsafe_b64encode(DEMO_SEED).decode().rstrip("=")


# The same for personal data: what the demo seals with these, anybody can open.
DEMO_DATA_KEY = b"bkapp demo, seals nothing real!!"
DEMO_DATA_KEYS = "demo:" + base64.urlsafe_b64encode(DEMO_DATA_KEY).decode().rstrip("=")
DEMO_LOOKUP_KEY = base64.urlsafe_b64encode(b"bkapp demo, finds nobody real!!!").decode().rstrip("=")
DEMO_CLIENT_KEY = "demo:" + base64.urlsafe_b64encode(b"bkapp demo, is no real client!!!").decode().rstrip("=")


class BadSetting(ValueError):
    """A setting is missing or wrong.  The sentence names the variable and never repeats a secret."""


class Settings(Struct, frozen=True, kw_only=True):
    """One field per variable; ``docs/settings.md`` explains each."""

    database_url: str
    app_role: str
    redis_url: str | None
    demo: bool
    base_url: str
    signing_keys: str
    data_controller: str
    data_keys: str
    lookup_key: str
    eid_issuer: str
    eid_client_id: str
    eid_client_secret: str
    eid_client_key: str
    eid_algorithms: tuple[str, ...]
    eid_scope: str
    eid_acr: str
    population_url: str
    population_client: str
    population_secret: str
    native_redirects: tuple[str, ...]
    refund_limit: int
    practice_port: int
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
    "app_role": "BKAPP_APP_ROLE",
    "redis_url": "REDIS_URL",
    "demo": "BKAPP_DEMO",
    "base_url": "BKAPP_BASE_URL",
    "signing_keys": "BKAPP_SIGNING_KEYS",
    "data_controller": "BKAPP_DATA_CONTROLLER",
    "data_keys": "BKAPP_DATA_KEYS",
    "lookup_key": "BKAPP_LOOKUP_KEY",
    "eid_issuer": "BKAPP_EID_ISSUER",
    "eid_client_id": "BKAPP_EID_CLIENT_ID",
    "eid_client_secret": "BKAPP_EID_CLIENT_SECRET",
    "eid_client_key": "BKAPP_EID_CLIENT_KEY",
    "eid_algorithms": "BKAPP_EID_ALGORITHMS",
    "eid_scope": "BKAPP_EID_SCOPE",
    "eid_acr": "BKAPP_EID_ACR",
    "population_url": "BKAPP_POPULATION_URL",
    "population_client": "BKAPP_POPULATION_CLIENT",
    "population_secret": "BKAPP_POPULATION_SECRET",
    "native_redirects": "BKAPP_NATIVE_REDIRECTS",
    "refund_limit": "BKAPP_REFUND_LIMIT",
    "practice_port": "BKAPP_PRACTICE_PORT",
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
    practice_port = _number(environ, "BKAPP_PRACTICE_PORT", min(port + 1, 65535), least=1, most=65535)
    practice = f"http://localhost:{practice_port}" if demo else ""
    issuer = _peer(environ, "BKAPP_EID_ISSUER", f"{practice}/eid" if demo else "", demo=demo)
    data_keys = _keys(environ, "BKAPP_DATA_KEYS", DEMO_DATA_KEYS if demo else "", needed=bool(issuer), demo=demo)
    return Settings(
        database_url=_address(environ, "DATABASE_URL", {"postgres", "postgresql", "postgresql+psycopg"}),
        app_role=_role(environ, "BKAPP_APP_ROLE"),
        redis_url=_address(environ, "REDIS_URL", {"redis", "rediss", "unix"}) if environ.get("REDIS_URL") else None,
        demo=demo,
        base_url=_base_url(environ, f"http://localhost:{port}" if demo else None, secure=bool(issuer) and not demo),
        signing_keys=_signing_keys(environ, demo=demo),
        data_controller=_controller(environ, needed=bool(issuer), demo=demo),
        data_keys=data_keys,
        lookup_key=_lookup_key(environ, needed=bool(data_keys), demo=demo),
        eid_issuer=issuer,
        eid_client_id=environ.get("BKAPP_EID_CLIENT_ID", "").strip() or "bkapp",
        eid_client_secret=environ.get("BKAPP_EID_CLIENT_SECRET", "").strip(),
        eid_client_key=_keys(environ, "BKAPP_EID_CLIENT_KEY", DEMO_CLIENT_KEY if demo else "", needed=False, demo=demo),
        eid_algorithms=_algorithms(environ, "BKAPP_EID_ALGORITHMS"),
        eid_scope=environ.get("BKAPP_EID_SCOPE", "").strip() or "openid profile",
        eid_acr=environ.get("BKAPP_EID_ACR", "").strip(),
        population_url=_peer(environ, "BKAPP_POPULATION_URL", f"{practice}/dan-cu" if demo else "", demo=demo).rstrip(
            "/"
        ),
        population_client=environ.get("BKAPP_POPULATION_CLIENT", "").strip() or "bkapp",
        population_secret=environ.get("BKAPP_POPULATION_SECRET", "").strip() or ("practice" if demo else ""),
        native_redirects=_redirects(environ, "BKAPP_NATIVE_REDIRECTS", ("bkapp://signed-in",) if demo else ()),
        refund_limit=_number(environ, "BKAPP_REFUND_LIMIT", 500_000, least=0, most=999_999_999),
        practice_port=practice_port,
        host=environ.get("BKAPP_HOST") or "::",
        port=port,
        web_workers=_number(environ, "BKAPP_WEB_WORKERS", 1, least=1, most=64),
        pool_size=_number(environ, "BKAPP_POOL_SIZE", 20, least=1, most=200),
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


def _role(environ: Mapping[str, str], name: str) -> str:
    text = environ.get(name, "").strip()
    if text and not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", text):
        raise BadSetting(f"{name} must be the name of a role of PostgreSQL, in lower case, not {text!r}.")
    return text


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


def _base_url(environ: Mapping[str, str], default: str | None, *, secure: bool) -> str:
    text = environ.get("BKAPP_BASE_URL", "").strip().rstrip("/") or default
    if not text:
        raise BadSetting("BKAPP_BASE_URL is not set: it is the public address that plates carry, such as https://….")
    try:
        parts = urlsplit(text)
        wrong = parts.scheme not in {"http", "https"} or not parts.hostname or bool(parts.query or parts.fragment)
        wrong = wrong or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise BadSetting(f"BKAPP_BASE_URL must be a web address such as https://bkapp.example, not {text!r}.")
    if secure and parts.scheme != "https":
        # Browsers keep our cookie for https alone, so nobody would stay signed in.
        raise BadSetting(f"BKAPP_BASE_URL must begin with https:// where people sign in, not {text!r}.")
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


def _keys(environ: Mapping[str, str], name: str, default: str, *, needed: bool, demo: bool) -> str:
    """``kid:key`` pairs with commas between; keys are 32 bytes in base64url."""
    text = environ.get(name, "").strip() or default
    if not text and needed:
        raise BadSetting(f"{name} is not set: make one with `bkapp keys data` (it is needed where people sign in).")
    kids: set[str] = set()
    for entry in filter(None, text.split(",")):
        kid, _, key = entry.strip().partition(":")
        raw = base64url.read_key(key)
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,16}", kid) or len(raw) != 32:
            raise BadSetting(f"{name} must be kid:key pairs with commas between, keys of 32 bytes in base64url.")
        if kid in kids:
            raise BadSetting(f"{name} uses the id {kid!r} twice.")
        kids.add(kid)
        if not demo and raw.startswith(b"bkapp demo, "):
            raise BadSetting(f"{name} holds a published demo key, which keeps nothing outside demo mode.")
    return text


def _controller(environ: Mapping[str, str], *, needed: bool, demo: bool) -> str:
    """Who answers for personal data; a consent counts only from somebody who was told (Luật 91/2025/QH15)."""
    name = "BKAPP_DATA_CONTROLLER"
    text = environ.get(name, "").strip() or ("Ủy ban nhân dân tỉnh Thái Nguyên (dữ liệu thử)" if demo else "")
    if not text and needed:
        raise BadSetting(f"{name} is not set: name the authority that answers for personal data, for people to read.")
    return text


def _lookup_key(environ: Mapping[str, str], *, needed: bool, demo: bool) -> str:
    name = "BKAPP_LOOKUP_KEY"
    text = environ.get(name, "").strip() or (DEMO_LOOKUP_KEY if demo else "")
    if not text and not needed:
        return ""
    raw = base64url.read_key(text)
    if len(raw) != 32:
        raise BadSetting(f"{name} must be 32 bytes in base64url: make one with `bkapp keys data`.")
    if not demo and raw.startswith(b"bkapp demo, "):
        raise BadSetting(f"{name} is the published demo key, which hides nothing outside demo mode.")
    return text


def _peer(environ: Mapping[str, str], name: str, default: str, *, demo: bool) -> str:
    """The address of somebody else's server, as it writes it; empty where there is none.  Outside the demo https."""
    text = environ.get(name, "").strip() or default
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        wrong = parts.scheme not in {"http", "https"} or not parts.hostname or bool(parts.query or parts.fragment)
    except ValueError:
        wrong = True
    if wrong or (not demo and parts.scheme != "https"):
        raise BadSetting(f"{name} must be a web address with https, not {text!r}.")
    return text


SIGNING_ALGORITHMS = ("ES256", "PS256", "EdDSA", "RS256", "ES384", "ES512", "PS384", "PS512", "RS384", "RS512")


def _algorithms(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    text = environ.get(name, "").strip() or "ES256,PS256,EdDSA,RS256"
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found or set(found) - set(SIGNING_ALGORITHMS):
        raise BadSetting(f"{name} must list algorithms of {', '.join(SIGNING_ALGORITHMS)}.")
    return found


def _redirects(environ: Mapping[str, str], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Where native apps may be called back: schemes of their own, or https links that they claim (RFC 8252 §7)."""
    found = tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip()) or default
    for redirect in found:
        scheme, _, rest = redirect.partition(":")
        if scheme in {"http", "javascript", "data", "file", "vbscript"} or not scheme or not rest or "#" in redirect:
            raise BadSetting(f"{name} must list addresses such as bkapp://signed-in or https://…, not {redirect!r}.")
    return found


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
