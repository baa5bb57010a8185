"""Rules of signing in that need neither a clock nor a database."""

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from secrets import token_urlsafe
from urllib.parse import unquote

ATTEMPT_LASTS = timedelta(minutes=10)
BROWSER_IDLE = timedelta(days=14)
BROWSER_LASTS = timedelta(days=30)  # absolute, whatever the use (ASVS 5.0 §7.3)
NATIVE_IDLE = timedelta(days=30)
NATIVE_LASTS = timedelta(days=90)
OFFICE_LASTS = timedelta(hours=12)  # of who holds an office: a working day
OFFICE_IDLE = timedelta(minutes=60)
ACCESS_TOKEN_LASTS = timedelta(minutes=5)
NATIVE_CODE_LASTS = timedelta(minutes=1)
GRACE = timedelta(seconds=15)
"""How long a refresh token that was just used gives the same successor again, for requests that race."""
SEEN_EVERY = timedelta(minutes=1)
"""How exactly it is known when a device was last used."""
SHOWN_EVERY = timedelta(minutes=10)
"""How exactly that is told: enough to know one's own devices, too little to follow somebody's day."""
ENOUGH_FOR_OFFICE = 2
"""The identity assurance (IAL) from which an office counts; below it who holds one is a citizen."""

AFTER_SIGN_IN = "/toi"

NOT_TOLD = datetime.fromtimestamp(0, UTC)
"""When a person last proved it was them, where the provider does not tell: nobody may take that for recent."""


class SignInKind(StrEnum):
    """What signed in."""

    BROWSER = "browser"
    NATIVE = "native"


class EndReason(StrEnum):
    """Why a session is over."""

    SIGNED_OUT = "signed_out"
    REMOTE = "remote"  # from another device
    EVERYWHERE = "everywhere"
    PROVIDER = "provider"  # back-channel logout
    REUSE = "reuse"  # an old refresh token came back
    RENEWED = "renewed"  # the browser signed in again
    ERASED = "erased"


class NoticeKind(StrEnum):
    """What a person is told."""

    NEW_DEVICE = "new_device"  # data: sign_in, device
    TOKEN_REUSED = "token_reused"  # data: sign_in, device  # noqa: S105  (a name, no secret)


# --- how long ---------------------------------------------------------------------------------------------------


def lifetime(kind: SignInKind, *, in_office: bool) -> timedelta:
    """How long a sign-in is good for at most."""
    if in_office:
        return OFFICE_LASTS
    return NATIVE_LASTS if kind is SignInKind.NATIVE else BROWSER_LASTS


def idle_limit(kind: SignInKind, *, in_office: bool) -> timedelta:
    """After how long without use a sign-in is over."""
    if in_office:
        return OFFICE_IDLE
    return NATIVE_IDLE if kind is SignInKind.NATIVE else BROWSER_IDLE


def rounded(moment: datetime) -> datetime:
    """A moment as it is told of a device, rounded down to :data:`SHOWN_EVERY`."""
    return moment - timedelta(
        minutes=moment.minute % (SHOWN_EVERY // timedelta(minutes=1)),
        seconds=moment.second,
        microseconds=moment.microsecond,
    )


# --- secrets ----------------------------------------------------------------------------------------------------

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def new_secret() -> str:
    """256 random bits, as 43 characters of base64url: a state, the cookie of a browser, a token, a code."""
    return token_urlsafe(32)


def is_secret(text: str) -> bool:
    """Whether a text could be one of :func:`new_secret`."""
    return _SECRET.fullmatch(text) is not None


def hashed(secret: str) -> bytes:
    """As what a secret is kept.  A fast hash is right for one that nobody chose: there is nothing to guess."""
    return hashlib.sha256(secret.encode()).digest()


def csrf_token(secret: str) -> str:
    """What a page sends back with a change; it comes from the cookie's secret and leads back to nothing."""
    return _base64url(hmac.new(secret.encode(), b"csrf", hashlib.sha256).digest())


def is_challenge(text: str) -> bool:
    """Whether a text could be the S256 challenge of a verifier (RFC 7636 §4.2)."""
    return _CHALLENGE.fullmatch(text) is not None


def proves(verifier: str, challenge: str) -> bool:
    """Whether a verifier is the one that a challenge was made of (RFC 7636 §4.6, S256 alone)."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    return hmac.compare_digest(_base64url(hashlib.sha256(verifier.encode()).digest()), challenge)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# --- texts from outside -----------------------------------------------------------------------------------------

_LONGEST_NEXT = 1024
_NEXT = re.compile(r"(/[!-\"$-;=@-\[\]-~]*)(\?[!-\"$-;=?-\[\]-~]*)?(#[!-;=?-\[\]-~]*)?")
_HINT = re.compile(r"[a-z][a-z0-9-]{0,39}")
_MOBILE = re.compile(r"(?:\+84|0084|84|0)([35789][0-9]{8})")
_CITIZEN_NUMBER = re.compile(r"[0-9]{12}")


def local_path(text: str) -> str:
    """Where to go after signing in: ``text`` if that is a plain path on this site, else :data:`AFTER_SIGN_IN`.

    Whatever a browser, a proxy or a careless decoder could read as another site is refused: a second slash, a
    backslash, control characters, dot segments, written plainly or with ``%`` any number of times.
    """
    found = _NEXT.fullmatch(text) if len(text) <= _LONGEST_NEXT else None
    if found is None or not _is_plain(found[1]) or found[1] == "/dang-nhap" or found[1].startswith("/dang-nhap/"):
        return AFTER_SIGN_IN
    return text


def _is_plain(path: str) -> bool:
    if re.search(r"%(?![0-9A-Fa-f]{2})", path):
        return False
    while True:
        if "//" in path or "\\" in path or not path.isprintable() or " " in path:
            return False
        if any(part in {".", ".."} for part in path.split("/")):
            return False
        plain = unquote(path)
        if plain == path:
            return True
        if plain.count("/") != path.count("/"):
            return False  # a slash that was written with % begins no new part here, but may elsewhere
        path = plain


def hint_of(text: str) -> str | None:
    """The handle of whom the provider shall expect; None for anything that might say more, such as a number."""
    return text if _HINT.fullmatch(text) else None


def mobile(text: str) -> str | None:
    """A Vietnamese mobile number as E.164 (``+84912345678``), or None."""
    found = _MOBILE.fullmatch(re.sub(r"[ .()-]", "", text))
    return f"+84{found[1]}" if found else None


def is_citizen_number(text: str) -> bool:
    """Whether a text has the form of a citizen's number (số định danh): 12 digits."""
    return _CITIZEN_NUMBER.fullmatch(text) is not None


def masked(number: str) -> str:
    """A number of which the last three digits are left."""
    return "•" * (len(number) - 3) + number[-3:]


def storable(text: str | None) -> str | None:
    """A text of somebody else as PostgreSQL takes it: without NUL, not endless."""
    return None if text is None else text.replace("\0", "")[:512]


# The order matters: browsers name those they descend from.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("coc_coc", "Cốc Cốc"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Zalo", "Zalo"),
    ("Firefox/", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
)


def device_label(user_agent: str, kind: SignInKind = SignInKind.BROWSER) -> str:
    """What a person knows their device by, such as ``Chrome trên Android``, and no more of it than that."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), None)
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), None)
    what = "Ứng dụng" if kind is SignInKind.NATIVE else browser or "Trình duyệt"
    return f"{what} trên {system}" if system else what
