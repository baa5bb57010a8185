"""Files of addresses: what people's programs write can be read, and comes back as it was."""

import csv
import io
import unicodedata
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.address.csvfiles import FileUnreadable, Options, Sheet, options_of, read
from bkapp.address.csvfiles.results import RESULTS, TYPES, inert
from bkapp.address.geocoding.results import Answer, Era, Grade, Match, MatchLevel, UnitName
from bkapp.errors import FieldError

HOUSE = Match(
    level=MatchLevel.HOUSE,
    score=0.987,
    label="Số 14A, Thôn Nà Ít, Xã Phủ Thông, Tỉnh Thái Nguyên",
    lon=105.87654321,
    lat=22.25,
    accuracy_m=400,
    house_number="14A",
    hamlet="Thôn Nà Ít",
    hamlet_id=7,
    unit=UnitName("01969", "Xã Phủ Thông", "2025-07-01", None),
    former=UnitName("01963", "Xã Vi Hương", None, "2025-06-30"),
    district="Huyện Bạch Thông",
    province="Tỉnh Thái Nguyên",
    postcode="23456",
    era=Era.BEFORE_2025,
)
ELSEWHERE = msgspec.structs.replace(HOUSE, unit=UnitName("01840", "Phường Bắc Kạn", None, None), former=None, score=0.5)
FOUND = Answer("", (HOUSE, ELSEWHERE), grade=Grade.A)

# NUL is refused, and a lone surrogate is in no file.
CELLS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.text("\"',;\t|\r\n =+-@\ufeffă", max_size=8),
)
TABLES = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=8)
)


def written(rows: list[list[str]], delimiter: str = ",", line_end: str = "\r\n") -> str:
    """A file as any careful program writes it."""
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
    return out.getvalue()


def table(data: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter, strict=True))


def answered(sheet: Sheet, answer: Answer = FOUND) -> list[list[str]]:
    """The file as it is sent back, with one answer for all rows."""
    return table(sheet.head() + sheet.lines((question, answer) for question in sheet.questions()), sheet.written)


def cells(sheet: Sheet, answer: Answer = FOUND) -> dict[str, str]:
    names, row, *_ = answered(sheet, answer)
    return dict(zip(names, row, strict=True))


def sheet_of(text: str | bytes, **options: object) -> Sheet:
    return read(text if isinstance(text, bytes) else text.encode(), msgspec.convert(options, Options))


def texts(sheet: Sheet) -> list[str]:
    return [question.text for question in sheet.questions()]


def refused(text: str | bytes, **options: object) -> tuple[str, str]:
    """Where the fault is, and what is said of it."""
    with pytest.raises(FileUnreadable) as caught:
        sheet_of(text, **options)
    (error,) = cast("list[FieldError]", caught.value.facts["errors"])
    return error.pointer, caught.value.detail


