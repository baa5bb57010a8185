"""The practice eID over a real socket, asked by a client that knows nothing of bkapp."""

import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from jwt.algorithms import ECAlgorithm
from litestar import Litestar, Request, get, post

from bkapp.practice.clients import ASSERTION, Client
from bkapp.practice.people import PEOPLE, person
from bkapp.practice.server import application
from bkapp.practice.signing import Faults, base64url, half_hash
from tests.practice.peers import address_of, listening, running

BACK = "http://rp.test/back?from=eid"
SECRET = "a secret: with + signs %"
VERIFIER = "v" * 43


class Clock:
    """The eID's clock: the real one, and what a test adds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Peer:
    """A client, with a browser of its own, of a practice eID that runs."""

    def __init__(self, issuer: str, app: Litestar, clock: Clock, key: EllipticCurvePrivateKey) -> None:
        self.issuer = issuer
        self.eid = app.state.eid
        self.clock = clock
        self.key = key
        self.http = httpx.AsyncClient(base_url=issuer, timeout=10)

    def request(self, **parameters: str | None) -> dict[str, str]:
        wanted: dict[str, str | None] = {
            "client_id": "secret-client",
            "response_type": "code",
            "redirect_uri": BACK,
            "scope": "openid profile",
            "state": "st4te",
            "nonce": "n0nce",
            "code_challenge": base64url(hashlib.sha256(VERIFIER.encode()).digest()),
            "code_challenge_method": "S256",
            "login_hint": "chu-ho",
            **parameters,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    async def authorize(self, **parameters: str | None) -> httpx.Response:
        return await self.http.get("/authorize", params=self.request(**parameters))

    async def code(self, **parameters: str | None) -> str:
        return answer_in(await self.authorize(**parameters))["code"]

    async def redeem(self, code: str, /, **form: str) -> httpx.Response:
        sent = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
        return await self.http.post("/token", data={**sent, **form}, auth=("secret-client", quoted(SECRET)))

    async def tokens(self, **parameters: str | None) -> dict[str, Any]:
        answer = await self.redeem(await self.code(**parameters))
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    async def read(self, token: str, audience: str = "secret-client") -> dict[str, Any]:
        """A token's claims, checked as any client would."""
        keys = jwt.PyJWKSet.from_dict((await self.http.get("/jwks")).json())
        claims: dict[str, Any] = jwt.decode(
            token,
            keys[jwt.get_unverified_header(token)["kid"]],
            algorithms=["ES256", "RS256", "EdDSA"],
            audience=audience,
            issuer=self.issuer,
            leeway=60,  # tests move the eID's clock
        )
        return claims

    def assertion(self, **changes: Any) -> dict[str, str]:
        now = int(time.time())
        claims = {
            "iss": "key-client",
            "sub": "key-client",
            "aud": self.issuer,
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_hex(8),
            **changes,
        }
        signed = jwt.encode(claims, self.key, algorithm="ES256", headers={"kid": "ours"})
        return {"client_assertion_type": ASSERTION, "client_assertion": signed}

    async def break_with(self, **faults: object) -> None:
        assert (await self.http.post("/practice/faults", json=faults)).status_code == 200


class Heard:
    """A client's own server: its key set, and the logout tokens that it got."""

    def __init__(self, key: EllipticCurvePrivateKey) -> None:
        self.tokens: list[str] = []
        jwk = {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "ours"}

        @get("/jwks")
        async def jwks() -> dict[str, Any]:
            return {"keys": [jwk]}

        @post("/logout", status_code=200)
        async def logout(request: Request) -> None:
            self.tokens.append(dict(parse_qsl((await request.body()).decode()))["logout_token"])

        self.app = Litestar([jwks, logout], openapi_config=None, logging_config=None)


def quoted(text: str) -> str:
    """As RFC 6749 §2.3.1 wants a secret inside HTTP Basic."""
    return text.replace("%", "%25").replace("+", "%2B").replace(":", "%3A").replace(" ", "+")


def answer_in(response: httpx.Response) -> dict[str, str]:
    """What the browser takes to the client."""
    assert response.status_code == 303, response.text
    assert response.headers["location"].startswith(BACK)
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()}


