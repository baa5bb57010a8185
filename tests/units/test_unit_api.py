"""The units API."""

from datetime import date
from typing import Any

import pytest
from httpx import AsyncClient

UNITS = "/api/v1/units"


async def answer(client: AsyncClient, path: str, status: int = 200, **params: Any) -> Any:
    response = await client.get(UNITS + path, params=params)
    assert response.status_code == status, response.text
    return response.json()


async def test_a_code_is_read_on_its_day(client: AsyncClient) -> None:
    before = await answer(client, "/01954", as_of="2025-06-30")
    after = await answer(client, "/01954", as_of="2025-07-01")

    assert before["unit"] == {
        "code": "01954",
        "level": "commune",
        "kind": "Thị trấn",
        "name": "Vân Tùng",
        "full_name": "Thị trấn Vân Tùng",
        "parent": "062",
        "valid_from": "2023-04-10",
        "valid_to": "2025-07-01",
        "decree": "722/NQ-UBTVQH15",
        "in_bac_kan": True,
        "boundary_quality": "approximate",
    }
    assert before["identifiers"] == [
        {"scheme": "vnpost2018", "value": "23306", "valid_from": "2018-01-01", "valid_to": None}
    ]
    assert (after["unit"]["full_name"], after["unit"]["parent"], after["area_km2"]) == ("Xã Ngân Sơn", "19", 145.57)


async def test_without_a_day_a_code_is_read_today(client: AsyncClient) -> None:
    assert (await answer(client, "/01954"))["unit"]["full_name"] == "Xã Ngân Sơn"
    assert date.fromisoformat((await answer(client, ""))["as_of"]) >= date(2025, 7, 1)


async def test_successors_and_predecessors(client: AsyncClient) -> None:
    heirs = await answer(client, "/01834/successors", as_of="2025-06-30", on="2025-07-01")
    origins = await answer(client, "/01840/predecessors", as_of="2025-07-01", on="2025-06-30")

    assert heirs["unit"]["full_name"] == "Phường Nguyễn Thị Minh Khai"
    assert [(u["code"], u["full_name"], u["valid_from"], u["valid_to"], u["decree"]) for u in heirs["items"]] == [
        ("01840", "Phường Đức Xuân", "2025-07-01", None, "1683/NQ-UBTVQH15")
    ]
    assert [u["code"] for u in origins["items"]] == ["01834", "01840", "01846"]


async def test_a_code_of_another_day_is_refused_with_its_days(client: AsyncClient) -> None:
    problem = await answer(client, "/01834", 404, as_of="2025-07-01")

    assert problem["type"] == "/problems/not_found"
    assert problem["detail"] == (
        "No unit has the code 01834 on 2025-07-01; "
        "it means Phường Nguyễn Thị Minh Khai from 2020-02-01 until 2025-06-30."
    )
    assert (await answer(client, "/99999", 404))["detail"] == "We know no unit with the code 99999."


async def test_asking_in_the_wrong_direction_is_refused(client: AsyncClient) -> None:
    problem = await answer(client, "/01954/successors", 422, as_of="2025-07-01", on="2025-06-30")
    assert "ask for predecessors" in problem["detail"]
    assert problem["errors"][0]["pointer"] == "on"

    problem = await answer(client, "/01834/predecessors", 422, as_of="2025-06-30", on="2025-07-01")
    assert "ask for successors" in problem["detail"]


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/1", {}),
        ("/0195a", {}),
        ("/０１９５４", {}),
        ("/01954", {"as_of": "2025-13-01"}),
        ("/01954", {"as_of": "yesterday"}),
        ("", {"limit": 201}),
        ("", {"limit": 0}),
        ("", {"level": "ward"}),
        ("", {"after": "x"}),
        ("", {"parent": "\x00"}),
        ("/containing", {"lon": 105.8}),
        ("/containing", {"lon": 400, "lat": 22}),
        ("/containing", {"lon": "nan", "lat": 22}),
    ],
)
async def test_what_cannot_be_read_is_400(client: AsyncClient, path: str, params: dict[str, Any]) -> None:
    assert (await answer(client, path, 400, **params))["type"] == "/problems/malformed"


async def test_the_list_is_filtered(client: AsyncClient) -> None:
    districts = await answer(client, "", as_of="2025-06-30", level="district")
    ours = await answer(client, "", as_of="2025-07-01", level="commune", in_bac_kan=True, limit=200)
    named = await answer(client, "", as_of="2025-07-01", q="bac can")

    assert [u["code"] for u in districts["items"]] == ["058", "060", "061", "062", "063", "064", "065", "066"]
    assert len(ours["items"]) == 37
    assert ours["next"] is None
    assert [u["full_name"] for u in named["items"]] == ["Phường Bắc Kạn"]


async def test_the_list_is_read_page_by_page(client: AsyncClient) -> None:
    codes: list[str] = []
    after = ""
    while after is not None:
        page = await answer(client, "", as_of="2025-07-01", limit=30, after=after)
        codes += [unit["code"] for unit in page["items"]]
        after = page["next"]

    assert len(codes) == 93
    assert codes == sorted(set(codes))


async def test_the_commune_around_a_point_and_how_sure_it_is(client: AsyncClient) -> None:
    found = await answer(client, "/containing", lon=105.85, lat=22.1658, on="2025-07-01")

    assert (found["unit"]["code"], found["boundary_quality"]) == ("01840", "approximate")
    problem = await answer(client, "/containing", 404, lon=105.85, lat=21.03, on="2025-07-01")
    assert "no commune of Bắc Kạn" in problem["detail"]
