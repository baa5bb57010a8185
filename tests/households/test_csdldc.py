"""The seam to the population register: what we send, what we accept, and what we refuse to read."""

import unicodedata
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import date

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar
from litestar.datastructures import State

from bkapp.households.providers import Mismatch, NotFound, RegisterUnavailable
from bkapp.households.providers.csdldc import LARGEST_ANSWER, PopulationRegister, Unreadable, read_envelope
from bkapp.households.rules import is_adult, register_name
from bkapp.practice.people import PEOPLE
from bkapp.practice.population import ROUTES, Faults, Register
from tests.practice.peers import running

HUNG = {"name": "Nông Văn Hùng", "birth": date(1984, 3, 12), "officer": "o", "procedure": "p"}
SOAP = (
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header/><s:Body>'
    '<n:CongdanCollection xmlns:n="http://www.mic.gov.vn/dancu/1.0">{}</n:CongdanCollection></s:Body></s:Envelope>'
)
PERSON = (
    "<n:CongDan><n:SoDinhDanh>099084000101</n:SoDinhDanh><n:HoVaTen><n:Ho>NÔNG</n:Ho><n:ChuDem>VĂN</n:ChuDem>"
    "<n:Ten>HÙNG</n:Ten></n:HoVaTen><n:NgayThangNamSinh><n:NgayThangNam>19840312</n:NgayThangNam></n:NgayThangNamSinh>"
    "<n:ThuongTru><n:MaPhuongXa>1969</n:MaPhuongXa></n:ThuongTru>"
    "<n:ChuHo><n:QuanHe>CH01</n:QuanHe><n:SoDinhDanh>099084000101</n:SoDinhDanh></n:ChuHo></n:CongDan>"
)
VIETNAMESE = st.text(
    alphabet="aăâeêioôơuưyđAĂÂEÊIOÔƠUƯYĐbcdghklmnpqrstvxàáảãạằắẳẵặầấẩẫậèéẻẽẹềếểễệìíỉĩịòóỏõọồốổỗộờớởỡợùúủũụừứửữựỳýỷỹỵ '-"
)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "asked"),
        [
            ("Đặng Thị Hòa", "DANGTHIHOA"),
            ("  lý   a pá ", "LYAPA"),
            ("Nguye\u0302\u0303n Ðức Đạt", "NGUYENDUCDAT"),
            ("H'Hen Niê", "HHENNIE"),
            ("ĐINH-ĐỨC", "DINHDUC"),
            ("", ""),
        ],
    )
    def test_a_name_is_asked_for_in_capitals_without_marks_or_spaces(self, name: str, asked: str) -> None:
        assert register_name(name) == asked

    @given(VIETNAMESE)
    def test_spelling_does_not_matter(self, name: str) -> None:
        asked = register_name(name)
        assert set(asked) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            assert register_name(unicodedata.normalize(form, name)) == asked
        assert register_name(name.upper()) == register_name(name.lower()) == asked
        assert register_name(name.replace(" ", "  ")) == asked

    @given(st.text())
    def test_any_text_gives_capitals_and_asking_twice_changes_nothing(self, name: str) -> None:
        asked = register_name(name)
        assert asked.isascii()
        assert not set(asked) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
        assert register_name(asked) == asked


@pytest.mark.parametrize(
    ("birth", "day", "grown"),
    [
        (date(2008, 3, 12), date(2026, 3, 11), False),
        (date(2008, 3, 12), date(2026, 3, 12), True),
        (date(2008, 2, 29), date(2026, 2, 28), False),
        (date(2008, 2, 29), date(2026, 3, 1), True),
        (date(2030, 1, 1), date(2026, 3, 1), False),
    ],
)
def test_who_is_an_adult(birth: date, day: date, grown: bool) -> None:  # noqa: FBT001
    assert is_adult(birth, day) is grown


