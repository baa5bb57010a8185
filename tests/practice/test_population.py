"""The practice population register over a real socket."""

import time
from base64 import b64encode
from collections.abc import AsyncIterator
from uuid import uuid4
from xml.etree import ElementTree as ET

import httpx
import pytest

from bkapp.practice.people import COMMUNES, OFFICES, PEOPLE, citizens, number, person, plain
from bkapp.practice.population import POPULATION, SOAP
from bkapp.practice.server import application
from tests.practice.peers import running

CITIZEN = f"{{{SOAP}}}Body/{{{POPULATION}}}CongdanCollection/{{{POPULATION}}}CongDan"


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[httpx.AsyncClient]:
    app = application(base_url="http://practice.test", eid_clients=[], population_secret="s3cret")
    async with running(app) as url, httpx.AsyncClient(base_url=url, auth=("bkapp", "s3cret")) as client:
        yield client


@pytest.fixture
async def client(shared: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    yield shared
    await shared.post("/dan-cu/practice/faults", json={})


def question(handle: str, **changes: str | None) -> dict[str, str]:
    citizen = person(handle)
    asked: dict[str, str | None] = {
        "HoVaTen": plain(citizen.name),
        "SoDinhDanh": citizen.number,
        "NgayThangNam": f"{citizen.birth:%Y%m%d}",
        "Nam": f"{citizen.birth:%Y}",
        "MaTichHop": "bkapp",
        "MaDVC": "household",
        "MaCanBo": "citizen",
        "MaYeuCau": uuid4().hex,
        **changes,
    }
    return {name: value for name, value in asked.items() if value is not None}


async def ask(client: httpx.AsyncClient, handle: str, **changes: str | None) -> dict[str, str]:
    answer = await client.post("/dan-cu", json=question(handle, **changes))
    assert answer.status_code == 200
    reply: dict[str, str] = answer.json()
    return reply


def text(citizen: ET.Element, path: str) -> str:
    return citizen.findtext("/".join(f"{{{POPULATION}}}{name}" for name in path.split("/"))) or ""


async def found(client: httpx.AsyncClient, handle: str) -> ET.Element:
    reply = await ask(client, handle)
    assert reply["error_code"] == "0"
    citizen = ET.fromstring(reply["message"]).find(CITIZEN)  # noqa: S314  (our own)
    assert citizen is not None
    return citizen


async def test_a_head_of_household_is_found(client: httpx.AsyncClient) -> None:
    citizen = await found(client, "chu-ho")

    assert [text(citizen, f"HoVaTen/{part}") for part in ("Ho", "ChuDem", "Ten")] == ["NÔNG", "VĂN", "HÙNG"]
    assert text(citizen, "NgayThangNamSinh/NgayThangNam") == "19840312"
    assert (text(citizen, "GioiTinh"), text(citizen, "ThuongTru/MaPhuongXa")) == ("1", "01969")
    assert (text(citizen, "ChuHo/QuanHe"), text(citizen, "ChuHo/SoDinhDanh")) == ("CH01", person("chu-ho").number)
    assert text(citizen, "VoChong/SoDinhDanh") == person("vo").number


async def test_a_household_has_one_head(client: httpx.AsyncClient) -> None:
    wife, child = await found(client, "vo"), await found(client, "con-17")

    assert text(wife, "ChuHo/SoDinhDanh") == text(child, "ChuHo/SoDinhDanh") == person("chu-ho").number
    assert text(wife, "SoSoHoKhau") == text(child, "SoSoHoKhau")
    assert text(child, "Cha/SoDinhDanh") == text(child, "NguoiDaiDien/SoDinhDanh") == person("chu-ho").number
    assert text(child, "Me/SoDinhDanh") == person("vo").number


async def test_a_name_may_come_whole(client: httpx.AsyncClient) -> None:
    citizen = await found(client, "ba-78")

    assert [text(citizen, f"HoVaTen/{part}") for part in ("Ho", "ChuDem", "Ten")] == ["", "", "TRIỆU THỊ MẨY"]
    assert text(citizen, "ThuongTru/MaPhuongXa") == "02083"


@pytest.mark.parametrize("name", ["Nông Văn Hùng", "NONG VAN HUNG", "NÔNGVĂNHÙNG", "nongvanhung", ""])
async def test_a_name_in_any_other_form_is_refused(client: httpx.AsyncClient, name: str) -> None:
    assert (await ask(client, "chu-ho", HoVaTen=name))["error_code"] == "4"


@pytest.mark.parametrize(
    "changes",
    [{"MaYeuCau": None}, {"MaCanBo": None}, {"MaCanBo": ""}, {"Nam": "84"}, {"SoDinhDanh": "12"}, {"Khac": "1"}],
    ids=str,
)
async def test_a_question_that_cannot_be_read_is_refused(
    client: httpx.AsyncClient, changes: dict[str, str | None]
) -> None:
    assert (await ask(client, "chu-ho", **changes))["error_code"] == "4"


async def test_a_request_id_is_good_once(client: httpx.AsyncClient) -> None:
    once = uuid4().hex

    assert (await ask(client, "chu-ho", MaYeuCau=once))["error_code"] == "0"
    assert (await ask(client, "vo", MaYeuCau=once))["error_code"] == "3"


async def test_who_is_not_in_the_register_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await ask(client, "khong-co"))["error_code"] == "1"
    assert (await ask(client, "chu-ho", SoDinhDanh="099999999999"))["error_code"] == "1"


