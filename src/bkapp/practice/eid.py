"""The practice eID: an OpenID provider as the standards have it, whose people are made up and need no password.

Authorization code with PKCE S256 and nothing else; PAR (RFC 9126), ``iss`` in answers (RFC 9207), private_key_jwt and
client secrets, RP-initiated and back-channel logout.  Its user info has the names of VNeID's.  Everything is kept in
memory and gone when it stops, keys too.

A practice shortcut: a ``login_hint`` that is the handle of a test citizen signs them in at once, so that curl can.
Another: ``POST /eid/practice/sign-out {"handle": …}`` ends every session of a test citizen and tells the clients.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

import httpx
from msgspec import Struct, field

from bkapp.practice.clients import ASSERTION_ALGORITHMS, Client, Clients, Clock, Refused, Shelf
from bkapp.practice.people import COMMUNES, PROVINCE, PROVINCE_NAME, TestCitizen
from bkapp.practice.signing import ALGORITHMS, Faults, Keys, base64url, half_hash

CODE_LASTS = 60
ACCESS_LASTS = 900
ID_TOKEN_LASTS = 300
PUSHED_LASTS = 90
PAGE_LASTS = 600
SESSION_LASTS = 8 * 3600
LOGOUT_TOKEN_LASTS = 120
PUSHED = "urn:ietf:params:oauth:request_uri:"
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
CLAIMS = ("iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "at_hash", "sid")
PROMPTS = frozenset({"none", "login", "consent", "select_account"})


class Asked(Struct, frozen=True, kw_only=True):
    """An authorization request that is in order.  ``max_age`` is in seconds; ``pushed`` is where it was left (PAR)."""

    client: Client
    redirect_uri: str
    state: str | None
    scope: str
    challenge: str
    nonce: str | None
    prompts: frozenset[str]
    max_age: int | None
    login_hint: str
    pushed: str | None = None


class Session(Struct, kw_only=True):
    """That somebody is signed in at the eID with a browser; ``clients`` got tokens in it.  ``auth_time`` is seconds."""

    sid: str
    citizen: TestCitizen
    auth_time: int
    clients: set[str] = field(default_factory=set)


class Code(Struct, kw_only=True):
    """What a code stands for.  ``access`` are the tokens it gave, which a second use takes back."""

    asked: Asked
    citizen: TestCitizen
    auth_time: int
    sid: str
    expires_at: float
    used: bool = False
    access: list[str] = field(default_factory=list)


class Access(Struct, frozen=True, kw_only=True):
    """What an access token stands for."""

    client_id: str
    citizen: TestCitizen
    scope: str
    issued_at: int


class Told(Struct, frozen=True, kw_only=True):
    """What came of telling a client that somebody has signed out: a status, or the kind of failure."""

    client_id: str
    outcome: str


class NotHere(Exception):
    """An error of an authorization request that its client is told, by way of the browser."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class Eid:
    """The provider's memory and rules; :mod:`bkapp.practice.eid_routes` puts them on the web."""

    def __init__(
        self,
        *,
        issuer: str,
        clients: Iterable[Client],
        people: Iterable[TestCitizen],
        http: httpx.AsyncClient,
        require_pushed: bool = False,
        clock: Clock = time.time,
    ) -> None:
        self.issuer = issuer
        self.require_pushed = require_pushed
        self.people = {citizen.handle: citizen for citizen in people}
        self.clients = Clients(clients, audiences=[issuer, f"{issuer}/token", f"{issuer}/par"], http=http, clock=clock)
        self.keys = Keys()
        self.faults = Faults()
        self._http = http
        self._clock = clock
        self._pushed: Shelf[dict[str, str]] = Shelf(PUSHED_LASTS, clock)
        self._waiting: Shelf[Asked] = Shelf(PAGE_LASTS, clock)
        self._leaving: Shelf[str] = Shelf(PAGE_LASTS, clock)
        self._sessions: Shelf[Session] = Shelf(SESSION_LASTS, clock)
        # Kept longer than they are good for, so that one that comes back late still takes back what it gave.
        self._codes: Shelf[Code] = Shelf(PAGE_LASTS, clock)
        self._access: Shelf[Access] = Shelf(ACCESS_LASTS, clock)

    def discovery(self) -> dict[str, Any]:
        """The provider's description of itself (OpenID Connect Discovery, RFC 8414)."""
        issuer = self.issuer
        return {
            "issuer": "https://another-eid.example" if self.faults.wrong_issuer else issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "userinfo_endpoint": f"{issuer}/userinfo",
            "jwks_uri": f"{issuer}/jwks",
            "pushed_authorization_request_endpoint": f"{issuer}/par",
            "require_pushed_authorization_requests": self.require_pushed,
            "end_session_endpoint": f"{issuer}/end-session",
            "revocation_endpoint": f"{issuer}/revoke",
            "introspection_endpoint": f"{issuer}/validate",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": list(ALGORITHMS),
            "scopes_supported": ["openid", "profile"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic", "client_secret_post"],
            "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "acr_values_supported": ["loa0", "loa1", "loa2", "loa3"],
            "prompt_values_supported": sorted(PROMPTS),
            "claims_supported": [*CLAIMS, *sorted(self._profile(next(iter(self.people.values()))))],
            "claims_parameter_supported": False,
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
            "ui_locales_supported": ["vi"],
        }

    # --- authorization -------------------------------------------------------------------------------------------

    def push(self, client: Client, form: Mapping[str, str]) -> str:
        """Keep an authorization request (RFC 9126) and return its ``request_uri``, good for 90 seconds."""
        if "request_uri" in form:
            raise Refused("invalid_request", "A pushed request cannot hold request_uri.")
        parameters = {**form, "client_id": client.client_id}
        if parameters.get("redirect_uri") not in client.redirect_uris:
            raise Refused("invalid_request", "redirect_uri is not registered.")
        if fault := _fault_of(parameters):
            raise Refused(*fault)
        return PUSHED + self._pushed.put(secrets.token_urlsafe(32), parameters)

    def asked(self, parameters: Mapping[str, str]) -> Asked:
        """An authorization request from a browser.

        Raise :class:`Refused` where nobody can be told but the person, because it is not sure who asks, and
        :class:`NotHere` for all other errors, which the client is told.
        """
        client = self.clients.named(parameters.get("client_id", ""))
        if client is None:
            raise Refused("invalid_client", "The client is unknown.")
        pushed = None
        if "request_uri" in parameters:
            if not parameters["request_uri"].startswith(PUSHED):
                raise Refused("request_uri_not_supported", "Only pushed requests are taken.")
            pushed = parameters["request_uri"].removeprefix(PUSHED)
            kept = self._pushed.get(pushed)
            if kept is None or kept["client_id"] != client.client_id:
                raise Refused("invalid_request_uri", "The pushed request is unknown, used or too old.")
            parameters = kept
        redirect_uri = parameters.get("redirect_uri", "")
        if redirect_uri not in client.redirect_uris:
            raise Refused("invalid_request", "redirect_uri is not registered.")
        fault = _fault_of(parameters)
        if fault is None and self.require_pushed and pushed is None:
            fault = ("invalid_request", "Push the request first (RFC 9126).")
        if fault:
            raise NotHere(
                self._answer(redirect_uri, parameters.get("state"), error=fault[0], error_description=fault[1])
            )
        return Asked(
            client=client,
            redirect_uri=redirect_uri,
            state=parameters.get("state"),
            scope=" ".join(word for word in parameters["scope"].split() if word in {"openid", "profile"}),
            challenge=parameters["code_challenge"],
            nonce=parameters.get("nonce"),
            prompts=frozenset(parameters.get("prompt", "").split()),
            max_age=int(parameters["max_age"]) if parameters.get("max_age") else None,
            login_hint=parameters.get("login_hint", ""),
            pushed=pushed,
        )

    def may_go_on(self, asked: Asked, session: Session | None) -> bool:
        """Whether the session that a browser has is enough, without anybody doing anything."""
        if session is None or asked.prompts & {"login", "select_account"}:
            return False
        if asked.login_hint in self.people and asked.login_hint != session.citizen.handle:
            return False
        if asked.max_age is None:
            return True
        # Zero means now, even to who signed in within this very second.
        return asked.max_age > 0 and self._clock() - session.auth_time <= asked.max_age

    def wait(self, asked: Asked) -> str:
        """Keep a request while its person looks at the page; return the ticket that the page holds."""
        return self._waiting.put(secrets.token_urlsafe(32), asked)

    def waiting(self, ticket: str) -> Asked:
        """The request that a page was about, once."""
        asked = self._waiting.take(ticket)
        if asked is None:
            raise Refused("invalid_request", "The page is too old, or was sent before.")
        return asked

    def session(self, cookie: str) -> Session | None:
        return self._sessions.get(cookie)

    def sign_in(self, citizen: TestCitizen, cookie: str) -> tuple[str, Session]:
        """Sign a person in with a browser; who was already keeps the session, and it is new again."""
        session = self._sessions.get(cookie)
        if session is None or session.citizen != citizen:
            # The former person's session stays, without a browser, until it is signed out or ends.
            cookie = secrets.token_urlsafe(32)
            session = Session(sid=secrets.token_urlsafe(16), citizen=citizen, auth_time=0)
        session.auth_time = int(self._clock())
        return self._sessions.put(cookie, session), session

    def allow(self, asked: Asked, session: Session) -> str:
        """Where the browser takes a code that stands for the session."""
        self._forget_pushed(asked)
        session.clients.add(asked.client.client_id)
        code = self._codes.put(
            secrets.token_urlsafe(32),
            Code(
                asked=asked,
                citizen=session.citizen,
                auth_time=session.auth_time,
                sid=session.sid,
                expires_at=self._clock() + CODE_LASTS,
            ),
        )
        return self._answer(asked.redirect_uri, asked.state, code=code)

    def refuse(self, asked: Asked, error: str, description: str) -> str:
        """Where the browser takes the news that there will be no code."""
        self._forget_pushed(asked)
        return self._answer(asked.redirect_uri, asked.state, error=error, error_description=description)

    def _forget_pushed(self, asked: Asked) -> None:
        # Only now, because the person may load the page a second time.
        if asked.pushed:
            self._pushed.take(asked.pushed)

    def _answer(self, redirect_uri: str, state: str | None, **answer: str) -> str:
        if state is not None:
            answer["state"] = "another-state" if self.faults.wrong_state else state
        if not self.faults.no_iss:
            answer["iss"] = "https://another-eid.example" if self.faults.wrong_iss else self.issuer
        return with_query(redirect_uri, answer)

    # --- tokens --------------------------------------------------------------------------------------------------

    def redeem(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        """Tokens for a code; a code that comes a second time takes back what it gave."""
        if form.get("grant_type") != "authorization_code":
            raise Refused("unsupported_grant_type", "Only authorization_code is supported.")
        code = self._codes.get(form.get("code", ""))
        if code is None or code.asked.client != client:
            raise Refused("invalid_grant", "The code is unknown or another client's.")
        if code.used:
            for token in code.access:
                self._access.take(token)
            raise Refused("invalid_grant", "The code was used before; what it gave is taken back.")
        code.used = True
        if code.expires_at <= self._clock():
            raise Refused("invalid_grant", "The code is too old.")
        if form.get("redirect_uri") != code.asked.redirect_uri:
            raise Refused("invalid_grant", "redirect_uri is not that of the authorization request.")
        verifier = form.get("code_verifier", "")
        hashed = base64url(hashlib.sha256(verifier.encode()).digest())
        if not re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier) or not hmac.compare_digest(
            hashed, code.asked.challenge
        ):
            raise Refused("invalid_grant", "code_verifier does not fit code_challenge.")
        now = int(self._clock())
        access = self._access.put(
            secrets.token_urlsafe(32),
            Access(client_id=client.client_id, citizen=code.citizen, scope=code.asked.scope, issued_at=now),
        )
        code.access.append(access)
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": code.citizen.subject,
            "aud": client.client_id,
            "iat": now,
            "exp": now + ID_TOKEN_LASTS,
            "auth_time": code.auth_time,
            "acr": f"loa{code.citizen.level}",
            "sid": code.sid,
            "at_hash": half_hash(access, client.algorithm),
        }
        if code.asked.nonce is not None:
            claims["nonce"] = code.asked.nonce
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": ACCESS_LASTS,
            "scope": code.asked.scope,
            "id_token": self.keys.sign(claims, client.algorithm, faults=self.faults),
        }

    def userinfo(self, token: str) -> dict[str, Any] | None:
        """What an access token may know of its person; None if it is not good."""
        access = self._access.get(token)
        if access is None:
            return None
        subject = "practice-somebody-else" if self.faults.wrong_userinfo_sub else access.citizen.subject
        return {"sub": subject} | (self._profile(access.citizen) if "profile" in access.scope.split() else {})

    def _profile(self, citizen: TestCitizen) -> dict[str, Any]:
        claims: dict[str, Any] = {
            "LoaiTaiKhoan": 2 if citizen.tax_code else 1,
            "HoVaTen": citizen.name,
            "TechID": citizen.subject,
            "loAs": str(citizen.level),
            "IAL": citizen.level,
            "userProfileUri": f"{self.issuer}/",
            "logoutUri": f"{self.issuer}/end-session",
        }
        if citizen.tax_code:
            return claims | {"MaSoThue": citizen.tax_code}
        if citizen.phone:
            claims["SoDienThoai"] = citizen.phone
        return claims | {
            "SoDinhDanh": citizen.number,
            "NgayThangNamSinh": f"{citizen.birth:%Y%m%d}",
            "GioiTinh": "Nữ" if citizen.female else "Nam",
            "ThuongTru": {
                "MaTinhThanh": PROVINCE,
                "MaQuanHuyen": "",
                "MaPhuongXa": citizen.commune,
                "ChiTiet": f"Thôn {citizen.hamlet}, {COMMUNES[citizen.commune]}, {PROVINCE_NAME}",
                "QuocGia": "VN",
            },
        }

    def validate(self, client: Client, token: str) -> dict[str, Any]:
        """Whether an access token of the client's is good (RFC 7662)."""
        access = self._access.get(token)
        if access is None or access.client_id != client.client_id:
            return {"active": False}
        return {
            "active": True,
            "iss": self.issuer,
            "sub": access.citizen.subject,
            "client_id": access.client_id,
            "scope": access.scope,
            "token_type": "Bearer",
            "iat": access.issued_at,
            "exp": access.issued_at + ACCESS_LASTS,
        }

    def revoke(self, client: Client, token: str) -> None:
        """Take an access token of the client's back (RFC 7009)."""
        access = self._access.get(token)
        if access is not None and access.client_id == client.client_id:
            self._access.take(token)

    # --- signing out ---------------------------------------------------------------------------------------------

    def after_sign_out(self, parameters: Mapping[str, str]) -> tuple[str, dict[str, Any] | None]:
        """Where a client wants the person to go, and the claims of the ID token that it shows, if any."""
        hint = self.keys.read(parameters["id_token_hint"]) if parameters.get("id_token_hint") else None
        if parameters.get("id_token_hint") and hint is None:
            raise Refused("invalid_request", "id_token_hint is not a token of ours.")
        client_id = parameters.get("client_id") or str((hint or {}).get("aud", ""))
        if hint and hint.get("aud") != client_id:
            raise Refused("invalid_request", "client_id is not the client of id_token_hint.")
        after = parameters.get("post_logout_redirect_uri", "")
        if not after:
            return "", hint
        client = self.clients.named(client_id)
        if client is None or after not in client.post_logout_redirect_uris:
            raise Refused("invalid_request", "post_logout_redirect_uri is not registered.")
        return with_query(after, {"state": parameters["state"]} if "state" in parameters else {}), hint

    def ask_to_leave(self, redirect: str) -> str:
        """Keep where to go while the person is asked whether to sign out; return the ticket that the page holds."""
        return self._leaving.put(secrets.token_urlsafe(32), redirect)

    def leaving(self, ticket: str) -> str:
        """Where to go, as the page's ticket has it; empty if it has none."""
        return self._leaving.take(ticket) or ""

    async def sign_out(self, cookie: str) -> list[Told]:
        """End the session of a browser and tell every client that got tokens in it."""
        session = self._sessions.take(cookie)
        return (
            [] if session is None else [await self._tell(client_id, session) for client_id in sorted(session.clients)]
        )

    async def sign_out_everywhere(self, handle: str) -> list[Told]:
        """End every session of a test citizen."""
        told: list[Told] = []
        for cookie, session in self._sessions.all():
            if session.citizen.handle == handle:
                told += await self.sign_out(cookie)
        return told

    async def _tell(self, client_id: str, session: Session) -> Told:
        client = self.clients.named(client_id)
        if client is None or not client.backchannel_logout_uri:
            return Told(client_id=client_id, outcome="not asked for")
        now = int(self._clock())
        claims = {
            "iss": self.issuer,
            "sub": session.citizen.subject,
            "aud": client_id,
            "iat": now,
            "exp": now + LOGOUT_TOKEN_LASTS,
            "jti": secrets.token_urlsafe(16),
            "sid": session.sid,
            "events": {LOGOUT_EVENT: {}},
        }
        token = self.keys.sign(claims, client.algorithm, typ="logout+jwt")
        try:
            answer = await self._http.post(client.backchannel_logout_uri, data={"logout_token": token})
        except httpx.HTTPError as error:
            return Told(client_id=client_id, outcome=type(error).__name__)
        return Told(client_id=client_id, outcome=str(answer.status_code))


def _fault_of(parameters: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong with the parameters of an authorization request: an error of the standards and a sentence."""
    prompts = parameters.get("prompt", "").split()
    if "request" in parameters:
        return "request_not_supported", "Request objects are not supported."
    if parameters.get("response_type") != "code":
        return "unsupported_response_type", "response_type must be code."
    if parameters.get("response_mode", "query") != "query":
        return "invalid_request", "response_mode must be query."
    if "openid" not in parameters.get("scope", "").split():
        return "invalid_scope", "scope must contain openid."
    if parameters.get("code_challenge_method") != "S256" or not re.fullmatch(
        r"[A-Za-z0-9_-]{43}", parameters.get("code_challenge", "")
    ):
        return "invalid_request", "PKCE with S256 is required."
    if set(prompts) - PROMPTS or ("none" in prompts and len(prompts) > 1):
        return "invalid_request", "prompt has values that are unknown or do not go together."
    if not re.fullmatch(r"\d{0,9}", parameters.get("max_age", "")):
        return "invalid_request", "max_age must be a number of seconds."
    return None


def with_query(url: str, parameters: Mapping[str, str]) -> str:
    """A URL with parameters added to those that it has."""
    if not parameters:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"
