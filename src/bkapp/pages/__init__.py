"""The pages people read without the app: plain HTML, Vietnamese, no script, small enough for a slow phone.

:func:`render` turns one of ``templates/*.html`` and its values into text.  The
structs below are what the templates expect, so that a controller that forgets
something is told by mypy rather than by a visitor; a value that is missing
altogether raises, and everything is escaped.

    home.html          demo: bool, sample: CodeLink | None
    code.html          view: AddressView, verdict: VerdictView | None, json_href, svg_href, pdf_href: str
    wrong_code.html    typed: str, suggestions: Sequence[CodeLink]
    unknown_code.html  code: CodeLink
    search.html        q: str, hits: Sequence[Hit], more: bool
    error.html         status: int, title, detail, request_id: str
    problems.html      problems: Sequence[ProblemType]

:mod:`bkapp.pages.account` has the same for the pages of who has signed in.
"""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct

from bkapp.http import HANOI

STATIC = Path(__file__).parent / "static"


class CodeLink(Struct, frozen=True):
    """An address to link to: its nine digits, how it is displayed, and its commune if that may be told."""

    code: str
    display: str
    unit_name: str | None = None


class AddressView(Struct, frozen=True, kw_only=True):
    """What anybody may know of an address.  ``former_units`` are the communes' names before the merger."""

    code: str
    display: str
    status: str
    unit_name: str
    since: date
    area: str
    province_name: str | None = None
    hamlet: str | None = None
    former_units: Sequence[str] = ()
    boundary: str | None = None
    replaces: Sequence[CodeLink] = ()
    replaced_by: Sequence[CodeLink] = ()
    demo: bool = False


class Changed(Struct, frozen=True):
    """One field of a certificate that the register states differently today, by its English name."""

    field: str
    then: str | None
    now: str | None


class VerdictView(Struct, frozen=True, kw_only=True):
    """What the certificate in the link is worth.  ``reason`` is a machine's word, told with a forged one."""

    outcome: Literal["current", "superseded", "not_genuine"]
    signed_on: date | None = None
    changes: Sequence[Changed] = ()
    reason: str | None = None


class Hit(Struct, frozen=True, kw_only=True):
    """A unit or hamlet that was found.  ``note`` says, for example, that a name is no longer in use."""

    kind: str
    name: str
    within: str | None = None
    note: str | None = None
    href: str | None = None


class ProblemType(Struct, frozen=True):
    """One kind of refusal: its stable code, HTTP status, Vietnamese title and English explanation."""

    code: str
    status: int
    title: str
    detail: str


def _day(day: date) -> str:
    return f"{day:%d/%m/%Y}"


def _moment(at: datetime) -> str:
    """A time as a clock in Bắc Kạn shows it."""
    return f"{at.astimezone(HANOI):%H:%M %d/%m/%Y}"


def _new_key() -> str:
    """What tells one sending of a form from another."""
    return uuid4().hex


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_environment.filters["day"] = _day
_environment.filters["moment"] = _moment
_environment.globals["new_key"] = _new_key


def render(template: str, **values: object) -> str:
    """The HTML of a page.  Raises ``jinja2.UndefinedError`` if a value is missing."""
    text = _environment.get_template(template).render(values)
    # A lone surrogate typed into a form cannot be sent back as UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")
