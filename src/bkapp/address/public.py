"""The pages that anybody opens without an app: check a code, find a place."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from litestar import Controller, MediaType, Response, get
from litestar.datastructures import State
from litestar.params import PathParameter, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp import pages
from bkapp.address import codes, queries
from bkapp.address.certificates import Signer, Statement, Verdict, judge
from bkapp.address.geocoding.results import Match, MatchLevel
from bkapp.address.operations.finding import Finder
from bkapp.address.operations.reading import NotIssued, WrongAddressCode, look_up
from bkapp.address.queries import Summary
from bkapp.address.statements import statement_of
from bkapp.errors import DomainError
from bkapp.http import HANOI, Reading, anyone
from bkapp.units import queries as units

Html = Response[str]
SHOWN = 10


class PublicController(Controller):
    """Plain HTML, no script, Vietnamese."""

    tags = ("pages",)
    include_in_schema = False

    @get("/", guards=[anyone], media_type=MediaType.HTML)
    async def home(self, state: State, reading: Reading) -> str:
        """The first page."""
        sample = await queries.sample(reading) if state.settings.demo else None
        return pages.render(
            "home.html",
            demo=state.settings.demo,
            sample=pages.CodeLink(sample, codes.display(sample)) if sample else None,
        )

    @get("/c", guards=[anyone])
    async def check(
        self, reading: Reading, code: Annotated[str, QueryParameter(max_length=200)] = ""
    ) -> Html | Response[None]:
        """What the form sends: go to the page of the code, so that its address can be kept and shared."""
        if not code.strip():
            return Response(None, status_code=302, headers={"Location": "/"})
        try:
            digits = codes.parse(code)
        except codes.WrongCode:
            return await _code_page(reading, code, None, None)
        return Response(None, status_code=302, headers={"Location": f"/c/{digits}"})

    @get("/c/{code:str}", guards=[anyone])
    async def code(
        self,
        state: State,
        reading: Reading,
        code: Annotated[str, PathParameter(max_length=200)],
        v: Annotated[str | None, QueryParameter(max_length=4096)] = None,
    ) -> Html:
        """The public page of an address.  ``v`` is the certificate from the QR code of a plate."""
        return await _code_page(reading, code, v, state)

    @get("/tim", guards=[anyone], media_type=MediaType.HTML)
    async def search(self, state: State, q: Annotated[str, QueryParameter(max_length=200)] = "") -> Html:
        """Find an address as people write it, a commune or hamlet by any name it had, or an address by its code."""
        try:
            digits = codes.parse(q)
        except codes.WrongCode:
            pass
        else:
            return Response("", status_code=302, headers={"Location": f"/c/{digits}"})
        finder: Finder = state.finder
        text = q.strip()
        # Most who search have typed a part of a name, so what they typed may end anywhere.
        found = await finder.find(text, limit=SHOWN, partial=True) if text else None
        hits = [_hit(match) for match in found.matches] if found else []
        page = pages.render("search.html", q=text, hits=hits, more=len(hits) == SHOWN)
        return Response(page, media_type=MediaType.HTML)


async def _code_page(session: AsyncSession, text: str, token: str | None, state: State | None) -> Html:
    try:
        found = await look_up(session, text)
    except WrongAddressCode as error:
        return _page(error, "wrong_code.html", typed=text, suggestions=_links(error.facts["suggestions"]))
    except NotIssued as error:
        digits = codes.parse(text)
        return _page(error, "unknown_code.html", code=pages.CodeLink(digits, codes.display(digits)))
    verdict = None
    if token and state is not None:
        exact = await queries.details(session, found.code)
        now = statement_of(found, exact, issuer=state.base_url, now=datetime.now(UTC))
        signer: Signer = state.signer
        verdict = _verdict(judge(token, signer, now=now), now)
    here = f"/api/v1/addresses/{found.code}"
    page = pages.render(
        "code.html",
        view=await _view(session, found),
        verdict=verdict,
        json_href=here,
        svg_href=f"{here}/certificate?format=svg",
        pdf_href=f"{here}/certificate?format=pdf",
    )
    return Response(page, media_type=MediaType.HTML)


def _page(error: DomainError, template: str, **values: object) -> Html:
    return Response(pages.render(template, **values), status_code=error.status, media_type=MediaType.HTML)


async def _view(session: AsyncSession, found: Summary) -> pages.AddressView:
    return pages.AddressView(
        code=found.code,
        display=codes.display(found.code),
        status=found.status.value,
        unit_name=found.unit.name,
        since=found.since,
        area=found.area,
        province_name=found.province,
        hamlet=found.hamlet,
        former_units=await _former_names(session, found),
        boundary=found.unit.boundary,
        replaces=await _heirs(session, found.replaces),
        replaced_by=await _heirs(session, found.replaced_by),
        demo=found.demo,
    )


async def _former_names(session: AsyncSession, found: Summary) -> list[str]:
    """The commune here before the present one; nothing where only a guessed boundary could tell which it was."""
    before = found.unit.valid_from - timedelta(days=1)
    now = await units.unit_on(session, found.unit.code, found.unit.valid_from)
    if now is None:
        return []
    olds = await units.predecessors(session, now, before)
    if len(olds) > 1:
        lived = await queries.unit_before(session, found.code, before)
        if lived is not None:
            return [lived]
        point = await queries.point_of(session, found.code)
        there = await units.containing(session, point.lon, point.lat, before)
        if there is None or there.boundary_quality != "official":
            return []
        olds = [there.unit]
    return [old.full_name for old in olds if old.full_name != found.unit.name]


async def _heirs(session: AsyncSession, wanted: list[str]) -> list[pages.CodeLink]:
    communes = await queries.issued(session, wanted) if wanted else {}
    return [pages.CodeLink(code, codes.display(code), communes.get(code)) for code in wanted]


def _verdict(verdict: Verdict, now: Statement) -> pages.VerdictView:
    then = verdict.statement
    return pages.VerdictView(
        outcome=verdict.outcome,
        signed_on=then.issued_at.astimezone(HANOI).date() if then else None,
        changes=[
            # Where a home is now is not told to whoever holds an old certificate of it.
            pages.Changed(field, None, None)
            if field == "plus_code"
            else pages.Changed(field, _told(getattr(then, field)), _told(getattr(now, field)))
            for field in verdict.changed
        ],
        reason=verdict.reason.value if verdict.reason else None,
    )


def _told(value: Any) -> str | None:
    if value is None:
        return None
    return f"{value:%d/%m/%Y}" if isinstance(value, date) else str(value)


def _links(suggestions: Any) -> list[pages.CodeLink]:
    return [pages.CodeLink(found["code"], found["display"], found["unit"]) for found in suggestions]


_KINDS = {
    MatchLevel.HOUSE: "Nhà",
    MatchLevel.STREET: "Đường, phố",
    MatchLevel.HAMLET: "Thôn, bản, tổ",
    MatchLevel.PLACE: "Địa điểm",
    MatchLevel.COMMUNE: "Xã, phường",
    MatchLevel.DISTRICT: "Huyện cũ",
    MatchLevel.PROVINCE: "Tỉnh",
}


def _hit(match: Match) -> pages.Hit:
    """A match as a line of the page: what it is called today, and under which name it was found."""
    notes, name, within = [], match.label, None
    if match.unit is not None and match.level is not MatchLevel.COMMUNE:
        within = match.unit.name
        name = match.label.removesuffix(f", {match.province}").removesuffix(f", {within}")
    if match.former is not None and match.level is MatchLevel.COMMUNE and match.unit is not None:
        name = match.former.name
        if name != match.unit.name:
            notes.append(f"nay là {match.unit.name}")
    elif match.former is not None and match.level is MatchLevel.DISTRICT:
        notes.append("không còn từ 01/07/2025")
    elif match.former is not None and match.unit is not None:
        notes.append(f"trước 01/07/2025: {match.former.name}")
    if match.unmatched:
        notes.append(f"không rõ: {', '.join(match.unmatched)}")
    link = None
    if match.code is not None:
        link = f"/c/{match.code}"
    elif match.unit is not None:
        link = f"/api/v1/units/{match.unit.code}"
    return pages.Hit(kind=_KINDS[match.level], name=name, within=within, note="; ".join(notes) or None, href=link)
