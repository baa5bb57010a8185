"""Signing in and out, tokens of apps, and what a person sees of their own sign-ins."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import Cookie, State
from litestar.params import FromQuery, PathParameter, QueryParameter, URLEncodedBody
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import COOKIE, STEP_UP_AGE, Asking, MaybeAsking, cookie_of, require_recent, signed_in
from bkapp.access.operations import Caller, record_read
from bkapp.config import Settings
from bkapp.errors import Malformed, NotFound
from bkapp.http import SIGNED_IN, IdempotencyKey, Reading, Transaction, anyone, documented, request_id_of
from bkapp.identity import flows, operations, queries, rules
from bkapp.identity.flows import TokenRequest
from bkapp.identity.operations import NativeApp
from bkapp.identity.providers import Provider
from bkapp.identity.providers.oidc import public_jwks
from bkapp.identity.schemas import (
    DeviceOut,
    DevicesOut,
    LogoutForm,
    MeOut,
    NoticeOut,
    NoticesOut,
    PersonOut,
    SessionOut,
    SignedOutOut,
    TokensOut,
)
from bkapp.sealing import Keyring

BINDING_COOKIE = "__Host-bkapp-login"
"""What ties a sign-in that is under way to the browser that began it."""
NO_STORE = {"Cache-Control": "no-store"}
READ = documented(401, 403)
WRITE = documented(401, 403, 404, 409, 413, 415, 422)

MaxAge = Annotated[
    int | None,
    QueryParameter(ge=0, le=86_400, description="How many seconds ago the person may have signed in at the provider."),
]


class SigningInController(Controller):
    """The way of a browser to the provider and back, and out."""

    tags = ("session",)

    @get("/dang-nhap", operation_id="beginSignIn", guards=[anyone], include_in_schema=False)
    async def begin(
        self,
        state: State,
        request: Request,
        to: Annotated[str, QueryParameter(name="next")] = "",
        max_age: MaxAge = None,
        hint: Annotated[str, QueryParameter(name="goi_y")] = "",
    ) -> Response[None]:
        """Go to the identity provider.  `next` is a path of ours to go on to afterwards."""
        return await _to_provider(state, request, next=to, max_age=max_age, hint=hint)

    @get("/dang-nhap/ve", operation_id="finishSignIn", guards=[anyone], include_in_schema=False)
    async def finish(self, state: State, request: Request) -> Response[None]:
        """Come back from the identity provider."""
        settings: Settings = state.settings
        back = await flows.come_back(
            state.sessions,
            provider_of(state),
            keyring_of(state),
            [*request.query_params.multi_items()],
            base_url=settings.base_url,
            browser=request.cookies.get(BINDING_COOKIE, ""),
            old_secret=_secret_of(request),
            user_agent=request.headers.get("user-agent", ""),
            is_demo=settings.demo,
        )
        cookies = []
        if back.secret is not None and back.expires_at is not None:
            lasts = int((back.expires_at - datetime.now(UTC)).total_seconds())
            cookies.append(_cookie(COOKIE, back.secret, lasts))
        return _see_other(back.location, cookies)

    @post(
        "/dang-xuat",
        operation_id="signOut",
        guards=[anyone],
        include_in_schema=False,
        opt={"flow": True},
        status_code=303,
    )
    async def sign_out(self, state: State, maybe_asking: MaybeAsking) -> Response[None]:
        """End this session here and go on to end the provider's.  Safe to repeat."""
        location = await flows.sign_out(
            state.sessions,
            state.get("eid"),
            caller=maybe_asking,
            base_url=state.settings.base_url,
        )
        return _see_other(location, [_cookie(COOKIE, "", 0)])

    @post(
        "/dang-nhap/thong-bao",
        operation_id="hearLogout",
        guards=[anyone],
        include_in_schema=False,
        opt={"flow": True, "open": True},
        status_code=200,
    )
    async def hear_logout(self, state: State, data: URLEncodedBody[LogoutForm]) -> Response[None]:
        """The provider says that somebody signed out there (OpenID Connect Back-Channel Logout)."""
        if not data.logout_token:
            raise Malformed("Send logout_token.")
        await flows.hear_logout(state.sessions, provider_of(state), keyring_of(state), data.logout_token)
        return Response(None, status_code=200, headers=NO_STORE)

    @get("/ung-dung/dang-nhap", operation_id="beginNativeSignIn", guards=[anyone], include_in_schema=False)
    async def begin_native(
        self,
        state: State,
        request: Request,
        redirect_uri: FromQuery[str] = "",
        code_challenge: FromQuery[str] = "",
        code_challenge_method: FromQuery[str] = "",
        app_state: Annotated[str, QueryParameter(name="state")] = "",
        max_age: MaxAge = None,
        hint: Annotated[str, QueryParameter(name="goi_y")] = "",
    ) -> Response[None]:
        """A native app signs its person in with the system's browser (RFC 8252)."""
        app = operations.read_app(
            redirect_uri=redirect_uri,
            code_challenge=code_challenge,
            code_challenge_method=code_challenge_method,
            state=app_state,
            redirects=state.settings.native_redirects,
        )
        return await _to_provider(state, request, max_age=max_age, hint=hint, native=app)

    @get("/.well-known/eid-client-jwks.json", operation_id="getEidClientKeys", guards=[anyone], responses=documented())
    async def client_keys(self, state: State) -> Response[dict[str, Any]]:
        """The public keys by which bkapp shows itself to the identity provider (private_key_jwt)."""
        key: str = state.settings.eid_client_key
        document = public_jwks(key) if key else {"keys": []}
        return Response(document, headers={"Cache-Control": "public, max-age=3600"})


