"""Who may ask the practice eID: registered clients, and how they prove that it is them (RFC 6749 §2.3, RFC 7523)."""

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import unquote_plus

import httpx
import jwt
import msgspec
from msgspec import Struct

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_ALGORITHMS = ("ES256", "EdDSA", "RS256", "PS256")
ASSERTION_LASTS = 600
KEYS_LAST = 300
MOST_KEPT = 10_000

T = TypeVar("T")
Clock = Callable[[], float]


class Client(Struct, frozen=True, kw_only=True):
    """A registered client.  One with keys (given, or fetched from ``jwks_uri``) proves itself by private_key_jwt, one
    with a ``secret`` by client_secret_basic or client_secret_post.  ``algorithm`` is that of its ID tokens."""

    client_id: str
    redirect_uris: tuple[str, ...]
    secret: str = ""
    jwks: dict[str, Any] | None = None
    jwks_uri: str = ""
    post_logout_redirect_uris: tuple[str, ...] = ()
    backchannel_logout_uri: str = ""
    algorithm: str = "ES256"


class Refused(Exception):
    """An error as OAuth tells it: a word of the standards, a sentence, the status of the answer."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


class Shelf(Generic[T]):
    """Things kept for a while, the oldest thrown away when there are too many."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._kept: dict[str, tuple[float, T]] = {}

    def put(self, name: str, thing: T) -> str:
        self._kept.pop(name, None)
        self._kept[name] = (self._clock() + self._seconds, thing)
        if len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return name

    def get(self, name: str) -> T | None:
        until, thing = self._kept.get(name, (0.0, None))
        return thing if until > self._clock() else None

    def take(self, name: str) -> T | None:
        thing = self.get(name)
        self._kept.pop(name, None)
        return thing

    def all(self) -> list[tuple[str, T]]:
        now = self._clock()
        return [(name, thing) for name, (until, thing) in self._kept.items() if until > now]


class Clients:
    """The registered clients.  ``audiences`` are the names by which an assertion may call the eID."""

    def __init__(
        self, clients: Iterable[Client], *, audiences: Iterable[str], http: httpx.AsyncClient, clock: Clock = time.time
    ) -> None:
        self._clients = {client.client_id: client for client in clients}
        self._audiences = list(audiences)
        self._http = http
        self._assertions: Shelf[bool] = Shelf(ASSERTION_LASTS, clock)
        self._fetched: Shelf[list[dict[str, Any]]] = Shelf(KEYS_LAST, clock)

    def named(self, client_id: str) -> Client | None:
        return self._clients.get(client_id)

    async def authenticate(self, form: Mapping[str, str], authorization: str) -> Client:
        """The client that sent a form; raise :class:`Refused` unless it proved itself in exactly one way."""
        ways = [bool(authorization), "client_assertion" in form, "client_secret" in form]
        if sum(ways) != 1:
            detail = "Send HTTP Basic, client_secret or client_assertion, and only one of them."
            raise Refused("invalid_client", detail, status=401)
        if "client_assertion" in form:
            return await self._by_assertion(form)
        client_id, secret = (
            _basic(authorization) if authorization else (form.get("client_id", ""), form["client_secret"])
        )
        client = self.named(client_id)
        if client is None or not client.secret or not hmac.compare_digest(secret.encode(), client.secret.encode()):
            raise Refused("invalid_client", "The client is unknown or its secret is wrong.", status=401)
        if form.get("client_id", client_id) != client_id:
            raise Refused("invalid_request", "client_id is not the client that authenticated.")
        return client

    async def _by_assertion(self, form: Mapping[str, str]) -> Client:
        assertion = form["client_assertion"]
        try:
            header = jwt.get_unverified_header(assertion)
            claimed = str(jwt.decode(assertion, options={"verify_signature": False}).get("sub", ""))
            client = self.named(claimed)
            if form.get("client_assertion_type") != ASSERTION or client is None or not (client.jwks or client.jwks_uri):
                raise Refused("invalid_client", "The client is unknown or does not use private_key_jwt.", status=401)
            key = await self._key(client, str(header.get("kid", "")))
            claims = jwt.decode(
                assertion,
                key,
                algorithms=list(ASSERTION_ALGORITHMS),
                audience=self._audiences,
                issuer=client.client_id,
                leeway=5,
                options={"require": ["iss", "sub", "aud", "exp", "jti"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            raise Refused("invalid_client", f"The client assertion is not good: {error}.", status=401) from None
        if claims["exp"] > time.time() + ASSERTION_LASTS:
            raise Refused("invalid_client", "The client assertion lasts too long.", status=401)
        once = f"{client.client_id}\0{claims['jti']}"
        if self._assertions.get(once):
            raise Refused("invalid_client", "The client assertion was used before.", status=401)
        self._assertions.put(once, thing=True)
        if form.get("client_id", client.client_id) != client.client_id:
            raise Refused("invalid_request", "client_id is not the client that authenticated.")
        return client

    async def _key(self, client: Client, kid: str) -> jwt.PyJWK:
        """The client's key of that id; a key set that lacks it is fetched anew, for the client may have rotated."""
        kept = client.jwks["keys"] if client.jwks else self._fetched.get(client.client_id)
        found = _named(kept or [], kid)
        if found is None and client.jwks_uri:
            found = _named(await self._fetch(client), kid)
        if found is None:
            raise Refused("invalid_client", "The client has no key of that id.", status=401)
        return jwt.PyJWK(found)

    async def _fetch(self, client: Client) -> list[dict[str, Any]]:
        try:
            answer = await self._http.get(client.jwks_uri)
            answer.raise_for_status()
            keys: list[dict[str, Any]] = msgspec.json.decode(answer.content, type=dict[str, list[dict[str, Any]]])[
                "keys"
            ]
        except (httpx.HTTPError, msgspec.DecodeError, KeyError):
            raise Refused("invalid_client", "The client's key set cannot be fetched.", status=401) from None
        self._fetched.put(client.client_id, keys)
        return keys


def _named(keys: list[dict[str, Any]], kid: str) -> dict[str, Any] | None:
    return next((key for key in keys if key.get("kid") == kid), None)


def _basic(authorization: str) -> tuple[str, str]:
    """The name and secret in an Authorization header, both form-encoded before base64 (RFC 6749 §2.3.1)."""
    scheme, _, sent = authorization.partition(" ")
    try:
        name, colon, secret = base64.b64decode(sent, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        name = colon = secret = ""
    if scheme.lower() != "basic" or not colon:
        raise Refused("invalid_client", "The Authorization header is not HTTP Basic.", status=401)
    return unquote_plus(name), unquote_plus(secret)
