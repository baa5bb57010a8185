"""What all pages of who has signed in share: forms, refusals, the name in the header."""

from collections.abc import Awaitable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote
from uuid import UUID

from litestar import MediaType, Request, Response
from litestar.datastructures import State
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp import pages
from bkapp.access.guards import ENOUGH_FOR_OWN_DATA, StepUpNeeded, TooLowAssurance
from bkapp.access.operations import Caller, record_read
from bkapp.access.rules import Role
from bkapp.address.rules import tidy
from bkapp.errors import DomainError, FieldError, Malformed, Unauthenticated
from bkapp.households import flows, operations
from bkapp.households.operations import HouseholdView, name_of
from bkapp.households.providers import RegisterUnavailable
from bkapp.households.rules import Outcome
from bkapp.http import SAFE_METHODS, refuse, request_id_of, today, wants_page
from bkapp.identity import queries as people
from bkapp.pages.account import FieldProblem, Me, Problem

Html = Response[str]
Answer = Response[str] | Response[None]
MOST_FIELDS = 40
FORM = {"form": True}


def page(template: str, *, status: int = 200, **values: object) -> Html:
    """A page that nobody keeps: the next person with this telephone does not find it with the back button."""
    return Response(
        pages.render(f"account/{template}", **values),
        status_code=status,
        media_type=MediaType.HTML,
        headers={"Cache-Control": "no-store"},
    )


def go_to(path: str) -> Response[None]:
    """Where a form leads after it has done its work, so that reloading the page does not send it again."""
    return Response(None, status_code=303, headers={"Location": path, "Cache-Control": "no-store"})


async def fields_of(request: Request) -> dict[str, str]:
    """The fields of a form without invisible characters; of one that is there twice the last."""
    try:
        found = parse_qsl(
            (await request.body()).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise Malformed("The form has too many fields.", [FieldError("", "too many fields")]) from None
    return {name: tidy(value) or "" for name, value in found}


async def refusal_of(session: AsyncSession, work: Awaitable[object]) -> DomainError | None:
    """Do some work; undo it and return why, if it is refused.  Then the page can be shown again with the reason."""
    try:
        async with session.begin_nested():
            await work
    except DomainError as error:
        return error
    return None


def problem_of(
    error: DomainError, words: Mapping[str, str] | None = None, fields: Mapping[str, str] | None = None
) -> Problem:
    """A refusal for people.

    ``words`` are what to say of a field by the last part of its pointer, ``fields`` the form's names for such parts.
    What is in neither stays out of the page: it is English and for engineers.
    """
    told: list[FieldProblem] = []
    errors: Any = error.facts.get("errors", [])
    for found in errors:
        part = found.pointer.rpartition("/")[2]
        if words and part in words:
            told.append(FieldProblem((fields or {}).get(part, part), words[part]))
    return Problem(error.title, list(dict.fromkeys(told)))


async def me_of(state: State, session: AsyncSession, request: Request, asking: Caller) -> Me:
    """Who has signed in, for the header.  That they read their own name is recorded too."""
    name = None
    if asking.person is not None:
        kept = await people.kept(session, asking.person)
        name = None if kept is None else name_of(state.keyring, asking.person, kept.name)
        await record_own_read(session, request, asking, asking.person)
    return Me(
        name=name,
        officer=asking.role in {Role.OFFICER, Role.ADMIN},
        registrar=asking.role is Role.ADMIN,
    )


async def record_own_read(session: AsyncSession, request: Request, asking: Caller, subject: UUID | str) -> None:
    await record_read(
        session,
        asking,
        subject=str(subject),
        what=str(request.scope["path_template"]),
        request_id=request_id_of(request.scope),
    )


async def household_of(
    state: State, request: Request, asking: Caller, *, again: bool = False, within: AsyncSession | None = None
) -> tuple[HouseholdView | None, bool, Problem | None]:
    """A person's household, whether the population register was away, and what it said if it knows of none.

    Call it before the request holds a connection: who holds one of a pool and waits for another starves, together with
    all who do the same.  Where that cannot be (after a form was refused), ``within`` is the session to show it in, and
    the register is not asked.
    """
    if asking.level < ENOUGH_FOR_OWN_DATA:
        return None, False, Problem(TooLowAssurance.title)
    try:
        what, request_id = str(request.scope["path_template"]), request_id_of(request.scope)
        if within is not None:
            view = await operations.show(within, state.keyring, asking, today=today(), what=what, request_id=request_id)
        else:
            view = await flows.household_of(
                state.sessions,
                state.population,
                state.keyring,
                asking,
                what=what,
                request_id=request_id,
                again=again,
            )
    except RegisterUnavailable:
        return None, True, None
    except DomainError as error:
        return None, False, problem_of(error)
    return view, view.register in {Outcome.UNAVAILABLE, Outcome.REFUSED}, None


def refuse_page(request: Request, error: DomainError) -> Response:
    """A refusal before a page was reached: to who has to sign in the way there, to others why not."""
    if not wants_page(request):
        return refuse(request, error)
    safe = request.method in SAFE_METHODS
    here = _address_of(request) if safe else _page_of(request)
    if isinstance(error, StepUpNeeded):
        seconds = error.facts.get("max_age", 300)
        answer = page("step_up.html", status=401, href=f"/dang-nhap?max_age={seconds}&next={quote(here, safe='')}")
        answer.headers["WWW-Authenticate"] = str(error.facts["authenticate"])
        return answer
    if isinstance(error, TooLowAssurance):
        return page("assurance.html", status=403)
    sign_in = f"/dang-nhap?next={quote(here, safe='')}"
    if isinstance(error, Unauthenticated) and safe:
        return Response(None, status_code=302, headers={"Location": sign_in, "Cache-Control": "no-store"})
    answer = refuse(request, error)
    if error.status in {401, 503}:
        shown = {"status": error.status, "title": error.title, "detail": error.detail}
        retry = sign_in if error.status == 401 else here
        answer.content = pages.render("error.html", **shown, request_id=request_id_of(request.scope), retry=retry)
    return answer


def _address_of(request: Request) -> str:
    query = request.scope["query_string"].decode("latin-1")
    return request.scope["path"] + (f"?{query}" if query else "")


def _page_of(request: Request) -> str:
    """The page that a form was on, near enough."""
    path: str = request.scope["path"]
    return "/".join(path.split("/")[:3]) if path.startswith("/can-bo/") else "/toi"
