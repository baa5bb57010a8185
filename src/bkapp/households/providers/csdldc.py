"""The population register as the national integration platform offers it (NGSP, CSDLQG về dân cư).

A question is JSON, the answer JSON with a SOAP envelope as text in it.  The fields are those of the systems that ask it
today; the namespaces of the envelope differ between provinces, so elements are found by their local names.
"""

import asyncio
import re
from datetime import date
from xml.etree import ElementTree as ET

import httpx
import msgspec
from msgspec import Struct

from bkapp.households.providers import Citizen, Mismatch, NotFound, RegisterUnavailable
from bkapp.households.rules import register_name

PATIENCE = 10.0  # seconds for a whole answer
LARGEST_ANSWER = 256 * 1024
_DECLARATION = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)

FOUND, NOT_THERE, DIFFERS = "0", "1", "2"  # error_code; every other one says that we asked wrongly
# What a person is to the head.  CH01 is in an answer of the real register; the table of the others belongs to the
# agreement with it, and until then is that of the practice register.  A code we do not know tells nothing.
RELATIONS = {"CH01": "Chủ hộ", "CH02": "Vợ", "CH03": "Con"}


class _Reply(Struct):
    error_code: int | str
    message: str = ""


class Unreadable(ValueError):
    """An answer that is not what the register says it sends."""


class PopulationRegister:
    """The register at ``url``, asked as ``client`` with its secret (HTTP Basic)."""

    def __init__(self, url: str, client: str, secret: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url
        self._client = client
        self._http = httpx.AsyncClient(
            auth=httpx.BasicAuth(client, secret),
            timeout=httpx.Timeout(PATIENCE / 2, connect=3),
            limits=httpx.Limits(max_connections=10, max_keepalive_connections=2),
            follow_redirects=False,
            trust_env=False,
            transport=transport,
        )

    async def look_up(
        self, *, request_id: str, number: str, name: str, birth: date, officer: str, procedure: str
    ) -> Citizen:
        """See :class:`bkapp.households.providers.Register`."""
        reply = await self._ask(
            {
                "HoVaTen": register_name(name),
                "SoDinhDanh": number,
                "NgayThangNam": f"{birth:%Y%m%d}",
                "Nam": f"{birth:%Y}",
                "MaTichHop": self._client,
                "MaDVC": procedure,
                "MaCanBo": officer,
                "MaYeuCau": request_id,
            }
        )
        code = str(reply.error_code)
        if code == NOT_THERE:
            raise NotFound
        if code == DIFFERS:
            raise Mismatch
        if code != FOUND:
            raise RegisterUnavailable("The population register refused the question.", reason="refused")
        try:
            citizen = read_envelope(reply.message)
        except Unreadable:
            raise _unreadable() from None
        if citizen is None:
            raise NotFound
        if citizen.number != number:
            raise _unreadable()  # an answer about somebody else is none
        return citizen

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, question: dict[str, str]) -> _Reply:
        try:
            async with (
                asyncio.timeout(PATIENCE),  # httpx counts each read anew, so a slow sender could keep us for ever
                self._http.stream("POST", self._url, json=question) as response,
            ):
                if response.status_code in {401, 403}:
                    raise RegisterUnavailable("The population register does not know us.", reason="refused")
                if response.status_code != 200:
                    raise RegisterUnavailable(
                        f"The population register answered {response.status_code}.", reason="failed"
                    )
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > LARGEST_ANSWER:
                        raise _unreadable()
        except (httpx.HTTPError, TimeoutError):
            # The error may repeat the question, so it goes no further.
            raise RegisterUnavailable("The population register does not answer.", reason="no_answer") from None
        try:
            return msgspec.json.decode(body, type=_Reply)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise _unreadable() from None


def _unreadable() -> RegisterUnavailable:
    return RegisterUnavailable("The answer of the population register cannot be read.", reason="unreadable")


def read_envelope(text: str) -> Citizen | None:
    """The person in an envelope (``Envelope.Body.CongdanCollection.CongDan``), None where it holds nobody.

    Raise :class:`Unreadable` for anything else: more than one person, a document type or entities (which could make
    a short text endless or read files), what is no XML or far too long.
    """
    if len(text) > LARGEST_ANSWER or _DECLARATION.search(text):
        raise Unreadable
    try:
        root = ET.fromstring(text.strip())  # noqa: S314  (nothing that declares entities comes this far)
    except (ET.ParseError, ValueError, RecursionError):
        raise Unreadable from None
    people = _at(_at_one(root, "Body"), "CongdanCollection") if _local(root) == "Envelope" else []
    if len(people) != 1:
        raise Unreadable
    citizens = _at(people[0], "CongDan")
    if not citizens:
        return None
    if len(citizens) > 1:
        raise Unreadable
    return _citizen(citizens[0])


def _citizen(element: ET.Element) -> Citizen:
    number = _text(element, "SoDinhDanh")
    name = " ".join(part for part in (_text(element, "HoVaTen", last) for last in ("Ho", "ChuDem", "Ten")) if part)
    if not re.fullmatch(r"[0-9]{12}", number) or not name:
        raise Unreadable
    birth = _text(element, "NgayThangNamSinh", "NgayThangNam")
    head = _text(element, "ChuHo", "SoDinhDanh")
    relation = _text(element, "ChuHo", "QuanHe")
    commune = _text(element, "ThuongTru", "MaPhuongXa")
    try:
        born = date.fromisoformat(birth) if birth else None
    except ValueError:
        raise Unreadable from None
    return Citizen(
        number=number,
        name=name,
        birth=born,
        head_number=head if re.fullmatch(r"[0-9]{12}", head) else None,
        relation=RELATIONS.get(relation, None if re.fullmatch(r"[A-Z]*[0-9]+", relation) else relation or None),
        commune_code=commune.zfill(5) if re.fullmatch(r"[0-9]{1,5}", commune) else None,
    )


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _at(element: ET.Element | None, name: str) -> list[ET.Element]:
    return [] if element is None else [child for child in element if _local(child) == name]


def _at_one(element: ET.Element | None, name: str) -> ET.Element | None:
    found = _at(element, name)
    if len(found) > 1:
        raise Unreadable  # two answers to one question: which of them counts is not for us to guess
    return found[0] if found else None


def _text(element: ET.Element, *path: str) -> str:
    """The text at a path below an element on one line, empty where it is missing."""
    here: ET.Element | None = element
    for name in path:
        here = _at_one(here, name)
    return " ".join((here.text or "").split())[:200] if here is not None else ""
