"""Write ``src/bkapp/units/data/units.json`` from two public packages.  Needs ``pip install bkapp[seed]``.

Run ``python tools/make_units.py`` after changing a pinned version or a fact below, read the diff, commit both.
The file is deterministic: sorted, one row a line, so that a diff shows which unit changed.

What we hold begins on 2020-02-01, when 855/NQ-UBTVQH14 took effect; most units are older than that, so their
``decree`` is null where no act since then made them.  One unit changed between then and the merger of 2025
(``TOWNS``); the packages know only the last state of the old units.

The point of an old commune is half-way between the package's geocoded point and the centre of its geocoded
box.  Measured by the share of land that Voronoi cells put into the right commune (against boundaries derived
from older maps): points 72.9 %, box centres 73.4 %, half-way 74.4 %; into the right unit of 2025: 82.9, 83.4
and 83.9 %.  It also tells apart the two wards that share one geocoded point (Đức Xuân, Phùng Chí Kiên).
"""

import hashlib
import json
import math
import sqlite3
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "src/bkapp/units/data/units.json"

OLD_PROVINCE, NEW_PROVINCE = "06", "19"
BEGIN, MERGER = "2020-02-01", "2025-07-01"
COMMUNES_2020, COMMUNES_2025, PROVINCES_2025 = "855/NQ-UBTVQH14", "1683/NQ-UBTVQH15", "202/2025/QH15"

# Communes that became towns between 2020 and 2025: code → day, act, kind before, where we read it.
TOWNS = {
    "01954": (
        "2023-04-10",
        "722/NQ-UBTVQH15",
        "Xã",
        "backan.gov.vn, 27/02/2023: Vân Tùng trở thành thị trấn của huyện Ngân Sơn kể từ ngày 10/4/2023",
    )
}

POSTCODES = "vnpost2018"
POSTCODES_FROM = "2018-01-01"  # 2475/QĐ-BTTTT

# Sites further away than this from every old commune cannot touch one of their Voronoi cells.
NEIGHBOUR_KM = 25

Row = dict[str, Any]


