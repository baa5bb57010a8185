"""The practice population register: it answers as CSDLQG dân cư does through a province's integration platform.

``POST /dan-cu`` with HTTP Basic (the client's name and secret; the real platform's authentication differs by province
and is set up there) and JSON::

    {"HoVaTen": "NONGVANHUNG", "SoDinhDanh": "099084000101", "SoCMND"?: 9 digits, "NgayThangNam"?: "19840312",
     "Nam": "1984", "MaTichHop": …, "MaDVC": …, "MaCanBo": …, "MaYeuCau": never used before}

``HoVaTen`` is upper-case, without accents and without spaces.  The answer has status 200 and is
``{"error_code": "0", "message": "<?xml …"}``: SOAP as a text, in the namespaces of the real one.  Its names are
upper-case; ``HoVaTen`` is in three parts or, as often with the real one, whole in ``Ten``.  ``MaQuanHuyen`` is empty,
since there are no districts any more.  Other ``error_code``: "1" nobody has that number, "2" name or birth do not
belong to it, "3" that ``MaYeuCau`` was used, "4" the request cannot be read.  Their ``message`` is a sentence.
A wrong client gets status 401 and "5".

``GET /dan-cu/practice/log`` lists the questions, newest last; ``GET`` and ``POST /dan-cu/practice/faults`` tell and
set what goes wrong (:class:`Faults`).
"""

import asyncio
import base64
import binascii
import hmac
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any
from xml.etree import ElementTree as ET

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.datastructures import State
from litestar.params import JSONBody
from msgspec import Meta, Struct

from bkapp.practice.people import COMMUNES, PROVINCE, PROVINCE_NAME, TestCitizen, plain

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
POPULATION = "http://www.mic.gov.vn/dancu/1.0"
RELATIONS = {"chủ hộ": "CH01", "vợ": "CH02", "con": "CH03"}  # CH01 is the real one's, the others are made up
WHOLE_NAMES = frozenset({"ba-78", "hang-xom"})
KEPT = 10_000
ET.register_namespace("soapenv", SOAP)