@pytest.mark.parametrize(
    "changes",
    [{"HoVaTen": "NONGVANHOANG"}, {"Nam": "1985", "NgayThangNam": None}, {"NgayThangNam": "19840313"}],
    ids=str,
)
async def test_what_does_not_belong_together_is_a_mismatch(
    client: httpx.AsyncClient, changes: dict[str, str | None]
) -> None:
    assert (await ask(client, "chu-ho", **changes))["error_code"] == "2"
    assert (await ask(client, "sai-ten"))["error_code"] == "2"


async def test_every_question_is_logged(client: httpx.AsyncClient) -> None:
    asked = question("hang-xom")
    await client.post("/dan-cu", json=asked)
    await client.post("/dan-cu", content=b"no JSON")

    *_, good, bad = (await client.get("/dan-cu/practice/log")).json()

    assert {name: value for name, value in good["question"].items() if value is not None} == asked
    assert (good["error_code"], bad["question"], bad["error_code"]) == ("0", None, "4")


@pytest.mark.parametrize("sent", ["bkapp:guessed", "another:s3cret", "bkapp:", "bkapp:s3cret:", ""])
async def test_another_client_is_refused(client: httpx.AsyncClient, sent: str) -> None:
    before = len((await client.get("/dan-cu/practice/log")).json())
    headers = {"Authorization": f"Basic {b64encode(sent.encode()).decode() or 'not-base64!'}"}

    async with httpx.AsyncClient(base_url=client.base_url, headers=headers) as stranger:
        answer = await stranger.post("/dan-cu", json=question("chu-ho"))

    assert (answer.status_code, answer.json()["error_code"]) == (401, "5")
    assert len((await client.get("/dan-cu/practice/log")).json()) == before


async def test_faults(client: httpx.AsyncClient) -> None:
    async def with_fault(**faults: object) -> httpx.Response:
        assert (await client.post("/dan-cu/practice/faults", json=faults)).status_code == 200
        return await client.post("/dan-cu", json=question("chu-ho"))

    assert (await with_fault(down=True)).status_code == 503
    assert (await with_fault(internal=True)).status_code == 500
    assert (await with_fault(html=True)).headers["content-type"].startswith("text/html")
    broken = (await with_fault(broken_xml=True)).json()["message"]
    with pytest.raises(ET.ParseError):
        ET.fromstring(broken)  # noqa: S314  (our own)
    assert (await with_fault(no_xml=True)).json() == {"error_code": "0", "message": "Thành công"}
    began = time.monotonic()
    assert (await with_fault(slow=0.2)).json()["error_code"] == "0"
    assert time.monotonic() - began >= 0.2
    assert (await client.get("/dan-cu/practice/faults")).json()["slow"] == 0.2


def test_numbers_fit_their_people_and_are_nobodys() -> None:
    for citizen in PEOPLE.values():
        assert citizen.number == number(citizen.birth, female=citizen.female, serial=int(citizen.number[-6:]))
        assert citizen.number.startswith("099")
        assert citizen.head in PEOPLE
        assert citizen.commune in COMMUNES
    assert len({citizen.number for citizen in PEOPLE.values()}) == len(PEOPLE)
    assert person("chu-ho").number == "099084000101"
    assert person("con-17").number[3:6] == f"3{person('con-17').birth:%y}"
    assert OFFICES.keys() <= PEOPLE.keys()


def test_the_child_is_seventeen_in_every_year() -> None:
    today = person("con-17").birth
    for year in (2026, 2027, 2040):
        for day in ((1, 1), (6, 30), (12, 31)):
            now = today.replace(year=year, month=day[0], day=day[1])
            assert next(one for one in citizens(now) if one.handle == "con-17").age(now) == 17
