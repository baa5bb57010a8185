"""Units through time, in the database."""

import csv
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.db import violated
from bkapp.units import queries
from bkapp.units.models import AdminUnit, Level, Quality
from bkapp.units.names import fold
from bkapp.units.operations import approximate_boundaries, load_seed
from bkapp.units.queries import Unit

EVE, MERGER = date(2025, 6, 30), date(2025, 7, 1)


async def unit(session: AsyncSession, code: str, on: date) -> Unit:
    found = await queries.unit_on(session, code, on)
    assert found is not None
    return found


async def codes_after(session: AsyncSession, code: str, as_of: date, on: date) -> list[str]:
    return [u.code for u in await queries.successors(session, await unit(session, code, as_of), on)]


async def codes_before(session: AsyncSession, code: str, as_of: date, on: date) -> list[str]:
    return [u.code for u in await queries.predecessors(session, await unit(session, code, as_of), on)]


async def test_all_108_communes_map_to_exactly_37_units(session: AsyncSession, shared: Path) -> None:
    with (shared / "crosswalk_backan_108_to_37.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = {row["old_code"]: (fold(row["old_name"]), row["new_code"], row["new_name"]) for row in rows}

    old = await queries.units_on(session, EVE, level=Level.COMMUNE)
    found = {}
    for commune in old:
        (heir,) = await queries.successors(session, commune, MERGER)
        found[commune.code] = (fold(commune.full_name), heir.code, heir.full_name)

    assert found == table
    assert len({new for _, new, _ in found.values()}) == 37


async def test_a_code_given_again_means_another_unit_on_each_side_of_the_merger(session: AsyncSession) -> None:
    before, after = await unit(session, "01954", EVE), await unit(session, "01954", MERGER)

    assert (before.full_name, after.full_name) == ("Thị trấn Vân Tùng", "Xã Ngân Sơn")
    assert await codes_after(session, "01954", EVE, MERGER) == ["01954"]
    assert await codes_before(session, "01954", MERGER, EVE) == ["01945", "01951", "01954"]
    assert (await queries.successors(session, before, MERGER))[0].id == after.id


async def test_a_name_that_moved_to_another_code_is_followed(session: AsyncSession) -> None:
    assert (await unit(session, "01858", EVE)).full_name == "Xã Bằng Thành"
    assert await codes_after(session, "01858", EVE, MERGER) == ["01864"]
    assert await queries.unit_on(session, "01858", MERGER) is None


async def test_successors_follow_a_chain_of_changes(session: AsyncSession) -> None:
    commune = await unit(session, "01954", date(2023, 4, 9))

    assert commune.full_name == "Xã Vân Tùng"
    assert [u.full_name for u in await queries.successors(session, commune, date(2023, 4, 10))] == ["Thị trấn Vân Tùng"]
    assert [u.full_name for u in await queries.successors(session, commune, MERGER)] == ["Xã Ngân Sơn"]
    assert (await unit(session, "01954", date(2023, 4, 10))).decree == "722/NQ-UBTVQH15"


async def test_predecessors_follow_a_chain_of_changes(session: AsyncSession) -> None:
    new = await unit(session, "01954", MERGER)

    assert "Xã Vân Tùng" in [u.full_name for u in await queries.predecessors(session, new, date(2022, 1, 1))]


async def test_a_unit_in_force_is_its_own_successor_and_predecessor(session: AsyncSession) -> None:
    assert await codes_after(session, "01834", EVE, EVE) == ["01834"]
    assert await codes_after(session, "06", date(2021, 1, 1), EVE) == ["06"]
    assert await codes_before(session, "01834", EVE, date(2020, 2, 1)) == ["01834"]


async def test_a_district_is_succeeded_by_the_units_its_communes_went_into(session: AsyncSession) -> None:
    heirs = await queries.successors(session, await unit(session, "058", EVE), MERGER)

    assert [heir.code for heir in heirs] == ["01840", "01843", "01849"]
    assert {heir.level for heir in heirs} == {Level.COMMUNE}


async def test_the_districts_together_are_succeeded_by_all_37(session: AsyncSession) -> None:
    heirs: set[str] = set()
    for district in await queries.units_on(session, EVE, level=Level.DISTRICT):
        heirs |= {heir.code for heir in await queries.successors(session, district, MERGER)}

    ours = await queries.units_on(session, MERGER, level=Level.COMMUNE, in_bac_kan=True)
    assert heirs == {commune.code for commune in ours}
    assert len(heirs) == 37


async def test_the_province_merged_into_thai_nguyen(session: AsyncSession) -> None:
    (heir,) = await queries.successors(session, await unit(session, "06", EVE), MERGER)

    assert (heir.code, heir.full_name, heir.decree) == ("19", "Tỉnh Thái Nguyên", "202/2025/QH15")
    assert await codes_before(session, "19", MERGER, EVE) == ["06"]


async def test_before_our_records_begin_nothing_is_claimed(session: AsyncSession) -> None:
    assert await queries.unit_on(session, "01834", date(2020, 1, 31)) is None
    assert await codes_before(session, "01840", MERGER, date(2020, 1, 31)) == []


async def test_units_are_found_by_any_spelling_and_former_name(session: AsyncSession) -> None:
    async def found(q: str, on: date) -> list[str]:
        return [u.full_name for u in await queries.units_on(session, on, q=q)]

    assert await found("PHUONG DUC XUAN", MERGER) == ["Phường Đức Xuân"]
    assert await found("Bắc Cạn", MERGER) == ["Phường Bắc Kạn"]
    assert await found("Sĩ Bình", EVE) == await found("sỹ bình", EVE) == ["Xã Sỹ Bình"]
    assert await found("Cao Trĩ", EVE) == ["Xã Thượng Giáo"]
    assert await found("100%", EVE) == await found("!", EVE) == []


async def test_units_are_listed_by_level_parent_and_page(session: AsyncSession) -> None:
    district = await queries.units_on(session, EVE, parent="058")
    first = await queries.units_on(session, MERGER, limit=50)
    rest = await queries.units_on(session, MERGER, limit=50, after=first[-1].code)

    assert len(district) == 8
    assert {u.parent for u in district} == {"058"}
    assert len(first) + len(rest) == 93
    assert [u.code for u in first + rest] == sorted(u.code for u in first + rest)


async def test_a_mandate_reaches_what_became_of_its_communes_and_no_further(session: AsyncSession) -> None:
    async def scope(code: str, on: date) -> set[str]:
        ids = await queries.scope_ids(session, (await unit(session, code, on)).id)
        names = [await queries.unit_by_id(session, unit_id) for unit_id in ids]
        return {u.full_name for u in names if u}

    assert await scope("01834", EVE) == {"Phường Nguyễn Thị Minh Khai", "Phường Đức Xuân"}
    assert {"Thành phố Bắc Kạn", "Phường Đức Xuân", "Phường Bắc Kạn", "Xã Phong Quang"} < await scope("058", EVE)
    everything = await scope("06", EVE)
    assert {"Tỉnh Bắc Kạn", "Huyện Na Rì", "Xã Ngân Sơn"} < everything
    assert "Tỉnh Thái Nguyên" not in everything
    today = await queries.units_on(session, MERGER, level=Level.COMMUNE)
    assert {u.full_name for u in today if u.full_name in everything} == {u.full_name for u in today if u.in_bac_kan}
    assert await scope("01840", MERGER) == {"Phường Đức Xuân"}


async def test_a_code_cannot_mean_two_units_on_one_day(session: AsyncSession) -> None:
    with pytest.raises(IntegrityError) as refused:
        async with session.begin_nested():
            await session.execute(
                text("""
                    INSERT INTO admin_unit (code, level, kind, name, full_name, folded, valid_from, in_bac_kan, point)
                    SELECT code, level, kind, name, full_name, folded, DATE '2025-06-30', in_bac_kan, point
                    FROM admin_unit WHERE code = '01834'
                """)
            )

    assert violated(refused.value) == "ex_admin_unit_one_meaning_per_day"


async def test_loading_again_changes_nothing(session: AsyncSession) -> None:
    async def state() -> object:
        rows = await session.execute(text("SELECT id, xmin::text, ctid::text FROM admin_unit ORDER BY id"))
        return [tuple(row) for row in rows]

    before = await state()

    await load_seed(session)

    assert await approximate_boundaries(session) == set()
    assert await state() == before


async def test_loading_mends_what_was_changed_and_leaves_boundaries(session: AsyncSession) -> None:
    await session.execute(text("UPDATE admin_unit SET name = 'X', decree = NULL WHERE code = '01840'"))

    await load_seed(session)

    new = await unit(session, "01840", MERGER)
    assert (new.name, new.decree, new.boundary_quality) == ("Đức Xuân", "1683/NQ-UBTVQH15", Quality.APPROXIMATE)


async def test_each_approximate_boundary_is_sound_and_contains_its_points(session: AsyncSession) -> None:
    faults = await session.scalars(
        select(AdminUnit.full_name).where(
            AdminUnit.in_bac_kan,
            func.coalesce(~func.ST_IsValid(AdminUnit.boundary), True)
            | (AdminUnit.boundary_quality != Quality.APPROXIMATE)
            | ~func.ST_Intersects(AdminUnit.boundary, func.geometry(AdminUnit.point)),
        )
    )

    assert faults.all() == []
    for commune in await queries.units_on(session, EVE, level=Level.COMMUNE):
        row = (
            await session.execute(
                text(
                    "SELECT ST_X(point::geometry) AS lon, ST_Y(point::geometry) AS lat FROM admin_unit WHERE id = :id"
                ),
                {"id": commune.id},
            )
        ).one()
        found = await queries.containing(session, row.lon, row.lat, EVE)
        assert found is not None
        assert (found.unit.id, found.boundary_quality) == (commune.id, Quality.APPROXIMATE)


@pytest.mark.parametrize("on", [EVE, MERGER])
async def test_approximate_communes_neither_overlap_nor_leave_gaps(session: AsyncSession, on: date) -> None:
    row = (
        await session.execute(
            text("""
                SELECT sum(ST_Area(boundary::geography)) AS parts, ST_Area(ST_Union(boundary)::geography) AS whole,
                    (SELECT ST_Area(boundary::geography) FROM admin_unit WHERE code = '06') AS province,
                    ST_NumGeometries(ST_Union(boundary)) AS pieces
                FROM admin_unit
                WHERE level = 'commune' AND in_bac_kan AND valid_from <= :on AND (valid_to IS NULL OR valid_to > :on)
            """),
            {"on": on},
        )
    ).one()

    assert row.parts == pytest.approx(row.whole, abs=1)  # square metres of some 5 000 km²
    assert row.province == pytest.approx(row.whole, abs=1)
    assert row.pieces == 1


async def test_approximate_boundaries_nest(session: AsyncSession) -> None:
    sticking_out = await session.execute(
        text("""
            WITH inner_outer AS (
                SELECT old_id AS inside, new_id AS outside FROM admin_unit_succession
                UNION ALL
                SELECT id, parent_id FROM admin_unit WHERE parent_id IS NOT NULL
            )
            SELECT i.full_name, o.full_name
            FROM inner_outer
            JOIN admin_unit i ON i.id = inside AND i.boundary IS NOT NULL
            JOIN admin_unit o ON o.id = outside AND o.boundary IS NOT NULL
            WHERE ST_Area(ST_Difference(i.boundary, o.boundary)::geography) > 1
        """)
    )

    assert sticking_out.all() == []


async def test_points_outside_or_before_our_records_are_in_no_commune(session: AsyncSession) -> None:
    assert await queries.containing(session, 105.85, 21.03, MERGER) is None  # Hà Nội
    assert await queries.containing(session, 105.8437, 22.1413, date(2019, 1, 1)) is None
    assert await queries.containing(session, float("nan"), 22.1, MERGER) is None
