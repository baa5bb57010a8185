"""The population register (CSDLQG về dân cư): what we ask it and what it may answer."""

from datetime import date
from typing import Protocol

from msgspec import Struct

from bkapp.errors import DomainError


class Citizen(Struct, frozen=True, kw_only=True):
    """What we need of what the register says of a person.

    ``head_number`` is the 12 digits of the head of the household (ChuHo), ``relation`` what the person is to the head,
    both None for somebody who is in no household; ``commune_code`` the 5 digits of the commune of permanent residence.
    ``birth`` is None where the register knows the year alone.
    """

    number: str
    name: str
    birth: date | None
    head_number: str | None
    relation: str | None
    commune_code: str | None


class NotFound(Exception):
    """The register knows nobody of this number."""


class Mismatch(Exception):
    """The register has another name or birth date for this number."""


class RegisterUnavailable(DomainError):
    """The population register does not answer, or not in a way that can be read; ``reason`` says which."""

    status = 503
    code = "population_register_unavailable"
    title = "Cơ sở dữ liệu quốc gia về dân cư chưa trả lời, xin thử lại sau"


class Register(Protocol):
    """Whoever answers for the population register."""

    async def look_up(
        self, *, request_id: str, number: str, name: str, birth: date, officer: str, procedure: str
    ) -> Citizen:
        """What is registered of a person.

        ``request_id`` is unique for each question, ``officer`` who asks (an id of ours) and ``procedure`` what for.
        Raise :class:`NotFound`, :class:`Mismatch` or :class:`RegisterUnavailable`.
        """
        ...

    async def close(self) -> None: ...
