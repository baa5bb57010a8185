"""Tests of the repository itself: promises that no single module can keep."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from litestar.handlers import HTTPRouteHandler
from procrastinate.schema import SchemaManager

from bkapp.access.guards import admin, citizen, keyed, officer, signed_in
from bkapp.app import create_app
from bkapp.config import Settings
from bkapp.db import Sessions
from bkapp.http import SAFE_METHODS, anyone
from bkapp.migrate import alembic_config
from bkapp.openapi import description

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def handlers(settings: Settings, sessions: Sessions) -> list[tuple[str, HTTPRouteHandler]]:
    app = create_app(settings, sessions, sessions)
    return [
        (path, handler)
        for path, methods in (
            (route.path, route.route_handlers) for route in app.routes if hasattr(route, "route_handlers")
        )
        for handler in methods
        if isinstance(handler, HTTPRouteHandler) and handler.http_methods != {"OPTIONS"}
    ]


def test_the_committed_openapi_description_is_the_one_the_code_gives() -> None:
    assert (ROOT / "openapi" / "bkapp.json").read_text() == description(), "run ./dev openapi and commit"


def test_migrations_are_numbered_and_linear() -> None:
    scripts = list(ScriptDirectory.from_config(alembic_config()).walk_revisions())
    numbers = [script.revision for script in reversed(scripts)]
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]
    for script in scripts:
        assert Path(script.path).name.startswith(f"{script.revision}_")


def test_the_tables_are_those_that_the_models_describe(database: str) -> None:
    config = alembic_config()
    config.set_main_option("sqlalchemy.url", database.replace("%", "%%"))
    command.check(config)


def test_the_job_queues_schema_is_the_installed_releases() -> None:
    committed = (ROOT / "migrations" / "sql" / "procrastinate-3.10.0.sql").read_text()
    assert committed == SchemaManager.get_schema(), "procrastinate changed its schema: a new migration is due"


def test_every_route_names_who_may_use_it(settings: Settings, sessions: Sessions) -> None:
    found = handlers(settings, sessions)
    assert len(found) > 25
    for path, handler in found:
        guards = guards_of(handler)
        if path in DOCUMENTATION:
            continue
        assert guards & {anyone, *SOMEBODY}, f"{path} names no guard"
        unsafe = handler.http_methods - SAFE_METHODS
        if unsafe and not handler.opt.get("reads_only") and path not in OPEN:
            assert guards & SOMEBODY, f"{path} changes something for anybody"


SOMEBODY = {keyed, officer, admin, citizen, signed_in}
# What proves who asks is in the request itself: a code and its verifier, a refresh token, a logout token; and whoever
# signs out has signed out.
OPEN = {
    "/api/v1/token",
    "/dang-nhap/thong-bao",
    "/dang-xuat",
    "/api/v1/payments/hooks/{merchant:str}",
    "/api/v1/payments/hooks/{merchant:str}/{what:str}",
}


def guards_of(handler: HTTPRouteHandler) -> set[object]:
    """The guards of a route; one that asks for a recent sign-in counts as the guard it goes beyond."""
    guards = (getattr(guard, "func", guard) for guard in handler.resolve_guards())
    return {getattr(guard, "bkapp_guard", guard) for guard in guards}


# Litestar's own routes for the API's description, public like the description itself.
DOCUMENTATION = {"/schema", "/schema/{path:str}", "/schema/openapi.json", "/schema/oauth2-redirect.html"}


def test_every_unsafe_route_documents_its_idempotency_key_and_refusals(settings: Settings, sessions: Sessions) -> None:
    schema = create_app(settings, sessions, sessions).openapi_schema.to_schema()
    only_read, for_officers = set(), set()
    for _, handler in handlers(settings, sessions):
        if handler.http_methods <= SAFE_METHODS or handler.opt.get("reads_only") or handler.opt.get("flow"):
            only_read.add(handler.operation_id)
        if guards_of(handler) & (SOMEBODY - {keyed}):
            for_officers.add(handler.operation_id)
    assert {"verifyCertificate", "geocodeCsv"} < only_read
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            assert operation["operationId"]
            for status, answer in operation["responses"].items():
                if status >= "400":
                    assert "application/problem+json" in answer["content"], (path, status)
            if operation["operationId"] not in only_read:
                names = {parameter["name"] for parameter in operation.get("parameters", [])}
                assert "Idempotency-Key" in names, path
                refusals = {"400", "401", "409", "422"} | (
                    {"403"} if operation["operationId"] in for_officers else set()
                )
                assert refusals <= set(operation["responses"]), path


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_nothing_but_the_transaction_commits(path: Path) -> None:
    text = path.read_text()
    # A savepoint's commit is not a transaction's.
    assert not re.search(r"(?<!work)\.commit\(\)", text)
    assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", text)


def test_locks_hold_hashes_and_no_hosts() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert text.count("--hash=sha256:") > text.count("==")
    for path in ROOT.glob("tests/peers/*/package-lock.json"):
        assert "://" not in path.read_text()
        packages = json.loads(path.read_text())["packages"]
        for name, package in packages.items():
            assert "resolved" not in package, f"{name} names a host: the .npmrc beside the lock was not read"
            assert name == "" or package["integrity"].startswith("sha512-"), name


def test_nothing_names_the_machine_it_was_made_on() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    beside = f"{ROOT.parent}/"
    for name in filter(None, listed):
        path = ROOT / name
        if path.suffix in {".png", ".lock"} or not path.is_file():
            continue
        assert beside not in path.read_text(errors="replace"), name


def test_importing_the_command_is_light() -> None:
    """`bkapp --help` must not load the map files', font and server libraries."""
    heavy = "fpdf", "fontTools", "pyogrio", "osmium", "hypothesis", "uvicorn", "swagger_ui"
    code = f"import sys, bkapp.cli; print([name for name in {heavy!r} if name in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": "src"}, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"
