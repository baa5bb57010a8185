"""Claiming an address for one's household: by its code, by a pin on the map, by the telephone's position."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import QueryParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp import pages
from bkapp.access.guards import Asking, citizen
from bkapp.access.operations import Caller
from bkapp.account import land, maps
from bkapp.account.maps import CLOSEST, START_ZOOM, STEPS, WIDEST, View
from bkapp.account.shared import (
    FORM,
    Answer,
    Html,
    fields_of,
    go_to,
    household_of,
    me_of,
    page,
    problem_of,
    refusal_of,
    refuse_page,
)
from bkapp.address import codes
from bkapp.address import queries as addresses
from bkapp.address.geocoding.results import Match, MatchLevel
from bkapp.address.operations.finding import Finder
from bkapp.address.operations.reading import WrongAddressCode, look_up
from bkapp.errors import DomainError, FieldError, Malformed
from bkapp.households import operations, queries
from bkapp.households.operations.claiming import RegisteredElsewhere
from bkapp.households.schemas import ClaimAddress
from bkapp.http import Reading, Transaction, anyone, today
from bkapp.pages.account import Choice, FieldProblem, Line, Pin, Problem, Spot
from bkapp.units import queries as units
from bkapp.units.queries import Unit

HERE = "/toi/ho-gia-dinh/dia-chi"
MAP = f"{HERE}/ban-do"
FOUND = 6
LONGEST_ID = 20  # digits
DOOR = ("house_number", "street", "building", "floor", "door")
# What a form may hold; the rest of what was sent goes nowhere.
SENT = ("lat", "lon", "z", "m", "hamlet", *DOOR)
_ZOOM_OF = {
    MatchLevel.HOUSE: 16,
    MatchLevel.STREET: 16,
    MatchLevel.HAMLET: 15,
    MatchLevel.PLACE: 17,
    MatchLevel.COMMUNE: 13,
    MatchLevel.DISTRICT: 11,
    MatchLevel.PROVINCE: 10,
}
_WORDS = {
    "hamlet": "Xã, phường này không có thôn như vậy. Hãy chọn trong danh sách, hoặc chọn “Không rõ”.",
    "house_number": "Số nhà quá dài.",
    "street": "Tên đường, phố quá dài.",
    "building": "Tên tòa nhà quá dài.",
    "floor": "Tầng quá dài.",
    "door": "Căn, phòng quá dài.",
}
_SAME_DOOR = "Ở đúng cửa này đã có nhà khác. Hãy ghi tòa nhà, tầng hoặc căn để phân biệt, hoặc chuyển điểm."


class Moved(Struct, frozen=True, kw_only=True):
    """What the map's form sends: where the pin was, and how it is to move."""

    lat: Annotated[float, Meta(ge=-85, le=85)]
    lon: Annotated[float, Meta(ge=-180, le=180)]
    z: Annotated[int, Meta(ge=WIDEST, le=CLOSEST)] = START_ZOOM
    m: Annotated[float, Meta(ge=0, le=10_000)] | None = None
    buoc: Literal[10, 50, 200] = 50
    huong: Literal["bac", "nam", "tay", "dong"] | None = None
    to: Annotated[int, Meta(ge=WIDEST, le=CLOSEST)] | None = None
    x: Annotated[float, Meta(ge=0, le=4096)] = msgspec.field(name="pin.x", default=0)
    y: Annotated[float, Meta(ge=0, le=4096)] = msgspec.field(name="pin.y", default=0)


