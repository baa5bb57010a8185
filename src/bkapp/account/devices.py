"""Where a person is signed in, and signing out from afar."""

from datetime import UTC, datetime
from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.datastructures import Cookie, State
from litestar.params import FromPath
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import COOKIE, Asking, signed_in
from bkapp.access.operations import Caller
from bkapp.account.shared import (
    FORM,
    Answer,
    Html,
    go_to,
    me_of,
    page,
    problem_of,
    refusal_of,
    refuse_page,
)
from bkapp.errors import DomainError
from bkapp.http import Reading, Transaction
from bkapp.identity import queries as people
from bkapp.identity.operations import end_device, end_everywhere
from bkapp.identity.rules import SignInKind
from bkapp.pages.account import Device, Problem

HERE = "/toi/thiet-bi"
MOST_SHOWN = 12  # more would not fit a small page, and signing out everywhere ends them all


class DeviceController(Controller):
    """Thiết bị đang đăng nhập."""

    path = HERE
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/", guards=[signed_in])
    async def show(self, state: State, reading: Reading, asking: Asking, request: Request) -> Html:
        """The devices, the last used first."""
        return await _page(state, reading, request, asking)

    @post("/{device:uuid}/dang-xuat", guards=[signed_in], opt=FORM)
    async def end(
        self, state: State, transaction: Transaction, asking: Asking, request: Request, device: FromPath[UUID]
    ) -> Answer:
        """Sign one device out."""
        if asking.person is None:
            return go_to(HERE)
        work = end_device(transaction, person=asking.person, own=asking.sign_in, device=device, now=datetime.now(UTC))
        error = await refusal_of(transaction, work)
        if error is not None:
            async with state.readers.begin() as reading:
                return await _page(state, reading, request, asking, problem_of(error), status=error.status)
        return _gone() if device == asking.sign_in else go_to(HERE)

    @post("/dang-xuat-moi-noi", guards=[signed_in], opt=FORM)
    async def end_all(self, transaction: Transaction, asking: Asking) -> Answer:
        """Sign out everywhere, here too."""
        if asking.person is not None:
            await end_everywhere(transaction, person=asking.person, actor=asking.id, now=datetime.now(UTC))
        return _gone()


def _gone() -> Response[None]:
    """To the first page, without the cookie, which is good for nothing any more."""
    answer = go_to("/")
    answer.set_cookie(Cookie(COOKIE, value="", max_age=0, path="/", secure=True, httponly=True, samesite="lax"))
    return answer


async def _page(
    state: State,
    reading: AsyncSession,
    request: Request,
    asking: Caller,
    problem: Problem | None = None,
    *,
    status: int = 200,
) -> Html:
    me = await me_of(state, reading, request, asking)
    found = await people.devices(reading, asking.person) if asking.person else []
    devices = [
        Device(
            id=str(device.id),
            name=device.device,
            app=device.kind is SignInKind.NATIVE,
            since=device.signed_in_at,
            seen=device.seen_at,
            here=device.id == asking.sign_in,
        )
        for device in found
    ]
    return page("devices.html", status=status, me=me, devices=devices[:MOST_SHOWN], problem=problem)
