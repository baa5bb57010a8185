"""What the protocols of providers share: times of Hà Nội, strict queries and JSON, signatures compared safely."""

import hmac
import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_to_bytes
from zoneinfo import ZoneInfo

HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
MOST_FIELDS = 100
AHEAD = timedelta(minutes=15)
"""How far clocks may differ."""
LONGEST_REPEATED = timedelta(days=7)
"""For how long a provider may still send a message again."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def compact_time(at: datetime) -> str:
    """A time as ``yyyyMMddHHmmss`` of Hà Nội, on the 24-hour clock."""
    return at.astimezone(HANOI).strftime("%Y%m%d%H%M%S")


def read_compact_time(text: str) -> datetime:
    """The UTC time that ``yyyyMMddHHmmss`` of Hà Nội means; raise ``ValueError`` for anything else."""
    if re.fullmatch(r"[0-9]{14}", text) is None:
        raise ValueError("not a time of the form yyyyMMddHHmmss")
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=HANOI).astimezone(UTC)
    except OverflowError:  # the first hours of the year 1, which UTC does not have
        raise ValueError("not a time of the form yyyyMMddHHmmss") from None


def millis(at: datetime) -> int:
    """A time as milliseconds since 1970."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def read_millis(text: str) -> datetime:
    """The time that milliseconds since 1970 mean; raise ``ValueError`` for anything before 2001 or after 2286."""
    if re.fullmatch(r"[1-9][0-9]{12}", text) is None:
        raise ValueError("not a time in milliseconds")
    return _EPOCH + timedelta(milliseconds=int(text))


def in_time(at: datetime, now: datetime) -> bool:
    """Whether the time that a message gives itself is near enough to ours."""
    return now - LONGEST_REPEATED <= at <= now + AHEAD


def read_amount(value: object) -> int:
    """An amount of đồng, written as a JSON integer or in plain digits; raise ``ValueError`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("not an amount")  # noqa: TRY004  (whoever reads a message catches one kind)
    if isinstance(value, str):
        if re.fullmatch(r"0|[1-9][0-9]{0,14}", value) is None:
            raise ValueError("not an amount")
        value = int(value)
    if not 0 <= value < 10**15:
        raise ValueError("not an amount")
    return value


def read_query(query: bytes) -> dict[str, str]:
    """The fields of a raw query string or form; raise ``ValueError`` for a field that is there twice, or bad UTF-8."""
    fields: dict[str, str] = {}
    parts = [part for part in query.split(b"&") if part]
    if len(parts) > MOST_FIELDS:
        raise ValueError("too many fields")
    for part in parts:
        raw_name, _, raw_value = part.partition(b"=")
        name, value = (unquote_to_bytes(raw.replace(b"+", b" ")).decode() for raw in (raw_name, raw_value))
        if name in fields:
            raise ValueError("a field is there twice")
        fields[name] = value
    return fields


def read_json(body: bytes) -> dict[str, Any]:
    """A JSON object; raise ``ValueError`` for anything else: bad UTF-8, a name twice, NaN, deep nesting."""
    try:
        found = json.loads(
            body.decode(),
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=_number,
            parse_int=_integer,
        )
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004
    return found


def text_of(fields: dict[str, Any], name: str, default: str | None = None) -> str:
    """A field that is a text or an integer, as text; raise ``ValueError`` where it is neither, or missing."""
    value = fields.get(name, default)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{name} is no text")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_constant(_: str) -> Any:
    raise ValueError("not a number of JSON")


class _Written(float):
    """A number that is no integer, and how it was written, which some signatures are over."""

    written = ""


def _number(text: str) -> float:
    number = _Written(text)
    number.written = text
    return number


def _integer(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number is too long")
    return int(text)


def same(shown: str, right: str) -> bool:
    """Whether a signature is the right one, in a time that tells nothing."""
    return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), right.encode())


def signed(shown: str, secrets: Iterable[str], sign: Callable[[str], str]) -> bool:
    """Whether a signature was made with one of the secrets in force.  All are tried, whichever fits."""
    fits = [same(shown, sign(secret)) for secret in secrets]
    return any(fits)


def ascii_text(text: str, most: int) -> str:
    """A text without accents and signs, as banks take it: ``Lệ phí hồ sơ H03/1`` becomes ``Le phi ho so H03 1``."""
    plain = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    kept = re.sub(r"[^0-9A-Za-z.\-]+", " ", "".join(sign for sign in plain if not unicodedata.combining(sign)))
    return kept.strip()[:most].strip()
