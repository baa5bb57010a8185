"""The relying party against a provider that misbehaves in every way that the OpenID Foundation tests, and more.

Each row of a table changes one thing in a sign-in that is good otherwise; each is refused for a stable reason.  The
names in brackets are those of the conformance suite's tests of relying parties.  Its tests of refresh tokens have no
row: bkapp asks for none and keeps no token of the provider.  Its tests of the form post and of tokens in the callback
have none either: bkapp asks for a code in the query.
"""

import asyncio
import base64
import json
import logging
import secrets
import time
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization

from bkapp.errors import DomainError
from bkapp.identity.providers import (
    Identity,
    Logout,
    NotACitizen,
    ProviderUnavailable,
    SignInDenied,
    SignInRefused,
)
from bkapp.identity.providers.oidc import OidcProvider, public_jwks
from bkapp.identity.rules import NOT_TOLD
from tests.identity.scripted_op import (
    BACKCHANNEL,
    CALLBACK,
    CLIENT,
    ED25519,
    NAME,
    NUMBER,
    P256,
    RSA,
    SECRET,
    STRANGER,
    Answer,
    In,
    ScriptedOp,
    Stage,
    b64,
    come_back,
    jws,
    public,
    said,
    serving,
)
from tests.practice.peers import address_of, listening

CLIENT_KEY = "key-1:" + base64.urlsafe_b64encode(bytes(range(1, 33))).decode()
PATIENCE = 10.0  # of a machine that is busy with other tests
IMPATIENCE = 0.7  # where the provider is slow on purpose

Bend = Callable[[ScriptedOp], None]


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with serving() as stage:
        yield stage


@pytest.fixture
def op(stage: Stage) -> ScriptedOp:
    """A provider that is right in everything until a test bends it."""
    return stage.enter(client_jwks=public_jwks(CLIENT_KEY))