class Question(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked, as it comes."""

    HoVaTen: Annotated[str, Meta(pattern="^[A-Z]{2,100}$")]
    Nam: Annotated[str, Meta(pattern=r"^\d{4}$")]
    MaTichHop: Annotated[str, Meta(min_length=1, max_length=100)]
    MaDVC: Annotated[str, Meta(min_length=1, max_length=100)]
    MaCanBo: Annotated[str, Meta(min_length=1, max_length=100)]
    MaYeuCau: Annotated[str, Meta(min_length=1, max_length=100)]
    SoDinhDanh: Annotated[str, Meta(pattern=r"^\d{12}$")] | None = None
    SoCMND: Annotated[str, Meta(pattern=r"^\d{9}$")] | None = None
    NgayThangNam: Annotated[str, Meta(pattern=r"^\d{8}$")] | None = None


class Reply(Struct, frozen=True):
    """What is answered: a text of XML for error_code "0", otherwise a sentence."""

    error_code: str
    message: str


class Logged(Struct, frozen=True, kw_only=True):
    """That somebody asked.  ``question`` is None where it could not be read."""

    at: datetime
    question: Question | None
    error_code: str


class Faults(Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong.  ``slow`` is in seconds; ``broken_xml`` cuts the XML, ``no_xml`` leaves another text in its
    place, ``html`` answers with a page as a proxy does, ``internal`` with status 500 and JSON."""

    down: bool = False
    slow: Annotated[float, Meta(ge=0, le=60)] = 0
    broken_xml: bool = False
    no_xml: bool = False
    html: bool = False
    internal: bool = False


class Register:
    """The register's memory: whom it knows, who may ask, what was asked."""

    def __init__(self, people: Iterable[TestCitizen], *, client: str, secret: str) -> None:
        self.people = {citizen.number: citizen for citizen in people}
        self.by_handle = {citizen.handle: citizen for citizen in self.people.values()}
        self.credentials = f"{client}:{secret}".encode()
        self.faults = Faults()
        self.log: deque[Logged] = deque(maxlen=KEPT)
        self._used: dict[str, None] = {}

    def may_ask(self, authorization: str) -> bool:
        """Whether that header is the client's."""
        scheme, _, sent = authorization.partition(" ")
        try:
            return scheme.lower() == "basic" and hmac.compare_digest(
                base64.b64decode(sent, validate=True), self.credentials
            )
        except (binascii.Error, ValueError):
            return False

    def answer(self, body: bytes) -> Reply:
        """Answer one question and keep that it was asked."""
        question: Question | None = None
        try:
            question = msgspec.json.decode(body, type=Question)
            reply = self._look_up(question)
        except msgspec.DecodeError as error:
            reply = Reply("4", f"Yêu cầu không đúng định dạng: {error}")
        self.log.append(Logged(at=datetime.now(UTC), question=question, error_code=reply.error_code))
        return reply

    def _look_up(self, question: Question) -> Reply:
        if question.MaYeuCau in self._used:
            return Reply("3", "Mã yêu cầu đã được sử dụng")
        self._used[question.MaYeuCau] = None
        if len(self._used) > KEPT:
            del self._used[next(iter(self._used))]
        found = self.people.get(question.SoDinhDanh or "")
        if found is None or found.registered_name is None:
            return Reply("1", "Không tìm thấy công dân trong CSDL quốc gia về dân cư")
        birth = f"{found.birth:%Y%m%d}"
        if (
            question.HoVaTen != plain(found.registered_name)
            or question.Nam != birth[:4]
            or question.NgayThangNam not in {None, birth}
        ):
            return Reply("2", "Thông tin công dân không khớp")
        return Reply("0", _soap(found, self.by_handle))


def _soap(citizen: TestCitizen, people: dict[str, TestCitizen]) -> str:
    envelope = ET.Element(f"{{{SOAP}}}Envelope")
    ET.SubElement(envelope, f"{{{SOAP}}}Header")
    body = ET.SubElement(envelope, f"{{{SOAP}}}Body")
    _put(ET.SubElement(body, f"{{{POPULATION}}}CongdanCollection"), {"CongDan": _facts(citizen, people)})
    text = ET.tostring(envelope, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'


def _put(parent: ET.Element, facts: dict[str, Any]) -> None:
    """Write a tree of texts below an element."""
    for name, value in facts.items():
        child = ET.SubElement(parent, f"{{{POPULATION}}}{name}")
        if isinstance(value, dict):
            _put(child, value)
        else:
            child.text = value


def _facts(citizen: TestCitizen, people: dict[str, TestCitizen]) -> dict[str, Any]:
    head = people[citizen.head]
    home = _place(citizen.commune, citizen.hamlet)
    household = [other for other in people.values() if other.head == head.handle]
    spouse = next((other for other in household if {other.relation, citizen.relation} == {"chủ hộ", "vợ"}), None)
    parents = [other for other in household if citizen.relation == "con" and other.relation in {"chủ hộ", "vợ"}]
    return {
        "SoDinhDanh": citizen.number,
        "SoCMND": "",
        "HoVaTen": _name(citizen),
        "GioiTinh": "2" if citizen.female else "1",
        "DanToc": "02",
        "TonGiao": "00",
        "TinhTrangHonNhan": "2" if spouse else "1",
        "NhomMau": "00",
        "NgayThangNamSinh": {"Nam": f"{citizen.birth:%Y}", "NgayThangNam": f"{citizen.birth:%Y%m%d}"},
        "NoiDangKyKhaiSinh": home,
        "QuocTich": "VN",
        "QueQuan": home,
        "ThuongTru": home,
        "NoiOHienTai": home,
        "Cha": _relative(next((parent for parent in parents if not parent.female), None)),
        "Me": _relative(next((parent for parent in parents if parent.female), None)),
        "VoChong": _relative(spouse),
        "NguoiDaiDien": _relative(head if citizen.age() < 18 else None),
        "ChuHo": {
            "QuanHe": RELATIONS[citizen.relation],
            "SoDinhDanh": head.number,
            "SoCMND": "",
            "HoVaTen": _known_as(head).upper(),
        },
        "SoSoHoKhau": f"LT{head.number[-6:]}",
    }


def _known_as(citizen: TestCitizen) -> str:
    return citizen.registered_name or citizen.name


def _name(citizen: TestCitizen) -> dict[str, str]:
    name = _known_as(citizen).upper()
    if citizen.handle in WHOLE_NAMES:
        return {"Ho": "", "ChuDem": "", "Ten": name}
    family, *middle, given = name.split()
    return {"Ho": family, "ChuDem": " ".join(middle), "Ten": given}


def _relative(citizen: TestCitizen | None) -> dict[str, str]:
    if citizen is None:
        return {"HoVaTen": "", "QuocTich": "", "SoDinhDanh": "", "SoCMND": ""}
    return {"HoVaTen": _known_as(citizen).upper(), "QuocTich": "VN", "SoDinhDanh": citizen.number, "SoCMND": ""}


def _place(commune: str, hamlet: str) -> dict[str, str]:
    return {
        "MaTinhThanh": PROVINCE,
        "MaQuanHuyen": "",
        "MaPhuongXa": commune,
        "ChiTiet": f"Thôn {hamlet}, {COMMUNES[commune]}, {PROVINCE_NAME}".upper(),
        "QuocGia": "VN",
    }


@post("/", status_code=200)
async def look_up(request: Request, state: State) -> Response:
    """Answer one question about one person."""
    register: Register = state.register
    faults = register.faults
    await asyncio.sleep(faults.slow)
    if faults.down:
        return Response(Reply("503", "Hệ thống tạm dừng (lỗi luyện tập)"), status_code=503)
    if not register.may_ask(request.headers.get("authorization", "")):
        return Response(
            Reply("5", "Sai tài khoản tích hợp"),
            status_code=401,
            headers={"WWW-Authenticate": 'Basic realm="dan-cu"'},
        )
    reply = register.answer(await request.body())
    if faults.internal:
        return Response(Reply("500", "Lỗi hệ thống (lỗi luyện tập)"), status_code=500)
    if faults.html:
        return Response("<html><body>502 Bad Gateway</body></html>", media_type="text/html")
    if reply.error_code == "0" and faults.broken_xml:
        reply = Reply("0", reply.message[: len(reply.message) // 2])
    if reply.error_code == "0" and faults.no_xml:
        reply = Reply("0", "Thành công")
    return Response(reply)


@get("/practice/log")
async def questions(state: State) -> list[Logged]:
    """Every question so far, newest last."""
    return list(state.register.log)


@get("/practice/faults")
async def current_faults(state: State) -> Faults:
    """What goes wrong at the moment."""
    faults: Faults = state.register.faults
    return faults


@post("/practice/faults", status_code=200)
async def set_faults(state: State, data: JSONBody[Faults]) -> Faults:
    """Set what goes wrong from now on; ``{}`` heals everything."""
    state.register.faults = data
    return data


ROUTES = Router(path="/dan-cu", route_handlers=[look_up, questions, current_faults, set_faults])
