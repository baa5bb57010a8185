"""``bkapp import boundaries``, as its user runs it."""

import json
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.units.boundaries import ImportReport
from bkapp.units.commands import boundaries

SQUARE = [[[105.8, 22.1], [105.9, 22.1], [105.9, 22.2], [105.8, 22.2], [105.8, 22.1]]]


@pytest.fixture
def official(own_database: str, monkeypatch: pytest.MonkeyPatch) -> psycopg.Connection:
    """The database that the command works in, looked at from outside."""
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    return psycopg.connect(own_database.replace("postgresql+psycopg", "postgresql"), autocommit=True)


def write(path: Path, code: str) -> Path:
    feature = {"type": "Feature", "properties": {"code": code}, "geometry": {"type": "Polygon", "coordinates": SQUARE}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}), encoding="utf-8")
    return path


def sources(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT file_name, source, licence, level, features FROM boundary_source").fetchall()


def test_a_file_is_taken_once_and_what_moved_is_told(official: psycopg.Connection, tmp_path: Path) -> None:
    told: list[set[int]] = []

    async def then(_: AsyncSession, report: ImportReport) -> None:
        told.append(report.changed)

    path = write(tmp_path / "units.geojson", "01840")
    arguments = [str(path), "--as-of", "2025-07-01", "--source", "Sở Nội vụ", "--licence", "công bố"]

    first = CliRunner().invoke(boundaries(then=then), arguments)
    again = CliRunner().invoke(boundaries(then=then), arguments)

    with official:
        assert (first.exit_code, again.exit_code) == (0, 0), first.output
        assert "1 official boundaries of level commune as of 2025-07-01; 1 new" in first.stderr
        assert "nothing new, the file was imported before" in again.stderr
        assert sources(official) == [("units.geojson", "Sở Nội vụ", "công bố", "commune", 1)]
        assert [len(changed) for changed in told] == [1, 0]


def test_a_refused_file_is_reported_and_leaves_nothing(official: psycopg.Connection, tmp_path: Path) -> None:
    async def then(_: AsyncSession, __: ImportReport) -> None:
        pytest.fail("nothing was imported")

    result = CliRunner().invoke(boundaries(then=then), [str(write(tmp_path / "units.geojson", "99999"))])

    with official:
        assert result.exit_code == 1
        assert "units.geojson is refused and nothing of it is taken: 1 fault(s)." in result.stderr
        assert "/features/0: Feature 1 (99999) has no unit on" in result.stderr
        assert sources(official) == []


def test_a_repair_is_told(official: psycopg.Connection, tmp_path: Path) -> None:
    async def then(_: AsyncSession, __: ImportReport) -> None:
        return None

    path = write(tmp_path / "units.geojson", "01840")
    bow_tie = [[[105.7, 22.1], [105.8, 22.2], [105.8, 22.1], [105.7, 22.2], [105.7, 22.1]]]
    path.write_text(path.read_text().replace(json.dumps(SQUARE), json.dumps(bow_tie)))

    result = CliRunner().invoke(boundaries(then=then), [str(path)])

    with official:
        assert result.exit_code == 0
        assert "repaired: Feature 1 (01840): Self-intersection" in result.stderr


def test_a_failure_afterwards_undoes_the_import(official: psycopg.Connection, tmp_path: Path) -> None:
    async def then(_: AsyncSession, __: ImportReport) -> None:
        raise RuntimeError("no room")

    result = CliRunner().invoke(boundaries(then=then), [str(write(tmp_path / "units.geojson", "01840"))])

    with official:
        assert isinstance(result.exception, RuntimeError)
        assert sources(official) == []