def build() -> str:
    packaged = _packaged()
    spelled = _ops("ops_nh_wards.json")
    old = _rows("SELECT * FROM admin_units_legacy WHERE provinceCode = ? ORDER BY wardCode", OLD_PROVINCE)
    new = _rows("SELECT * FROM admin_units WHERE provinceCode = ? ORDER BY wardCode", NEW_PROVINCE)
    became = _conversion(new)
    units = [*_old_units(old), *_new_units(new, set(became.values()))]
    tables = {
        "units": sorted(units, key=lambda unit: (unit["valid_from"], unit["code"])),
        "successions": sorted(_successions(units, became), key=lambda row: (row["effective"], row["old"])),
        "aliases": sorted(_aliases(units, old, spelled), key=lambda row: (row["code"], row["name"])),
        "identifiers": sorted(_postcodes(units, spelled), key=lambda row: row["code"]),
        "neighbours": _neighbours(old),
    }
    parts = [f'"provenance": {json.dumps(packaged, ensure_ascii=False, indent=1)}']
    for name, rows in tables.items():
        lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
        parts.append(f'"{name}": [\n{lines}\n]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _old_units(rows: list[Row]) -> Iterator[Row]:
    era = {"valid_from": BEGIN, "valid_to": MERGER, "decree": None, "in_bac_kan": True}
    first = rows[0]
    yield (
        _unit("province", OLD_PROVINCE, "Tỉnh", first["provinceShort"], parent=None)
        | era
        | _place(first["provinceLon"], first["provinceLat"])
    )
    for row in {row["districtCode"]: row for row in rows}.values():
        yield _unit("district", row["districtCode"], row["districtType"], row["districtShort"], parent=OLD_PROVINCE) | (
            era | _place(row["districtLon"], row["districtLat"])
        )
    for row in rows:
        unit = _unit("commune", row["wardCode"], row["wardType"], row["wardShort"], parent=row["districtCode"])
        unit |= era | _place(*_middle(row)) | {"decree": COMMUNES_2020 if row["wardAlias"] else None}
        if row["wardCode"] in TOWNS:
            day, act, before, _ = TOWNS[row["wardCode"]]
            name = unit["name"]
            yield unit | {"kind": before, "full_name": f"{before} {name}", "valid_to": day, "decree": None}
            unit |= {"valid_from": day, "decree": act}
        yield unit


def _new_units(rows: list[Row], in_bac_kan: set[str]) -> Iterator[Row]:
    era = {"valid_from": MERGER, "valid_to": None}
    first = rows[0]
    yield _unit("province", NEW_PROVINCE, "Tỉnh", first["provinceShort"], parent=None) | (
        era | {"decree": PROVINCES_2025, "in_bac_kan": False} | _place(first["provinceLon"], first["provinceLat"])
    )
    for row in rows:
        code = row["wardCode"]
        yield _unit("commune", code, row["wardType"], row["wardShort"], parent=NEW_PROVINCE) | (
            era
            | {"decree": COMMUNES_2025, "in_bac_kan": code in in_bac_kan}
            | _place(row["wardLon"], row["wardLat"], row["wardAreaKm2"])
        )


def _unit(level: str, code: str, kind: str, name: str, *, parent: str | None) -> Row:
    kind, name = (unicodedata.normalize("NFC", text) for text in (kind, name))
    return {
        "code": code,
        "level": level,
        "kind": kind,
        "name": name,
        "full_name": f"{kind} {name}",
        "parent": parent,
    }


def _place(lon: float, lat: float, area_km2: float | None = None) -> Row:
    return {"lon": round(lon, 6), "lat": round(lat, 6), "area_km2": area_km2}


def _middle(row: Row) -> tuple[float, float]:
    """Half-way between the geocoded point and the centre of the geocoded box ``S,W – N,E``."""
    if not row["wardBounds"]:
        return row["wardLon"], row["wardLat"]
    corners = (corner.split(",") for corner in row["wardBounds"].split(" – "))
    (south, west), (north, east) = ((float(lat), float(lon)) for lat, lon in corners)
    return (row["wardLon"] + (west + east) / 2) / 2, (row["wardLat"] + (south + north) / 2) / 2


def _conversion(new: list[Row]) -> dict[str, str]:
    """Code of each old commune → code of the unit of 2025 that took it in whole."""
    with _file("vietnamadminunits", "data/converter_2025.json").open(encoding="utf-8") as file:
        table = json.load(file)["DICT_PROVINCE_WARD_NO_DIVIDED"]
    province = new[0]["provinceKey"]
    by_key = {row["wardKey"]: row["wardCode"] for row in new}
    old = _rows("SELECT * FROM admin_units_legacy WHERE provinceCode = ?", OLD_PROVINCE)
    code_of = {f"{row['provinceKey']}_{row['districtKey']}_{row['wardKey']}": row["wardCode"] for row in old}
    became = {
        code_of[member]: by_key[key]
        for key, members in table[province].items()
        for member in members
        if member in code_of
    }
    if missing := set(code_of.values()) - set(became):
        raise SystemExit(f"No unit of 2025 is known for {sorted(missing)}.")
    return became


def _successions(units: list[Row], became: dict[str, str]) -> Iterator[Row]:
    yield {"old": OLD_PROVINCE, "new": NEW_PROVINCE, "effective": MERGER, "decree": PROVINCES_2025, "kind": "whole"}
    for code, (day, act, _, _) in TOWNS.items():
        yield {"old": code, "new": code, "effective": day, "decree": act, "kind": "whole"}
    names = {(unit["code"], unit["valid_from"] == MERGER): unit["full_name"] for unit in units}
    for old, new in became.items():
        alone = list(became.values()).count(new) == 1
        same = alone and names[old, False] == names[new, True]
        kind = "unchanged" if same else "whole"
        yield {"old": old, "new": new, "effective": MERGER, "decree": COMMUNES_2025, "kind": kind}


def _aliases(units: list[Row], old: list[Row], spelled: dict[str, Row]) -> Iterator[Row]:
    """Former names as the package's folded keys without spaces, and the other package's spellings of today's names."""
    last = {unit["code"]: unit for unit in units if unit["valid_to"] == MERGER}
    for row in old:
        for key in json.loads(row["wardAlias"] or "[]"):
            yield _alias(last[row["wardCode"]], key, "vietnamadminunits")
        other = unicodedata.normalize("NFC", spelled[row["wardCode"]]["full_name"])
        if other != last[row["wardCode"]]["full_name"]:
            yield _alias(last[row["wardCode"]], other, "onflow-location-platform")


def _alias(unit: Row, name: str, source: str) -> Row:
    return {"code": unit["code"], "valid_from": unit["valid_from"], "name": name, "source": source}


def _postcodes(units: list[Row], wards: dict[str, Row]) -> Iterator[Row]:
    """The five digits of 2018 for communes; districts and the province have their first four and two."""
    tables = {
        "commune": wards,
        "district": _ops("ops_nh_districts.json"),
        "province": _ops("ops_nh_provinces.json"),
    }
    for unit in units:
        if unit["valid_to"] is not None:
            value = tables[unit["level"]][unit["code"]]["vnp_code"]
            yield {
                "code": unit["code"],
                "unit_from": unit["valid_from"],
                "scheme": POSTCODES,
                "value": value,
                "valid_from": POSTCODES_FROM,
                "valid_to": None,  # the list that came after the merger is for the new units
            }


def _neighbours(old: list[Row]) -> list[Row]:
    """Communes around old Bắc Kạn as of before the merger: they bound the outer Voronoi cells, nothing else."""
    ours = [_middle(row) for row in old]
    around = _rows(
        "SELECT * FROM admin_units_legacy WHERE provinceCode <> ? AND wardLon BETWEEN 105.1 AND 106.6"
        " AND wardLat BETWEEN 21.5 AND 23.1 ORDER BY wardCode",
        OLD_PROVINCE,
    )
    places = {row["wardCode"]: _middle(row) for row in around}
    return [
        {"code": code, "lon": round(lon, 6), "lat": round(lat, 6)}
        for code, (lon, lat) in places.items()
        if min(_km(lon, lat, *here) for here in ours) < NEIGHBOUR_KM
    ]


def _km(lon: float, lat: float, lon2: float, lat2: float) -> float:
    return math.hypot((lon - lon2) * math.cos(math.radians(lat)) * 111.32, (lat - lat2) * 110.57)


def _rows(sql: str, *values: str) -> list[Row]:
    with closing(sqlite3.connect(_file("vietnamadminunits", "data/dataset.db"))) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(sql, values)]