class ClaimingController(Controller):
    """Nhận địa chỉ."""

    path = HERE
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/", guards=[citizen])
    async def begin(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        q: Annotated[str, QueryParameter(max_length=200)] = "",
    ) -> Html:
        """Choose a way."""
        return await _begin(state, reading, request, asking, q=q.strip())

    @get("/vi-tri.js", guards=[anyone])
    async def script(self) -> Response[bytes]:
        """The one script there is: it asks the telephone where it is."""
        return Response(
            (pages.STATIC / "locate.js").read_bytes(),
            media_type="text/javascript",
            headers={"Cache-Control": "public, max-age=3600"},
        )

    @get("/ban-do", guards=[citizen])
    async def pin(self, state: State, reading: Reading, asking: Asking, request: Request) -> Answer:
        """The pin on the map.  A form that moves it leads to the same page with the pin where it is then."""
        asked = {name: value for name, value in request.query_params.items() if value}
        if "thon" in asked:
            return go_to(await _to_hamlet(state, asked["thon"]))
        moved = _read_moved(asked)
        if moved is None:
            return go_to(HERE)
        if moved.huong or moved.to or moved.x or moved.y:
            return go_to(_href(_after(moved)) + "#ban-do")
        return await _pin(state, reading, request, asking, moved, {}, None)

    @get("/ban-do.svg", guards=[citizen])
    async def drawing(self, state: State, reading: Reading, request: Request) -> Response[str]:
        """The map around a point: borders and names.  No home is on it."""
        moved = _read_moved({name: value for name, value in request.query_params.items() if value})
        if moved is None:
            raise Malformed("There is no such map.", [FieldError("lat", "lat, lon in degrees and z are needed")])
        return await drawn(state, reading, View(moved.lon, moved.lat, moved.z), moved.m)

    @post("/xem-lai", guards=[citizen], opt={"reads_only": True, **FORM}, status_code=200)
    async def review(self, state: State, reading: Reading, asking: Asking, request: Request) -> Html:
        """Everything once more, before it is sent."""
        typed = await fields_of(request)
        if "code" in typed:
            return await _review_code(state, reading, request, asking, typed)
        moved = _read_moved(typed)
        if moved is None:
            raise Malformed("The form has no point.", [FieldError("lat", "lat and lon in degrees")])
        try:
            _claimed(typed)
        except Malformed as error:
            return await _pin(state, reading, request, asking, moved, typed, problem_of(error, _WORDS), status=400)
        here = await _pin_view(state, reading, moved)
        labels = ("Số nhà", "Đường, phố", "Tòa nhà", "Tầng", "Căn, phòng")
        lines = [
            Line("Xã, phường", here.unit_name or "Ngoài Bắc Kạn"),
            Line("Thôn, bản, tổ", typed.get("hamlet") or "Không rõ"),
            *(Line(label, typed[name]) for label, name in zip(labels, DOOR, strict=True) if typed.get(name)),
            Line("Vĩ độ, kinh độ", f"{here.lat}, {here.lon}"),
        ]
        sent = {name: typed[name] for name in SENT if typed.get(name)}
        me = await me_of(state, reading, request, asking)
        return page("review.html", me=me, found=lines, pin=here, sent=sent, back=_href(moved), problem=None)

    @post("/", guards=[citizen], opt=FORM)
    async def send(self, state: State, transaction: Transaction, asking: Asking, request: Request) -> Answer:
        """Make the claim.  A refusal leads back to where it can be put right."""
        typed = await fields_of(request)
        claim = _claimed(typed)
        work = operations.claim(
            transaction,
            state.keyring,
            asking,
            code=claim.code,
            pin=claim.pin.read() if claim.pin else None,
            today=today(),
            is_demo=state.settings.demo,
        )
        error = await refusal_of(transaction, work)
        if error is None:
            return go_to("/toi/ho-gia-dinh")
        async with state.readers.begin() as reading:
            moved = _read_moved(typed)
            if moved is None:
                problem = _problem(error, "code")
                return await _begin(state, reading, request, asking, typed=typed, problem=problem, status=error.status)
            problem = _problem(error, "ban-do")
            return await _pin(state, reading, request, asking, moved, typed, problem, status=error.status)


# --- the start --------------------------------------------------------------------------------------------------


async def _begin(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    *,
    q: str = "",
    typed: Mapping[str, str] | None = None,
    problem: Problem | None = None,
    status: int = 200,
) -> Html:
    view, _, unknown = await household_of(state, request, asking, within=None if problem is None else reading)
    me = await me_of(state, reading, request, asking)
    finder: Finder = state.finder
    found = await finder.find(q, limit=FOUND, partial=True) if q else None
    unit = view.units[0] if view and view.units else None
    hamlets = await addresses.hamlets_of(reading, unit_id=unit.id, on=today()) if unit else []
    return page(
        "claim.html",
        status=status,
        me=me,
        hindrance=view.hindrance if view else "unknown",
        unknown=unknown,
        q=q,
        tried=bool(q),
        hits=[_spot(match) for match in found.matches] if found else [],
        hamlets=[Choice(str(hamlet.id), hamlet.full_name) for hamlet in hamlets],
        unit_name=unit.full_name if unit else None,
        problem=problem,
        typed=typed or {},
    )


