"""Files in forms: read into memory within limits, and described for OpenAPI."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import multipart
from litestar import Request
from litestar.exceptions import HTTPException
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, Parameter, RequestBody, Schema
from msgspec import Struct

from bkapp.address.csvfiles import Options, options_of
from bkapp.errors import FieldError, Malformed, TooLarge, UnsupportedMediaType

MULTIPART = "multipart/form-data"
BESIDE = 64 * 1024  # bytes for everything in a form but the file
_MOST_PARTS = 600


class Limits(Struct, frozen=True):
    """How large a file may be."""

    bytes: int
    rows: int


class Upload(Struct, frozen=True):
    """A file of addresses as it was sent."""

    name: str  # fit for a header and a path
    data: bytes
    options: Options


class FileTooLarge(TooLarge):
    """The file has more bytes or rows than are answered at once; send it to `instead`, or in parts."""

    code = "geocode_file_too_large"
    title = "Tệp quá lớn để trả lời ngay, hãy gửi để xử lý nền hoặc chia nhỏ"


async def upload_of(request: Request[Any, Any, Any], limits: Limits, *, instead: str) -> Upload:
    """The file and the options of a form; options may stand in the query string too, where those of the form win."""
    fields: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        fields.setdefault(name, []).append(value)
    form: dict[str, list[str]] = {}
    file: tuple[str, bytes] | None = None
    for name, file_name, data in await _parts(request, limits, instead=instead):
        if name != "data":
            form.setdefault(name, []).append(_text(name, data))
        elif file is not None:
            raise Malformed("One file at a time.", [FieldError("/data", "given more than once")])
        else:
            file = (_harmless(file_name), bytes(data))
    if file is None:
        raise Malformed("Send the file as the field data.", [FieldError("/data", "missing")])
    if len(file[1]) > limits.bytes:
        raise too_large(limits, instead=instead)
    return Upload(*file, options_of({**fields, **form}))


def too_large(limits: Limits, *, instead: str) -> FileTooLarge:
    return FileTooLarge(
        f"At most {limits.rows} rows and {limits.bytes >> 20} MB are taken here; {instead}.",
        most_rows=limits.rows,
        most_bytes=limits.bytes,
    )


async def _parts(request: Request[Any, Any, Any], limits: Limits, *, instead: str) -> list[tuple[str, str, bytearray]]:
    """Name, file name and content of the parts of a form.

    Not by Litestar: it writes large files to disk, and decodes a field by whatever codec the field itself names.
    """
    kind, parameters = request.content_type
    if kind != MULTIPART:
        raise UnsupportedMediaType(f"Send {MULTIPART} with the file as the field data.")
    found: list[tuple[str, str, bytearray]] = []
    read = 0
    try:
        with multipart.PushMultipartParser(parameters.get("boundary", ""), max_segment_count=_MOST_PARTS) as parser:
            async for chunk in request.stream():
                read += len(chunk)
                if read > limits.bytes + BESIDE:
                    raise too_large(limits, instead=instead)
                for event in parser.parse(chunk) if chunk else ():
                    if isinstance(event, multipart.MultipartSegment):
                        found.append((event.name, event.filename or "", bytearray()))
                    elif event:
                        found[-1][2].extend(event)
    except multipart.MultipartError:
        raise Malformed("The form cannot be read.", [FieldError("", "no multipart/form-data")]) from None
    except HTTPException as error:
        if error.status_code != 413:
            raise
        raise too_large(limits, instead=instead) from None
    return found


def _text(name: str, data: bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Malformed("A field of the form is not UTF-8.", [FieldError(_pointer(name), "not UTF-8")]) from None


def _pointer(name: str) -> str:
    return f"/{name}" if re.fullmatch(r"\w{1,40}", name) else ""


def _harmless(file_name: str) -> str:
    """The last part of a file's name without what a header or another system could take for more."""
    last = re.split(r"[/\\]", file_name)[-1]
    return (
        re.sub(r'[\x00-\x1f\x7f-\x9f"*:<>?|\u200b-\u200f\u202a-\u202e]', "", last).strip(" .")[:120] or "addresses.csv"
    )


def attachment(file_name: str) -> str:
    """The header that names an answer after the file it belongs to: ``NAME.geocoded.csv``."""
    stem, dot, _ = file_name.rpartition(".")
    name = f"{stem if dot and stem else file_name}.geocoded.csv"
    plain = name.encode("ascii", "replace").decode().replace("?", "_").replace("%", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


_TEXT = OpenAPIType.STRING
_FIELDS: dict[str, Schema] = {
    "columns": Schema(
        type=OpenAPIType.ARRAY,
        items=Schema(type=_TEXT),
        description="Names of the columns that make the address, in this order; all columns when left out.",
    ),
    "delimiter": Schema(type=_TEXT, description="Comma, semicolon, tab, bar or another sign; guessed when left out."),
    "encoding": Schema(
        type=_TEXT,
        description="utf-8 (also without this, and with a byte order mark), utf-16, windows-1258, windows-1252.",
    ),
    "with_bom": Schema(type=_TEXT, description="`true` puts a byte order mark in front of the answer, for Excel."),
    "lat": Schema(type=_TEXT, description="Name of a column with latitudes; places near are preferred. With `lon`."),
    "lon": Schema(type=_TEXT, description="Name of a column with longitudes."),
    "citycode": Schema(
        type=_TEXT, description="Name of a column with codes of communes, of today or before 2025-07-01."
    ),
    "postcode": Schema(type=_TEXT, description="Name of a column with postcodes."),
    "type": Schema(type=_TEXT, description="Name of a column with types (housenumber, street, locality, …)."),
}


@dataclass
class TakesAFile(Operation):
    """Describes a form with a file, which the handler reads itself."""

    def __post_init__(self) -> None:
        file = Schema(
            type=_TEXT, content_media_type="application/octet-stream", description="CSV, the first line names."
        )
        form = Schema(
            type=OpenAPIType.OBJECT,
            properties={"data": file, **_FIELDS},
            required=["data"],
            additional_properties=False,
        )
        self.request_body = RequestBody({MULTIPART: OpenAPIMediaType(schema=form)}, required=True)
        self.parameters = [
            *(self.parameters or []),
            *[
                Parameter(name=name, param_in="query", schema=schema, required=False)
                for name, schema in _FIELDS.items()
            ],
        ]
