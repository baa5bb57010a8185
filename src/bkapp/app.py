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
from bkapp.access.guards import COOKIE, Authentication, People, asking, maybe_asking
from bkapp.access.queries import KEYS, RECORD_READS
from bkapp.account import pages as account
from bkapp.address.certificates import Signer
from bkapp.address.controllers import CONTROLLERS
from bkapp.address.operations.finding import Finder, open_finder
from bkapp.address.public import PublicController
from bkapp.address.queries import RESOLVE_MANY
from bkapp.audit.controllers import AuditController
from bkapp.config import Settings, describe
from bkapp.db import Lookup, Lookups, Sessions, lookup_through, open_engine, readers_of, sessions_of
from bkapp.edge import ASGIApp, Edge
from bkapp.households import controllers as households
from bkapp.households.providers import Register
from bkapp.households.providers.csdldc import PopulationRegister
from bkapp.households.queries import HOMES
from bkapp.http import EXCEPTION_HANDLERS, UnitOfWork, reading, transaction
from bkapp.identity import controllers as identity
from bkapp.identity.operations import OtherBrowser, SignInExpired
from bkapp.identity.people import SignedIn
from bkapp.identity.providers import NotACitizen, Provider, ProviderUnavailable, SignInDenied, SignInRefused
from bkapp.identity.providers.oidc import OidcProvider
from bkapp.identity.queries import sign_ins
from bkapp.identity.tokens import TokenSigner
from bkapp.payments import controllers as payments
from bkapp.payments.providers.registry import Providers
from bkapp.privacy import controllers as privacy
from bkapp.sealing import Keyring
from bkapp.site import Description, SiteController, Swagger
from bkapp.units.controllers import UnitController

SIGN_INS = sign_ins(HOMES)

log = structlog.get_logger("bkapp")


def create_app(
    settings: Settings,
    sessions: Sessions,
    readers: Sessions,
    lookup: Lookup | None = None,
    finder: Finder | None = None,
    keys: Lookup | None = None,
    records: Lookup | None = None,
    sign_ins: Lookup | None = None,
    people: People | None = None,
    eid: Provider | None = None,
    population: Register | None = None,
    providers: Providers | None = None,
) -> Litestar:
    """The application on the given sessions: ``sessions`` for work that writes, ``readers`` for single statements.

    The rest are shorter ways for what many requests wait for, and go through ``readers`` when left out: ``lookup``
    for addresses by code, ``finder`` for searches, ``keys`` for who asks and ``records`` for what they saw.
    ``people`` finds who has signed in; it too goes through ``readers`` when left out.  Without an identity provider
    (``eid``) nobody signs in, and without a population register (``population``) no household is looked up.
    ``providers`` are those of payments; they are made here when left out.
    """
    keyring = Keyring.parse(settings.data_keys, settings.lookup_key) if settings.data_keys else None
    token_signer = TokenSigner.parse(settings.signing_keys, settings.base_url)
    people = people or SignedIn(sign_ins or lookup_through(readers, SIGN_INS), token_signer, readers)
    return Litestar(
        route_handlers=[
            SiteController,
            PublicController,
            Router("/api/v1", route_handlers=[UnitController]),
            *CONTROLLERS,
            *identity.CONTROLLERS,
            *households.CONTROLLERS,
            *payments.CONTROLLERS,
            *privacy.CONTROLLERS,
            AuditController,
            *account.CONTROLLERS,
        ],
        dependencies={
            "transaction": Provide(transaction, sync_to_thread=False),
            "reading": Provide(reading),
            "asking": Provide(asking, sync_to_thread=False),
            "maybe_asking": Provide(maybe_asking, sync_to_thread=False),
        },
        middleware=[
            Authentication(keys or lookup_through(readers, KEYS), people, settings.base_url),
            UnitOfWork(sessions, keyring.lookup("idempotency", "") if keyring else b""),
        ],
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
                "etag",
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
                "keyring": keyring,
                "token_signer": token_signer,
                "eid": eid,
                "population": population,
                "providers": providers or Providers(),
                "signer": Signer.parse(settings.signing_keys),
                "base_url": settings.base_url,
                "error_page": error_page,
            }
        ),
    )


# Refusals on the way to the identity provider and back, each of which a new sign-in may mend.
_SIGN_IN_AGAIN = frozenset(
    f"/problems/{kind.code}"
    for kind in (NotACitizen, OtherBrowser, ProviderUnavailable, SignInDenied, SignInExpired, SignInRefused)
)


def error_page(problem: dict[str, object]) -> str:
    """A refusal as a page, for people who came with a browser."""
    shown = {name: problem[name] for name in ("status", "title", "detail", "request_id")}
    return pages.render("error.html", **shown, retry="/dang-nhap" if problem["type"] in _SIGN_IN_AGAIN else None)


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
                "key": SecurityScheme(type="http", scheme="bearer", description="`bk_…`, made by `bkapp keys new`."),
                "session": SecurityScheme(
                    type="apiKey",
                    security_scheme_in="cookie",
                    name=COOKIE,
                    description="A browser that signed in at `/dang-nhap`. A change must come from a page of ours, or "
                    "carry `X-CSRF-Token` as `GET /api/v1/session` gives it.",
                ),
                "token": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    bearer_format="JWT",
                    description="The access token of a native app, from `POST /api/v1/token`.",
                ),
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
            Tag("session", "Signing in and out"),
            Tag("me", "One's own data and devices"),
            Tag("households", "Households, the addresses they claim, their members"),
            Tag("privacy", "Rights about personal data"),
            Tag("payments", "Bills, attempts at paying them, money and refunds"),
            Tag("payment hooks", "Where payment providers tell of payments"),
            Tag("audit", "The chain of who did what"),
            Tag("site", "Health and metrics"),
        ],
    )


def open_eid(settings: Settings) -> OidcProvider | None:
    """The national eID, if there is one."""
    if not settings.eid_issuer:
        return None
    return OidcProvider(
        issuer=settings.eid_issuer,
        client_id=settings.eid_client_id,
        client_secret=settings.eid_client_secret,
        client_key=settings.eid_client_key,
        algorithms=settings.eid_algorithms,
        scope=settings.eid_scope,
        acr=settings.eid_acr,
        allow_http=settings.demo,
    )


def open_population(settings: Settings) -> PopulationRegister | None:
    """The population register, if there is one."""
    if not settings.population_url:
        return None
    return PopulationRegister(settings.population_url, settings.population_client, settings.population_secret)


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
    sign_ins = Lookups(settings.database_url, SIGN_INS)
    eid, population, providers = open_eid(settings), open_population(settings), Providers()
    app = create_app(
        settings,
        sessions_of(engine),
        readers,
        lookups,
        finder,
        keys,
        records,
        sign_ins,
        eid=eid,
        population=population,
        providers=providers,
    )

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
        for opened in (keys, records, sign_ins, eid, population, providers):
            if opened is not None:
                await opened.close()
        await engine.dispose()
        await reading_engine.dispose()
        log.info("stopped")

    app._lifespan_managers.append(lifespan)  # noqa: SLF001
    return Edge(app, settings)  # type: ignore[arg-type]
