"""The practice servers as one ASGI application.

The eID is under ``/eid``, the population register under ``/dan-cu``, payment providers and a bank under
``/thanh-toan``.  It signs anybody in as anybody and takes no money for what it calls paid, so ``bkapp practice``
refuses to run outside demo mode.  One process only: what it knows is in its memory.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import httpx
from litestar import Litestar, Response, get
from litestar.datastructures import State

from bkapp.config import BadSetting, Settings, load_settings
from bkapp.practice import eid_routes, population
from bkapp.practice.clients import Client, Clock
from bkapp.practice.eid import Eid
from bkapp.practice.paying import pages
from bkapp.practice.paying.cashier import USUAL, Cashier, Pace, Sleep
from bkapp.practice.paying.faults import Fault
from bkapp.practice.paying.merchants import PracticeMerchant, practice_merchants
from bkapp.practice.people import PEOPLE, TestCitizen

MOST_BYTES = 65_536
PATIENCE = 5.0  # seconds that a client has for its keys or for a logout token, a merchant for a message


def application(
    *,
    base_url: str,
    eid_clients: Iterable[Client],
    population_secret: str,
    population_client: str = "bkapp",
    people: Iterable[TestCitizen] = tuple(PEOPLE.values()),
    require_pushed: bool = False,
    home_url: str = "",
    merchants: Iterable[PracticeMerchant] = (),
    script: Iterable[Fault] = (),
    pace: Pace = USUAL,
    clock: Clock = time.time,
    sleep: Sleep = asyncio.sleep,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Litestar:
    """The practice servers at ``base_url`` (no slash at its end); the eID's issuer is ``{base_url}/eid``.

    The payment providers know ``merchants``, and tell bkapp at ``home_url`` of payments, at their ``pace`` and with the
    faults of a ``script``.  ``clock`` tells seconds since 1970, ``sleep`` lets them pass for the providers, and
    ``transport`` is how the eID reaches its clients and the providers their merchants; all three are for tests, which
    find the parts at ``.state.eid``, ``.state.register`` and ``.state.cashier`` of what is returned.
    """
    people = list(people)
    http = httpx.AsyncClient(transport=transport, timeout=PATIENCE, trust_env=False)
    cashier = Cashier(
        site=base_url,
        home=home_url,
        merchants=merchants,
        facades=pages.FACADES,
        http=http,
        clock=clock,
        script=script,
        pace=pace,
        sleep=sleep,
    )

    @asynccontextmanager
    async def open_http(_: Litestar) -> AsyncIterator[None]:
        async with http:
            yield
            await cashier.close()

    return Litestar(
        route_handlers=[home, healthy, eid_routes.ROUTES, eid_routes.PRACTICE, population.ROUTES, pages.ROUTES],
        state=State(
            {
                "eid": Eid(
                    issuer=f"{base_url}/eid",
                    clients=eid_clients,
                    people=people,
                    http=http,
                    require_pushed=require_pushed,
                    clock=clock,
                ),
                "register": population.Register(people, client=population_client, secret=population_secret),
                "cashier": cashier,
            }
        ),
        lifespan=[open_http],
        request_max_body_size=MOST_BYTES,
        openapi_config=None,
        logging_config=None,
    )


def bkapp_as_client(settings: Settings) -> Client:
    """How the practice eID knows the bkapp that has these settings.

    bkapp's keys are fetched from itself, unless it uses a secret.
    """
    home = settings.base_url
    return Client(
        client_id=settings.eid_client_id,
        redirect_uris=(f"{home}/dang-nhap/ve",),
        secret=settings.eid_client_secret,
        jwks_uri="" if settings.eid_client_secret else f"{home}/.well-known/eid-client-jwks.json",
        post_logout_redirect_uris=(f"{home}/",),
        backchannel_logout_uri=f"{home}/dang-nhap/thong-bao",
    )


def asgi() -> Litestar:
    """The practice servers as the environment sets them, for the process that serves them."""
    settings = load_settings()
    if not settings.demo:
        raise BadSetting("BKAPP_DEMO is not 1: the practice servers sign anybody in as anybody.")
    site = settings.eid_issuer.removesuffix("/eid")
    return application(
        base_url=site,
        home_url=settings.base_url,
        merchants=practice_merchants(site),
        eid_clients=[bkapp_as_client(settings)],
        population_client=settings.population_client,
        population_secret=settings.population_secret,
    )


@get("/")
async def home() -> Response:
    """What is here."""
    return eid_routes.page("home.html")


@get("/healthz")
async def healthy() -> dict[str, str]:
    """That it runs."""
    return {"status": "ok"}
