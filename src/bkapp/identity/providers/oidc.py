"""Sign-in with a provider that speaks OpenID Connect: VNeID, the national portal, the practice eID.

Authorization code flow with PKCE (RFC 7636), the issuer in the callback (RFC 9207), pushed requests (RFC 9126) and
proof by key (RFC 7523) where the provider offers them: what FAPI 2.0 asks of a client, as far as the provider goes
along.  The tokens of the provider are used once, for the userinfo, and kept nowhere.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit, urlunsplit

import httpx
from msgspec import Struct

from bkapp import base64url
from bkapp.identity import claims as holders
from bkapp.identity import jose
from bkapp.identity.providers import Identity, Logout, ProviderUnavailable, SignInDenied, SignInRefused
from bkapp.identity.providers.checks import Wanted, check_id_token, check_logout, check_userinfo
from bkapp.identity.providers.client_auth import ClientAuth, public_jwks, read_keys
from bkapp.identity.providers.fetching import LONGEST_ANSWER, TOTAL_SECONDS, Answer, Asker, Kept

__all__ = ["OidcProvider", "public_jwks"]

METADATA_LASTS = 3600.0
KEYS_LAST = 3600.0
KEYS_PAUSE = 30.0  # between two fetches of the keys for the sake of an id that is not among them
LONGEST_CODE = 4096
_HANOI = timezone(timedelta(hours=7))  # the day that it is there decides whether a birth lies in the past
_ID_TOKEN = frozenset({None, "JWT"})
_LOGOUT_TOKEN = frozenset({None, "logout+jwt"})

# Errors of the callback (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6) that are passed on by their name.
_ERRORS = frozenset(
    {
        "account_selection_required",
        "consent_required",
        "interaction_required",
        "invalid_request",
        "invalid_request_object",
        "invalid_request_uri",
        "invalid_scope",
        "login_required",
        "registration_not_supported",
        "request_not_supported",
        "request_uri_not_supported",
        "unauthorized_client",
        "unmet_authentication_requirements",
        "unsupported_response_type",
    }
)


class _Metadata(Struct, frozen=True, kw_only=True):
    """What a provider publishes of itself (OpenID Connect Discovery §3), as far as it is used here."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    pushed_authorization_request_endpoint: str | None
    end_session_endpoint: str | None
    auth_methods: tuple[str, ...]
    auth_algorithms: tuple[str, ...] | None
    names_issuer: bool


