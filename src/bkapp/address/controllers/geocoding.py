"""Finding addresses as people write them."""

from typing import Annotated

from litestar import Controller, Request
from litestar.datastructures import State
from litestar.params import QueryParameter

from bkapp.access.guards import maybe_asking
from bkapp.access.operations import Caller, record_reads
from bkapp.address.geocodejson import GeocodeOut, WashOut
from bkapp.address.geocoding.normalise import LONGEST_TEXT, clean
from bkapp.address.geocoding.positions import in_vietnam
from bkapp.address.geocoding.results import Answer, Match
from bkapp.address.operations.finding import Finder, Reaches
from bkapp.errors import FieldError, Invalid
from bkapp.http import MAYBE_KEYED, HotRoute, anyone, documented, request_id_of

Text = Annotated[
    str,
    QueryParameter(
        description=f"An address as people write it, at most {LONGEST_TEXT} characters.",
        # What is longer is refused by hand, with a sentence.
        schema_extra={"minLength": 1, "maxLength": LONGEST_TEXT},
    ),
]
Lon = Annotated[float | None, QueryParameter(description="Degrees east of who asks; near places come first.")]
Lat = Annotated[float | None, QueryParameter(description="Degrees north of who asks.")]
Limit = Annotated[int, QueryParameter(ge=1, le=20, description="The most matches wanted.")]
FOUND = documented(422)


class GeocodingController(Controller):
    """From what people write to places, and back."""

    path = "/api/v1"
    tags = ("geocoding",)

    @HotRoute("/geocode", operation_id="geocode", guards=[anyone], security=MAYBE_KEYED, responses=FOUND)
    async def geocode(
        self, state: State, request: Request, q: Text, limit: Limit = 5, lat: Lat = None, lon: Lon = None
    ) -> GeocodeOut:
        """Find an address in any spelling, order and time.

        A home is answered with the place of its hamlet; its code and door only to keys that reach its commune, and
        that they saw them is recorded. An empty collection says why in `geocoding.reason`.
        """
        return GeocodeOut.of(await _found(state, request, q, limit, lat, lon))

    @HotRoute("/autocomplete", operation_id="autocomplete", guards=[anyone], security=MAYBE_KEYED, responses=FOUND)
    async def autocomplete(
        self, state: State, request: Request, q: Text, limit: Limit = 5, lat: Lat = None, lon: Lon = None
    ) -> GeocodeOut:
        """The same for somebody who is still typing: the text may end in the middle of a name."""
        return GeocodeOut.of(await _found(state, request, q, limit, lat, lon, partial=True))

    @HotRoute("/wash", operation_id="washAddress", guards=[anyone], security=MAYBE_KEYED, responses=FOUND)
    async def wash(self, state: State, request: Request, q: Text, limit: Limit = 5) -> WashOut:
        """Put an address from an old list in order: class A exact, B likely, C for a person to choose."""
        return WashOut.of(await _found(state, request, q, limit, None, None))

    @HotRoute("/reverse", operation_id="reverseGeocode", guards=[anyone], security=MAYBE_KEYED, responses=FOUND)
    async def reverse(
        self,
        state: State,
        request: Request,
        lat: Annotated[float, QueryParameter(description="Degrees north, WGS 84.")],
        lon: Annotated[float, QueryParameter(description="Degrees east, WGS 84.")],
    ) -> GeocodeOut:
        """What is at a point: the home for keys that reach it, else the hamlet, else the commune; with its distance.

        Inside the province never empty. Without a key the answer does not depend on where homes are.
        """
        _require_point(lon, lat, inside=True)
        finder: Finder = state.finder
        match = await finder.around(lon, lat, reaches=_reaches(maybe_asking(request)))
        text = f"{lat:.6f},{lon:.6f}"
        if match is None:
            return GeocodeOut.of(
                Answer(text, (), "outside", "The point lies outside the communes that the register covers.")
            )
        await _record(state, request, [match])
        return GeocodeOut.of(Answer(text, (match,)))


async def _found(
    state: State,
    request: Request,
    q: str,
    limit: int,
    lat: float | None,
    lon: float | None,
    *,
    partial: bool = False,
) -> Answer:
    if len(q) > LONGEST_TEXT:
        detail = f"An address has at most {LONGEST_TEXT} characters; this has {len(q)}."
        raise Invalid(detail, [FieldError("q", detail)])
    if not clean(q):
        raise Invalid("There is nothing to look for.", [FieldError("q", "empty")])
    near = None
    if (lat is None) != (lon is None):
        missing = "lat" if lat is None else "lon"
        raise Invalid("Send both lat and lon, or neither.", [FieldError(missing, "missing")])
    if lat is not None and lon is not None:
        _require_point(lon, lat, inside=False)
        near = (lon, lat) if in_vietnam(lon, lat) else None
    finder: Finder = state.finder
    answer = await finder.find(q, near=near, limit=limit, partial=partial, reaches=_reaches(maybe_asking(request)))
    if any(match.exact for match in answer.matches):
        await _record(state, request, answer.matches)
    return answer


def _require_point(lon: float, lat: float, *, inside: bool) -> None:
    """Refuse what is no point on earth, one with its numbers swapped, and, if it has to be, one outside Vietnam."""
    if in_vietnam(lat, lon) and not in_vietnam(lon, lat):
        raise Invalid(
            "lat and lon are swapped: Vietnam lies at lat 8 to 24, lon 102 to 110.",
            [FieldError("lat", "this is a longitude"), FieldError("lon", "this is a latitude")],
        )
    errors = []
    if not -90 <= lat <= 90:
        errors.append(FieldError("lat", "from -90 to 90"))
    if not -180 <= lon <= 180:
        errors.append(FieldError("lon", "from -180 to 180"))
    if errors:
        raise Invalid("This is no point on earth.", errors)
    if inside and not in_vietnam(lon, lat):
        raise Invalid("The point lies outside Vietnam.", [FieldError("lat", "outside"), FieldError("lon", "outside")])


def _reaches(asking: Caller | None) -> Reaches | None:
    return None if asking is None else asking.reaches


async def _record(state: State, request: Request, matches: list[Match] | tuple[Match, ...]) -> None:
    """Record of each home that its exact place was shown."""
    asking = maybe_asking(request)
    shown = [match.code for match in matches if match.exact and match.code]
    if asking is None or not shown:
        return
    await record_reads(
        state.records,
        asking,
        subjects=shown,
        what=request.scope["path_template"],
        request_id=request_id_of(request.scope),
    )