@asynccontextmanager
async def an_eid(*, client_url: str = "", require_pushed: bool = False) -> AsyncIterator[Peer]:
    key = generate_private_key(SECP256R1())
    clock = Clock()
    common = {"redirect_uris": (BACK,), "post_logout_redirect_uris": ("http://rp.test/",)}
    jwk = {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "ours"}
    listener = listening()
    app = application(
        base_url=address_of(listener),
        eid_clients=[
            Client(
                client_id="secret-client",
                secret=SECRET,
                backchannel_logout_uri=f"{client_url}/logout" if client_url else "",
                **common,  # type: ignore[arg-type]
            ),
            Client(client_id="key-client", jwks={"keys": [jwk]}, algorithm="RS256", **common),  # type: ignore[arg-type]
            Client(client_id="fetched-client", jwks_uri=f"{client_url}/jwks", **common),  # type: ignore[arg-type]
        ],
        population_secret="practice",
        require_pushed=require_pushed,
        clock=clock,
    )
    async with running(app, listener) as url:
        peer = Peer(f"{url}/eid", app, clock, key)
        async with peer.http:
            yield peer


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Peer]:
    async with an_eid() as peer:
        yield peer


@pytest.fixture
async def peer(shared: Peer) -> AsyncIterator[Peer]:
    shared.http.cookies.clear()
    shared.clock.ahead = 0
    yield shared
    await shared.break_with()


async def test_the_discovery_document_says_what_there_is(peer: Peer) -> None:
    found = (await peer.http.get("/.well-known/openid-configuration")).json()

    assert found["issuer"] == peer.issuer
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["authorization_response_iss_parameter_supported"] is True
    for name in ("authorization", "token", "userinfo", "end_session", "revocation", "introspection"):
        assert found[f"{name}_endpoint"].startswith(f"{peer.issuer}/")
    assert {key["alg"] for key in (await peer.http.get("/jwks")).json()["keys"]} == {"ES256", "RS256", "EdDSA"}
    assert not any("d" in key for key in (await peer.http.get("/jwks")).json()["keys"])


async def test_a_client_with_a_secret_learns_who_is_there(peer: Peer) -> None:
    answer = answer_in(await peer.authorize())
    assert (answer["state"], answer["iss"], answer["from"]) == ("st4te", peer.issuer, "eid")

    tokens = (await peer.redeem(answer["code"])).json()
    claims = await peer.read(tokens["id_token"])
    told = (await peer.http.get("/userinfo", headers={"Authorization": f"Bearer {tokens['access_token']}"})).json()

    citizen = person("chu-ho")
    assert claims["sub"] == told["sub"] == citizen.subject
    assert (claims["nonce"], claims["acr"]) == ("n0nce", "loa2")
    assert claims["at_hash"] == half_hash(tokens["access_token"], "ES256")
    assert 0 <= claims["iat"] - claims["auth_time"] < 5
    assert (told["SoDinhDanh"], told["HoVaTen"], told["NgayThangNamSinh"]) == (citizen.number, citizen.name, "19840312")
    assert (told["LoaiTaiKhoan"], told["IAL"], told["SoDienThoai"]) == (1, 2, citizen.phone)
    assert told["ThuongTru"]["MaPhuongXa"] == "01969"


async def test_an_organisation_has_a_tax_code_and_no_citizen_number(peer: Peer) -> None:
    token = (await peer.tokens(login_hint="to-chuc"))["access_token"]

    told = (await peer.http.get("/userinfo", headers={"Authorization": f"Bearer {token}"})).json()

    assert (told["LoaiTaiKhoan"], told["MaSoThue"]) == (2, "0990000107")
    assert "SoDinhDanh" not in told


async def test_without_the_scope_profile_only_the_subject_is_told(peer: Peer) -> None:
    token = (await peer.tokens(scope="openid email"))["access_token"]

    told = await peer.http.post("/userinfo", headers={"Authorization": f"Bearer {token}"})

    assert told.json() == {"sub": person("chu-ho").subject}