class SessionController(Controller):
    """Who is signed in, and the tokens of apps."""

    path = "/api/v1"
    tags = ("session",)

    @get("/session", operation_id="getSession", guards=[anyone], security=[{}, *SIGNED_IN], responses=documented())
    async def session(
        self, state: State, reading: Reading, maybe_asking: MaybeAsking, request: Request
    ) -> Response[SessionOut]:
        """Whether somebody is signed in here, and how."""
        if maybe_asking is None or maybe_asking.person is None:
            return Response(SessionOut(signed_in=False), headers=NO_STORE)
        opened = await _own_data(state, reading, maybe_asking, request)
        ends = None if maybe_asking.sign_in is None else await queries.ends_at(reading, maybe_asking.sign_in)
        shown = SessionOut.of(
            maybe_asking,
            PersonOut(opened.id, opened.name),
            csrf_token=rules.csrf_token(_secret_of(request)) if maybe_asking.by_cookie else None,
            ends=ends,
            unread=await queries.unread_notices(reading, opened.id),
        )
        return Response(shown, headers=NO_STORE)

    @post(
        "/token",
        operation_id="getTokens",
        guards=[anyone],
        opt={"flow": True, "open": True},
        status_code=200,
        responses=documented(400, 413, 415),
    )
    async def token(self, state: State, data: URLEncodedBody[TokenRequest]) -> Response[TokensOut]:
        """Tokens for an app: for its code with `code_verifier` and `redirect_uri`, or for its refresh token.

        A refresh token is good once and gives the next one.  Refusals are problems with the member `error` of
        RFC 6749 §5.2 beside.
        """
        given = await flows.give_tokens(state.sessions, keyring_of(state), state.token_signer, data)
        return Response(TokensOut.of(given, now=datetime.now(UTC)), headers={**NO_STORE, "Pragma": "no-cache"})


