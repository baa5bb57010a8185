"""Maps: vector tiles and what describes them."""

import gzip
import hashlib
from typing import Annotated, Any

import msgspec
from litestar import Controller, MediaType, Request, Response, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import PathParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import MaybeAsking
from bkapp.access.operations import Caller, record_read
from bkapp.address import tiles
from bkapp.address.queries import tiles as queries
from bkapp.address.tiles import MOST_ZOOM, Layer, Tile, TileSet
from bkapp.http import MAYBE_KEYED, Reading, anyone, documented, request_id_of, today

MVT = "application/vnd.mapbox-vector-tile"
WHOLE = r"^(0|[1-9][0-9]{0,17})$"
FOR_EVER = "public, max-age=31536000, immutable"
FOR_A_MINUTE = "public, max-age=60, must-revalidate"
FOR_NOBODY = "private, no-store"
SMALLEST_TO_COMPRESS = 500  # bytes

_NAMES = ", ".join(f"`{name}`" for name in tiles.LAYERS)
_NOT_CHANGED = ResponseSpec(None, generate_examples=False, description="You have it already (If-None-Match).")


class TileController(Controller):
    """Maps of communes, hamlets and addresses."""

    path = "/tiles"
    tags = ("tiles",)

    @get(
        "/{document:str}",
        operation_id="getTileDescription",
        guards=[anyone],
        responses={
            **documented(404),
            200: ResponseSpec(TileSet, generate_examples=False, description="TileJSON 3.0."),
            304: _NOT_CHANGED,
        },
    )
    async def describe(
        self,
        state: State,
        reading: Reading,
        request: Request,
        document: Annotated[
            str,
            PathParameter(
                description=f"The name of a map with `.json` behind it; the maps are {_NAMES}.",
                examples=[Example(value=f"{name}.json") for name in tiles.LAYERS],
            ),
        ],
    ) -> Response[bytes]:
        """A map as TileJSON: where its tiles are now and what is in them.  Ask again every few minutes."""
        layer = tiles.described_layer(document)
        found = await queries.about(reading, layer, today=today())
        described = tiles.described(
            layer, version=found.version, base_url=state.base_url, bounds=found.bounds, sources=found.sources
        )
        return _answer(request, msgspec.json.encode(described), MediaType.JSON, FOR_A_MINUTE)

    @get(
        "/{layer:str}/{version:str}/{z:str}/{x:str}/{row:str}",
        operation_id="getTile",
        guards=[anyone],
        security=MAYBE_KEYED,
        media_type=MVT,
        responses={
            **documented(404),
            200: ResponseSpec(
                bytes, generate_examples=False, media_type=MVT, description="A Mapbox Vector Tile; empty for none."
            ),
            304: _NOT_CHANGED,
        },
    )
    async def show(
        self,
        reading: Reading,
        maybe_asking: MaybeAsking,
        request: Request,
        layer: Annotated[str, PathParameter(description=_NAMES, examples=[Example(value="units")])],
        version: Annotated[
            str,
            PathParameter(
                description="The number in `tiles` of the description. Another one gets the same tile, for a minute.",
                schema_extra={"pattern": WHOLE},
                examples=[Example(value="1")],
            ),
        ],
        z: Annotated[
            str,
            PathParameter(
                description=f"Zoom, 0 to {MOST_ZOOM}", schema_extra={"pattern": WHOLE}, examples=[Example(value="10")]
            ),
        ],
        x: Annotated[
            str,
            PathParameter(description="Column", schema_extra={"pattern": WHOLE}, examples=[Example(value="813")]),
        ],
        row: Annotated[
            str,
            PathParameter(
                description="Row with `.mvt` behind it",
                schema_extra={"pattern": r"^[0-9]{1,7}\.mvt$"},
                examples=[Example(value="447.mvt")],
            ),
        ],
    ) -> Response[bytes]:
        """A square of a map.

        Of homes anybody sees how many there are in squares of five homes or more. With a key, tiles of `addresses`
        from zoom 14 on also show the single homes that the key reaches.
        """
        wanted, tile = tiles.layer(layer), tiles.tile(tiles.number(z), tiles.number(x), row)
        drawn = await queries.draw(reading, wanted, tile, today=today())
        caching = FOR_EVER if tiles.number(version) == drawn.version else FOR_A_MINUTE
        if maybe_asking is None or not tiles.shows_homes(wanted, tile):
            return _answer(request, drawn.body, MVT, caching)
        body = drawn.body + await _homes_for(reading, maybe_asking, wanted, tile, request)
        return _answer(request, body, MVT, FOR_NOBODY)


async def _homes_for(session: AsyncSession, asking: Caller, layer: Layer, tile: Tile, request: Request) -> bytes:
    """The single homes that a caller reaches in a tile; that they saw them is recorded."""
    homes = await queries.homes(session, tile, unit_ids=asking.unit_ids)
    if homes.count:
        await record_read(
            session,
            asking,
            subject=f"{layer.name}/{tile.z}/{tile.x}/{tile.y}",
            what=request.scope["path_template"],
            request_id=request_id_of(request.scope),
        )
    return homes.body


def _answer(request: Request[Any, Any, Any], body: bytes, kind: str, caching: str) -> Response[bytes]:
    """Bytes with their name, compressed for those who take it, or 304 for those who have them.

    Vary is set at the edge, where nothing overwrites it.
    """
    name = hashlib.blake2b(body, digest_size=12).hexdigest()
    headers = {"Cache-Control": caching}
    if len(body) >= SMALLEST_TO_COMPRESS and _takes_gzip(request.headers.get("accept-encoding", "")):
        body = gzip.compress(body, 6, mtime=0)
        headers["Content-Encoding"] = "gzip"
        name += "-gzip"
    headers["ETag"] = f'"{name}"'
    if _has(request.headers.get("if-none-match", ""), headers["ETag"]):
        headers.pop("Content-Encoding", None)
        return Response(b"", status_code=304, headers=headers)
    return Response(body, media_type=kind, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header lets gzip through."""
    for entry in accepted.lower().split(","):
        coding, _, quality = entry.partition(";")
        if coding.strip() in {"gzip", "x-gzip", "*"}:
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def _has(names: str, name: str) -> bool:
    """Whether an If-None-Match header names what would be answered."""
    return names.strip() == "*" or name in {known.strip().removeprefix("W/") for known in names.split(",")}