async def test_a_secret_may_come_in_the_form(peer: Peer) -> None:
    form = {
        "grant_type": "authorization_code",
        "code": await peer.code(),
        "redirect_uri": BACK,
        "code_verifier": VERIFIER,
        "client_id": "secret-client",
    }
    wrong = await peer.http.post("/token", data={**form, "client_secret": "guessed"})
    right = await peer.http.post("/token", data={**form, "client_secret": SECRET})

    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert wrong.headers["www-authenticate"].startswith("Basic")
    assert right.status_code == 200
    assert right.headers["cache-control"] == "no-store"


async def test_a_client_with_a_key_pushes_its_request_and_gets_tokens(peer: Peer) -> None:
    parameters = peer.request(client_id="key-client")
    pushed = await peer.http.post("/par", data={**parameters, **peer.assertion()})
    assert (pushed.status_code, pushed.json()["expires_in"]) == (201, 90)
    where = {"client_id": "key-client", "request_uri": pushed.json()["request_uri"]}

    code = answer_in(await peer.http.get("/authorize", params=where))["code"]
    again = await peer.http.get("/authorize", params=where)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    tokens = await peer.http.post("/token", data={**form, **peer.assertion(aud=f"{peer.issuer}/token")})

    assert again.status_code == 400
    assert (await peer.read(tokens.json()["id_token"], "key-client"))["sub"] == person("chu-ho").subject
    assert jwt.get_unverified_header(tokens.json()["id_token"])["alg"] == "RS256"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://another-eid.example"},
        {"iss": "secret-client"},
        {"sub": "secret-client"},
        {"exp": 1},
        {"exp": 9_999_999_999},
        {"jti": None},
    ],
    ids=str,
)
async def test_a_client_assertion_that_is_not_good_is_refused(peer: Peer, changes: dict[str, Any]) -> None:
    answer = await peer.http.post("/par", data={**peer.request(client_id="key-client"), **peer.assertion(**changes)})

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_a_client_assertion_is_good_once(peer: Peer) -> None:
    form = {**peer.request(client_id="key-client"), **peer.assertion()}

    assert (await peer.http.post("/par", data=form)).status_code == 201
    assert (await peer.http.post("/par", data=form)).status_code == 401


async def test_two_ways_of_authentication_at_once_are_refused(peer: Peer) -> None:
    answer = await peer.redeem(await peer.code(), **peer.assertion())

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_where_requests_must_be_pushed_others_are_sent_back() -> None:
    async with an_eid(require_pushed=True) as peer:
        answer = answer_in(await peer.authorize())

    assert answer["error"] == "invalid_request"


async def test_a_replayed_code_takes_back_what_it_gave(peer: Peer) -> None:
    code = await peer.code()
    bearer = {"Authorization": f"Bearer {(await peer.redeem(code)).json()['access_token']}"}
    assert (await peer.http.get("/userinfo", headers=bearer)).status_code == 200

    again = await peer.redeem(code)

    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    late = await peer.http.get("/userinfo", headers=bearer)
    assert late.status_code == 401
    assert 'error="invalid_token"' in late.headers["www-authenticate"]


@pytest.mark.parametrize(
    "form",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": "short"},
        {"code_verifier": ""},
        {"redirect_uri": "http://rp.test/elsewhere"},
        {"redirect_uri": ""},
        {"code": "nobody-gave-this"},
    ],
    ids=str,
)
async def test_a_code_with_the_wrong_companions_is_refused(peer: Peer, form: dict[str, str]) -> None:
    answer = await peer.redeem(await peer.code(), **form)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_code_is_good_for_a_minute_and_for_its_own_client(peer: Peer) -> None:
    code = await peer.code()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    others = await peer.http.post("/token", data={**form, **peer.assertion()})
    peer.clock.ahead = 61
    late = await peer.redeem(code)

    assert [answer.json()["error"] for answer in (others, late)] == ["invalid_grant", "invalid_grant"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"redirect_uri": f"{BACK}&more=1"},
        {"redirect_uri": "http://evil.test/"},
        {"redirect_uri": None},
        {"client_id": "x"},
    ],
    ids=str,
)
async def test_nobody_is_sent_where_it_is_not_sure_who_asks(peer: Peer, parameters: dict[str, str | None]) -> None:
    answer = await peer.authorize(**parameters)

    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"request": "e30."}, "request_not_supported"),
        ({"prompt": "none"}, "login_required"),
    ],
    ids=str,
)
async def test_other_errors_go_back_to_the_client(peer: Peer, parameters: dict[str, str | None], error: str) -> None:
    answer = answer_in(await peer.authorize(**parameters))

    assert (answer["error"], answer["state"], answer["iss"]) == (error, "st4te", peer.issuer)
    assert "code" not in answer


