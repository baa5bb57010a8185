"""How a file of addresses is to be read: the fields of the form, checked."""

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from bkapp.errors import FieldError, Invalid

# By their names without case and punctuation.  Python knows more, and some take very long over a file made for that.
ENCODINGS = {
    "utf8": "utf-8-sig",
    "utf8sig": "utf-8-sig",
    "utf16": "utf-16",
    "utf16le": "utf-16-le",
    "utf16be": "utf-16-be",
    "windows1258": "cp1258",
    "cp1258": "cp1258",
    "windows1252": "cp1252",
    "cp1252": "cp1252",
    "latin1": "iso8859-1",
    "iso88591": "iso8859-1",
    "iso885915": "iso8859-15",
    "ascii": "ascii",
}
FIELDS = ("columns", "delimiter", "encoding", "with_bom", "lat", "lon", "citycode", "postcode", "type")


class FileUnreadable(Invalid):
    """A file of addresses is no CSV, or not in the encoding, with the delimiter or with the columns that were named."""

    code = "geocode_file_unreadable"
    title = "Tệp địa chỉ chưa đọc được"

    def __init__(self, detail: str, pointer: str = "data", **facts: object) -> None:
        super().__init__(detail, [FieldError(f"/{pointer}", detail)], **facts)


class Options(Struct, frozen=True, kw_only=True):
    """How a file is to be read; names of columns where addok has them."""

    columns: tuple[str, ...] = ()  # whose values make the address, in this order; all when empty
    delimiter: str | None = None  # guessed when left out
    encoding: str = "utf-8"
    with_bom: bool = False
    lat: str | None = None
    lon: str | None = None
    citycode: str | None = None
    postcode: str | None = None
    type: str | None = None


def options_of(fields: Mapping[str, Sequence[str]]) -> Options:
    """The options of a form or a query string.  An empty value is one that was left out."""
    given = {name: [value for value in values if value] for name, values in fields.items()}
    for name in given:
        if name not in FIELDS:
            raise FileUnreadable(f"There is no field of this name; there are data, {', '.join(FIELDS)}.", _safe(name))
    columns = tuple(given.pop("columns", ()))
    single: dict[str, str] = {}
    for name, values in given.items():
        if len(values) > 1:
            raise FileUnreadable(f"{name} is given more than once.", name)
        if values:
            single[name] = values[0]
    with_bom = _flag(single.pop("with_bom", ""))
    if "delimiter" in single:
        single["delimiter"] = _delimiter(single["delimiter"])
    encoding = _encoding(single.pop("encoding", "utf-8"))
    return Options(columns=columns, with_bom=with_bom, encoding=encoding, **single)


def _safe(name: str) -> str:
    return name if re.fullmatch(r"\w{1,40}", name) else ""


def _flag(text: str) -> bool:
    if text.lower() in {"", "0", "false", "f", "no", "n", "off"}:
        return False
    if text.lower() in {"1", "true", "t", "yes", "y", "on"}:
        return True
    raise FileUnreadable("with_bom is true or false.", "with_bom")


def _delimiter(text: str) -> str:
    text = "\t" if text in {"\\t", "tab"} else text
    if len(text) != 1 or text.isalnum() or text in '"\r\n\0 ':
        raise FileUnreadable("A delimiter is one sign, such as , or ; or | or tab.", "delimiter")
    return text


def _encoding(name: str) -> str:
    found = ENCODINGS.get(re.sub("[-_ ]", "", name.lower()))
    if found is None:
        known = "utf-8, utf-16, windows-1258, windows-1252"
        raise FileUnreadable(f"The encoding is not one of those that are read: {known}.", "encoding")
    return found