def _spot(match: Match) -> Spot:
    zoom = _ZOOM_OF[match.level]
    return Spot(match.label, _href(Moved(lat=match.lat, lon=match.lon, z=zoom)))


async def _to_hamlet(state: State, text: str) -> str:
    finder: Finder = state.finder
    gazetteer = await finder.gazetteer()
    known = text.isascii() and text.isdigit() and len(text) < LONGEST_ID
    hamlet = gazetteer.hamlets_by_id.get(int(text)) if known else None
    if hamlet is None:
        return HERE
    return _href(Moved(lat=hamlet.lat, lon=hamlet.lon, z=START_ZOOM if hamlet.placed else START_ZOOM - 2))


async def _review_code(
    state: State, reading: AsyncSession, request: Request, asking: Caller, typed: Mapping[str, str]
) -> Html:
    try:
        found = await look_up(reading, typed["code"][:64])
    except DomainError as error:
        problem = _problem(error, "code")
        return await _begin(state, reading, request, asking, typed=typed, problem=problem, status=error.status)
    lines = [
        Line("Mã địa chỉ", codes.display(found.code)),
        *([Line("Thôn, bản, tổ", found.hamlet)] if found.hamlet else []),
        Line("Xã, phường", found.unit.name),
    ]
    me = await me_of(state, reading, request, asking)
    return page("review.html", me=me, found=lines, pin=None, sent={"code": found.code}, back=HERE, problem=None)


# --- the pin ----------------------------------------------------------------------------------------------------


def _read_moved(asked: Mapping[str, str]) -> Moved | None:
    """What was sent as a point, or None where it is none: somebody typed into the address."""
    wanted = {field.encode_name for field in msgspec.structs.fields(Moved)}
    try:
        return msgspec.convert({k: v for k, v in asked.items() if k in wanted and v}, Moved, strict=False)
    except msgspec.ValidationError:
        return None


def _after(moved: Moved) -> Moved:
    """The pin after a move.  What the telephone measured holds only until somebody moves it."""
    lon, lat, zoom = moved.lon, moved.lat, moved.z
    if moved.to:
        zoom = moved.to
    elif moved.huong:
        east = {"dong": moved.buoc, "tay": -moved.buoc}.get(moved.huong, 0)
        north = {"bac": moved.buoc, "nam": -moved.buoc}.get(moved.huong, 0)
        lon, lat = maps.shifted(lon, lat, east=east, north=north)
    else:
        lon, lat = View(lon, lat, zoom).place(min(moved.x, maps.WIDTH), min(moved.y, maps.HEIGHT))
    return Moved(
        lat=max(-85.0, min(85.0, lat)),
        lon=max(-180.0, min(180.0, lon)),
        z=zoom,
        m=moved.m if moved.to else None,
        buoc=moved.buoc,
    )


def _href(moved: Moved, path: str = MAP) -> str:
    """The page, or the drawing, of a pin; degrees to a tenth of a metre."""
    asked: dict[str, Any] = {"lat": f"{moved.lat:.6f}", "lon": f"{moved.lon:.6f}", "z": moved.z}
    if moved.m is not None:
        asked["m"] = f"{moved.m:.0f}"
    if path == MAP and moved.buoc != 50:
        asked["buoc"] = moved.buoc
    return f"{path}?{urlencode(asked)}"


async def _pin_view(state: State, reading: AsyncSession, moved: Moved) -> Pin:
    there = await units.containing(reading, moved.lon, moved.lat, today())
    finder: Finder = state.finder
    match = await finder.around(moved.lon, moved.lat) if there else None
    near = None
    if there and match is not None and match.hamlet:
        near = f"Gần {match.hamlet}, {there.unit.full_name}"
    elif there:
        near = f"Trong {there.unit.full_name}"
    return Pin(
        lon=f"{moved.lon:.6f}",
        lat=f"{moved.lat:.6f}",
        zoom=moved.z,
        closer=moved.z + 1 if moved.z < CLOSEST else None,
        wider=moved.z - 1 if moved.z > WIDEST else None,
        step=moved.buoc,
        accuracy_m=f"{moved.m:.0f}" if moved.m is not None else None,
        near=near,
        unit_name=there.unit.full_name if there else None,
        map_href=_href(moved, f"{MAP}.svg"),
    )


