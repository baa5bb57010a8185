"""Our side of OpenID Connect against code that is not ours, over real sockets: the certified ``oidc-provider``."""

import base64
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urljoin, urlsplit

import pytest
from httpx import AsyncClient
from litestar import Litestar, Request, post

from bkapp.identity.providers import Identity, NotACitizen, ProviderUnavailable, SignInDenied, SignInRefused
from bkapp.identity.providers.oidc import OidcProvider, public_jwks
from bkapp.identity.rules import NOT_TOLD
from tests.peers.oidc_provider import issuers
from tests.practice.peers import running

REDIRECT = "http://localhost:8000/dang-nhap/ve"
AFTER = "http://localhost:8000/"
CLIENT_KEY, STRANGERS_KEY = (
    "tests-1:" + base64.urlsafe_b64encode(bytes(range(first, first + 32))).decode().rstrip("=") for first in (1, 2)
)
CLIENT_SECRET = "every sign that needs escaping: %+&=/?#~"
PROFILES = ("strict", "plain")


class Peer:
    """The outside peer, and the logout tokens that it has posted to us."""

    def __init__(self, issuers: dict[str, str], logouts: list[str]) -> None:
        self.issuers = issuers
        self.logouts = logouts

    @asynccontextmanager
    async def provider(
        self, profile: str, *, key: str = CLIENT_KEY, secret: str = CLIENT_SECRET
    ) -> AsyncIterator[OidcProvider]:
        """Our side, set up for one of its issuers."""
        strict = profile == "strict"
        provider = OidcProvider(
            issuer=self.issuers[profile],
            client_id=f"bkapp-{profile}",
            client_secret="" if strict else secret,
            client_key=key if strict else "",
            algorithms=("ES256",) if strict else ("RS256",),
            scope="openid profile",
            allow_http=True,
        )
        try:
            yield provider
        finally:
            await provider.close()


@pytest.fixture(scope="module")
async def peer() -> AsyncIterator[Peer]:
    logouts: list[str] = []

    @post("/dang-nhap/thong-bao", status_code=200, media_type="text/plain")
    async def hear(request: Request) -> str:
        logouts.extend(parse_qs((await request.body()).decode(), strict_parsing=True)["logout_token"])
        return ""

    async with (
        running(Litestar([hear])) as ours,
        issuers(
            jwks=public_jwks(CLIENT_KEY),
            secret=CLIENT_SECRET,
            redirect=REDIRECT,
            after=AFTER,
            logout=f"{ours}/dang-nhap/thong-bao",
        ) as theirs,
    ):
        yield Peer(theirs, logouts)


@pytest.fixture
async def browser() -> AsyncIterator[AsyncClient]:
    """Somebody's browser: it keeps cookies and follows redirections, step by step."""
    async with AsyncClient(timeout=20) as browser:
        yield browser


def fresh() -> dict[str, Any]:
    return {
        "state": secrets.token_urlsafe(),
        "nonce": secrets.token_urlsafe(),
        "verifier": secrets.token_urlsafe(64),
        "redirect_uri": REDIRECT,
    }


async def come_back(browser: AsyncClient, address: str) -> dict[str, str]:
    """Follow the peer until it sends the browser back to us, and with what."""
    while not address.startswith(REDIRECT):
        answer = await browser.get(address)
        assert answer.is_redirect, answer.text
        address = urljoin(address, answer.headers["location"])
    return dict(parse_qsl(urlsplit(address).query))


async def sign_in(
    provider: OidcProvider, browser: AsyncClient, *, who: str = "cong-dan", **asked: Any
) -> tuple[Identity, str]:
    """Who signed in, and the address that the browser was sent to."""
    kept = fresh()
    address = await provider.begin(**kept, login_hint=who, **asked)
    params = await come_back(browser, address)
    return await provider.finish(params, **kept, **asked), address


async def sign_out(provider: OidcProvider, browser: AsyncClient) -> None:
    """End the peer's own session: it asks first, with a form."""
    address = await provider.end_session_url(after=AFTER)
    assert address is not None
    asked = await browser.get(address)
    found = re.search(r'action="([^"]+)".*name="xsrf" value="([^"]+)"', asked.text)
    assert found, asked.text
    left = await browser.post(found[1], data={"xsrf": found[2], "logout": "yes"})
    assert left.headers["location"].startswith(AFTER), left.text


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_citizen_signs_in(peer: Peer, browser: AsyncClient, profile: str) -> None:
    async with peer.provider(profile) as provider:
        identity, _ = await sign_in(provider, browser)

    assert identity.issuer == peer.issuers[profile]
    assert identity.subject == "cong-dan"
    assert identity.number == "099085000001"
    assert identity.name == "Triệu Thị Mùi"
    assert identity.birth == date(1985, 3, 2)
    assert identity.phone == "+84900000001"
    assert identity.level == 2
    assert identity.provider_sid
    assert identity.authenticated_at == NOT_TOLD  # which it says where it is asked for a recent sign-in alone


async def test_where_requests_are_pushed_the_browser_carries_none_of_it(peer: Peer, browser: AsyncClient) -> None:
    async with peer.provider("strict") as provider:
        _, address = await sign_in(provider, browser)

    assert set(parse_qs(urlsplit(address).query)) == {"client_id", "request_uri"}