class TestEnvelopes:
    def test_a_person_is_read(self) -> None:
        found = read_envelope(SOAP.format(PERSON))
        assert found is not None
        assert (found.number, found.name, found.birth) == ("099084000101", "NÔNG VĂN HÙNG", date(1984, 3, 12))
        assert (found.head_number, found.relation, found.commune_code) == ("099084000101", "Chủ hộ", "01969")

    def test_other_namespaces_and_a_name_in_one_piece_are_read_alike(self) -> None:
        whole = PERSON.replace("<n:Ho>NÔNG</n:Ho><n:ChuDem>VĂN</n:ChuDem>", "<n:Ho/>").replace(
            ">HÙNG<", ">NÔNG VĂN HÙNG<"
        )
        text = SOAP.format(whole).replace("http://www.mic.gov.vn/dancu/1.0", "http://elsewhere")
        assert read_envelope(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}') == read_envelope(SOAP.format(PERSON))

    def test_nobody_is_nobody(self) -> None:
        assert read_envelope(SOAP.format("")) is None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "Thành công",
            "<a/>",
            SOAP.format(PERSON)[:-20],
            SOAP.format(PERSON + PERSON),
            SOAP.format(PERSON.replace("099084000101", "99084000101")),
            SOAP.format(PERSON.replace("19840312", "19841312")),
            SOAP.format(PERSON.replace("<n:Ho>NÔNG</n:Ho><n:ChuDem>VĂN</n:ChuDem><n:Ten>HÙNG</n:Ten>", "")),
            SOAP.format(PERSON.replace("<n:ChuHo>", "<n:ChuHo/><n:ChuHo>")),
            SOAP.format(PERSON).replace("</s:Envelope>", "<s:Body/></s:Envelope>"),
            "<!DOCTYPE a [<!ENTITY b 'c'>]>" + SOAP.format(PERSON),
            '<!DOCTYPE a SYSTEM "file:///etc/passwd">' + SOAP.format(PERSON),
            "<!doctype a>" + SOAP.format(PERSON),
            SOAP.format(PERSON.replace("HÙNG", "&lol;")),
            SOAP.format(PERSON) + " " * LARGEST_ANSWER,
            "\0" + SOAP.format(PERSON),
            "<a>" * 20_000,
        ],
        ids=range(17),
    )
    def test_what_is_no_answer_is_not_read(self, text: str) -> None:
        with pytest.raises(Unreadable):
            read_envelope(text)

    def test_a_million_laughs_are_not_laughed(self) -> None:
        entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
        with pytest.raises(Unreadable):
            read_envelope(f'<!DOCTYPE x [<!ENTITY l0 "ha">{entities}]>' + SOAP.format("&l9;"))

    @given(st.text(alphabet="<>/!&;ns:CongDa ", max_size=200))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        with suppress(Unreadable):
            read_envelope(SOAP.format(text))


def answering(status: int = 200, **kwargs: object) -> PopulationRegister:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, **kwargs)  # type: ignore[arg-type]

    return PopulationRegister("http://register.test/dan-cu", "us", "secret", httpx.MockTransport(answer))


async def ask(register: PopulationRegister, number: str = "099084000101", request_id: str = "r1") -> object:
    try:
        return await register.look_up(request_id=request_id, number=number, **HUNG)  # type: ignore[arg-type]
    finally:
        await register.close()


class TestAnswers:
    @pytest.mark.parametrize(
        ("register", "reason"),
        [
            (answering(401), "refused"),
            (answering(403, json={"error_code": "5"}), "refused"),
            (answering(500, json={"error_code": "0", "message": SOAP.format(PERSON)}), "failed"),
            (answering(302, headers={"Location": "http://elsewhere.test/"}), "failed"),
            (answering(200, text="<html>"), "unreadable"),
            (answering(200, content=b"\xff"), "unreadable"),
            (answering(200, json=[]), "unreadable"),
            (answering(200, json={"error_code": None}), "unreadable"),
            (answering(200, json={"error_code": "0", "message": 7}), "unreadable"),
            (answering(200, json={"error_code": "0", "message": "Thành công"}), "unreadable"),
            (answering(200, json={"error_code": "3", "message": "used"}), "refused"),
            (answering(200, content=b'{"error_code":"0","message":"' + b" " * LARGEST_ANSWER + b'"}'), "unreadable"),
            (answering(200, content=b"[" * 100_000), "unreadable"),
        ],
        ids=range(13),
    )
    async def test_what_cannot_be_used_is_an_outage_with_its_reason(
        self, register: PopulationRegister, reason: str
    ) -> None:
        with pytest.raises(RegisterUnavailable) as caught:
            await ask(register)
        assert caught.value.facts == {"reason": reason}
        assert "099084000101" not in str(caught.value)
        assert caught.value.__cause__ is None

    async def test_an_answer_about_somebody_else_is_none(self) -> None:
        with pytest.raises(RegisterUnavailable):
            await ask(answering(200, json={"error_code": 0, "message": SOAP.format(PERSON)}), "099084000102")

    async def test_nobody_and_another_name_are_told_apart(self) -> None:
        with pytest.raises(NotFound):
            await ask(answering(200, json={"error_code": "1", "message": "Không tìm thấy"}))
        with pytest.raises(NotFound):
            await ask(answering(200, json={"error_code": "0", "message": SOAP.format("")}))
        with pytest.raises(Mismatch):
            await ask(answering(200, json={"error_code": 2, "message": "Không khớp"}))

    async def test_a_server_that_is_not_there_is_an_outage(self) -> None:
        with pytest.raises(RegisterUnavailable) as caught:
            await ask(PopulationRegister("http://127.0.0.1:9/", "us", "secret"))
        assert caught.value.facts == {"reason": "no_answer"}