class MeController(Controller):
    """What a person sees and settles of their own."""

    path = "/api/v1/me"
    tags = ("me",)
    security = SIGNED_IN

    @get("/", operation_id="getMe", guards=[signed_in], responses=READ)
    async def me(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        *,
        full: Annotated[
            bool, QueryParameter(description="The whole citizen number; needs a sign-in of the last minutes.")
        ] = False,
    ) -> Response[MeOut]:
        """What is kept of you."""
        if full:
            require_recent(asking, STEP_UP_AGE, now=datetime.now(UTC))
        opened = await _own_data(state, reading, asking, request)
        office = await queries.office(reading, opened.id)
        return Response(MeOut.of(opened, office, level=asking.level, full=full), headers=NO_STORE)

    @get("/devices", operation_id="listDevices", guards=[signed_in], responses=READ)
    async def devices(self, reading: Reading, asking: Asking) -> Response[DevicesOut]:
        """Where you are signed in."""
        found = await queries.devices(reading, _person(asking))
        return Response(DevicesOut([DeviceOut.of(device, own=asking.sign_in) for device in found]), headers=NO_STORE)

    @delete("/devices/{device_id:uuid}", operation_id="signOutDevice", guards=[signed_in], responses=WRITE)
    async def sign_out_device(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        device_id: Annotated[UUID, PathParameter(description="As the list of devices gives it.")],
    ) -> None:
        """Sign out one of your devices, at once."""
        await operations.end_device(
            transaction, person=_person(asking), own=asking.sign_in, device=device_id, now=datetime.now(UTC)
        )

    @post(
        "/sign-out-everywhere",
        operation_id="signOutEverywhere",
        guards=[signed_in],
        status_code=200,
        responses=WRITE,
    )
    async def sign_out_everywhere(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey
    ) -> Response[SignedOutOut]:
        """Sign out all of your devices and apps, this one too."""
        ended = await operations.end_everywhere(
            transaction, person=_person(asking), actor=asking.id, now=datetime.now(UTC)
        )
        cookies = [_cookie(COOKIE, "", 0)] if asking.by_cookie else []
        return Response(SignedOutOut(ended), headers=NO_STORE, cookies=cookies)

    @get("/notices", operation_id="listNotices", guards=[signed_in], responses=READ)
    async def notices(
        self, reading: Reading, asking: Asking, limit: Annotated[int, QueryParameter(ge=1, le=500)] = 100
    ) -> Response[NoticesOut]:
        """What you are told: a new device, a token that was used twice."""
        found = await queries.notices(reading, _person(asking), limit=limit)
        return Response(NoticesOut([NoticeOut.of(notice) for notice in found]), headers=NO_STORE)

    @post(
        "/notices/{notice_id:uuid}/read",
        operation_id="readNotice",
        guards=[signed_in],
        status_code=200,
        responses=WRITE,
    )
    async def read_notice(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        notice_id: Annotated[UUID, PathParameter(description="As the list of notices gives it.")],
    ) -> NoticeOut:
        """Mark a notice as read."""
        found = await operations.read_notice(transaction, _person(asking), notice_id, now=datetime.now(UTC))
        return NoticeOut.of(found)


CONTROLLERS = (SigningInController, SessionController, MeController)


def provider_of(state: State) -> Provider:
    """The identity provider, where people can sign in."""
    provider: Provider | None = state.get("eid")
    if provider is None:
        raise NotFound("Nobody can sign in here: no identity provider is set.")
    return provider


def keyring_of(state: State) -> Keyring:
    """The keys of personal data, where people can sign in."""
    keyring: Keyring | None = state.get("keyring")
    if keyring is None:
        raise NotFound("Nobody can sign in here: no keys for personal data are set.")
    return keyring


async def _to_provider(
    state: State,
    request: Request,
    *,
    next: str = "",  # noqa: A002  (the word of the route)
    max_age: int | None,
    hint: str,
    native: NativeApp | None = None,
) -> Response[None]:
    settings: Settings = state.settings
    out = await flows.set_out(
        state.sessions,
        provider_of(state),
        base_url=settings.base_url,
        browser=request.cookies.get(BINDING_COOKIE, ""),
        next=next,
        max_age=max_age,
        acr=settings.eid_acr or None,
        hint=hint,
        native=native,
    )
    return _see_other(out.location, [_cookie(BINDING_COOKIE, out.browser, int(rules.ATTEMPT_LASTS.total_seconds()))])


async def _own_data(state: State, session: AsyncSession, asking: Caller, request: Request) -> operations.Opened:
    """What is kept of who asks; that they saw it is recorded like any read."""
    opened = await operations.open_person(session, keyring_of(state), _person(asking))
    await record_read(
        session,
        asking,
        subject=str(opened.id),
        what=request.scope["path_template"],
        request_id=request_id_of(request.scope),
    )
    return opened


def _person(asking: Caller) -> UUID:
    if asking.person is None:
        raise NotFound("A key is nobody.")
    return asking.person


def _secret_of(request: Request) -> str:
    # HTTP/2 may send each cookie in a header of its own.
    return cookie_of("; ".join(request.headers.getall("cookie", [])).encode("latin-1", "replace"))


def _see_other(location: str, cookies: list[Cookie]) -> Response[None]:
    return Response(None, status_code=303, headers={"Location": location, **NO_STORE}, cookies=cookies)


def _cookie(name: str, value: str, lasts: int) -> Cookie:
    """A cookie of this host alone, which no script reads; 0 seconds take it away."""
    return Cookie(name, value=value, max_age=lasts, path="/", secure=True, httponly=True, samesite="lax")