async def test_a_parameter_that_comes_twice_is_refused(peer: Peer) -> None:
    twice = urlencode([*peer.request().items(), ("state", "another")])

    assert (await peer.http.get("/authorize", params=twice)).status_code == 400


async def test_the_page_lists_everybody_and_what_they_choose_counts_once(peer: Peer) -> None:
    shown = await peer.authorize(login_hint=None)
    ticket = shown.text.split('name="ticket" value="')[1].split('"')[0]
    assert "MÁY CHỦ LUYỆN TẬP" in shown.text
    assert "<script" not in shown.text
    assert all(citizen.handle in shown.text for citizen in PEOPLE.values())
    assert not any(citizen.number in shown.text for citizen in PEOPLE.values())

    nobody = await peer.http.post("/sign-in", data={"ticket": ticket, "handle": "nobody"})
    chosen = await peer.http.post("/sign-in", data={"ticket": ticket, "handle": "vo"})
    again = await peer.http.post("/sign-in", data={"ticket": ticket, "handle": "vo"})

    assert (nobody.status_code, again.status_code) == (400, 400)
    tokens = (await peer.redeem(answer_in(chosen)["code"])).json()
    assert (await peer.read(tokens["id_token"]))["sub"] == person("vo").subject


async def test_the_person_may_say_no(peer: Peer) -> None:
    shown = await peer.authorize(login_hint=None)
    ticket = shown.text.split('name="ticket" value="')[1].split('"')[0]

    answer = answer_in(await peer.http.post("/sign-in", data={"ticket": ticket, "deny": "1"}))

    assert (answer["error"], answer["state"]) == ("access_denied", "st4te")


async def test_who_is_signed_in_need_not_do_it_again(peer: Peer) -> None:
    first = await peer.read((await peer.tokens())["id_token"])
    peer.clock.ahead = 30
    more: list[dict[str, str | None]] = [{"login_hint": None}, {"prompt": "none"}, {"max_age": "60"}]
    for parameters in more:
        again = await peer.read((await peer.tokens(**parameters))["id_token"])
        assert (again["auth_time"], again["sid"]) == (first["auth_time"], first["sid"])


@pytest.mark.parametrize("parameters", [{"max_age": "10"}, {"max_age": "0"}, {"prompt": "login"}], ids=str)
async def test_a_sign_in_that_is_not_fresh_enough_is_made_again(peer: Peer, parameters: dict[str, str]) -> None:
    first = await peer.read((await peer.tokens())["id_token"])
    peer.clock.ahead = 30
    shown = await peer.authorize(login_hint=None, **parameters)
    assert shown.status_code == 200

    again = await peer.read((await peer.tokens(**parameters))["id_token"])

    assert again["auth_time"] >= first["auth_time"] + 29
    assert again["sid"] == first["sid"]


async def test_prompt_none_with_a_stale_session_needs_a_sign_in(peer: Peer) -> None:
    await peer.tokens()
    peer.clock.ahead = 30

    assert answer_in(await peer.authorize(prompt="none", max_age="10"))["error"] == "login_required"
    assert answer_in(await peer.authorize(prompt="none", login_hint="vo"))["error"] == "login_required"


async def test_a_hint_at_another_person_is_another_session(peer: Peer) -> None:
    first = await peer.read((await peer.tokens())["id_token"])

    other = await peer.read((await peer.tokens(login_hint="vo"))["id_token"])

    assert other["sub"] != first["sub"]
    assert other["sid"] != first["sid"]


