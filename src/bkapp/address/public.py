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
from bkapp.address.operations.reading import NotIssued, WrongAddressCode, look_up
from bkapp.address.queries import Summary
from bkapp.address.statements import statement_of
from bkapp.errors import DomainError
from bkapp.http import HANOI, Reading, anyone, today
from bkapp.units import queries as units
from bkapp.units.models import Level
from bkapp.units.names import key as name_key

Html = Response[str]
SHOWN = 20
BEFORE_MERGER = date(2025, 6, 30)


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
    async def search(self, reading: Reading, q: Annotated[str, QueryParameter(max_length=200)] = "") -> Html:
        """Find a commune or a hamlet by name, or an address by its code."""
        try:
            digits = codes.parse(q)
        except codes.WrongCode:
            pass
        else:
            return Response("", status_code=302, headers={"Location": f"/c/{digits}"})
        hits = await _hits(reading, name_key(q)) if q.strip() else []
        page = pages.render("search.html", q=q.strip(), hits=hits[:SHOWN], more=len(hits) > SHOWN)
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


async def _hits(session: AsyncSession, key: str) -> list[pages.Hit]:
    """Communes of today by any name they had, then hamlets."""
    day = today()
    hits = [
        pages.Hit(kind=unit.kind, name=unit.full_name, href=f"/api/v1/units/{unit.code}")
        for unit in await units.units_on(session, day, q=key, in_bac_kan=True, limit=SHOWN)
    ]
    for old in await units.units_on(session, BEFORE_MERGER, level=Level.COMMUNE, q=key, limit=SHOWN):
        hits += [
            pages.Hit(
                kind=old.kind,
                name=old.full_name,
                note=f"nay là {heir.full_name}",
                href=f"/api/v1/units/{heir.code}",
            )
            for heir in await units.successors(session, old, day)
            if heir.full_name != old.full_name
        ]
    hits += [
        pages.Hit(
            kind="Thôn, bản, tổ",
            name=place.name,
            within=place.unit_name,
            note=f"{place.addresses} địa chỉ",
        )
        for place in await queries.find_places(session, key=key, on=day)
    ]
    return hits