async def _pin(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    moved: Moved,
    typed: Mapping[str, str],
    problem: Problem | None,
    *,
    status: int = 200,
) -> Html:
    me = await me_of(state, reading, request, asking)
    pin = await _pin_view(state, reading, moved)
    registered = await _registered(reading, asking)
    unit = next((unit for unit in registered if unit.full_name == pin.unit_name), None)
    elsewhere = registered[0].full_name if registered and unit is None else None
    unit = unit or next(iter(registered), None)
    hamlets = await addresses.hamlets_of(reading, unit_id=unit.id, on=today()) if unit else []
    return page(
        "pin.html",
        status=status,
        me=me,
        pin=pin,
        steps=STEPS,
        registered=elsewhere,
        hamlets=[Choice(hamlet.full_name, hamlet.full_name) for hamlet in hamlets],
        problem=problem,
        typed=typed,
    )


async def _registered(reading: AsyncSession, asking: Caller) -> list[Unit]:
    """The communes where the person's household is registered."""
    membership = await queries.membership_of(reading, asking.person) if asking.person else None
    if membership is None:
        return []
    return await queries.registered_units(reading, membership.household_id)


async def drawn(state: State, reading: AsyncSession, view: View, accuracy_m: float | None) -> Response[str]:
    """A map as an answer."""
    finder: Finder = state.finder
    borders, labels = await land.around(reading, await finder.gazetteer(), view)
    return Response(
        maps.draw(view, borders=borders, labels=labels, accuracy_m=accuracy_m),
        media_type="image/svg+xml",
        headers={"Cache-Control": "private, max-age=300"},
    )


# --- what is sent -----------------------------------------------------------------------------------------------


def _claimed(typed: Mapping[str, str]) -> ClaimAddress:
    """The claim that a form makes, checked as the API checks it; raise ``Malformed`` with the fields that are wrong."""
    body: dict[str, Any] = {}
    if typed.get("code"):
        body["code"] = typed["code"]
    else:
        door = {name: typed[name] for name in DOOR if typed.get(name)}
        body["pin"] = {"lon": typed.get("lon"), "lat": typed.get("lat"), "door": door}
        if typed.get("hamlet"):
            body["pin"]["hamlet"] = typed["hamlet"]
        if typed.get("m"):
            body["pin"] |= {"source": "gps", "accuracy_m": typed["m"]}
    try:
        return msgspec.convert(body, ClaimAddress, strict=False)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        pointer = where.rstrip("`").replace(".", "/")
        raise Malformed("The form cannot be read.", [FieldError(pointer, what)]) from None


def _problem(error: DomainError, field: str) -> Problem:
    """A refused claim for people; ``field`` is what leads to where the address was chosen."""
    if isinstance(error, RegisteredElsewhere):
        registered: Any = error.facts.get("registered") or {}
        name = registered.get("name") or "nơi ngoài Bắc Kạn"
        told = f"Hộ của bạn đăng ký thường trú ở {name}. Địa chỉ phải ở đó."
        return Problem(error.title, [FieldProblem(field, told)])
    if isinstance(error, WrongAddressCode):
        near: Any = error.facts.get("suggestions") or []
        hint = f" Có phải {', '.join(found['display'] for found in near[:3])}?" if near else ""
        return Problem(error.title, [FieldProblem(field, f"Xin so lại từng chữ số với tấm biển.{hint}")])
    reasons: Any = error.facts.get("reasons", [])
    if "same_door" in reasons:
        return Problem(error.title, [FieldProblem("building", _SAME_DOOR)])
    if "outside_province" in reasons:
        return Problem(error.title, [FieldProblem(field, "Điểm này nằm ngoài Bắc Kạn.")])
    found = problem_of(error, _WORDS)
    return found if found.fields else Problem(error.title, [FieldProblem(field, "Xin chọn lại, hoặc hỏi cán bộ xã.")])
