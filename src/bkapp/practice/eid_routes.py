"""The practice eID on the web: its endpoints, its pages without scripts, and what sets faults."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import MediaType, Request, Response, Router, get, post, route
from litestar.datastructures import State
from litestar.params import JSONBody
from litestar.response import Redirect
from msgspec import Struct

from bkapp.practice.clients import Client, Refused
from bkapp.practice.eid import PUSHED_LASTS, Eid, NotHere, Told
from bkapp.practice.signing import Faults

COOKIE = "practice-eid"
FORM = "application/x-www-form-urlencoded"
TEMPLATES = Path(__file__).parent / "templates"
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
PAGE_HEADERS = {
    **NO_STORE,
    # No form-action: browsers apply it to where a form's answer redirects, which here is the client.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGES = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def page(name: str, *, status: int = 200, **values: Any) -> Response:
    """A page of the practice servers."""
    text = _PAGES.get_template(name).render(values)
    return Response(text, status_code=status, media_type=MediaType.HTML, headers=PAGE_HEADERS)


# --- reading -----------------------------------------------------------------------------------------------------


def _once(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Parameters by name; one that is sent twice is refused (RFC 6749 §3.1)."""
    twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    if twice:
        raise Refused("invalid_request", f"{twice[0]} is sent more than once.")
    return {name: value for name, value in pairs if value}


