"""Codes outlive units: mergers to come, and boundaries that turn out otherwise."""

from datetime import date, timedelta
from pathlib import Path

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address import operations, queries
from bkapp.address.models import Dwelling, Event, Hamlet
from bkapp.address.rules import Change
from bkapp.http import today
from bkapp.units import boundaries
from bkapp.units.names import key
from bkapp.units.queries import unit_on
from tests import make


async def merge_units(session: AsyncSession, olds: list[str], new: str, on: date) -> None:
    """A merger of tomorrow, made today: the units end, one takes them over under a code of old."""
    ids = [(await unit_on(session, code, on)).id for code in olds]  # type: ignore[union-attr]
    await session.execute(text("UPDATE admin_unit SET valid_to = :on WHERE id = ANY(:ids)"), {"on": on, "ids": ids})
    heir = (
        await session.execute(
            text("""
                INSERT INTO admin_unit (code, level, kind, name, full_name, folded, parent_id, valid_from, decree,
                    in_bac_kan, point, boundary, boundary_quality)
                SELECT :code, level, kind, 'Mới', 'Xã Mới', 'moi', parent_id, :on, 'test', true, point,
                    (SELECT ST_Multi(ST_Union(boundary)) FROM admin_unit WHERE id = ANY(:ids)), 'approximate'
                FROM admin_unit WHERE id = :first RETURNING id
            """),
            {"code": new, "on": on, "ids": ids, "first": ids[0]},
        )
    ).scalar_one()
    for old in ids:
        await session.execute(
            text(
                "INSERT INTO admin_unit_succession (old_id, new_id, effective, decree, kind) "
                "VALUES (:old, :new, :on, 'test', 'whole')"
            ),
            {"old": old, "new": heir, "on": on},
        )
    await session.execute(
        text(
            "INSERT INTO admin_unit_piece (unit_id, geom) "
            "SELECT id, ST_Subdivide(boundary, 64) FROM admin_unit WHERE id = :id"
        ),
        {"id": heir},
    )


async def test_a_merger_gives_every_home_its_new_commune_one_event_and_its_old_code(session: AsyncSession) -> None:
    since = today() - timedelta(days=60)
    day = today() - timedelta(days=10)
    homes = [await make.an_address(session, since=since), await make.an_address(session, unit="02191", since=since)]
    gone = await make.an_address(session, since=since, north=80)
    await operations.retire(session, make.ADMIN, gone.code, reason="burnt", on=None, today=today())
    before = await queries.head(session)
    await merge_units(session, [make.COMMUNE, "02191"], "01969", day)

    moved = await operations.settle_units(session, today=today(), actor="test")
    again = await operations.settle_units(session, today=today(), actor="test")

    assert (moved, again) == (2, 0)
    events = await queries.events(session, after=before, limit=10)
    assert {event.code for event in events} == {home.code for home in homes}
    assert {(event.kind, event.effective) for event in events} == {(Change.UNIT_CHANGED, day)}
    for home in homes:
        found = await queries.summary(session, home.code)
        assert found is not None
        assert found.unit.name == "Xã Mới"
        then = await queries.versions(session, home.code, as_of=day - timedelta(days=1), known_at=None)
        now = await queries.versions(session, home.code, as_of=day, known_at=None)
        assert [version.unit.name for version in now] == ["Xã Mới"]
        assert then[0].unit.name in {"Xã Phủ Thông", "Xã Xuân Dương"}
        assert len(then) == 1


