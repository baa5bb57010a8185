"""What belongs to no feature: health, metrics, the API documentation and its assets, the catalogue of problems."""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from litestar import Controller, MediaType, Request, Response, get
from litestar.datastructures import State
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.params import FromPath
from msgspec import Struct
from prometheus_client import CollectorRegistry, multiprocess
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from bkapp import pages
from bkapp.config import Settings
from bkapp.db import Sessions
from bkapp.edge import registry
from bkapp.errors import NotFound, Unavailable, refusals
from bkapp.http import anyone, documented
from bkapp.migrate import alembic_config

_SWAGGER = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui-standalone-preset.js": "text/javascript",
}
_STATIC = {"style.css": "text/css", "icon.svg": "image/svg+xml"}
_START = b"""window.onload = () => SwaggerUIBundle({
  url: "/schema/openapi.json", dom_id: "#swagger", deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset], layout: "BaseLayout" });
"""


class Health(Struct, frozen=True):
    """``release`` names the running code; nothing here is secret."""

    status: str
    release: str


class SiteController(Controller):
    tags = ("site",)

    @get("/healthz", operation_id="getHealth", guards=[anyone], responses=documented())
    async def health(self, state: State) -> Health:
        """The process is alive.  Asks nobody else."""
        return Health("ok", state.settings.release)

    @get("/readyz", operation_id="getReadiness", guards=[anyone], responses=documented())
    async def ready(self, state: State) -> Health:
        """The database answers and has every migration this code needs."""
        readers: Sessions = state.readers
        try:
            async with readers() as session:
                at = await session.scalar(sa.text("SELECT version_num FROM alembic_version"))
        except SQLAlchemyError:
            raise Unavailable("The database does not answer.") from None
        if at != newest_migration():
            raise Unavailable("The database is not migrated to this release.", at=at)
        return Health("ready", state.settings.release)

    @get("/metrics", operation_id="getMetrics", guards=[anyone], media_type=CONTENT_TYPE_LATEST, responses=documented())
    async def metrics(self, state: State) -> Response[bytes]:
        """Figures for monitoring, as OpenMetrics.  No label holds anything about a person."""
        settings: Settings = state.settings
        collected = registry()
        if settings.web_workers > 1:
            collected = CollectorRegistry()
            multiprocess.MultiProcessCollector(collected)  # type: ignore[no-untyped-call]
        text: bytes = generate_latest(collected)  # type: ignore[no-untyped-call]
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    @get("/problems", operation_id="listProblems", guards=[anyone], include_in_schema=False, media_type=MediaType.HTML)
    async def problems(self) -> str:
        """Every kind of refusal, for people."""
        return pages.render("problems.html", problems=[pages.ProblemType(**problem) for problem in problem_catalogue()])

    @get("/problems/{code:str}", guards=[anyone], include_in_schema=False)
    async def problem(self, code: FromPath[str]) -> Response[None]:
        """The `type` of a problem is an address: it leads to its line in the catalogue."""
        if not any(problem["code"] == code for problem in problem_catalogue()):
            raise NotFound("There is no such kind of problem.")
        return Response(None, status_code=302, headers={"Location": f"/problems#{code}"})

    @get("/static/{name:str}", guards=[anyone], include_in_schema=False)
    async def static(self, name: FromPath[str]) -> Response[bytes]:
        """Our style sheet and icon."""
        if name not in _STATIC:
            raise NotFound("There is no such file.")
        return Response(
            _asset("bkapp.pages", f"static/{name}"),
            media_type=_STATIC[name],
            headers={"Cache-Control": "public, max-age=3600"},
        )

    @get("/favicon.ico", guards=[anyone], include_in_schema=False, status_code=204)
    async def favicon(self) -> None:
        """Browsers ask for it; there is none."""

    @get("/schema/assets/{name:str}", guards=[anyone], include_in_schema=False)
    async def schema_asset(self, name: FromPath[str]) -> Response[bytes]:
        """The documentation's scripts, from a package: nothing is fetched from elsewhere."""
        if name == "start.js":
            return Response(_START, media_type="text/javascript")
        if name not in _SWAGGER:
            raise NotFound("There is no such file.")
        return Response(
            _asset("swagger_ui", f"static/{name}"),
            media_type=_SWAGGER[name],
            headers={"Cache-Control": "public, max-age=86400"},
        )


def problem_catalogue() -> list[dict[str, Any]]:
    """Every kind of refusal: code, status, Vietnamese title, English description."""
    catalogue = [
        {
            "code": kind.code,
            "status": kind.status,
            "title": kind.title,
            "detail": " ".join((kind.__doc__ or kind.title).split()),
        }
        for kind in refusals()
    ]
    catalogue.append(
        {
            "code": "internal",
            "status": 500,
            "title": "Hệ thống gặp lỗi, xin thử lại sau",
            "detail": "Something went wrong on our side; it has been recorded.",
        }
    )
    return sorted(catalogue, key=lambda problem: problem["code"])


@cache
def _asset(package: str, name: str) -> bytes:
    return files(package).joinpath(name).read_bytes()


@cache
def newest_migration() -> str:
    config: Config = alembic_config()
    return ScriptDirectory.from_config(config).get_current_head() or ""


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The API's description with what Litestar leaves out: which bodies take no fields but their own."""
    strict = {kind.__name__ for kind in _structs(Struct) if kind.__struct_config__.forbid_unknown_fields}
    for component in schema["components"]["schemas"].values():
        if component.get("title") in strict:
            component["additionalProperties"] = False
    return schema


def _structs(kind: type[Struct]) -> Iterator[type[Struct]]:
    for child in kind.__subclasses__():
        yield child
        yield from _structs(child)


class Description(JsonRenderPlugin):
    """The API's description as JSON."""

    @override
    def render(self, request: Request, openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, closed(openapi_schema))


class Swagger(OpenAPIRenderPlugin):
    """Swagger UI from our own address, without inline scripts, so that the content security policy can be strict."""

    @override
    def render(self, request: Request, openapi_schema: dict[str, Any]) -> bytes:
        assets = "/schema/assets"
        return (
            '<!DOCTYPE html><html lang="vi"><head><meta charset="utf-8"><title>bkapp API</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<link rel="stylesheet" href="{assets}/swagger-ui.css">'
            f'<script src="{assets}/swagger-ui-bundle.js"></script>'
            f'<script src="{assets}/swagger-ui-standalone-preset.js"></script>'
            f'<script src="{assets}/start.js"></script>'
            '</head><body><div id="swagger"></div></body></html>'
        ).encode()
