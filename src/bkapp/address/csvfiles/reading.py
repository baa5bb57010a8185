"""A file of addresses: its text, its columns, and a question for each of its rows."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from bkapp.address.csvfiles.options import FileUnreadable, Options
from bkapp.address.csvfiles.results import RESULTS, Question, results
from bkapp.address.geocoding.positions import in_vietnam
from bkapp.address.geocoding.results import Answer

DELIMITERS = ",;\t|"
MOST_COLUMNS = 500
MOST_CELLS = 20_000_000  # what a file of many short rows and empty columns would grow to is bounded by this
_SAMPLE = 64 * 1024  # characters that a delimiter is guessed from
_LINE_END = "\r\n"  # with another one, csv.writer would leave a lone CR or LF in a field without quotes


def decode(data: bytes, encoding: str = "utf-8") -> str:
    """The text of a file.  A byte order mark says more than the encoding that was named."""
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise FileUnreadable("The file is an Excel workbook: save it as CSV UTF-8.")
    if data.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8-sig"
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding.startswith("utf-8") else encoding
        line = data.count(b"\n", 0, error.start) + 1
        raise FileUnreadable(
            f"The file is not {name}: line {line} cannot be read. Save it as CSV UTF-8, or name its encoding, such as "
            "windows-1258.",
            "encoding",
            line=line,
        ) from None
    if "\0" in text:
        raise FileUnreadable(
            "The file holds NUL characters: name its encoding if it is UTF-16, else it is no text.", "encoding"
        )
    return text.removeprefix("\ufeff")


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    """The records of a text, an empty line among them as ``[]``; raises ``csv.Error`` for quotes that do not fit.

    ``newline=""`` keeps line breaks inside of fields as they are.
    """
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def guess_delimiter(text: str) -> str | None:
    """What most likely separates the columns; None for a file of one column."""
    best: tuple[float, int] = (0, 1)
    found = None
    for delimiter in DELIMITERS:
        widths: list[int] = []
        try:
            widths.extend(len(record) for record in _records(text[:_SAMPLE], delimiter) if record)
        except csv.Error:
            # Quotes do not fit between these, or the sample ends inside of them.
            if len(widths) < 2 or len(text) <= _SAMPLE:
                continue
        if not widths or widths[0] == 1:
            continue
        score = (widths.count(widths[0]) / len(widths), widths[0])
        if score > best or found is None:
            best, found = score, delimiter
    return found


class Sheet(Struct, frozen=True, kw_only=True):
    """A file that was read: :meth:`questions` to ask, :meth:`head` and :meth:`lines` to answer with."""

    text: str
    delimiter: str
    written: str  # what separates the columns of the answer
    header: tuple[str, ...]
    rows: int
    with_bom: bool
    asked: tuple[int, ...]
    lat: int | None
    lon: int | None
    wanted: tuple[tuple[str, int], ...]
    places: tuple[tuple[str, int], ...]  # of results, and the columns they are written to
    width: int  # columns of the answer

    def questions(self) -> Iterator[Question]:
        """The rows, empty lines left out."""
        records = (record for record in _records(self.text, self.delimiter) if record)
        next(records)
        return map(self._question, records)

    def _question(self, values: list[str]) -> Question:
        missing = len(self.header) - len(values)
        fault = None
        if missing > 0:
            values += [""] * missing
        elif missing < 0:
            rest = values[len(self.header) :]
            del values[len(self.header) :]
            if any(rest):
                # Nothing may be lost, but what belongs to which column cannot be told.
                values[-1] = self.delimiter.join([values[-1], *rest])
                fault = f"fields: {len(self.header) - missing} instead of {len(self.header)}"
        askable = fault is None
        text = ", ".join([values[column] for column in self.asked if values[column].strip()])
        near = None
        if self.lat is not None and self.lon is not None:
            lat, lon = values[self.lat].strip(), values[self.lon].strip()
            if lat or lon:
                near = _place(lat, lon)
                if near is None:
                    fault = fault or "coordinates: no place in Vietnam"
        wanted = tuple((name, value) for name, column in self.wanted if (value := values[column].strip()))
        return Question(values, text, near, wanted, fault, askable)

    def head(self) -> bytes:
        """The line of the column names, behind a byte order mark if one is wanted."""
        names = [*self.header, *[""] * (self.width - len(self.header))]
        for result, column in self.places:
            names[column] = result
        return ("\ufeff" if self.with_bom else "").encode() + self._write([names])

    def lines(self, answered: Iterable[tuple[Question, Answer]]) -> bytes:
        """Rows with what was found."""
        rows = []
        for question, answer in answered:
            values = [*question.values, *[""] * (self.width - len(self.header))]
            cells = results(question, answer)
            for result, column in self.places:
                values[column] = cells.get(result, "")
            rows.append(values)
        return self._write(rows)

    def _write(self, rows: Iterable[Sequence[str]]) -> bytes:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=self.written, lineterminator=_LINE_END).writerows(rows)
        return out.getvalue().encode()


def read(data: bytes, options: Options) -> Sheet:
    """A file of addresses, read through once, so that nothing in it surprises afterwards.

    Takes about a second for 40 MB; raises :class:`FileUnreadable`.
    """
    text = decode(data, options.encoding)
    delimiter = options.delimiter or guess_delimiter(text)
    # Addresses hold commas, so what separates the columns of one column must not be in it.
    reading = delimiter or next((sign for sign in "\x1f|~^" if sign not in text), "\x1f")
    header, rows = _read_through(text, reading)
    named = _Names(header)
    pairs = (options.lat, options.lon)
    if (options.lat is None) != (options.lon is None):
        raise FileUnreadable("lat and lon go together.", "lon" if options.lon is None else "lat")
    lat, lon = (named.column(name, field) for name, field in zip(pairs, ("lat", "lon"), strict=True))
    asked = tuple(
        column
        for number, name in enumerate(options.columns)
        if (column := named.column(name, f"columns/{number}")) is not None
    )
    if rows * len(header) > MOST_CELLS:
        raise FileUnreadable(
            f"{rows} rows of {len(header)} columns are too many; at most {MOST_CELLS} values are read."
        )
    places, width = [], len(header)
    for name in RESULTS:
        # Of several columns of one name the first, or a small file would become a large one.
        there = header.index(name) if name in header else None
        places.append((name, width if there is None else there))
        width += there is None
    ours = {column for column, name in enumerate(header) if name in RESULTS} | {lat, lon}
    return Sheet(
        text=text,
        delimiter=reading,
        written=delimiter or ",",
        header=header,
        rows=rows,
        with_bom=options.with_bom,
        asked=asked or tuple(column for column in range(len(header)) if column not in ours),
        lat=lat,
        lon=lon,
        wanted=tuple(
            (field, column)
            for field in ("citycode", "postcode", "type")
            if (column := named.column(getattr(options, field), field)) is not None
        ),
        places=tuple(places),
        width=width,
    )


def _read_through(text: str, delimiter: str) -> tuple[tuple[str, ...], int]:
    """The names of the columns and the number of rows."""
    header: tuple[str, ...] | None = None
    rows = 0
    records = _records(text, delimiter)
    begins = 1
    try:
        for record in records:
            begins = records.line_num + 1  # type: ignore[attr-defined]
            if not record:
                continue
            if len(record) > MOST_COLUMNS:
                line = records.line_num  # type: ignore[attr-defined]
                raise FileUnreadable(
                    f"Line {line} has {len(record)} values; at most {MOST_COLUMNS} are read.", line=line
                )
            if header is None:
                header = tuple(record)
            else:
                rows += 1
    except csv.Error as error:
        if "limit" in str(error):
            raise FileUnreadable(
                f"A field in line {begins} is longer than {csv.field_size_limit()} characters.", line=begins
            ) from None
        raise FileUnreadable(
            f"The quotes in line {begins} do not fit: one is not closed, or something stands behind a closing one. "
            'A quote inside of quotes is written "".',
            line=begins,
        ) from None
    if header is None:
        raise FileUnreadable("The file is empty: its first line has to name the columns.")
    return header, rows


class _Names:
    """Finds columns by name: as written, else without case, marks composed or not, and spaces around."""

    def __init__(self, header: Sequence[str]) -> None:
        self._header = header
        self._plain = [_plain(name) for name in header]
        self._listed = [name[:40] for name in header[:50]]

    def column(self, name: str | None, field: str) -> int | None:
        if name is None:
            return None
        for names, wanted in ((self._header, name), (self._plain, _plain(name))):
            match names.count(wanted):
                case 1:
                    return names.index(wanted)
                case 0:
                    continue
            raise FileUnreadable("The file has more than one column of this name.", field, columns=self._listed)
        raise FileUnreadable(
            f"The file has no such column; it has {', '.join(self._listed)}.", field, columns=self._listed
        )


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


def _place(lat: str, lon: str) -> tuple[float, float] | None:
    """Coordinates as they stand in a file, with a point or a comma."""
    try:
        y, x = float(lat.replace(",", ".")), float(lon.replace(",", "."))
    except ValueError:
        return None
    return (x, y) if in_vietnam(x, y) else None
