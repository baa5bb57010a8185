"""The composition root: the only module that knows every feature."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, Contact, SecurityScheme, Tag
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from bkapp import pages
from bkapp.access.guards import Authentication, asking, maybe_asking
from bkapp.access.queries import KEYS, RECORD_READS
from bkapp.address.certificates import Signer
from bkapp.address.controllers import CONTROLLERS
from bkapp.address.operations.finding import Finder, open_finder
from bkapp.address.public import PublicController
from bkapp.address.queries import RESOLVE_MANY
from bkapp.config import Settings, describe
from bkapp.db import Lookup, Lookups, Sessions, lookup_through, open_engine, readers_of, sessions_of
from bkapp.edge import ASGIApp, Edge
from bkapp.http import EXCEPTION_HANDLERS, UnitOfWork, reading, transaction
from bkapp.site import Description, SiteController, Swagger
from bkapp.units.controllers import UnitController

log = structlog.get_logger("bkapp")


def create_app(
    settings: Settings,
    sessions: Sessions,
    readers: Sessions,
    lookup: Lookup | None = None,
    finder: Finder | None = None,
    keys: Lookup | None = None,
    records: Lookup | None = None,
) -> Litestar:
    """The application on the given sessions: ``sessions`` for work that writes, ``readers`` for single statements.

    The rest are shorter ways for what many requests wait for, and go through ``readers`` when left out: ``lookup``
    for addresses by code, ``finder`` for searches, ``keys`` for who asks and ``records`` for what they saw.
    """
    return Litestar(
        route_handlers=[
            SiteController,
            PublicController,
            Router("/api/v1", route_handlers=[UnitController]),
            *CONTROLLERS,
        ],
        dependencies={
            "transaction": Provide(transaction, sync_to_thread=False),
            "reading": Provide(reading),
            "asking": Provide(asking, sync_to_thread=False),
            "maybe_asking": Provide(maybe_asking, sync_to_thread=False),
        },
        middleware=[Authentication(keys or lookup_through(readers, KEYS)), UnitOfWork(sessions)],
        exception_handlers=EXCEPTION_HANDLERS,
        cors_config=CORSConfig(
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key"],
            expose_headers=[
                "x-request-id",
                "idempotent-replayed",
                "retry-after",
                "content-disposition",
                "x-total-rows",
            ],
        )
        if settings.cors_origins
        else None,
        openapi_config=openapi_config(settings),
        request_max_body_size=settings.max_body_bytes,
        logging_config=None,
        state=State(
            {
                "settings": settings,
                "sessions": sessions,
                "readers": readers,
                "lookup": lookup or lookup_through(readers, RESOLVE_MANY),
                "records": records or lookup_through(readers, RECORD_READS),
                "finder": finder or open_finder(readers),
                "signer": Signer.parse(settings.signing_keys),
                "base_url": settings.base_url,
                "error_page": error_page,
            }
        ),
    )


def error_page(problem: dict[str, object]) -> str:
    """A refusal as a page, for people who came with a browser."""
    shown = {name: problem[name] for name in ("status", "title", "detail", "request_id")}
    return pages.render("error.html", **shown)


def openapi_config(settings: Settings) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="bkapp",
        version="1",
        summary="Địa chỉ số, dịch vụ công và thanh toán của Bắc Kạn",
        description=(
            "One digital address per household of Bắc Kạn. Refusals are problem details (RFC 9457): compare `type`, "
            "show `title` (Vietnamese). Every POST that changes something takes an `Idempotency-Key`."
        ),
        contact=Contact(name="bkapp"),
        use_handler_docstrings=True,
        path="/schema",
        render_plugins=[Swagger(path="/"), Description(path="/openapi.json")],
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="http", scheme="bearer", description="`bk_…`, made by `bkapp keys new`.")
            }
        ),
        tags=[
            Tag("addresses", "Codes and dwellings"),
            Tag("events", "The feed of changes"),
            Tag("units", "Administrative units through time"),
            Tag("hamlets", "Thôn, bản, tổ"),
            Tag("geocoding", "Finding addresses as people write them"),
            Tag("tiles", "Maps as vector tiles"),
            Tag("certificates", "Signed statements about addresses"),
            Tag("site", "Health and metrics"),
        ],
    )


def asgi(settings: Settings) -> ASGIApp:
    """Everything a server needs: the engine, the application and the edge around it."""
    # Pools apart, so that writers who wait for each other leave readers theirs.
    engine = open_engine(settings.database_url, pool_size=settings.pool_size)
    reading_engine = open_engine(settings.database_url, pool_size=settings.pool_size)
    lookups = Lookups(settings.database_url, RESOLVE_MANY)
    readers = readers_of(reading_engine)
    finder = open_finder(readers, settings.database_url, resolve=lookups)
    keys = Lookups(settings.database_url, KEYS)
    records = Lookups(settings.database_url, RECORD_READS)
    app = create_app(settings, sessions_of(engine), readers, lookups, finder, keys, records)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        # So that nobody waits for the names of the register; without a database they are loaded when there is one.
        with suppress(DBAPIError, NoConnectionFree):
            await finder.gazetteer()
        # What is loaded by now stays.  Looking through it again and again would stop every request for 0.1 s each time.
        gc.collect()
        gc.freeze()
        log.info("started", **describe(settings))
        yield
        await finder.close()
        await keys.close()
        await records.close()
        await engine.dispose()
        await reading_engine.dispose()
        log.info("stopped")

    app._lifespan_managers.append(lifespan)  # noqa: SLF001
    return Edge(app, settings)  # type: ignore[arg-type]