async def test_where_they_are_not_it_carries_the_challenge_and_never_the_verifier(peer: Peer) -> None:
    kept = fresh()
    async with peer.provider("plain") as provider:
        address = await provider.begin(**kept)

    carried = dict(parse_qsl(urlsplit(address).query))
    assert carried["code_challenge_method"] == "S256"
    assert kept["verifier"] not in address


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_recent_and_stronger_proof_is_asked_for_and_told(
    peer: Peer, browser: AsyncClient, profile: str
) -> None:
    async with peer.provider(profile) as provider:
        identity, _ = await sign_in(provider, browser, max_age=300, acr="2")

    assert identity.acr == "2"
    assert datetime.now(UTC) - identity.authenticated_at < timedelta(minutes=1)


@pytest.mark.parametrize("profile", PROFILES)
async def test_whoever_says_no_is_not_signed_in(peer: Peer, browser: AsyncClient, profile: str) -> None:
    async with peer.provider(profile) as provider:
        with pytest.raises(SignInDenied):
            await sign_in(provider, browser, who="khong-ai")


@pytest.mark.parametrize("profile", PROFILES)
async def test_an_organisation_is_no_citizen(peer: Peer, browser: AsyncClient, profile: str) -> None:
    async with peer.provider(profile) as provider:
        with pytest.raises(NotACitizen):
            await sign_in(provider, browser, who="to-chuc")


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_code_is_good_once(peer: Peer, browser: AsyncClient, profile: str) -> None:
    kept = fresh()
    async with peer.provider(profile) as provider:
        params = await come_back(browser, await provider.begin(**kept, login_hint="cong-dan"))
        await provider.finish(params, **kept)

        with pytest.raises(SignInRefused) as refusal:
            await provider.finish(params, **kept)
    assert refusal.value.facts["reason"] == "code_not_taken"


@pytest.mark.parametrize(
    ("changed", "reason"), [("state", "wrong_state"), ("nonce", "wrong_nonce"), ("verifier", "code_not_taken")]
)
async def test_a_sign_in_that_another_browser_began_is_refused(
    peer: Peer, browser: AsyncClient, changed: str, reason: str
) -> None:
    kept = fresh()
    async with peer.provider("strict") as provider:
        params = await come_back(browser, await provider.begin(**kept, login_hint="cong-dan"))

        with pytest.raises(SignInRefused) as refusal:
            await provider.finish(params, **kept | {changed: fresh()[changed]})
    assert refusal.value.facts["reason"] == reason


async def test_an_answer_of_another_issuer_is_refused(peer: Peer, browser: AsyncClient) -> None:
    kept = fresh()
    async with peer.provider("plain") as honest, peer.provider("strict") as provider:
        params = await come_back(browser, await honest.begin(**kept, login_hint="cong-dan"))

        with pytest.raises(SignInRefused) as refusal:
            await provider.finish(params, **kept)
    assert refusal.value.facts["reason"] == "wrong_issuer"


async def test_a_client_without_its_key_gets_no_further_than_the_pushed_request(peer: Peer) -> None:
    async with peer.provider("strict", key=STRANGERS_KEY) as provider:
        with pytest.raises(ProviderUnavailable) as refusal:
            await provider.begin(**fresh())
    assert refusal.value.facts["reason"] == "request_not_taken"


async def test_a_client_without_its_secret_gets_nothing_for_a_code(peer: Peer, browser: AsyncClient) -> None:
    async with peer.provider("plain", secret="guessed") as provider:
        with pytest.raises(ProviderUnavailable):  # our fault, not the person's, who may try again when it is mended
            await sign_in(provider, browser)


@pytest.mark.parametrize("profile", PROFILES)
async def test_new_keys_of_the_peer_are_fetched_when_its_tokens_name_them(peer: Peer, profile: str) -> None:
    async with peer.provider(profile) as provider:
        for _ in range(2):
            async with AsyncClient(timeout=20) as browser:
                await sign_in(provider, browser)
                rotated = await browser.post(f"{peer.issuers[profile]}/rotate")
                assert rotated.status_code == 204


@pytest.mark.parametrize("profile", PROFILES)
async def test_signing_out_at_the_peer_tells_us_which_session_ended(
    peer: Peer, browser: AsyncClient, profile: str
) -> None:
    peer.logouts.clear()
    async with peer.provider(profile) as provider:
        identity, _ = await sign_in(provider, browser)
        await sign_out(provider, browser)

        [token] = peer.logouts
        logout = await provider.read_logout(token)
        with pytest.raises(SignInRefused):
            await provider.read_logout(token[:-8] + "AAAAAAAA")

    assert logout.issuer == identity.issuer
    assert logout.subject == identity.subject
    assert logout.provider_sid == identity.provider_sid
    assert logout.jti
    assert logout.expires_at > datetime.now(UTC)


async def test_a_logout_of_another_issuer_is_none_of_ours(peer: Peer, browser: AsyncClient) -> None:
    peer.logouts.clear()
    async with peer.provider("plain") as provider, peer.provider("strict") as other:
        await sign_in(provider, browser)
        await sign_out(provider, browser)

        [token] = peer.logouts
        with pytest.raises(SignInRefused):
            await other.read_logout(token)