async def test_hamlets_go_on_under_the_new_commune_and_namesakes_are_told_apart(session: AsyncSession) -> None:
    day = today() - timedelta(days=1)
    for unit in (make.COMMUNE, "02191"):
        for name in ("Thôn Nà Ít", f"Thôn Chỉ {unit}"):
            await operations.open_hamlet(
                session, make.ADMIN, unit_code=unit, name=name, since=day - timedelta(days=9), today=today()
            )
    home = await make.an_address(session, hamlet="Thôn Nà Ít", since=day - timedelta(days=5))
    await merge_units(session, [make.COMMUNE, "02191"], "01969", day)

    await operations.settle_units(session, today=today(), actor="test")

    heir = await unit_on(session, "01969", today())
    assert heir is not None
    names = [hamlet.full_name for hamlet in await queries.hamlets_of(session, unit_id=heir.id, on=today())]
    assert sorted(names) == [
        "Thôn Chỉ 01969", "Thôn Chỉ 02191", "Thôn Nà Ít (Phủ Thông)", "Thôn Nà Ít (Xuân Dương)",
    ]  # fmt: skip
    found = await queries.summary(session, home.code)
    assert found is not None
    assert found.hamlet == "Thôn Nà Ít (Phủ Thông)"
    named = await queries.hamlets_named(session, unit_id=heir.id, key=key("Thôn Nà Ít (Xuân Dương)"), on=today())
    assert [hamlet.full_name for hamlet in named] == ["Thôn Nà Ít (Xuân Dương)"]
    assert len(await queries.hamlets_named(session, unit_id=heir.id, key=key("thon na it"), on=today())) == 2
    assert await queries.hamlets_named(session, unit_id=heir.id, key=key("thon na"), on=today()) == []
    assert await queries.hamlets_named(session, unit_id=heir.id, key=key("thon chi"), on=today()) == []
    assert await session.scalar(select(func.count()).select_from(Hamlet).where(Hamlet.valid_to == day)) == 4


async def test_a_hamlet_opened_early_under_the_new_commune_takes_the_homes_of_its_namesake(
    session: AsyncSession,
) -> None:
    day = today() - timedelta(days=3)
    await operations.open_hamlet(
        session, make.ADMIN, unit_code=make.COMMUNE, name="Thôn Nà Ít", since=day - timedelta(days=9), today=today()
    )
    home = await make.an_address(session, hamlet="Thôn Nà Ít", since=day - timedelta(days=5))
    await merge_units(session, [make.COMMUNE, "02191"], "01969", day)
    early = await operations.open_hamlet(
        session, make.ADMIN, unit_code="01969", name="Thôn Nà Ít", since=day, today=today()
    )

    assert await operations.settle_units(session, today=today(), actor="test") == 1

    dwelling = await session.get_one(Dwelling, home.code, populate_existing=True)
    assert dwelling.hamlet_id == early.id


async def test_official_boundaries_move_the_homes_they_show_to_be_elsewhere(
    session: AsyncSession, shared: Path
) -> None:
    # On the approximate map this point of Vi Hương's old territory may be anywhere; ask the official one afterwards.
    homes = [
        await make.an_address(session, unit=unit, north=north)
        for unit in ("01969", "02191", "01840", "01843", "02014")
        for north in (-1500, 0, 1500)
        if await inside(session, unit, north)
    ]
    before = await queries.head(session)

    report = await boundaries.import_boundaries(
        session, shared / "nested_new_units_37.geojson", as_of=today(), source="test", licence="test"
    )
    moved = await operations.settle_units(session, today=today(), actor="test", changed_units=report.changed)

    assert await queries.head(session) == before + moved
    assert (
        await session.scalar(select(func.count()).select_from(Event).where(Event.kind == Change.UNIT_CHANGED)) == moved
    )
    for home in homes:
        point = await queries.point_of(session, home.code)
        found = await queries.summary(session, home.code)
        there = await session.scalar(
            text("""SELECT code FROM admin_unit WHERE level = 'commune' AND boundary_quality = 'official'
                    AND ST_Covers(boundary, ST_SetSRID(ST_MakePoint(:lon, :lat), 4326))"""),
            {"lon": point.lon, "lat": point.lat},
        )
        assert found is not None
        assert found.unit.code == there
        assert found.unit.boundary == "official"


async def inside(session: AsyncSession, unit: str, north: float) -> bool:
    place = await make.a_place(session, unit, north=north)
    covers = text("""SELECT ST_Covers(boundary, ST_SetSRID(ST_MakePoint(:lon, :lat), 4326))
                     FROM admin_unit WHERE code = :code AND valid_to IS NULL""")
    return bool(await session.scalar(covers, {"lon": place.lon, "lat": place.lat, "code": unit}))