async def _form(request: Request) -> dict[str, str]:
    if request.content_type[0] != FORM:
        raise Refused("invalid_request", f"Send {FORM}.")
    try:
        return _once(parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        raise Refused("invalid_request", "The form cannot be read.") from None


async def _parameters(request: Request) -> dict[str, str]:
    """The parameters of an endpoint that takes GET and POST."""
    if request.method == "POST":
        return await _form(request)
    return _once(list(request.query_params.multi_items()))


async def _client_and_form(request: Request, eid: Eid) -> tuple[Client, dict[str, str]]:
    form = await _form(request)
    return await eid.clients.authenticate(form, request.headers.get("authorization", "")), form


# --- refusing ----------------------------------------------------------------------------------------------------


def refuse(request: Request, refused: Refused) -> Response:
    """An error as OAuth has it, or as a page where a person waits."""
    if request.route_handler.opt.get("page"):
        return page("refused.html", status=400, error=refused.error, description=refused.description)
    headers = dict(NO_STORE)
    if refused.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="eid"'
    body = {"error": refused.error, "error_description": refused.description}
    return Response(body, status_code=refused.status, headers=headers)


def send_back(_: Request, error: NotHere) -> Response:
    """An error that the client is told, by way of the browser."""
    return Redirect(error.url, status_code=303, headers=NO_STORE)


async def stumble(request: Request) -> Response | None:
    """Be down or slow, if that is set."""
    faults: Faults = request.app.state.eid.faults
    await asyncio.sleep(faults.slow)
    if faults.down:
        return Response("Hệ thống tạm dừng (lỗi luyện tập).", status_code=503, media_type=MediaType.TEXT)
    return None


# --- endpoints ---------------------------------------------------------------------------------------------------


@get("/.well-known/openid-configuration")
async def discovery(state: State) -> Response:
    """What the provider says of itself."""
    return Response(state.eid.discovery(), headers={"Cache-Control": "public, max-age=300"})


@get("/jwks")
async def jwks(state: State) -> Response:
    """The keys that sign today."""
    return Response(state.eid.keys.public(), headers={"Cache-Control": "public, max-age=300"})


@post("/par", status_code=201)
async def push(request: Request, state: State) -> Response:
    """Leave an authorization request (RFC 9126)."""
    eid: Eid = state.eid
    client, form = await _client_and_form(request, eid)
    return Response({"request_uri": eid.push(client, form), "expires_in": PUSHED_LASTS}, headers=NO_STORE)


@route("/authorize", http_method=["GET", "POST"], opt={"page": True})
async def authorize(request: Request, state: State) -> Response:
    """Ask who is there: answered at once by a session that is enough, or by a page."""
    eid: Eid = state.eid
    asked = eid.asked(await _parameters(request))
    cookie = request.cookies.get(COOKIE, "")
    session = eid.session(cookie)
    if session is not None and eid.may_go_on(asked, session):
        return _redirect(eid.allow(asked, session))
    if "none" in asked.prompts:
        return _redirect(eid.refuse(asked, "login_required", "Nobody is signed in, or not freshly enough."))
    hinted = eid.people.get(asked.login_hint)
    if hinted is not None:
        cookie, session = eid.sign_in(hinted, cookie)
        return _remembering(_redirect(eid.allow(asked, session)), eid, cookie)
    ticket = eid.wait(asked)
    return page("sign_in.html", client_id=asked.client.client_id, ticket=ticket, people=list(eid.people.values()))


@post("/sign-in", opt={"page": True})
async def sign_in(request: Request, state: State) -> Response:
    """What the person chose on the page."""
    eid: Eid = state.eid
    form = await _form(request)
    citizen = eid.people.get(form.get("handle", ""))
    if citizen is None and "deny" not in form:
        raise Refused("invalid_request", "Nobody has that handle.")
    asked = eid.waiting(form.get("ticket", ""))
    if citizen is None:
        return _redirect(eid.refuse(asked, "access_denied", "The person said no."))
    cookie, session = eid.sign_in(citizen, request.cookies.get(COOKIE, ""))
    return _remembering(_redirect(eid.allow(asked, session)), eid, cookie)


@post("/token", status_code=200)
async def token(request: Request, state: State) -> Response:
    """Tokens for a code."""
    eid: Eid = state.eid
    return Response(eid.redeem(*await _client_and_form(request, eid)), headers=NO_STORE)


@route("/userinfo", http_method=["GET", "POST"], status_code=200)
async def userinfo(request: Request, state: State) -> Response:
    """The person's claims, for an access token in the Authorization header."""
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    claims = state.eid.userinfo(sent) if scheme.lower() == "bearer" else None
    if claims is None:
        challenge = 'Bearer realm="eid", error="invalid_token"' if sent else 'Bearer realm="eid"'
        headers = {**NO_STORE, "WWW-Authenticate": challenge}
        return Response({"error": "invalid_token"}, status_code=401, headers=headers)
    return Response(claims, headers=NO_STORE)


@post("/validate", status_code=200)
async def validate(request: Request, state: State) -> Response:
    """Whether an access token is good (RFC 7662)."""
    eid: Eid = state.eid
    client, form = await _client_and_form(request, eid)
    return Response(eid.validate(client, form.get("token", "")), headers=NO_STORE)


@post("/revoke", status_code=200)
async def revoke(request: Request, state: State) -> Response:
    """Take an access token back (RFC 7009); one that nobody knows is taken back already."""
    eid: Eid = state.eid
    client, form = await _client_and_form(request, eid)
    if "token" not in form:
        raise Refused("invalid_request", "token is missing.")
    eid.revoke(client, form["token"])
    return Response(None, headers=NO_STORE)


# --- signing out -------------------------------------------------------------------------------------------------


@route("/end-session", http_method=["GET", "POST"], status_code=200, opt={"page": True})
async def end_session(request: Request, state: State) -> Response:
    """Sign out because a client says so: at once if it shows the session's ID token, otherwise after asking."""
    eid: Eid = state.eid
    after, hint = eid.after_sign_out(await _parameters(request))
    cookie = request.cookies.get(COOKIE, "")
    session = eid.session(cookie)
    if session is not None and (hint is None or hint.get("sid") != session.sid):
        return page("account.html", citizen=session.citizen, ticket=eid.ask_to_leave(after))
    told = await eid.sign_out(cookie)
    return _forgetting(_redirect(after) if after else page("signed_out.html", told=told))


@get("/", opt={"page": True})
async def account(request: Request, state: State) -> Response:
    """Who is signed in with this browser."""
    session = state.eid.session(request.cookies.get(COOKIE, ""))
    return page("account.html", citizen=session.citizen if session else None, ticket="")


@post("/sign-out", status_code=200, opt={"page": True})
async def sign_out(request: Request, state: State) -> Response:
    """Sign out because the person says so, and tell the clients."""
    eid: Eid = state.eid
    form = await _form(request)
    after = eid.leaving(form.get("ticket", ""))
    if "stay" in form:
        return _redirect(after or f"{eid.issuer}/")
    told = await eid.sign_out(request.cookies.get(COOKIE, ""))
    return _forgetting(_redirect(after) if after else page("signed_out.html", told=told))


@get("/style.css", media_type="text/css")
async def style() -> str:
    """How the pages look."""
    return _STYLE


_STYLE = (TEMPLATES / "style.css").read_text()


# --- practice ----------------------------------------------------------------------------------------------------


class Who(Struct, frozen=True, forbid_unknown_fields=True):
    """A test citizen, by handle."""

    handle: str


@get("/faults")
async def current_faults(state: State) -> Faults:
    """What goes wrong at the moment."""
    faults: Faults = state.eid.faults
    return faults


@post("/faults", status_code=200)
async def set_faults(state: State, data: JSONBody[Faults]) -> Faults:
    """Set what goes wrong from now on; ``{}`` heals everything."""
    eid: Eid = state.eid
    if data.rotate_keys:
        eid.keys.rotate()
    eid.faults = msgspec.structs.replace(data, rotate_keys=False)
    return eid.faults


@post("/sign-out", status_code=200)
async def sign_out_everywhere(state: State, data: JSONBody[Who]) -> list[Told]:
    """End every session of a test citizen, as if they had signed out at the eID, and say what the clients answered."""
    eid: Eid = state.eid
    return await eid.sign_out_everywhere(data.handle)


def _redirect(url: str) -> Response:
    return Redirect(url, status_code=303, headers={**NO_STORE, "Referrer-Policy": "no-referrer"})


def _remembering(response: Response, eid: Eid, cookie: str) -> Response:
    secure = eid.issuer.startswith("https://")
    response.set_cookie(COOKIE, cookie, path="/eid", httponly=True, samesite="lax", secure=secure)
    return response


def _forgetting(response: Response) -> Response:
    response.delete_cookie(COOKIE, path="/eid")
    return response


ROUTES = Router(
    path="/eid",
    route_handlers=[
        discovery,
        jwks,
        push,
        authorize,
        sign_in,
        token,
        userinfo,
        validate,
        revoke,
        end_session,
        account,
        sign_out,
        style,
    ],
    before_request=stumble,
    exception_handlers={Refused: refuse, NotHere: send_back},
)
PRACTICE = Router(path="/eid/practice", route_handlers=[current_faults, set_faults, sign_out_everywhere])
