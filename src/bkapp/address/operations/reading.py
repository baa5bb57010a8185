"""Looking an address up by what people write, with a clear refusal for every way it can fail."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address import codes, queries
from bkapp.address.queries import Summary
from bkapp.db import Lookup, Sessions
from bkapp.errors import DomainError, NotFound


class WrongAddressCode(DomainError):
    """The text is no address code.  ``suggestions`` are issued codes one slip away, to ask about, never to assume."""

    status = 422
    code = "address_code_wrong"
    title = "Mã địa chỉ không đúng"


class NotIssued(NotFound):
    """The code is well formed, but no address has it."""

    code = "address_not_issued"
    title = "Mã địa chỉ này chưa được cấp"


async def read_code(session: AsyncSession, text: str) -> str:
    """The nine digits of a code as written.  Raises :class:`WrongAddressCode`; never corrects."""
    try:
        return codes.parse(text)
    except codes.WrongCode as error:
        suggestions: list[dict[str, Any]] = []
        if error.digits:
            near = codes.near_misses(error.digits)
            communes = await queries.issued(session, near)
            suggestions = [
                {"code": code, "display": codes.display(code), "unit": communes[code]}
                for code in near
                if code in communes
            ]
        raise WrongAddressCode(str(error), suggestions=suggestions) from None


async def look_up(session: AsyncSession, text: str) -> Summary:
    """The public view of an address by its code as written."""
    code = await read_code(session, text)
    return _issued(code, await queries.summary(session, code))


async def resolve(lookup: Lookup, readers: Sessions, text: str) -> Summary:
    """The same by the shortest way: a session is opened only for a wrong code, to find what to ask about."""
    try:
        code = codes.parse(text)
    except codes.WrongCode:
        async with readers() as session:
            code = await read_code(session, text)
    return _issued(code, await queries.resolve(lookup, code))


def _issued(code: str, found: Summary | None) -> Summary:
    if found is None:
        raise NotIssued(f"The code {codes.display(code)} has not been issued.")
    return found
