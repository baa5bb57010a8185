"""The first page of who has signed in: notices, the household and its address, what to do next."""

from datetime import UTC, datetime
from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from bkapp.access.guards import Asking, signed_in
from bkapp.account.household import view_of
from bkapp.account.shared import FORM, Html, go_to, household_of, me_of, page, refuse_page
from bkapp.errors import DomainError
from bkapp.http import Reading, Transaction
from bkapp.identity import queries as people
from bkapp.identity.operations import read_notice
from bkapp.pages.account import NoticeView

SHOWN = 5  # notices at a time; the next come when these have been read


class HomeController(Controller):
    """Trang của tôi."""

    path = "/toi"
    tags = ("pages",)
    include_in_schema = False
    exception_handlers = {DomainError: refuse_page}

    @get("/", guards=[signed_in])
    async def home(self, state: State, reading: Reading, asking: Asking, request: Request) -> Html:
        """Greeting, notices, household."""
        view, away, unknown = await household_of(state, request, asking)  # first: ``reading`` holds no connection yet
        me = await me_of(state, reading, request, asking)
        told = await people.notices(reading, asking.person) if asking.person else []
        return page(
            "home.html",
            me=me,
            notices=[
                NoticeView(
                    str(notice.id), notice.kind, notice.created_at, notice.data.get("device"), notice.data.get("bill")
                )
                for notice in told
                if notice.read_at is None
            ][:SHOWN],
            household=await view_of(reading, request, asking, view, me) if view else None,
            away=away,
            unknown=unknown,
        )

    @post("/thong-bao/{notice_id:uuid}", guards=[signed_in], opt=FORM)
    async def read(self, transaction: Transaction, asking: Asking, notice_id: FromPath[UUID]) -> Response[None]:
        """A notice has been read."""
        if asking.person is not None:
            await read_notice(transaction, asking.person, notice_id, now=datetime.now(UTC))
        return go_to("/toi")
