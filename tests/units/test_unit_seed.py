"""The shipped units: as the packages have them, and as the official conversion table has them."""

import csv
import subprocess
import sys
from datetime import date, timedelta
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.units.models import Level
from bkapp.units.names import fold
from bkapp.units.seed import SeedUnit, shipped

REPOSITORY = Path(__file__).parents[2]

MERGER = date(2025, 7, 1)
SEED = shipped()
DAYS = st.dates(date(2020, 2, 1), date(2030, 1, 1))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same_names(ours: dict[str, str], theirs: dict[str, str]) -> bool:
    """Equal but for where the tone mark sits (Thủy, Thuỷ), on which the package and the statistics office differ."""
    assert sum(theirs[code] != name for code, name in ours.items()) <= 2
    return {c: fold(name) for c, name in ours.items()} == {c: fold(name) for c, name in theirs.items()}


def in_force(on: date, level: Level) -> dict[str, SeedUnit]:
    found = [u for u in SEED.units if u.level is level and u.valid_from <= on < (u.valid_to or date.max)]
    assert len({unit.code for unit in found}) == len(found)
    return {unit.code: unit for unit in found}


@pytest.mark.skipif(
    not (find_spec("vietnamadminunits") and find_spec("onflow_location_platform")),
    reason="the packages of the extra `seed` are not installed",
)
def test_the_shipped_file_is_what_the_script_writes(tmp_path: Path) -> None:
    made = tmp_path / "units.json"

    subprocess.run([sys.executable, str(REPOSITORY / "tools/make_units.py"), str(made)], check=True)

    assert made.read_text(encoding="utf-8") == files("bkapp.units").joinpath("data/units.json").read_text("utf-8")


@given(DAYS)
def test_on_any_day_a_code_means_one_unit_and_its_parent_is_in_force(on: date) -> None:
    units = {code: unit for level in Level for code, unit in in_force(on, level).items()}

    assert all(unit.parent in units for unit in units.values() if unit.level is not Level.PROVINCE)


@given(DAYS)
def test_bac_kan_has_108_communes_before_the_merger_and_37_after(on: date) -> None:
    ours = [unit for unit in in_force(on, Level.COMMUNE).values() if unit.in_bac_kan]

    assert len(ours) == (108 if on < MERGER else 37)
    assert len(in_force(on, Level.DISTRICT)) == (8 if on < MERGER else 0)
    assert set(in_force(on, Level.PROVINCE)) == ({"06"} if on < MERGER else {"19"})


def test_every_unit_that_ended_has_a_successor_or_is_a_district() -> None:
    succeeded = {(s.old, s.effective) for s in SEED.successions}

    assert all(
        (unit.code, unit.valid_to) in succeeded or unit.level is Level.DISTRICT for unit in SEED.units if unit.valid_to
    )


def test_old_communes_and_their_successors_equal_the_official_table(shared: Path) -> None:
    table = {row["old_code"]: row for row in rows(shared / "crosswalk_backan_108_to_37.csv")}
    before = in_force(MERGER - timedelta(days=1), Level.COMMUNE)
    after = in_force(MERGER, Level.COMMUNE)
    became = {s.old: s for s in SEED.successions if s.effective == MERGER and len(s.old) == 5}

    assert same_names({c: unit.full_name for c, unit in before.items()}, {c: r["old_name"] for c, r in table.items()})
    assert {code: unit.parent for code, unit in before.items()} == {c: r["district_code"] for c, r in table.items()}
    assert {code: s.new for code, s in became.items()} == {c: r["new_code"] for c, r in table.items()}
    assert {s.new: after[s.new].full_name for s in became.values()} == {
        r["new_code"]: r["new_name"] for r in table.values()
    }
    unchanged = {code for code, s in became.items() if s.kind == "unchanged"}
    assert unchanged == {code for code, row in table.items() if row["merge_kind"] == "Giữ nguyên"} == {"01957"}
    assert {s.decree for s in became.values()} == {"1683/NQ-UBTVQH15"}


def test_new_units_equal_the_official_list(shared: Path) -> None:
    table = {row["code"]: row for row in rows(shared / "new_units_thai_nguyen_92.csv")}
    after = in_force(MERGER, Level.COMMUNE)

    assert same_names({c: unit.full_name for c, unit in after.items()}, {c: r["name_gso"] for c, r in table.items()})
    assert {c for c, unit in after.items() if unit.in_bac_kan} == {
        c for c, r in table.items() if r["ex_bac_kan"] == "1"
    }
    assert all(unit.parent == "19" for unit in after.values())


def test_districts_equal_the_official_list(shared: Path) -> None:
    table = {row["code"]: row["name"] for row in rows(shared / "old_districts_8.csv")}
    districts = in_force(MERGER - timedelta(days=1), Level.DISTRICT)

    assert {code: unit.full_name.lower() for code, unit in districts.items()} == {
        c: n.lower() for c, n in table.items()
    }


def test_postcodes_of_2018_equal_an_independent_list(shared: Path) -> None:
    communes = {row["old_code"]: row["postcode_2018"] for row in rows(shared / "crosswalk_backan_108_to_37.csv")}
    districts = {row["code"]: row["postcode_2018_prefix"].rstrip("x") for row in rows(shared / "old_districts_8.csv")}

    shipped_values = {identifier.code: identifier.value for identifier in SEED.identifiers}

    assert shipped_values == communes | districts | {"06": "23"}
    assert {(identifier.scheme, identifier.valid_from) for identifier in SEED.identifiers} == {
        ("vnpost2018", date(2018, 1, 1))
    }


def test_former_names_of_the_communes_merged_in_2020_are_kept(shared: Path) -> None:
    aliases = {(alias.code, alias.name) for alias in SEED.aliases}

    assert {("01912", "xacaotri"), ("02155", "xaluongha"), ("02140", "xaantinh"), ("01978", "Xã Sĩ Bình")} <= aliases
    assert {code for code, _ in aliases} <= {row["old_code"] for row in rows(shared / "crosswalk_backan_108_to_37.csv")}


def test_provenance_names_package_version_licence_and_hash() -> None:
    text = files("bkapp.units").joinpath("data/units.json").read_text("utf-8")

    assert SEED.provenance.begins == date(2020, 2, 1)
    for fact in (
        '"vietnamadminunits"',
        '"1.0.4"',
        '"MIT"',
        "Copyright (c) 2025 Tran Ngoc Minh Hieu",
        '"data/dataset.db"',
    ):
        assert fact in text