class TestOriginalColumns:
    @given(TABLES, st.sampled_from(",;\t|^"), st.sampled_from(["\r\n", "\n", "\r"]))
    def test_come_back_unchanged_whatever_is_in_them(
        self, rows: list[list[str]], delimiter: str, line_end: str
    ) -> None:
        header = [f"c{number}" for number in range(len(rows[0]))]

        back = answered(sheet_of(written([header, *rows], delimiter, line_end), delimiter=delimiter))

        assert [row[: len(header)] for row in back] == [header, *rows]
        assert all(len(row) == len(header) + len(RESULTS) for row in back)

    @given(TABLES, st.sampled_from(",;\t|"))
    def test_are_found_without_naming_the_delimiter(self, rows: list[list[str]], delimiter: str) -> None:
        header = [f"c{number}" for number in range(len(rows[0]))]

        sheet = sheet_of(written([header, *rows], delimiter))

        assert (sheet.delimiter, sheet.rows) == (delimiter, len(rows))
        assert [row[: len(header)] for row in answered(sheet)] == [header, *rows]

    @given(st.lists(st.lists(CELLS.filter(lambda cell: cell not in RESULTS), min_size=1, max_size=6), min_size=1))
    def test_may_have_any_names_and_rows_any_width(self, rows: list[list[str]]) -> None:
        sheet = sheet_of(written(rows, "\x1e"), delimiter="\x1e")

        header, *back = answered(sheet)

        assert tuple(header[: len(rows[0])]) == sheet.header == tuple(rows[0])
        for before, after in zip(rows[1:], back, strict=True):
            whole = "\x1e".join(after[: len(rows[0])]).rstrip("\x1e")
            assert whole == "\x1e".join(before).rstrip("\x1e")

    def test_of_the_names_of_results_get_new_values_where_they_stand(self) -> None:
        sheet = sheet_of("latitude,result_label,a,latitude\r\n1,old,Nà Ít,2\r\n")

        header, row = answered(sheet)

        assert header[:4] == ["latitude", "result_label", "a", "latitude"]
        # of two columns of one name the first: else a small file could become a large one
        assert row[:4] == ["22.250000", HOUSE.label, "Nà Ít", "2"]
        assert len(header) == 4 + len(RESULTS) - 2
        assert texts(sheet) == ["Nà Ít"]

    def test_that_look_like_formulas_stay_and_ours_never_do(self) -> None:
        sheet = sheet_of("a;b\n=1+1;@x\n")
        odd = msgspec.structs.replace(HOUSE, house_number="-5", label="=cmd", hamlet="+x", street="@y")

        row = cells(sheet, Answer("", (odd,)))

        assert (row["a"], row["b"]) == ("=1+1", "@x")
        ours = [row[name] for name in RESULTS]
        assert [cell for cell in ours if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []
        assert row["result_housenumber"] == "'-5"

    @pytest.mark.parametrize("text", ["Số 14A", "Thôn Nà Ít", "12", "", "Đội 3"])
    def test_names_are_not_touched_for_it(self, text: str) -> None:
        assert inert(text) == text


class TestText:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_in_unicode_is_read_without_a_word(self, encoding: str) -> None:
        assert texts(sheet_of("địa chỉ,xã\nNà Ít,Phủ Thông\n".encode(encoding))) == ["Nà Ít, Phủ Thông"]

    def test_in_another_encoding_is_read_when_it_is_named(self) -> None:
        # windows-1258 has a letter with two marks only as a letter with one and a mark behind it.
        stored = "Đươ\u0300ng Nông Quô\u0301c Châ\u0301n"
        sheet = read(f"a\n{stored}\n".encode("cp1258"), options_of({"encoding": ["Windows-1258"]}))
        assert answered(sheet)[1][0] == stored
        assert unicodedata.normalize("NFC", texts(sheet)[0]) == "Đường Nông Quốc Chấn"

    def test_in_the_wrong_encoding_is_refused_with_the_line(self) -> None:
        at, detail = refused("a\nx\nĐươ\u0300ng\n".encode("windows-1258"))
        assert at == "/encoding"
        assert "not UTF-8: line 3" in detail
        assert "windows-1258" in detail

    def test_a_byte_order_mark_says_more_than_a_wrong_name(self) -> None:
        assert texts(sheet_of("a\nỞ\n".encode("utf-8-sig"), encoding="cp1258")) == ["Ở"]

    @pytest.mark.parametrize(
        ("data", "at", "says"),
        [
            ("a\nx\n".encode("utf-16-le"), "/encoding", "UTF-16"),
            (b"PK\x03\x04rest", "/data", "Excel"),
            (b"", "/data", "empty"),
            (b"\r\n\n", "/data", "empty"),
            (b"\xff\xfea", "/encoding", "not utf-16"),
            (b'a,b\n1,"2\n3,4\n', "/data", "line 2"),
            (b'a,b\n1,2\n"3"x,4\n', "/data", "line 3"),
            (b"a," * 600, "/data", "Line 1 has 601 values"),
            (b"a,b\n1,2\n" + b"," * 600, "/data", "Line 3 has 601 values"),
            (b"a\n" + b"x" * 200_000, "/data", "line 2"),
        ],
    )  # fmt: skip
    def test_that_is_no_csv_is_refused_with_a_reason(self, data: bytes, at: str, says: str) -> None:
        told = refused(data, delimiter=",")
        assert told[0] == at
        assert says in told[1]

    @given(st.binary(max_size=60))
    def test_anything_is_read_or_refused(self, data: bytes) -> None:
        try:
            sheet = read(data, Options())
        except FileUnreadable:
            return
        assert len(answered(sheet)) == 1 + sheet.rows


class TestDelimiter:
    @pytest.mark.parametrize(
        ("text", "delimiter"),
        [
            ("tên,địa chỉ\nA,B\n", ","),
            ("tên;địa chỉ\nA;Nà Ít, Phủ Thông\n", ";"),
            ("tên\tđịa chỉ\nA\tNà Ít, Phủ Thông\n", "\t"),
            ("tên|địa chỉ\nA|Nà Ít, Phủ Thông\n", "|"),
            ('"họ, tên";"địa chỉ"\n"A, B";"C"\n', ";"),
            ("họ, tên;địa chỉ;xã\nA;B;C\nD;E, F;G\n", ";"),
            ('a,b\n"x;y;z",1\n', ","),
        ],
    )
    def test_is_seen_from_the_names_and_the_rows(self, text: str, delimiter: str) -> None:
        assert sheet_of(text).delimiter == delimiter

    def test_in_an_address_does_not_cut_a_file_of_one_column(self) -> None:
        sheet = sheet_of('địa chỉ\nSố 2, Nà Ít\n\n"Tổ 1, Phủ Thông"\n')

        assert texts(sheet) == ["Số 2, Nà Ít", "Tổ 1, Phủ Thông"]
        assert sheet.rows == 2
        assert [row[0] for row in answered(sheet)] == ["địa chỉ", "Số 2, Nà Ít", "Tổ 1, Phủ Thông"]

    def test_is_guessed_from_the_beginning_of_a_large_file(self) -> None:
        assert sheet_of("a;b\n" + '"x\n, y";z\n' * 20_000).delimiter == ";"

    def test_is_used_for_the_answer_too(self) -> None:
        sheet = sheet_of("a;b\n1;2\n")
        assert sheet.head().startswith(b"a;b;latitude;longitude;result_label;result_score;")


class TestColumns:
    FILE = "tên,xã,thôn\nA,Phủ Thông,Nà Ít\n"

    def test_make_the_address_in_the_order_in_which_they_are_named(self) -> None:
        assert texts(sheet_of(self.FILE, columns=["thôn", "xã"])) == ["Nà Ít, Phủ Thông"]

    def test_are_all_taken_when_none_is_named_but_results_and_coordinates(self) -> None:
        assert texts(sheet_of(self.FILE)) == ["A, Phủ Thông, Nà Ít"]
        file = "a,lat,lon,result_label\nNà Ít,22.2,105.8,cũ\n"
        assert texts(sheet_of(file, lat="lat", lon="lon")) == ["Nà Ít"]

    def test_are_found_without_case_and_with_marks_in_pieces(self) -> None:
        assert texts(sheet_of(self.FILE, columns=["Xa\u0303 "])) == ["Phủ Thông"]

    def test_that_are_not_there_are_refused_with_those_that_are(self) -> None:
        at, detail = refused(self.FILE, columns=["thôn", "commune"])
        assert at == "/columns/1"
        assert detail.endswith("it has tên, xã, thôn.")

    def test_that_are_there_twice_are_refused(self) -> None:
        assert refused("a,a\n1,2\n", columns=["a"])[0] == "/columns/0"

    @pytest.mark.parametrize(
        ("options", "at"), [({"lat": "tên"}, "/lon"), ({"lon": "tên"}, "/lat"), ({"citycode": "mã"}, "/citycode")]
    )
    def test_for_other_purposes_are_checked_too(self, options: dict[str, str], at: str) -> None:
        assert refused(self.FILE, **options)[0] == at

    def test_may_be_empty(self) -> None:
        assert texts(sheet_of("a,b,c\n,, \nNà Ít,,\n")) == ["", "Nà Ít"]


class TestRows:
    def test_with_too_few_values_are_filled_up(self) -> None:
        sheet = sheet_of("a,b,c\nNà Ít\n")
        assert answered(sheet)[1][:3] == ["Nà Ít", "", ""]
        assert cells(sheet)["result_error"] == ""

    def test_with_too_many_values_lose_none_and_say_so(self) -> None:
        sheet = sheet_of("a,b\nSố 2, Nà Ít,x\n1,2,,\n")

        first, second = sheet.questions()

        assert (first.values, first.askable, first.fault) == (["Số 2", " Nà Ít,x"], False, "fields: 3 instead of 2")
        assert (second.values, second.askable, second.fault) == (["1", "2"], True, None)
        assert cells(sheet, Answer(""))["result_error"] == "fields: 3 instead of 2"

    @pytest.mark.parametrize(
        ("lat", "lon", "near", "fault"),
        [
            ("22.2", "105.8", (105.8, 22.2), None),
            ("22,2", " 105,8", (105.8, 22.2), None),
            ("", "", None, None),
            ("105.8", "22.2", None, "coordinates: no place in Vietnam"),
            ("nan", "inf", None, "coordinates: no place in Vietnam"),
            ("N/A", "105.8", None, "coordinates: no place in Vietnam"),
        ],
    )
    def test_have_coordinates_to_prefer_places_near(
        self, lat: str, lon: str, near: tuple[float, float] | None, fault: str | None
    ) -> None:
        (question,) = sheet_of(f"a;y;x\nNà Ít;{lat};{lon}\n", lat="y", lon="x").questions()
        assert (question.near, question.fault, question.askable) == (near, fault, True)


class TestResults:
    def test_are_those_of_addok_and_ours(self) -> None:
        row = cells(sheet_of("a,b\nx,y\n"))
        assert {name: row[name] for name in RESULTS} == {
            "latitude": "22.250000",
            "longitude": "105.876543",
            "result_label": "Số 14A, Thôn Nà Ít, Xã Phủ Thông, Tỉnh Thái Nguyên",
            "result_score": "0.99",
            "result_type": "housenumber",
            "result_id": "",
            "result_housenumber": "14A",
            "result_name": "14A Thôn Nà Ít",
            "result_street": "",
            "result_hamlet": "Thôn Nà Ít",
            "result_postcode": "23456",
            "result_city": "Xã Phủ Thông",
            "result_citycode": "01969",
            "result_context": "Huyện Bạch Thông, Tỉnh Thái Nguyên",
            "result_class": "A",
            "result_level": "house",
            "result_era": "before_2025",
            "result_former_citycode": "01963",
            "result_error": "",
        }

    @pytest.mark.parametrize("level", MatchLevel)
    def test_have_a_type_and_a_name_for_every_level(self, level: MatchLevel) -> None:
        match = msgspec.structs.replace(HOUSE, level=level, street="Đường 1", place="Chợ")
        row = cells(sheet_of("a,b\nx,y\n"), Answer("", (match,)))
        assert row["result_type"] == TYPES[level]
        assert row["result_name"]

    def test_name_what_they_are_where_there_is_a_name(self) -> None:
        def name(**changed: object) -> str:
            match = msgspec.structs.replace(HOUSE, **changed)
            return cells(sheet_of("a,b\nx,y\n"), Answer("", (match,)))["result_id"]

        assert name(code="482719346") == "482719346"
        assert name(level=MatchLevel.HAMLET) == "hamlet:7"
        assert name(level=MatchLevel.COMMUNE) == "01969"
        assert name(level=MatchLevel.STREET) == ""

    def test_of_nothing_are_empty_but_for_the_class_and_the_reason(self) -> None:
        row = cells(sheet_of("a,b\nx,y\n"), Answer("", reason="outside"))
        assert {name: row[name] for name in RESULTS if row[name]} == {"result_class": "C", "result_error": "outside"}

    @pytest.mark.parametrize(
        ("file", "city", "grade"),
        [
            ("a,mã\nx,01969\n", "01969", "A"),
            ("a,mã\nx,01963\n", "01969", "A"),
            ("a,mã\nx,01840\n", "01840", "B"),
            ("a,mã\nx,\n", "01969", "A"),
            ("a,mã\nx,99999\n", "", "C"),
        ],
    )
    def test_are_those_that_the_row_demands(self, file: str, city: str, grade: str) -> None:
        row = cells(sheet_of(file, citycode="mã"))
        assert (row["result_citycode"], row["result_class"]) == (city, grade)
        assert row["result_error"] == ("" if city else "filtered")

    def test_are_filtered_by_postcode_and_type_too(self) -> None:
        file = "a,p,t\nx,23456,street\n"
        assert cells(sheet_of(file, postcode="p"))["result_citycode"] == "01969"
        assert cells(sheet_of(file, type="t"))["result_error"] == "filtered"


class TestOptions:
    def test_are_read_from_a_form(self) -> None:
        read_ = options_of(
            {
                "columns": ["a", "b"],
                "delimiter": ["\\t"],
                "encoding": ["Windows_1258"],
                "with_bom": ["True"],
                "lat": [""],
            }
        )
        assert read_ == Options(columns=("a", "b"), delimiter="\t", encoding="cp1258", with_bom=True)
        assert options_of({}) == Options(encoding="utf-8-sig")

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("delimiter", [",,"]),
            ("delimiter", ["a"]),
            ("delimiter", ['"']),
            ("encoding", ["punycode"]),
            ("encoding", ["\0"]),
            ("with_bom", ["maybe"]),
            ("lat", ["a", "b"]),
            ("colums", ["a"]),
        ],
    )
    def test_that_are_wrong_are_refused_by_name(self, name: str, values: list[str]) -> None:
        with pytest.raises(FileUnreadable) as caught:
            options_of({name: values})
        assert caught.value.facts["errors"] == [FieldError(f"/{name}", caught.value.detail)]

    def test_a_byte_order_mark_is_written_when_it_is_wanted(self) -> None:
        assert sheet_of("a,b\n1,2\n", with_bom=True).head().startswith(b"\xef\xbb\xbfa,b,latitude")
        assert sheet_of("\ufeffa,b\n1,2\n").head().startswith(b"a,b,latitude")