class Clock:
    """Time that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@asynccontextmanager
async def client(op: ScriptedOp, **settings: Any) -> AsyncIterator[OidcProvider]:
    """Our side of it."""
    usual: dict[str, Any] = {
        "issuer": op.issuer,
        "client_id": CLIENT,
        "client_secret": SECRET,
        "client_key": CLIENT_KEY,
        "algorithms": ("ES256", "PS256", "EdDSA", "RS256"),
        "scope": "openid profile",
        "allow_http": True,
        "patience": PATIENCE,
    }
    provider = OidcProvider(**usual | settings)
    try:
        yield provider
    finally:
        await provider.close()


def attempt() -> dict[str, Any]:
    return {
        "state": secrets.token_urlsafe(24),
        "nonce": secrets.token_urlsafe(24),
        "verifier": secrets.token_urlsafe(48),
        "redirect_uri": CALLBACK,
    }


async def sign_in(
    provider: OidcProvider, *, bend: Callable[[dict[str, str]], Mapping[str, str]] = dict, **wishes: Any
) -> Identity:
    """From the first click to the end.  ``bend`` changes what the browser brings back."""
    tried = attempt()
    params = await come_back(await provider.begin(**tried, **wishes))
    return await provider.finish(bend(params), **tried, **wishes)


async def refused(op: ScriptedOp, **settings: Any) -> tuple[type[DomainError], str]:
    """How a sign-in ends that must not succeed."""
    async with client(op, **settings) as provider:
        with pytest.raises(DomainError) as refusal:
            await sign_in(provider)
    return type(refusal.value), str(refusal.value.facts.get("reason", ""))


class TestSigningIn:
    async def test_with_a_pushed_request_and_a_key(self, op: ScriptedOp) -> None:
        async with client(op) as provider:
            before = datetime.now(UTC).replace(microsecond=0)
            identity = await sign_in(provider)

        assert identity == Identity(
            issuer=op.issuer,
            subject="subject-1",
            number=NUMBER,
            name=NAME,
            birth=date(1983, 5, 19),
            phone="+84912345678",
            level=2,
            acr="loa2",
            authenticated_at=identity.authenticated_at,
            provider_sid="session-1",
        )
        assert -12 <= (identity.authenticated_at - before).total_seconds() <= 0
        (pushed,), (redeemed,) = op.asked("/par"), op.asked("/token")
        assert {"client_assertion", "code_challenge", "nonce", "state"} <= set(pushed.form)
        assert {"client_assertion", "code_verifier"} <= set(redeemed.form)
        assert pushed.form["client_assertion"] != redeemed.form["client_assertion"]
        for seen in (pushed, redeemed):
            assert "client_secret" not in seen.form
            assert "authorization" not in seen.headers

    async def test_the_browser_sees_only_the_address_of_a_pushed_request(self, op: ScriptedOp) -> None:
        async with client(op) as provider:
            query = parse_qs(urlsplit(await provider.begin(**attempt())).query)

        assert set(query) == {"tenant", "client_id", "request_uri"}

    async def test_with_a_secret_in_the_header(self, op: ScriptedOp) -> None:
        op.discovery = {"token_endpoint_auth_methods_supported": ...}  # which means basic

        async with client(op) as provider:
            identity = await sign_in(provider)

        (redeemed,) = op.asked("/token")
        assert identity.number == NUMBER
        assert redeemed.headers["authorization"].startswith("Basic ")
        assert {"client_assertion", "client_secret"}.isdisjoint(redeemed.form)

    async def test_with_a_secret_in_the_form(self, op: ScriptedOp) -> None:
        op.discovery = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}

        async with client(op) as provider:
            assert (await sign_in(provider)).number == NUMBER

        assert op.asked("/token")[0].form["client_secret"] == SECRET

    async def test_with_a_secret_where_there_is_no_key(self, op: ScriptedOp) -> None:
        async with client(op, client_key="") as provider:
            assert (await sign_in(provider)).number == NUMBER

        assert op.asked("/token")[0].headers["authorization"].startswith("Basic ")

    async def test_with_a_secret_where_our_key_is_of_a_kind_that_is_not_taken(self, op: ScriptedOp) -> None:
        op.discovery = {"token_endpoint_auth_signing_alg_values_supported": ["RS256"]}

        async with client(op) as provider:
            assert (await sign_in(provider)).number == NUMBER

        assert op.asked("/token")[0].headers["authorization"].startswith("Basic ")

    async def test_as_a_client_that_nothing_proves(self, op: ScriptedOp) -> None:
        op.discovery = {
            "token_endpoint_auth_methods_supported": ["none"],
            "pushed_authorization_request_endpoint": ...,
        }

        async with client(op, client_key="", client_secret="") as provider:
            # This provider does know the client by its secret, so it says no; but it was asked.
            with pytest.raises(ProviderUnavailable):
                await sign_in(provider)

        (redeemed,) = op.asked("/token")
        assert redeemed.form["client_id"] == CLIENT
        assert {"client_secret", "client_assertion"}.isdisjoint(redeemed.form)
        assert "authorization" not in redeemed.headers

    async def test_without_pushed_requests(self, op: ScriptedOp) -> None:
        op.discovery = {"pushed_authorization_request_endpoint": ...}
        tried = attempt()

        async with client(op) as provider:
            url = await provider.begin(**tried, login_hint="chu-ho", max_age=300, acr="loa2")
            params = await come_back(url)
            identity = await provider.finish(params, **tried, max_age=300, acr="loa2")

        query = {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}
        assert identity.number == NUMBER
        assert query == query | {
            "tenant": "vn",
            "response_type": "code",
            "client_id": CLIENT,
            "scope": "openid profile",
            "redirect_uri": CALLBACK,
            "code_challenge_method": "S256",
            "login_hint": "chu-ho",
            "max_age": "300",
            "acr_values": "loa2",
            "state": tried["state"],
            "nonce": tried["nonce"],
        }
        assert tried["verifier"] not in url

    @pytest.mark.parametrize(
        ("algorithm", "key", "kid"),
        [("RS256", RSA, "op-rsa"), ("PS256", RSA, "op-rsa"), ("EdDSA", ED25519, "op-ed"), ("ES256", P256, "op-1")],
    )
    async def test_with_each_algorithm(self, op: ScriptedOp, algorithm: str, key: Any, kid: str) -> None:
        op.algorithm, op.key, op.kid = algorithm, key, kid

        async with client(op) as provider:
            assert (await sign_in(provider)).number == NUMBER

    async def test_with_the_one_key_that_there_is_and_no_id(self, op: ScriptedOp) -> None:
        """[KidAbsentSingleJwks]"""
        op.kid, op.published = None, [public(P256, "op-1")]

        async with client(op) as provider:
            assert (await sign_in(provider)).number == NUMBER

    @pytest.mark.parametrize("changes", [{}, {"iss": ..., "aud": ...}, {"aud": ["other", CLIENT]}])
    async def test_with_a_userinfo_that_is_signed(self, op: ScriptedOp, changes: dict[str, Any]) -> None:
        op.info_header, op.info = {}, changes

        async with client(op) as provider:
            assert (await sign_in(provider)).name == NAME

    async def test_with_everything_in_the_id_token(self, op: ScriptedOp) -> None:
        op.discovery = {"userinfo_endpoint": ...}
        op.id_claims = {"SoDinhDanh": "099190000021", "name": "Lý Thị Mỷ", "birthdate": "1990", "loAs": "1"}

        async with client(op) as provider:
            identity = await sign_in(provider)

        assert (identity.number, identity.name, identity.birth, identity.level) == (
            "099190000021",
            "Lý Thị Mỷ",
            None,
            1,
        )
        assert op.asked("/userinfo") == []

    @pytest.mark.parametrize(
        "claims",
        [
            {"aud": [CLIENT]},
            {"aud": [CLIENT, "other"], "azp": CLIENT},
            {"azp": CLIENT},
            {"at_hash": ..., "c_hash": ...},  # both may be missing where a code was changed (Core §3.1.3.6)
            {"auth_time": ..., "acr": ..., "sid": ...},
            {"iat": In(0.5)},
            {"nbf": In(-5)},
            {"sub": "s" * 255},
            {"unheard": {"of": [1, 2]}},
        ],
        ids=str,
    )
    async def test_with_what_a_provider_may_say_or_leave_out(self, op: ScriptedOp, claims: dict[str, Any]) -> None:
        op.id_claims = claims
        op.info = {"sub": claims.get("sub", "subject-1")}

        async with client(op) as provider:
            assert (await sign_in(provider)).number == NUMBER

    async def test_when_a_person_proved_it_was_them_is_not_guessed(self, op: ScriptedOp) -> None:
        """A provider that knows the browser issues a token unasked: that is no sign-in of the last minutes."""
        op.id_claims = {"auth_time": ...}

        async with client(op) as provider:
            assert (await sign_in(provider)).authenticated_at == NOT_TOLD

    async def test_a_provider_that_does_not_say_that_it_names_itself_may_leave_it(self, op: ScriptedOp) -> None:
        op.discovery, op.callback = {"authorization_response_iss_parameter_supported": ...}, {"iss": ...}

        async with client(op) as provider:
            assert (await sign_in(provider)).number == NUMBER

    async def test_claims_of_other_sources_are_left_where_they_are(self, op: ScriptedOp) -> None:
        """[AggregatedClaims, DistributedClaims]"""
        stranger = jws({"alg": "ES256"}, {"SoDienThoai": "0999999999"}, STRANGER)
        op.info = {
            "SoDienThoai": ...,
            "_claim_names": {"SoDienThoai": "a", "NgayThangNamSinh": "b"},
            "_claim_sources": {"a": {"JWT": stranger}, "b": {"endpoint": f"{op.issuer}/claims", "access_token": "x"}},
        }

        async with client(op) as provider:
            assert (await sign_in(provider)).phone is None

        assert op.asked("/claims") == []

    async def test_no_lasting_access_is_asked_for(self, op: ScriptedOp) -> None:
        async with client(op) as provider:
            await sign_in(provider)

        assert "offline_access" not in op.asked("/par")[0].form["scope"]
        assert op.asked("/token")[0].form["grant_type"] == "authorization_code"


def claims(**changes: Any) -> Bend:
    return lambda op: op.id_claims.update(changes)


def header(**changes: Any) -> Bend:
    return lambda op: op.id_header.update(changes)


def answer(**changes: Any) -> Bend:
    return lambda op: op.token.update(changes)


def info(**changes: Any) -> Bend:
    return lambda op: op.info.update(changes)


def signed_info(head: dict[str, Any] | None = None, **changes: Any) -> Bend:
    def bend(op: ScriptedOp) -> None:
        op.info_header = head or {}
        op.info.update(changes)

    return bend


def back(**changes: Any) -> Bend:
    return lambda op: op.callback.update(changes)


def by(key: Any, algorithm: str, kid: str | None) -> Bend:
    def bend(op: ScriptedOp) -> None:
        op.key, op.algorithm, op.kid = key, algorithm, kid

    return bend


def damaged(token: str) -> str:
    """With another signature, still canonical."""
    head, _, signature = token.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[len(raw) // 2] ^= 1
    return f"{head}.{b64(bytes(raw))}"


def twist(change: Callable[[str], str]) -> Bend:
    def bend(op: ScriptedOp) -> None:
        op.twist = change

    return bend


def hmac_with_the_public_key(op: ScriptedOp) -> None:
    # PyJWT does not sign so either, so the signature is made by hand.
    import hmac  # noqa: PLC0415

    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def resigned(token: str) -> str:
        payload = token.split(".")[1]
        signed = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'op-rsa'}).encode())}.{payload}"
        return f"{signed}.{b64(hmac.digest(pem, signed.encode(), 'sha256'))}"

    op.twist = resigned


def two_keys_and_no_id(op: ScriptedOp) -> None:
    op.kid, op.published = None, [public(P256, "a"), public(STRANGER, "b")]


def key_for_encryption(op: ScriptedOp) -> None:
    op.published = [public(P256, "op-1", use="enc")]


def key_to_sign_with(op: ScriptedOp) -> None:
    op.published = [public(P256, "op-1", key_ops=["sign"])]


ID_TOKENS: dict[str, tuple[Bend, str]] = {
    "[IdTokenSigAlgNone] no signature": (header(alg="none", kid=...), "id_token_wrong_algorithm"),
    "[InvalidSignatureHS256] the public key as a secret": (hmac_with_the_public_key, "id_token_wrong_algorithm"),
    "[InvalidSignatureES256]": (twist(damaged), "id_token_wrong_signature"),
    "[InvalidSignatureRS256]": (
        lambda op: (by(RSA, "RS256", "op-rsa")(op), twist(damaged)(op))[0],
        "id_token_wrong_signature",
    ),
    "signed by a stranger": (by(STRANGER, "ES256", "op-1"), "id_token_wrong_signature"),
    "signed by a stranger whose key is in the header": (
        lambda op: (by(STRANGER, "ES256", "op-1")(op), header(jwk=public(STRANGER, "op-1"))(op))[0],
        "id_token_forbidden_header",
    ),
    "keys at another address": (header(jku="https://attacker.example/keys"), "id_token_forbidden_header"),
    "an unknown extension": (header(crit=["exp"], exp=1), "id_token_forbidden_header"),
    "an unknown key": (header(kid="nobody"), "id_token_unknown_key"),
    "[KidAbsentMultipleJwks] two keys and no id": (two_keys_and_no_id, "id_token_ambiguous_key"),
    "a key for encryption": (key_for_encryption, "id_token_unsuitable_key"),
    "a key to sign with": (key_to_sign_with, "id_token_unsuitable_key"),
    "an access token": (header(typ="at+jwt"), "id_token_wrong_type"),
    "a logout token": (header(typ="logout+jwt"), "id_token_wrong_type"),
    "padded": (twist(lambda token: token + "="), "id_token_malformed"),
    "encrypted": (twist(lambda token: token + ".AAAA.AAAA"), "id_token_malformed"),
    "endless": (claims(pad="a" * 40_000), "id_token_too_long"),
    "a claim given twice": (
        twist(lambda token: jws({"alg": "ES256", "kid": "op-1"}, b'{"sub":"a","sub":"b"}', P256)),
        "id_token_bad_claims",
    ),
    "[InvalidIssuer]": (claims(iss="https://attacker.example"), "wrong_iss"),
    "an issuer with a slash more": (
        lambda op: op.id_claims.update(iss=f"{op.issuer}/"),
        "wrong_iss",
    ),
    "[MissingIssuer]": (claims(iss=...), "wrong_iss"),
    "[InvalidAud]": (claims(aud="other"), "wrong_aud"),
    "[MissingAud]": (claims(aud=...), "wrong_aud"),
    "an audience of nobody": (claims(aud=[]), "wrong_aud"),
    "an audience that is part of us": (claims(aud=CLIENT[:-1]), "wrong_aud"),
    "an audience that is an object": (claims(aud={CLIENT: True}), "wrong_aud"),
    "an audience with a number": (claims(aud=[CLIENT, 1], azp=CLIENT), "wrong_aud"),
    "several audiences and nobody it was given to": (claims(aud=[CLIENT, "other"]), "wrong_azp"),
    "several audiences, given to another": (claims(aud=[CLIENT, "other"], azp="other"), "wrong_azp"),
    "given to another": (claims(azp="other"), "wrong_azp"),
    "[MissingIat]": (claims(iat=...), "wrong_iat"),
    "issued in the future": (claims(iat=In(900), exp=In(1200)), "wrong_iat"),
    "issued long ago": (claims(iat=In(-3600)), "wrong_iat"),
    "issued at a text": (claims(iat="1700000000"), "wrong_iat"),
    "issued at true": (claims(iat=True), "wrong_iat"),
    "issued before 1970": (claims(iat=-1), "wrong_iat"),
    "issued at no time": (claims(iat=10**18), "wrong_iat"),
    "[MissingExp]": (claims(exp=...), "wrong_exp"),
    "expired": (claims(iat=In(-300), exp=In(-120)), "wrong_exp"),
    "expired before it was issued": (claims(exp=In(-30)), "wrong_exp"),
    "expires at null": (claims(exp=None), "wrong_exp"),
    "not good yet": (claims(nbf=In(600)), "wrong_nbf"),
    "[MissingSub]": (claims(sub=...), "wrong_sub"),
    "an empty subject": (claims(sub=""), "wrong_sub"),
    "an endless subject": (claims(sub="s" * 256), "wrong_sub"),
    "a subject that is a number": (claims(sub=1), "wrong_sub"),
    "a subject with a NUL": (claims(sub="a\0b"), "wrong_sub"),
    "[NonceInvalid]": (claims(nonce="another"), "wrong_nonce"),
    "no nonce": (claims(nonce=...), "wrong_nonce"),
    "a nonce that is null": (claims(nonce=None), "wrong_nonce"),
    "[InvalidAtHash]": (claims(at_hash="77QmUPtjPfzWtF2AnpK9RQ"), "wrong_at_hash"),
    "the hash of an access token that is null": (claims(at_hash=None), "wrong_at_hash"),
    "[InvalidCHash]": (claims(c_hash="LDktKdoQak3Pk0cnXxCltA"), "wrong_c_hash"),
    "signed in later than now": (claims(auth_time=In(900)), "wrong_auth_time"),
    "signed in at a text": (claims(auth_time="now"), "wrong_auth_time"),
    "a strength that is a number": (claims(acr=2), "wrong_acr"),
    "a session that is a list": (claims(sid=["a"]), "wrong_sid"),
    "a session with a NUL": (claims(sid="a\0b"), "wrong_sid"),
}
ANSWERS: dict[str, tuple[Bend, str]] = {
    "no ID token": (answer(id_token=...), "no_id_token"),
    "an ID token that is null": (answer(id_token=None), "no_id_token"),
    "an ID token that is empty": (answer(id_token=""), "no_id_token"),
    "an ID token that is an object": (answer(id_token={"sub": "subject-1"}), "no_id_token"),
    "no access token": (answer(access_token=...), "no_access_token"),
    "an access token with a line break": (answer(access_token="a\r\nHost: attacker.example"), "no_access_token"),
    "an access token without end": (answer(access_token="a" * 40_000), "no_access_token"),
    "no kind of token": (answer(token_type=...), "wrong_token_type"),
    "a token that is bound to a key": (answer(token_type="DPoP"), "wrong_token_type"),
    "another access token than the ID token's": (answer(access_token="another"), "wrong_at_hash"),
    "an ID token of another sign-in": (
        lambda op: op.token.update(id_token=op.id_token(nonce="another", token="t", code="c")),
        "wrong_nonce",
    ),
    "a code that is not taken": (
        lambda op: op.answers.update({"/token": said({"error": "invalid_grant"}, 400)}),
        "code_not_taken",
    ),
}
JWT = {"content-type": "application/jwt"}
USERINFO: dict[str, tuple[Bend, str]] = {
    "[InvalidSubInUserinfo]": (info(sub="subject-2"), "wrong_userinfo_sub"),
    "no subject": (info(sub=...), "wrong_userinfo_sub"),
    "a subject that is a list": (info(sub=["subject-1"]), "wrong_userinfo_sub"),
    "a number that contradicts the ID token": (claims(SoDinhDanh="099190000021"), "claims_contradict"),
    "no number": (info(SoDinhDanh=...), "no_citizen_number"),
    "a number of nine digits": (info(SoDinhDanh="095123456"), "bad_citizen_number"),
    "no name": (info(HoVaTen=...), "no_name"),
    "a birth on no day": (info(NgayThangNamSinh="31/02/1983"), "bad_birth_date"),
    "a level that is none": (info(IAL=7), "bad_assurance_level"),
    "a token that is not taken": (
        lambda op: op.answers.update({"/userinfo": said({"error": "invalid_token"}, 401)}),
        "userinfo_refused",
    ),
    "signed with nothing": (signed_info({"alg": "none"}), "userinfo_wrong_algorithm"),
    "signed with an unknown key": (signed_info({"kid": "nobody"}), "userinfo_unknown_key"),
    "signed, of another type": (signed_info({"typ": "at+jwt"}), "userinfo_wrong_type"),
    "signed for another": (signed_info(aud="other"), "wrong_userinfo_aud"),
    "signed by another": (signed_info(iss="https://attacker.example"), "wrong_userinfo_iss"),
    "signed, about another": (signed_info(sub="subject-2"), "wrong_userinfo_sub"),
    "said to be signed, but not": (
        lambda op: op.answers.update(
            {"/userinfo": Answer([b'{"sub":"subject-1"}'], headers={"content-type": "application/jwt"})}
        ),
        "userinfo_malformed",
    ),
    "signed, in letters that are none": (
        lambda op: op.answers.update(
            {"/userinfo": Answer([b"\xff.\xff.\xff"], headers={"content-type": "application/jwt"})}
        ),
        "userinfo_malformed",
    ),
}
CALLBACKS: dict[str, tuple[Bend, str]] = {
    "no state": (back(state=...), "wrong_state"),
    "an empty state": (back(state=""), "wrong_state"),
    "a state of another sign-in": (back(state="another"), "wrong_state"),
    "a state that is no ASCII": (back(state="đăng nhập"), "wrong_state"),
    "no issuer from a provider that names itself": (back(iss=...), "no_issuer"),
    "an empty issuer": (back(iss=""), "wrong_issuer"),
    "another issuer": (back(iss="https://attacker.example"), "wrong_issuer"),
    "another issuer's error": (back(iss="https://attacker.example", code=..., error="access_denied"), "wrong_issuer"),
    "no code": (back(code=...), "no_code"),
    "an empty code": (back(code=""), "no_code"),
    "an endless code": (back(code="c" * 5000), "no_code"),
    "a code with a line break": (back(code="c\r\n"), "no_code"),
    "a made-up code": (back(code="c"), "code_not_taken"),
    "no session": (back(code=..., error="login_required"), "login_required"),
    "no consent": (back(code=..., error="consent_required"), "consent_required"),
    "a question": (back(code=..., error="interaction_required"), "interaction_required"),
    "a scope": (back(code=..., error="invalid_scope"), "invalid_scope"),
    "a strength that cannot be had": (
        back(code=..., error="unmet_authentication_requirements"),
        "unmet_authentication_requirements",
    ),
    "an error of its own": (back(code=..., error="<script>alert(1)</script>"), "unknown_error"),
    "an empty error": (back(code=..., error=""), "unknown_error"),
    "an error and a code": (back(error="login_required"), "login_required"),
}


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        pytest.param(*row, id=f"{what}: {name}")
        for what, table in {
            "ID token": ID_TOKENS,
            "token answer": ANSWERS,
            "userinfo": USERINFO,
            "callback": CALLBACKS,
        }.items()
        for name, row in table.items()
    ],
)
async def test_what_does_not_prove_who_somebody_is_is_refused(op: ScriptedOp, bend: Bend, reason: str) -> None:
    bend(op)

    assert await refused(op) == (SignInRefused, reason)


@pytest.mark.parametrize(
    "bend", [info(LoaiTaiKhoan=2), info(LoaiTaiKhoan=..., SoDinhDanh=..., MaSoThue="4700123456")], ids=["kind", "tax"]
)
async def test_an_organisation_does_not_sign_in(op: ScriptedOp, bend: Bend) -> None:
    bend(op)

    assert (await refused(op))[0] is NotACitizen


async def test_somebody_may_say_no(op: ScriptedOp) -> None:
    back(code=..., error="access_denied", error_description="<b>call 0900 000 000</b>")(op)

    async with client(op) as provider:
        with pytest.raises(SignInDenied) as refusal:
            await sign_in(provider)

    assert "0900" not in f"{refusal.value.detail}{refusal.value.facts}"
    assert op.asked("/token") == []


@pytest.mark.parametrize(("_", "row"), [*CALLBACKS.items()], ids=[*CALLBACKS])
async def test_a_bad_callback_sends_nothing_to_the_provider(op: ScriptedOp, _: str, row: tuple[Bend, str]) -> None:
    row[0](op)

    await refused(op)

    assert len(op.asked("/token")) == (1 if row[1] == "code_not_taken" else 0)


class TestBelongingTogether:
    async def test_a_code_is_good_once(self, op: ScriptedOp) -> None:
        tried = attempt()
        async with client(op) as provider:
            params = await come_back(await provider.begin(**tried))
            await provider.finish(params, **tried)

            with pytest.raises(SignInRefused) as refusal:
                await provider.finish(params, **tried)

        assert refusal.value.facts == {"reason": "code_not_taken"}

    @pytest.mark.parametrize(
        ("name", "reason"), [("state", "wrong_state"), ("verifier", "code_not_taken"), ("nonce", "wrong_nonce")]
    )
    async def test_what_the_callback_brings_is_bound_to_the_browser_that_began(
        self, op: ScriptedOp, name: str, reason: str
    ) -> None:
        mine, theirs = attempt(), attempt()
        async with client(op) as provider:
            params = await come_back(await provider.begin(**theirs))

            with pytest.raises(SignInRefused) as refusal:
                await provider.finish(params, **{**theirs, name: mine[name]})

        assert refusal.value.facts == {"reason": reason}

    async def test_the_callback_of_another_provider_is_noticed(self, op: ScriptedOp) -> None:
        """The mix-up attack: the browser began with one provider and comes back from another."""
        async with serving() as elsewhere:
            other = elsewhere.enter(client_jwks=op.client_jwks)
            tried = attempt()
            async with client(other) as hostile:
                params = await come_back(await hostile.begin(**tried))

            async with client(op) as honest:
                with pytest.raises(SignInRefused) as refusal:
                    await honest.finish(params, **tried)

        assert refusal.value.facts == {"reason": "wrong_issuer"}
        assert op.asked("/token") == []

    async def test_a_token_that_another_provider_made_is_noticed(self, op: ScriptedOp) -> None:
        """Both publish the same key: only the issuer tells them apart."""
        async with serving() as elsewhere:
            other = elsewhere.enter()
            op.twist = lambda _: other.id_token(nonce="n", token="t", code="c")

            assert await refused(op) == (SignInRefused, "wrong_iss")


class TestStrength:
    @pytest.mark.parametrize(
        ("bend", "wishes", "reason"),
        [
            (claims(auth_time=...), {"max_age": 300}, "wrong_auth_time"),
            (claims(auth_time=In(-1200)), {"max_age": 300}, "wrong_auth_time"),
            (claims(auth_time=In(-1200)), {"max_age": 0}, "wrong_auth_time"),
            (claims(acr=...), {"acr": "loa3"}, "wrong_acr"),
            (claims(acr="loa2"), {"acr": "loa3 loa4"}, "wrong_acr"),
            (claims(acr="loa"), {"acr": "loa3"}, "wrong_acr"),
        ],
        ids=["no time", "long ago", "not anew", "no strength", "too weak", "a part of the name"],
    )
    async def test_what_was_asked_must_be_met(
        self, op: ScriptedOp, bend: Bend, wishes: dict[str, Any], reason: str
    ) -> None:
        bend(op)

        async with client(op) as provider:
            with pytest.raises(SignInRefused) as refusal:
                await sign_in(provider, **wishes)

        assert refusal.value.facts == {"reason": reason}

    @pytest.mark.parametrize("wishes", [{"max_age": 300}, {"max_age": 0}, {"acr": "loa3 loa2"}], ids=str)
    async def test_what_was_asked_and_is_met(self, op: ScriptedOp, wishes: dict[str, Any]) -> None:
        async with client(op) as provider:
            assert (await sign_in(provider, **wishes)).acr == "loa2"

    async def test_the_strength_of_every_sign_in_counts_where_the_provider_names_one(self, op: ScriptedOp) -> None:
        async with client(op, acr="loa2 loa3") as provider:
            assert (await sign_in(provider)).acr == "loa2"
            assert op.asked("/par")[0].form["acr_values"] == "loa2 loa3"

            op.id_claims = {"acr": ...}
            assert (await sign_in(provider)).acr is None

            op.id_claims = {"acr": "loa1"}
            with pytest.raises(SignInRefused) as refusal:
                await sign_in(provider)

        assert refusal.value.facts == {"reason": "wrong_acr"}


class TestKeys:
    async def test_documents_are_fetched_once_until_their_time_is_over(self, op: ScriptedOp) -> None:
        clock = Clock()
        async with client(op, clock=clock, client_key="") as provider:
            await sign_in(provider)
            await sign_in(provider)
            once = len(op.asked("/.well-known/openid-configuration")), len(op.asked("/keys"))
            clock.ahead = 3700
            await provider.begin(**attempt())

        assert once == (1, 1)
        assert len(op.asked("/.well-known/openid-configuration")) == 2

    async def test_a_new_key_is_found_at_once_and_by_all(self, op: ScriptedOp) -> None:
        async with client(op) as provider:
            await sign_in(provider)
            op.key, op.kid, op.published = STRANGER, "op-2", [public(P256, "op-1"), public(STRANGER, "op-2")]

            identities = await asyncio.gather(*(sign_in(provider) for _ in range(8)))

        assert [identity.number for identity in identities] == [NUMBER] * 8
        assert len(op.asked("/keys")) == 2

    async def test_unknown_keys_do_not_make_us_ask_again_and_again(self, op: ScriptedOp) -> None:
        clock = Clock()
        async with client(op, clock=clock) as provider:
            for _ in range(5):
                with pytest.raises(SignInRefused):
                    await provider.read_logout(op.logout_token({"kid": secrets.token_hex(4)}))
            soon = len(op.asked("/keys"))
            clock.ahead = 31
            with pytest.raises(SignInRefused):
                await provider.read_logout(op.logout_token({"kid": "x"}))

        assert (soon, len(op.asked("/keys"))) == (2, 3)

    async def test_a_key_that_was_withdrawn_is_forgotten_in_time(self, op: ScriptedOp) -> None:
        clock = Clock()
        async with client(op, clock=clock) as provider:
            await provider.read_logout(op.logout_token())
            op.published = [public(STRANGER, "op-2")]
            clock.ahead = 3700

            with pytest.raises(SignInRefused) as refusal:
                await provider.read_logout(op.logout_token(iat=int(clock()), exp=int(clock()) + 60))

        assert refusal.value.facts == {"reason": "logout_token_unknown_key"}

    def test_our_own_keys_are_published_without_their_secret(self) -> None:
        two = f"{CLIENT_KEY},key-2:{base64.urlsafe_b64encode(bytes(range(2, 34))).decode().rstrip('=')}"

        found = public_jwks(two)["keys"]

        assert [key["kid"] for key in found] == ["key-1", "key-2"]
        assert all(set(key) == {"kty", "crv", "kid", "use", "alg", "x", "y"} for key in found)
        assert public_jwks("") == {"keys": []}

    @pytest.mark.parametrize("key", ["x", "a:", "a:AAAA", "a:!", ":" + "A" * 43, "a:" + "A" * 43, "a:" + "_" * 43])
    def test_a_client_key_that_is_none_is_told_without_repeating_it(self, key: str) -> None:
        with pytest.raises(ValueError, match=r"^Client key 1 is not kid:key") as refusal:
            public_jwks(key)

        assert "AAAA" not in str(refusal.value)


WELL_KNOWN = "/.well-known/openid-configuration"


def whole(path: str, *pieces: bytes, **answer: Any) -> Bend:
    return lambda op: op.answers.update({path: Answer([*pieces], **answer)})


def document(**changes: Any) -> Bend:
    return lambda op: op.discovery.update(changes)


OUTAGES: dict[str, tuple[Bend, str]] = {
    "the document is of another issuer": (document(issuer="https://attacker.example"), "wrong_discovery_issuer"),
    "the document has an issuer with a slash more": (
        lambda op: op.discovery.update(issuer=f"{op.issuer}/"),
        "wrong_discovery_issuer",
    ),
    "the document has no issuer": (document(issuer=...), "wrong_discovery_issuer"),
    "there is no token endpoint": (document(token_endpoint=...), "bad_discovery"),
    "there are no keys": (document(jwks_uri=...), "bad_discovery"),
    "there is no place to sign in": (document(authorization_endpoint=...), "bad_discovery"),
    "the place to sign in is a script": (document(authorization_endpoint="javascript:alert(1)"), "bad_discovery"),
    "the keys are a file": (document(jwks_uri="file:///etc/passwd"), "bad_discovery"),
    "an address without host": (document(token_endpoint="http:///token"), "bad_discovery"),
    "an address with a password": (document(token_endpoint="http://a:b@127.0.0.1/token"), "bad_discovery"),
    "an address with a fragment": (document(token_endpoint="http://127.0.0.1/token#a"), "bad_discovery"),
    "an address with a line break": (document(token_endpoint="http://127.0.0.1/\r\ntoken"), "bad_discovery"),
    "an address with no port": (document(token_endpoint="http://127.0.0.1:port/token"), "bad_discovery"),
    "an address that is a list": (document(userinfo_endpoint=["http://127.0.0.1/"]), "bad_discovery"),
    "an address in brackets": (document(token_endpoint="http://[::1/token"), "bad_discovery"),
    "it gives no codes": (document(response_types_supported=["id_token"]), "bad_discovery"),
    "it takes no proof that we have": (
        document(token_endpoint_auth_methods_supported=["tls_client_auth"]),
        "no_client_authentication",
    ),
    **{
        f"{path} {what}": (whole(path, *pieces, **answer), reason)
        for path in (WELL_KNOWN, "/keys", "/token", "/userinfo")
        for what, pieces, answer, reason in (
            ("has a fault", [b"{}"], {"status": 500}, "bad_status"),
            ("is overloaded", [b"{}"], {"status": 503}, "bad_status"),
            ("is overrun", [b"{}"], {"status": 429}, "bad_status"),
            ("is gone", [b"{}"], {"status": 404}, "bad_status"),
            (
                "sends us elsewhere",
                [],
                {"status": 307, "headers": {"location": "/elsewhere", "content-type": "text/html"}},
                "bad_status",
            ),
            ("is a page", [b"<!doctype html>"], {"headers": {"content-type": "text/html"}}, "bad_answer"),
            ("is empty", [], {}, "bad_answer"),
            ("is a list", [b"[]"], {}, "bad_answer"),
            ("ends early", [b'{"issuer":'], {}, "bad_answer"),
            ("says a thing twice", [b'{"a":1,"a":2}'], {}, "bad_answer"),
            ("is packed", [b"{}"], {"headers": {"content-encoding": "gzip"}}, "bad_answer"),
            ("has no end", [b" " * 65_536] * 5, {}, "answer_too_long"),
            ("does not answer", [b"{}"], {"wait": 30}, "timeout"),
            ("drips", [b" "] * 300, {"pause": 0.1}, "timeout"),
            ("breaks off", [b"{}"], {"headers": {"content-length": "100"}}, "unreachable"),
        )
        if (path, reason) != ("/keys", "bad_answer") or what == "is packed"
    },
    "the keys are a page": (whole("/keys", b"<!doctype html>"), "bad_keys"),
    "the keys are no set": (whole("/keys", b'{"keys":{}}'), "bad_keys"),
    "it does not know us": (whole("/token", b'{"error":"invalid_client"}', status=401), "bad_status"),
    "it does not like the redemption": (whole("/token", b'{"error":"invalid_request"}', status=400), "bad_status"),
    "a refusal that is a page": (whole("/token", b"<p>", status=400), "bad_answer"),
    "it does not take the request": (whole("/par", b'{"error":"invalid_request"}', status=400), "request_not_taken"),
    "it does not know us when pushing": (whole("/par", b"{}", status=401), "request_not_taken"),
    "pushing fails": (whole("/par", b"{}", status=500), "request_not_taken"),
    "pushing gives no address": (whole("/par", b"{}", status=201), "bad_answer"),
    "pushing gives a page": (whole("/par", b"<p>", status=201), "bad_answer"),
    "pushing does not answer": (whole("/par", b"{}", wait=30), "timeout"),
    "it says that it has a fault": (back(code=..., error="server_error"), "server_error"),
    "it says that it is away": (back(code=..., error="temporarily_unavailable"), "temporarily_unavailable"),
}


@pytest.mark.parametrize(("bend", "reason"), OUTAGES.values(), ids=OUTAGES)
async def test_a_provider_that_cannot_be_used_is_told_apart_and_nothing_hangs(
    op: ScriptedOp, bend: Bend, reason: str
) -> None:
    bend(op)
    patience = IMPATIENCE if reason == "timeout" else PATIENCE
    started = time.monotonic()

    assert await refused(op, patience=patience) == (ProviderUnavailable, reason)

    assert time.monotonic() - started < PATIENCE
    assert op.asked("/elsewhere") == []


class TestOutages:
    async def test_a_provider_that_is_down(self) -> None:
        listener = listening()  # bound, but nobody answers there
        op = ScriptedOp(address_of(listener))

        assert await refused(op) == (ProviderUnavailable, "unreachable")

        listener.close()

    async def test_many_who_wait_for_a_slow_provider_wait_no_longer_than_one(self, op: ScriptedOp) -> None:
        op.answers[WELL_KNOWN] = Answer([b"{}"], wait=30)
        started = time.monotonic()

        async with client(op, patience=IMPATIENCE) as provider:
            found = await asyncio.gather(*(provider.begin(**attempt()) for _ in range(20)), return_exceptions=True)

        assert {type(each) for each in found} == {ProviderUnavailable}
        assert time.monotonic() - started < 10 * IMPATIENCE
        assert len(op.asked(WELL_KNOWN)) == 1

    async def test_one_who_gives_up_takes_nothing_from_the_others(self, op: ScriptedOp) -> None:
        op.answers[WELL_KNOWN] = Answer([json.dumps(op._document()).encode()], wait=0.3)

        async with client(op) as provider:
            first, second = (asyncio.ensure_future(provider.begin(**attempt())) for _ in range(2))
            await asyncio.sleep(0.1)
            first.cancel()

            assert "request_uri" in await second

        assert len(op.asked(WELL_KNOWN)) == 1

    async def test_it_is_asked_again_when_it_is_back(self, op: ScriptedOp) -> None:
        op.answers[WELL_KNOWN] = Answer(status=503)
        async with client(op) as provider:
            with pytest.raises(ProviderUnavailable):
                await sign_in(provider)
            del op.answers[WELL_KNOWN]

            assert (await sign_in(provider)).number == NUMBER

    async def test_without_encryption_nothing_is_asked_outside_the_demo(self, op: ScriptedOp) -> None:
        assert await refused(op, allow_http=False) == (ProviderUnavailable, "bad_discovery")


class TestLogout:
    async def test_a_logout_says_whose_session_is_over(self, op: ScriptedOp) -> None:
        async with client(op) as provider:
            logout = await provider.read_logout(op.logout_token(jti="once"))

        assert logout == Logout(
            issuer=op.issuer, subject="subject-1", provider_sid="session-1", jti="once", expires_at=logout.expires_at
        )
        assert 100 < (logout.expires_at - datetime.now(UTC)).total_seconds() < 200

    @pytest.mark.parametrize(
        ("head", "changes"),
        [
            ({"typ": ...}, {}),
            ({"typ": "application/logout+jwt"}, {}),
            ({}, {"sub": ...}),
            ({}, {"sid": ...}),
            ({}, {"aud": [CLIENT]}),
        ],
        ids=str,
    )
    async def test_what_may_be_left_out(self, op: ScriptedOp, head: dict[str, Any], changes: dict[str, Any]) -> None:
        async with client(op) as provider:
            assert (await provider.read_logout(op.logout_token(head, **changes))).issuer == op.issuer

    @pytest.mark.parametrize(
        ("head", "changes", "reason"),
        [
            ({"alg": "none"}, {}, "logout_token_wrong_algorithm"),
            ({"alg": "HS256"}, {}, "logout_token_wrong_algorithm"),
            ({"kid": "nobody"}, {}, "logout_token_unknown_key"),
            ({"typ": "JWT"}, {}, "logout_token_wrong_type"),
            ({"typ": "at+jwt"}, {}, "logout_token_wrong_type"),
            ({"jwk": {"kty": "EC"}}, {}, "logout_token_forbidden_header"),
            ({}, {"iss": "https://attacker.example"}, "wrong_iss"),
            ({}, {"iss": ...}, "wrong_iss"),
            ({}, {"aud": "other"}, "wrong_aud"),
            ({}, {"aud": ...}, "wrong_aud"),
            ({}, {"iat": ...}, "wrong_iat"),
            ({}, {"iat": In(-3600)}, "wrong_iat"),
            ({}, {"iat": In(3600), "exp": In(3700)}, "wrong_iat"),
            ({}, {"exp": ...}, "wrong_exp"),
            ({}, {"iat": In(-500), "exp": In(-100)}, "wrong_exp"),
            ({}, {"exp": In(1_000_000)}, "wrong_exp"),
            ({}, {"exp": 10**30}, "wrong_exp"),
            ({}, {"jti": ...}, "wrong_jti"),
            ({}, {"jti": ""}, "wrong_jti"),
            ({}, {"jti": "a\0"}, "wrong_jti"),
            ({}, {"nonce": "n"}, "wrong_nonce"),
            ({}, {"nonce": None}, "wrong_nonce"),
            ({}, {"events": ...}, "wrong_events"),
            ({}, {"events": []}, "wrong_events"),
            ({}, {"events": {}}, "wrong_events"),
            ({}, {"events": {BACKCHANNEL: True}}, "wrong_events"),
            ({}, {"events": {"http://schemas.openid.net/event/other": {}}}, "wrong_events"),
            ({}, {"sub": ..., "sid": ...}, "wrong_sub"),
            ({}, {"sub": ""}, "wrong_sub"),
            ({}, {"sid": 1}, "wrong_sid"),
        ],
        ids=str,
    )
    async def test_what_is_no_logout_ends_nothing(
        self, op: ScriptedOp, head: dict[str, Any], changes: dict[str, Any], reason: str
    ) -> None:
        token = op.logout_token()
        if head.get("alg") == "HS256":
            op.key = b"x" * 32
        token = op.logout_token(head, **changes)

        async with client(op) as provider:
            with pytest.raises(SignInRefused) as refusal:
                await provider.read_logout(token)

        assert refusal.value.facts == {"reason": reason}

    async def test_an_id_token_ends_nothing(self, op: ScriptedOp) -> None:
        async with client(op) as provider:
            for typ in ("JWT", ...):
                op.id_header = {"typ": typ}
                with pytest.raises(SignInRefused):
                    await provider.read_logout(op.id_token(nonce="n", token="t", code="c"))

    async def test_the_browser_ends_the_session_of_the_provider_too(self, op: ScriptedOp) -> None:
        async with client(op) as provider:
            url = await provider.end_session_url(after="https://bkapp.test/?x=1&y=2")

        assert url is not None
        assert url.startswith(f"{op.issuer}/end?")
        assert parse_qs(urlsplit(url).query) == {
            "client_id": [CLIENT],
            "post_logout_redirect_uri": ["https://bkapp.test/?x=1&y=2"],
        }

    @pytest.mark.parametrize("bend", [document(end_session_endpoint=...), whole(WELL_KNOWN, status=503)], ids="ab")
    async def test_or_stays_here_where_that_cannot_be(self, op: ScriptedOp, bend: Bend) -> None:
        bend(op)

        async with client(op) as provider:
            assert await provider.end_session_url(after="https://bkapp.test/") is None


class TestSecrecy:
    @pytest.mark.parametrize(
        "bend",
        [
            twist(damaged),
            claims(nonce="another"),
            info(sub="subject-2"),
            info(HoVaTen=["x"]),
            whole("/token", b"{}", status=500),
            whole("/token", b"{}", status=400),
            whole("/token", b"{}", wait=30),
            whole("/userinfo", b"{}", status=401),
            whole("/userinfo", b"{}", headers={"content-length": "100"}),
            answer(access_token="a\r\nb"),
        ],
        ids=map(str, range(10)),
    )
    async def test_what_goes_wrong_repeats_no_secret(
        self, op: ScriptedOp, bend: Bend, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        bend(op)
        tried = attempt()
        async with client(op, patience=2) as provider:
            params = await come_back(await provider.begin(**tried))
            caplog.clear()
            with pytest.raises(DomainError) as refusal:
                await provider.finish(params, **tried)

        told = caplog.text + "".join(traceback.format_exception(refusal.value)) + str(refusal.value.facts)
        hidden = [params["code"], tried["state"], tried["nonce"], tried["verifier"], SECRET, CLIENT_KEY, NUMBER, NAME]
        hidden += [seen.headers["authorization"] for seen in op.seen if "authorization" in seen.headers]
        hidden += [seen.form["client_assertion"] for seen in op.seen if "client_assertion" in seen.form]
        assert not [secret for secret in hidden if secret in told]

    async def test_who_signed_in_does_not_show(self, op: ScriptedOp) -> None:
        async with client(op) as provider:
            identity = await sign_in(provider)

        assert repr(identity) == f"Identity(issuer={op.issuer!r}, level=2)"


async def test_closing_lets_go_of_those_who_wait(op: ScriptedOp) -> None:
    op.answers[WELL_KNOWN] = Answer([b"{}"], wait=30)
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(client(op))
        waiting = asyncio.ensure_future(provider.begin(**attempt()))
        await asyncio.sleep(0.1)

    with pytest.raises((asyncio.CancelledError, ProviderUnavailable)):
        await waiting