class OidcProvider:
    """One OpenID provider.  Settings as in ``docs/settings.md``; ``clock`` gives seconds since 1970.

    ``patience`` is how many seconds an answer may take.
    """

    def __init__(
        self,
        *,
        issuer: str,
        client_id: str,
        client_secret: str = "",
        client_key: str = "",
        algorithms: tuple[str, ...],
        scope: str,
        acr: str = "",
        allow_http: bool,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        patience: float = TOTAL_SECONDS,
    ) -> None:
        self.issuer = issuer
        self._auth = ClientAuth(client_id=client_id, secret=client_secret, keys=read_keys(client_key))
        self._algorithms = algorithms
        self._scope = scope
        self._acr = acr
        self._schemes = {"https", "http"} if allow_http else {"https"}
        self._clock = clock
        self._asker = Asker(transport, patience=patience)
        self._metadata = Kept(self._discover, lasts=METADATA_LASTS, clock=clock)
        self._keys = Kept(self._fetch_keys, lasts=KEYS_LAST, clock=clock)

    async def close(self) -> None:
        """Let go of the connections."""
        self._metadata.close()
        self._keys.close()
        await self._asker.close()

    async def begin(
        self,
        *,
        state: str,
        nonce: str,
        verifier: str,
        redirect_uri: str,
        max_age: int | None = None,
        acr: str | None = None,
        login_hint: str | None = None,
    ) -> str:
        """The address to send the browser to; where the provider takes it, the request itself goes there directly."""
        metadata = await self._metadata.get()
        request = {
            "response_type": "code",
            "client_id": self._auth.client_id,
            "redirect_uri": redirect_uri,
            "scope": self._scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": base64url.encode(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        wishes = {
            "max_age": None if max_age is None else str(max_age),
            "acr_values": acr or self._acr,
            "login_hint": login_hint,
        }
        request |= {name: value for name, value in wishes.items() if value}
        if metadata.pushed_authorization_request_endpoint:
            pushed = await self._push(metadata, metadata.pushed_authorization_request_endpoint, request)
            request = {"client_id": self._auth.client_id, "request_uri": pushed}
        return _with_query(metadata.authorization_endpoint, request)

    async def finish(
        self,
        params: Mapping[str, str],
        *,
        state: str,
        nonce: str,
        verifier: str,
        redirect_uri: str,
        max_age: int | None = None,
        acr: str | None = None,
    ) -> Identity:
        """Who came back.  Nothing of the callback is believed before its state and its issuer are right."""
        if not hmac.compare_digest(params.get("state", "").encode("utf-8", "replace"), state.encode()):
            raise SignInRefused("The callback belongs to another sign-in.", reason="wrong_state")
        metadata = await self._metadata.get()
        self._check_sender(params, metadata)
        if "error" in params:
            _refuse(params["error"])
        code = params.get("code", "")
        if not 1 <= len(code) <= LONGEST_CODE or not code.isascii() or not code.isprintable():
            raise SignInRefused("The callback has no code.", reason="no_code")

        token, id_token = await self._redeem(metadata, code, verifier, redirect_uri)
        verified = await self._verify(id_token, _ID_TOKEN, "id_token")
        now = self._clock()
        wanted = Wanted(
            nonce=nonce, access_token=token, code=code, max_age=max_age, acr=acr, acr_allowed=self._acr.split()
        )
        proof = check_id_token(verified, wanted, issuer=self.issuer, client_id=self._auth.client_id, now=now)
        told: Mapping[str, Any] = {}
        if metadata.userinfo_endpoint:
            told = await self._userinfo(metadata.userinfo_endpoint, token)
            check_userinfo(told, subject=proof.subject, issuer=self.issuer, client_id=self._auth.client_id)
        today = datetime.fromtimestamp(now, _HANOI).date()
        try:
            holder = holders.read_holder(holders.merge(verified.claims, told), today=today)
        except holders.UnusableClaims as error:
            raise SignInRefused(str(error), reason=error.reason) from None
        return Identity(
            issuer=self.issuer,
            subject=proof.subject,
            number=holder.number,
            name=holder.name,
            birth=holder.birth,
            phone=holder.phone,
            level=holder.level,
            acr=proof.acr,
            authenticated_at=proof.authenticated_at,
            provider_sid=proof.provider_sid,
        )

    async def read_logout(self, token: str) -> Logout:
        """Verify and translate a logout token (Back-Channel Logout 1.0)."""
        verified = await self._verify(token, _LOGOUT_TOKEN, "logout_token")
        return check_logout(verified, issuer=self.issuer, client_id=self._auth.client_id, now=self._clock())

    async def end_session_url(self, *, after: str) -> str | None:
        """Where the browser ends the provider's own session.

        None also while the provider is away: whoever signs out here is signed out here, whatever is the matter there.
        """
        try:
            metadata = await self._metadata.get()
        except ProviderUnavailable:
            return None
        if not metadata.end_session_endpoint:
            return None
        return _with_query(
            metadata.end_session_endpoint, {"client_id": self._auth.client_id, "post_logout_redirect_uri": after}
        )

    def _check_sender(self, params: Mapping[str, str], metadata: _Metadata) -> None:
        """RFC 9207: a provider that always names itself must have, and what is named must be it.

        Otherwise a hostile provider could send us, with its own code, what an honest one began, or the other way round.
        """
        sender = params.get("iss")
        if sender is None and metadata.names_issuer:
            raise SignInRefused("The callback does not name its issuer.", reason="no_issuer")
        if sender is not None and sender != self.issuer:
            raise SignInRefused("The callback comes from another issuer.", reason="wrong_issuer")

    # --- what goes over the wire ---------------------------------------------------------------------------------

    async def _discover(self) -> _Metadata:
        document = _object(await self._asker.get(f"{self.issuer.removesuffix('/')}/.well-known/openid-configuration"))
        if document.get("issuer") != self.issuer:
            raise ProviderUnavailable("The discovery document is of another issuer.", reason="wrong_discovery_issuer")
        flows = document.get("response_types_supported")
        if isinstance(flows, list) and "code" not in flows:
            raise ProviderUnavailable("The identity provider does not give codes.", reason="bad_discovery")
        return _Metadata(
            authorization_endpoint=self._endpoint(document, "authorization_endpoint"),
            token_endpoint=self._endpoint(document, "token_endpoint"),
            jwks_uri=self._endpoint(document, "jwks_uri"),
            userinfo_endpoint=self._endpoint_if_any(document, "userinfo_endpoint"),
            pushed_authorization_request_endpoint=self._endpoint_if_any(
                document, "pushed_authorization_request_endpoint"
            ),
            end_session_endpoint=self._endpoint_if_any(document, "end_session_endpoint"),
            auth_methods=_names(document, "token_endpoint_auth_methods_supported") or ("client_secret_basic",),
            auth_algorithms=_names(document, "token_endpoint_auth_signing_alg_values_supported"),
            names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        )

    def _endpoint_if_any(self, document: Mapping[str, Any], name: str) -> str | None:
        return self._endpoint(document, name) if document.get(name) is not None else None

    def _endpoint(self, document: Mapping[str, Any], name: str) -> str:
        url = document.get(name)
        try:
            parts = urlsplit(url if isinstance(url, str) else "")
            good = parts.scheme in self._schemes and bool(parts.hostname) and "@" not in parts.netloc
            good = good and not parts.fragment and (parts.port is None or parts.port > 0)
        except ValueError:
            good = False
        if not isinstance(url, str) or not good or not url.isascii() or not url.isprintable() or " " in url:
            raise ProviderUnavailable("An address in the discovery document cannot be used.", reason="bad_discovery")
        return url

    async def _fetch_keys(self) -> jose.Jwks:
        metadata = await self._metadata.get()
        answer = await self._asker.get(metadata.jwks_uri)
        _check_ok(answer)
        try:
            return jose.Jwks.parse(answer.body)
        except ValueError:
            raise ProviderUnavailable("The keys of the identity provider cannot be read.", reason="bad_keys") from None

    async def _push(self, metadata: _Metadata, endpoint: str, request: Mapping[str, str]) -> str:
        form, headers = self._proof(metadata)
        answer = await self._asker.post(endpoint, {**request, **form}, headers=headers)
        if answer.status not in {200, 201}:
            raise ProviderUnavailable("The identity provider does not take the request.", reason="request_not_taken")
        uri = _read(answer).get("request_uri")
        if not isinstance(uri, str) or not 1 <= len(uri) <= 1024 or not uri.isprintable():
            raise ProviderUnavailable("The identity provider gives no address of the request.", reason="bad_answer")
        return uri

    async def _redeem(self, metadata: _Metadata, code: str, verifier: str, redirect_uri: str) -> tuple[str, str]:
        """Change the code for the access token and the ID token."""
        form, headers = self._proof(metadata)
        form |= {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        answer = await self._asker.post(metadata.token_endpoint, form, headers=headers)
        if answer.status == 400 and _read(answer).get("error") == "invalid_grant":
            # Used before, too old, or got by somebody else: the browser has to begin again.
            raise SignInRefused("The identity provider does not take the code.", reason="code_not_taken")
        found = _object(answer)
        token, id_token, kind = (found.get(name) for name in ("access_token", "id_token", "token_type"))
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise SignInRefused("The access token is of a kind that is not used here.", reason="wrong_token_type")
        if not isinstance(token, str) or not 1 <= len(token) <= jose.LONGEST_TOKEN or not _is_visible(token):
            raise SignInRefused("There is no access token in the answer.", reason="no_access_token")
        if not isinstance(id_token, str) or not id_token:
            raise SignInRefused("There is no ID token in the answer.", reason="no_id_token")
        return token, id_token

    async def _userinfo(self, endpoint: str, token: str) -> jose.Claims:
        answer = await self._asker.get(endpoint, headers={"Authorization": f"Bearer {token}"})
        if answer.status in {400, 401, 403}:
            raise SignInRefused("The identity provider does not tell who signed in.", reason="userinfo_refused")
        _check_ok(answer)
        if answer.media_type != "application/jwt":
            return _read(answer)
        return (await self._verify(answer.body.decode("ascii", "replace"), _ID_TOKEN, "userinfo")).claims

    def _proof(self, metadata: _Metadata) -> tuple[dict[str, str], dict[str, str]]:
        return self._auth.prove(
            issuer=self.issuer, methods=metadata.auth_methods, algorithms=metadata.auth_algorithms, now=self._clock()
        )

    async def _verify(self, token: str, typ: frozenset[str | None], what: str) -> jose.Verified:
        """Let a token pass the gate, with new keys if it is signed with one that is not known yet.

        The keys are fetched again at most every ``KEYS_PAUSE`` seconds, or anybody could make us ask without end.
        """
        keys = await self._keys.get()
        try:
            try:
                return jose.examine(token, keys=keys, algorithms=self._algorithms, typ=typ)
            except jose.BadToken as error:
                if error.reason != jose.Reason.UNKNOWN_KEY:
                    raise
            keys = await self._keys.newer(keys, pause=KEYS_PAUSE)
            return jose.examine(token, keys=keys, algorithms=self._algorithms, typ=typ)
        except jose.BadToken as error:
            raise SignInRefused(str(error), reason=f"{what}_{error.reason}") from None


def _refuse(error: str) -> NoReturn:
    """Answer an error of the callback.  Its description is not passed on: anybody can write one into a link."""
    if error == "access_denied":
        raise SignInDenied("The person did not agree at the identity provider.")
    if error in {"server_error", "temporarily_unavailable"}:
        raise ProviderUnavailable("The identity provider has a fault of its own.", reason=error)
    raise SignInRefused(
        "The identity provider did not let the person in.", reason=error if error in _ERRORS else "unknown_error"
    )


def _check_ok(answer: Answer) -> None:
    if answer.status != 200:
        raise ProviderUnavailable(f"The identity provider answers {answer.status}.", reason="bad_status")


def _read(answer: Answer) -> dict[str, Any]:
    try:
        return jose.read_object(answer.body, longest=LONGEST_ANSWER)
    except ValueError:
        raise ProviderUnavailable("The identity provider's answer is not JSON.", reason="bad_answer") from None


def _object(answer: Answer) -> dict[str, Any]:
    _check_ok(answer)
    return _read(answer)


def _names(document: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    found = document.get(name)
    return tuple(entry for entry in found if isinstance(entry, str)) if isinstance(found, list) else None


def _is_visible(text: str) -> bool:
    """Whether a text can stand in a header."""
    return text.isascii() and text.isprintable() and " " not in text


def _with_query(url: str, params: Mapping[str, str]) -> str:
    """An address with parameters besides those that it has."""
    parts = urlsplit(url)
    query = "&".join(filter(None, [parts.query, urlencode(params)]))
    return urlunsplit(parts._replace(query=query))
