"""An OpenID provider over a real socket, right in everything but what a test bends.

It plays its part in full: it checks the proof of the client, PKCE, the redirection and that a code is used once.  A
test then changes one thing (a claim, a header, a whole answer, how slowly it comes) and sees who notices.
"""

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms
from msgspec import Struct, field

from tests.practice.peers import address_of, listening, running

CLIENT = "bkapp"
SECRET = "a secret: with + and %"
CALLBACK = "https://bkapp.test/dang-nhap/ve"
NUMBER, NAME = "099083000017", "Hoàng Văn Páo"
BACKCHANNEL = "http://schemas.openid.net/event/backchannel-logout"

P256, STRANGER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
_SIGN = get_default_algorithms()

Changes = dict[str, Any]


class Answer(Struct):
    """A whole answer, whatever was asked.  ``pieces`` are sent one after another with ``pause`` seconds between."""

    pieces: list[bytes] = []
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    wait: float = 0
    pause: float = 0


class Seen(Struct):
    """A request that arrived."""

    path: str
    headers: dict[str, str]
    form: dict[str, str]


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class In(Struct, frozen=True):
    """So many seconds from the moment that it is said: a table of tests is written long before it is run."""

    seconds: float


def changed(found: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """``found`` with changes; ``...`` leaves a member out."""
    now = int(time.time())
    said = {name: value for name, value in (found | changes).items() if value is not ...}
    return {name: now + value.seconds if isinstance(value, In) else value for name, value in said.items()}


def jws(header: dict[str, Any], claims: dict[str, Any] | bytes, key: Any) -> str:
    """A token of any header.  An algorithm that is none leaves the signature out."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    signed = f"{b64(json.dumps(header).encode())}.{b64(payload)}"
    algorithm = _SIGN.get(str(header.get("alg")))
    signature = b"" if algorithm is None or header["alg"] == "none" else algorithm.sign(signed.encode(), key)
    return f"{signed}.{b64(signature)}"


def public(key: Any, kid: str | None, **changes: Any) -> dict[str, Any]:
    names = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256", ed25519.Ed25519PrivateKey: "EdDSA"}
    name = next(name for kind, name in names.items() if isinstance(key, kind))
    found = json.loads(_SIGN[name].to_jwk(key.public_key()))
    found.pop("key_ops", None)
    return changed(found, {"kid": kid or ..., "use": "sig", **changes})


class ScriptedOp:
    """The provider, and everything about it that a test may bend.

    ``discovery``, ``token``, ``id_header``, ``id_claims``, ``info`` and ``callback`` are changes of what it says;
    ``answers`` are whole answers by path; ``twist`` rewrites the finished ID token.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.algorithm = "ES256"
        self.key: Any = P256
        self.kid: str | None = "op-1"
        self.published: list[dict[str, Any]] = [public(P256, "op-1"), public(RSA, "op-rsa"), public(ED25519, "op-ed")]
        self.client_jwks: dict[str, Any] = {"keys": []}
        self.discovery: Changes = {}
        self.token: Changes = {}
        self.id_header: Changes = {}
        self.id_claims: Changes = {}
        self.info: Changes = {}
        self.info_header: Changes | None = None  # not None: signed
        self.callback: Changes = {}
        self.answers: dict[str, Answer] = {}
        self.twist: Callable[[str], str] = lambda token: token
        self.seen: list[Seen] = []
        self._pushed: dict[str, dict[str, str]] = {}
        self._codes: dict[str, dict[str, str]] = {}
        self._tokens: dict[str, dict[str, str]] = {}
        self._assertions: set[str] = set()

    def asked(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = scope["query_string"].decode()
        seen = Seen(scope["path"], headers, dict(parse_qsl((body.decode() or query), keep_blank_values=True)))
        self.seen.append(seen)
        answer = self.answers.get(seen.path) or self._answer(seen)
        await asyncio.sleep(answer.wait)
        raw = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        for piece in answer.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(answer.pause)
        await send({"type": "http.response.body", "body": b""})

    def _answer(self, seen: Seen) -> Answer:
        match seen.path:
            case "/.well-known/openid-configuration":
                return said(self._document())
            case "/keys":
                return said({"keys": self.published})
            case "/par":
                return self._take(seen)
            case "/authorize":
                return self._authorize(seen.form)
            case "/token":
                return self._redeem(seen)
            case "/userinfo":
                return self._tell(seen)
        return Answer(status=404)

    def _document(self) -> dict[str, Any]:
        return changed(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize?tenant=vn",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "pushed_authorization_request_endpoint": f"{self.issuer}/par",
                "end_session_endpoint": f"{self.issuer}/end",
                "response_types_supported": ["code"],
                "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic"],
                "authorization_response_iss_parameter_supported": True,
            },
            self.discovery,
        )

    def _knows(self, seen: Seen) -> bool:
        """Whether the client has proven itself, in whichever way it chose."""
        assertion = seen.form.get("client_assertion")
        if assertion is not None:
            key = jwt.PyJWKSet.from_dict(self.client_jwks)[jwt.get_unverified_header(assertion)["kid"]]
            claims = jwt.decode(
                assertion, key, algorithms=["ES256"], audience=self.issuer, issuer=CLIENT, subject=CLIENT
            )
            fresh = claims["jti"] not in self._assertions and claims["exp"] - claims["iat"] <= 60
            self._assertions.add(claims["jti"])
            return fresh
        scheme, _, given = seen.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            name, _, secret = base64.b64decode(given).decode().partition(":")
            return (unquote_plus(name), unquote_plus(secret)) == (CLIENT, SECRET)
        return (seen.form.get("client_id"), seen.form.get("client_secret")) == (CLIENT, SECRET)

    def _take(self, seen: Seen) -> Answer:
        if not self._knows(seen):
            return said({"error": "invalid_client"}, 401)
        uri = f"urn:ietf:params:oauth:request_uri:{secrets.token_urlsafe(8)}"
        self._pushed[uri] = seen.form
        return said({"request_uri": uri, "expires_in": 60}, 201)

    def _authorize(self, form: dict[str, str]) -> Answer:
        request = self._pushed.pop(form["request_uri"], {}) if "request_uri" in form else form
        code = secrets.token_urlsafe(24)
        self._codes[code] = request
        params = changed({"code": code, "state": request.get("state", ""), "iss": self.issuer}, self.callback)
        return Answer(status=302, headers={"location": f"{request['redirect_uri']}?{urlencode(params)}"})

    def _redeem(self, seen: Seen) -> Answer:
        if not self._knows(seen):
            return said({"error": "invalid_client"}, 401)
        request = self._codes.pop(seen.form.get("code", ""), None)
        challenge = b64(hashlib.sha256(seen.form.get("code_verifier", "").encode()).digest())
        if (
            request is None
            or (request["code_challenge_method"], request["code_challenge"]) != ("S256", challenge)
            or request["redirect_uri"] != seen.form.get("redirect_uri")
        ):
            return said({"error": "invalid_grant"}, 400)
        token = secrets.token_urlsafe(24)
        self._tokens[token] = request
        id_token = self.id_token(nonce=request.get("nonce"), token=token, code=seen.form["code"])
        found = {"access_token": token, "token_type": "Bearer", "expires_in": 60, "id_token": id_token}
        return said(changed(found, self.token))

    def id_token(self, *, nonce: str | None, token: str, code: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "subject-1",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "auth_time": now - 10,
            "nonce": nonce,
            "at_hash": self.half(token),
            "c_hash": self.half(code),
            "acr": "loa2",
            "sid": "session-1",
        }
        header = {"alg": self.algorithm, "kid": self.kid or ..., "typ": "JWT"}
        return self.twist(jws(changed(header, self.id_header), changed(claims, self.id_claims), self.key))

    def half(self, value: str) -> str:
        digest = hashlib.sha512 if self.algorithm == "EdDSA" else hashlib.sha256
        whole = digest(value.encode()).digest()
        return b64(whole[: len(whole) // 2])

    def _tell(self, seen: Seen) -> Answer:
        if seen.headers.get("authorization", "").removeprefix("Bearer ") not in self._tokens:
            return said({"error": "invalid_token"}, 401)
        claims = changed(
            {
                "sub": "subject-1",
                "LoaiTaiKhoan": 1,
                "SoDinhDanh": NUMBER,
                "HoVaTen": NAME,
                "NgayThangNamSinh": "19/05/1983",
                "SoDienThoai": "0912345678",
                "IAL": 2,
            },
            self.info,
        )
        if self.info_header is None:
            return said(claims)
        header = changed({"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}, self.info_header)
        claims = changed({"iss": self.issuer, "aud": CLIENT} | claims, self.info)
        return Answer([jws(header, claims, self.key).encode()], headers={"content-type": "application/jwt"})

    def logout_token(self, header: Changes | None = None, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "subject-1",
            "sid": "session-1",
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_urlsafe(8),
            "events": {BACKCHANNEL: {}},
        }
        whole = {"alg": self.algorithm, "kid": self.kid, "typ": "logout+jwt"}
        return jws(changed(whole, header or {}), changed(claims, changes), self.key)


def said(found: dict[str, Any], status: int = 200) -> Answer:
    return Answer([json.dumps(found).encode()], status=status)


async def come_back(url: str) -> dict[str, str]:
    """What a browser brings back to us that was sent to ``url``."""
    async with httpx.AsyncClient() as browser:
        answer = await browser.get(url)
    assert answer.status_code == 302, answer.text
    found = parse_qs(urlsplit(answer.headers["location"]).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


class Stage:
    """The address at which one provider after another plays."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.op = ScriptedOp(issuer)

    def enter(self, *, client_jwks: dict[str, Any] | None = None) -> ScriptedOp:
        """A new one, with nothing bent and nothing seen."""
        self.op = ScriptedOp(self.issuer)
        self.op.client_jwks = client_jwks or {"keys": []}
        return self.op

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.op(scope, receive, send)


@asynccontextmanager
async def serving() -> AsyncIterator[Stage]:
    """A stage that listens."""
    listener = listening()
    stage = Stage(address_of(listener))
    async with running(stage, listener):
        yield stage