def _ops(name: str) -> dict[str, Row]:
    with _file("onflow-location-platform", f"data/ops/{name}").open(encoding="utf-8") as file:
        return {row["pk"]: row["fields"] for row in json.load(file)}


def _file(package: str, path: str) -> Path:
    found = Path(str(distribution(package).locate_file(f"{package.replace('-', '_')}/{path}")))
    if not found.is_file():
        raise SystemExit(f"{package} has no {path}: is the pinned version installed?")
    return found


def _packaged() -> Row:
    used = {
        "vietnamadminunits": ("data/dataset.db", "data/converter_2025.json"),
        "onflow-location-platform": (
            "data/ops/ops_nh_wards.json",
            "data/ops/ops_nh_districts.json",
            "data/ops/ops_nh_provinces.json",
        ),
    }
    notices = {
        "vietnamadminunits": (distribution("vietnamadminunits").read_text("licenses/LICENSE") or "").strip(),
        "onflow-location-platform": "MIT by its package metadata (author OnFlow); it ships no licence text.",
    }
    return {
        "made_by": "tools/make_units.py",
        "begins": BEGIN,
        "facts_added": [
            {"code": code, "day": day, "decree": act, "read_in": source}
            for code, (day, act, _, source) in TOWNS.items()
        ],
        "packages": [
            {
                "name": package,
                "version": distribution(package).version,
                "licence": "MIT",
                "notice": notices[package],
                "sha256": {path: hashlib.sha256(_file(package, path).read_bytes()).hexdigest() for path in paths},
            }
            for package, paths in used.items()
        ],
    }


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.write_text(build(), encoding="utf-8")