async def test_an_access_token_can_be_validated_and_revoked(peer: Peer) -> None:
    token = {"token": (await peer.tokens())["access_token"]}
    ours = ("secret-client", quoted(SECRET))
    seen = (await peer.http.post("/validate", data=token, auth=ours)).json()
    by_other = (await peer.http.post("/validate", data={**token, **peer.assertion()})).json()
    await peer.http.post("/revoke", data={**token, **peer.assertion()})
    still = (await peer.http.post("/validate", data=token, auth=ours)).json()

    assert (await peer.http.post("/revoke", data=token, auth=ours)).status_code == 200

    assert (seen["active"], seen["client_id"]) == (True, "secret-client")
    assert seen["exp"] - seen["iat"] == 900
    assert by_other == {"active": False}
    assert still["active"] is True
    assert (await peer.http.post("/validate", data=token, auth=ours)).json() == {"active": False}


async def test_a_client_that_shows_the_id_token_signs_its_person_out_at_once(peer: Peer) -> None:
    token = (await peer.tokens())["id_token"]

    left = await peer.http.get(
        "/end-session",
        params={"id_token_hint": token, "post_logout_redirect_uri": "http://rp.test/", "state": "bye"},
    )

    assert left.headers["location"] == "http://rp.test/?state=bye"
    assert "Chưa đăng nhập" in (await peer.http.get("/")).text


async def test_without_the_id_token_the_person_is_asked(peer: Peer) -> None:
    await peer.tokens()
    parameters = {"client_id": "secret-client", "post_logout_redirect_uri": "http://rp.test/"}
    shown = [await peer.http.get("/end-session", params=parameters) for _ in range(2)]
    tickets = [one.text.split('name="ticket" value="')[1].split('"')[0] for one in shown]

    stayed = await peer.http.post("/sign-out", data={"ticket": tickets[0], "stay": "1"})
    assert person("chu-ho").name in (await peer.http.get("/")).text
    left = await peer.http.post("/sign-out", data={"ticket": tickets[1], "leave": "1"})

    assert stayed.headers["location"] == left.headers["location"] == "http://rp.test/"
    assert "Chưa đăng nhập" in (await peer.http.get("/")).text


@pytest.mark.parametrize(
    "parameters",
    [
        {"client_id": "secret-client", "post_logout_redirect_uri": "http://rp.test/more"},
        {"post_logout_redirect_uri": "http://rp.test/"},
        {"id_token_hint": "e30.e30.", "post_logout_redirect_uri": "http://rp.test/"},
    ],
    ids=str,
)
async def test_signing_out_sends_nobody_to_a_stranger(peer: Peer, parameters: dict[str, str]) -> None:
    assert (await peer.http.get("/end-session", params=parameters)).status_code == 400


async def test_clients_are_told_when_the_person_signs_out_at_the_eid() -> None:
    key = generate_private_key(SECP256R1())
    heard = Heard(key)
    async with running(heard.app) as client_url, an_eid(client_url=client_url) as peer:
        session = await peer.read((await peer.tokens())["id_token"])
        page = await peer.http.post("/sign-out", data={"leave": "1"})
        claims = await peer.read(heard.tokens[0])
        await peer.tokens(login_hint="vo")
        told = await peer.http.post("/practice/sign-out", json={"handle": "vo"})

    assert "secret-client: <code>200</code>" in page.text
    assert jwt.get_unverified_header(heard.tokens[0])["typ"] == "logout+jwt"
    assert (claims["sub"], claims["sid"]) == (session["sub"], session["sid"])
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert claims["jti"]
    assert claims["exp"] - claims["iat"] == 120
    assert "nonce" not in claims
    assert told.json() == [{"client_id": "secret-client", "outcome": "200"}]
    assert len(heard.tokens) == 2


async def test_a_client_key_is_fetched_from_where_it_is_registered() -> None:
    key = generate_private_key(SECP256R1())
    async with running(Heard(key).app) as client_url, an_eid(client_url=client_url) as peer:
        form = peer.request(client_id="fetched-client")
        as_client = {"iss": "fetched-client", "sub": "fetched-client"}
        forged = await peer.http.post("/par", data={**form, **peer.assertion(**as_client)})
        peer.key = key
        right = await peer.http.post("/par", data={**form, **peer.assertion(**as_client)})

    assert (forged.status_code, right.status_code) == (401, 201)