class TestPracticeRegister:
    """The same over a real socket, against the practice register."""

    @pytest.fixture
    async def practice(self) -> AsyncIterator[tuple[str, Register]]:
        register = Register(PEOPLE.values(), client="bkapp", secret="practice")
        async with running(Litestar([ROUTES], state=State({"register": register}), openapi_config=None)) as url:
            yield f"{url}/dan-cu", register

    async def test_everybody_is_found_as_they_are_registered(self, practice: tuple[str, Register]) -> None:
        url, register = practice
        ours = PopulationRegister(url, "bkapp", "practice")
        for count, person in enumerate(PEOPLE.values()):
            asking = ours.look_up(
                request_id=f"r{count}",
                number=person.number,
                name=person.name,
                birth=person.birth,
                officer="o",
                procedure="p",
            )
            match person.handle:
                case "khong-co":
                    with pytest.raises(NotFound):
                        await asking
                case "sai-ten":
                    with pytest.raises(Mismatch):
                        await asking
                case _ if person.registered_name is None:
                    with pytest.raises(NotFound):
                        await asking
                case _:
                    found = await asking
                    assert (found.number, found.birth) == (person.number, person.birth)
                    assert found.name == person.name.upper()
                    assert found.commune_code == person.commune
                    assert found.head_number == PEOPLE[person.head].number
                    assert (found.relation or "").casefold() == person.relation
        await ours.close()
        assert len(register.log) == len(PEOPLE)

    async def test_a_question_number_is_good_once_and_a_wrong_client_is_refused(
        self, practice: tuple[str, Register]
    ) -> None:
        url, _ = practice
        head = PEOPLE["chu-ho"]
        ours = PopulationRegister(url, "bkapp", "practice")
        question = {"number": head.number, "name": head.name, "birth": head.birth, "officer": "o", "procedure": "p"}
        await ours.look_up(request_id="once", **question)  # type: ignore[arg-type]
        with pytest.raises(RegisterUnavailable) as twice:
            await ours.look_up(request_id="once", **question)  # type: ignore[arg-type]
        wrong = PopulationRegister(url, "bkapp", "guess")
        with pytest.raises(RegisterUnavailable) as unknown:
            await wrong.look_up(request_id="other", **question)  # type: ignore[arg-type]
        await ours.close()
        await wrong.close()
        assert twice.value.facts == unknown.value.facts == {"reason": "refused"}

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (Faults(down=True), "failed"),
            (Faults(internal=True), "failed"),
            (Faults(html=True), "unreadable"),
            (Faults(broken_xml=True), "unreadable"),
            (Faults(no_xml=True), "unreadable"),
            (Faults(slow=2), "no_answer"),
        ],
    )
    async def test_what_goes_wrong_there_is_an_outage_here(
        self, practice: tuple[str, Register], fault: Faults, reason: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url, register = practice
        register.faults = fault
        monkeypatch.setattr("bkapp.households.providers.csdldc.PATIENCE", 0.5)
        head = PEOPLE["chu-ho"]
        ours = PopulationRegister(url, "bkapp", "practice")
        with pytest.raises(RegisterUnavailable) as caught:
            await ours.look_up(
                request_id="r", number=head.number, name=head.name, birth=head.birth, officer="o", procedure="p"
            )
        await ours.close()
        assert caught.value.facts == {"reason": reason}
