"""HTTP for administrative units: public, read only."""

from datetime import date
from typing import Annotated

from litestar import Controller, get
from litestar.params import FromQuery, PathParameter, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.errors import FieldError, Invalid, NotFound
from bkapp.http import Reading, anyone, documented, today
from bkapp.units import queries
from bkapp.units.models import Level
from bkapp.units.queries import Unit
from bkapp.units.schemas import ContainedOut, RelatedUnits, UnitDetailsOut, UnitOut, UnitPage

CodePath = Annotated[
    str,
    PathParameter(
        description="2 digits of a province, 3 of a district, 5 of a commune.",
        pattern=r"^([0-9]{2}|[0-9]{3}|[0-9]{5})$",
    ),
]
AsOf = Annotated[
    date | None,
    QueryParameter(description="The day on which the code is read; today in Bắc Kạn if left out."),
]
On = Annotated[date | None, QueryParameter(description="The day whose units are wanted; today if left out.")]


async def _meant(session: AsyncSession, code: str, on: date) -> Unit:
    """The unit that a code means on a day; the refusal says on which days it means something."""
    unit = await queries.unit_on(session, code, on)
    if unit is not None:
        return unit
    meanings = "; ".join(unit.in_words() for unit in await queries.meanings(session, code))
    if not meanings:
        raise NotFound(f"We know no unit with the code {code}.")
    raise NotFound(f"No unit has the code {code} on {on}; it means {meanings}.")


def _wrong_way(detail: str) -> Invalid:
    return Invalid(detail, [FieldError("on", detail)])


class UnitController(Controller):
    path = "/units"
    tags = ("units",)

    @get("", operation_id="listUnits", guards=[anyone], responses=documented())
    async def list_units(
        self,
        reading: Reading,
        *,
        as_of: Annotated[
            date | None, QueryParameter(description="The day they are in force; today if left out.")
        ] = None,
        level: FromQuery[Level | None] = None,
        parent: Annotated[
            str | None, QueryParameter(description="Code of the unit above.", pattern=r"^[0-9]{2,3}$")
        ] = None,
        q: Annotated[
            str | None,
            QueryParameter(description="Any part of a name, marks and spelling aside.", min_length=1, max_length=100),
        ] = None,
        in_bac_kan: FromQuery[bool | None] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=200)] = 50,
        after: Annotated[str, QueryParameter(description="`next` of the page before.", pattern=r"^[0-9]{0,5}$")] = "",
    ) -> UnitPage:
        """The units in force on a day, by code."""
        day = as_of or today()
        units = await queries.units_on(
            reading, day, level=level, parent=parent, q=q, in_bac_kan=in_bac_kan, limit=limit + 1, after=after
        )
        page = units[:limit]
        more = len(units) > limit
        return UnitPage(as_of=day, items=[UnitOut.of(unit) for unit in page], next=page[-1].code if more else None)

    @get("/containing", operation_id="findUnitContaining", guards=[anyone], responses=documented(404))
    async def containing(
        self,
        reading: Reading,
        lon: Annotated[float, QueryParameter(description="Degrees east, WGS 84.", ge=-180, le=180)],
        lat: Annotated[float, QueryParameter(description="Degrees north, WGS 84.", ge=-90, le=90)],
        on: On = None,
    ) -> ContainedOut:
        """The commune around a point, and how far its boundary can be trusted."""
        day = on or today()
        found = await queries.containing(reading, lon, lat, day)
        if found is None:
            raise NotFound(f"We know no commune of Bắc Kạn around this point on {day}.")
        return ContainedOut.of(found, day)

    @get("/{code:str}", operation_id="showUnit", guards=[anyone], responses=documented(404))
    async def show(self, reading: Reading, code: CodePath, as_of: AsOf = None) -> UnitDetailsOut:
        """What a code means on a day."""
        day = as_of or today()
        unit = await _meant(reading, code, day)
        return UnitDetailsOut.of(unit, await queries.details(reading, unit.id), day)

    @get("/{code:str}/successors", operation_id="listUnitSuccessors", guards=[anyone], responses=documented(404, 422))
    async def successors(self, reading: Reading, code: CodePath, as_of: AsOf = None, on: On = None) -> RelatedUnits:
        """The units that have a unit's territory on a later day; itself if it still stands."""
        read_on, day = as_of or today(), on or today()
        unit = await _meant(reading, code, read_on)
        if day < unit.valid_from:
            raise _wrong_way(f"{unit.in_words()} began after {day}: ask for predecessors.")
        return RelatedUnits.of(unit, read_on, day, await queries.successors(reading, unit, day))

    @get(
        "/{code:str}/predecessors", operation_id="listUnitPredecessors", guards=[anyone], responses=documented(404, 422)
    )
    async def predecessors(self, reading: Reading, code: CodePath, as_of: AsOf = None, on: On = None) -> RelatedUnits:
        """The units that had a unit's territory on an earlier day.  Records are of Bắc Kạn and begin on 2020-02-01."""
        read_on, day = as_of or today(), on or today()
        unit = await _meant(reading, code, read_on)
        if unit.valid_to is not None and unit.valid_to <= day:
            raise _wrong_way(f"{unit.in_words()} had ended by {day}: ask for successors.")
        return RelatedUnits.of(unit, read_on, day, await queries.predecessors(reading, unit, day))