async def test_down_and_slow_are_what_they_say(peer: Peer) -> None:
    await peer.break_with(down=True)
    assert (await peer.http.get("/.well-known/openid-configuration")).status_code == 503
    assert (await peer.redeem("any")).status_code == 503

    await peer.break_with(slow=0.2)
    began = time.monotonic()
    assert (await peer.http.get("/jwks")).status_code == 200
    assert time.monotonic() - began >= 0.2

    assert (await peer.http.post("/practice/faults", json={"unknown": True})).status_code == 400
    assert (await peer.http.get("/practice/faults")).json()["slow"] == 0.2


async def test_faults_of_the_answer_to_the_browser(peer: Peer) -> None:
    await peer.break_with(wrong_state=True, wrong_iss=True)
    wrong = answer_in(await peer.authorize())
    await peer.break_with(no_iss=True)
    without = answer_in(await peer.authorize())

    assert wrong["state"] != "st4te"
    assert wrong["iss"] != peer.issuer
    assert "iss" not in without


async def test_faults_of_the_description_and_of_user_info(peer: Peer) -> None:
    token = (await peer.tokens())["access_token"]
    await peer.break_with(wrong_issuer=True, wrong_userinfo_sub=True)

    found = (await peer.http.get("/.well-known/openid-configuration")).json()
    told = (await peer.http.get("/userinfo", headers={"Authorization": f"Bearer {token}"})).json()

    assert found["issuer"] != peer.issuer
    assert told["sub"] != person("chu-ho").subject


@pytest.mark.parametrize(
    ("fault", "claim"),
    [
        ("no_iat", "iat"),
        ("no_exp", "exp"),
        ("no_sub", "sub"),
        ("no_aud", "aud"),
        ("no_nonce", "nonce"),
        ("no_auth_time", "auth_time"),
    ],
)
async def test_faults_that_leave_a_claim_out(peer: Peer, fault: str, claim: str) -> None:
    await peer.break_with(**{fault: True})
    token = (await peer.tokens())["id_token"]

    assert claim not in jwt.decode(token, options={"verify_signature": False})


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("wrong_token_iss", jwt.InvalidIssuerError),
        ("wrong_aud", jwt.InvalidAudienceError),
        ("expired", jwt.ExpiredSignatureError),
        ("future", jwt.ImmatureSignatureError),
        ("bad_signature", jwt.InvalidSignatureError),
        ("alg_none", jwt.InvalidAlgorithmError),
        ("hmac", jwt.InvalidAlgorithmError),
        ("unknown_kid", KeyError),
        ("no_kid", KeyError),
        ("crit", jwt.InvalidTokenError),
    ],
)
async def test_faults_that_make_a_token_bad(peer: Peer, fault: str, error: type[Exception]) -> None:
    await peer.break_with(**{fault: True})
    token = (await peer.tokens())["id_token"]

    with pytest.raises(error):
        await peer.read(token)


async def test_faults_that_change_a_claim(peer: Peer) -> None:
    await peer.break_with(wrong_nonce=True, wrong_at_hash=True, stale_auth_time=True)
    tokens = await peer.tokens()
    claims = await peer.read(tokens["id_token"])

    assert claims["nonce"] != "n0nce"
    assert claims["at_hash"] != half_hash(tokens["access_token"], "ES256")
    assert claims["iat"] - claims["auth_time"] >= 86_400


async def test_rotated_keys_are_others_and_old_tokens_still_count_as_hints(peer: Peer) -> None:
    token = (await peer.tokens())["id_token"]
    before = {key["kid"] for key in (await peer.http.get("/jwks")).json()["keys"]}

    await peer.break_with(rotate_keys=True)

    after = {key["kid"] for key in (await peer.http.get("/jwks")).json()["keys"]}
    assert not before & after
    assert (await peer.http.get("/practice/faults")).json()["rotate_keys"] is False
    assert (await peer.http.get("/end-session", params={"id_token_hint": token})).status_code == 200


def test_every_fault_is_tested() -> None:
    source = Path(__file__).read_text()

    assert [name for name in Faults.__struct_fields__ if name not in source] == []
