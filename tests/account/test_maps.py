"""The drawn map shows what it says, and a tapped pixel leads back to the place it shows."""

from math import isclose
from xml.etree import ElementTree as ET

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bkapp.account.maps import (
    CLOSEST,
    HEIGHT,
    STEPS,
    WIDEST,
    WIDTH,
    Border,
    Label,
    LabelKind,
    View,
    bar,
    draw,
    shifted,
)
from bkapp.address.rules import metres_between

SVG = "{http://www.w3.org/2000/svg}"
HERE = View(105.84, 22.26, 15)
views = st.builds(View, st.floats(105, 107), st.floats(21, 23), st.integers(WIDEST, CLOSEST))
pixels = st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT))


class TestView:
    @given(views, pixels)
    def test_a_pixel_leads_to_its_place_and_back(self, view: View, pixel: tuple[float, float]) -> None:
        x, y = view.pixel(*view.place(*pixel))

        assert isclose(x, pixel[0], abs_tol=1e-4)
        assert isclose(y, pixel[1], abs_tol=1e-4)

    @given(views, st.floats(-0.01, 0.01), st.floats(-0.01, 0.01))
    def test_a_place_leads_to_its_pixel_and_back(self, view: View, east: float, north: float) -> None:
        lon, lat = view.place(*view.pixel(view.lon + east, view.lat + north))

        assert isclose(lon, view.lon + east, abs_tol=1e-9)
        assert isclose(lat, view.lat + north, abs_tol=1e-9)

    @given(views)
    def test_the_middle_is_the_middle_and_north_is_up(self, view: View) -> None:
        assert view.pixel(view.lon, view.lat) == (WIDTH / 2, HEIGHT / 2)
        west, south, east, north = view.corners()
        assert west < view.lon < east
        assert south < view.lat < north
        assert view.pixel(view.lon, view.lat + 0.001)[1] < HEIGHT / 2
        assert view.pixel(view.lon + 0.001, view.lat)[0] > WIDTH / 2

    @given(views, st.integers(WIDEST + 1, CLOSEST))
    def test_a_zoom_step_halves_what_is_shown(self, view: View, zoom: int) -> None:
        near, far = View(view.lon, view.lat, zoom), View(view.lon, view.lat, zoom - 1)

        assert isclose(near.metres_in_a_pixel() * 2, far.metres_in_a_pixel())

    @given(views, pixels)
    def test_pixels_are_as_long_as_they_say(self, view: View, pixel: tuple[float, float]) -> None:
        assume(abs(pixel[0] - WIDTH / 2) > 10)
        lon, lat = view.place(pixel[0], HEIGHT / 2)

        metres = metres_between(view.lon, view.lat, lon, lat)
        # Mercator stands on the equator's radius, the distance on the mean one.
        assert isclose(metres, abs(pixel[0] - WIDTH / 2) * view.metres_in_a_pixel(), rel_tol=0.005)


@given(
    st.floats(105, 107), st.floats(21, 23), st.sampled_from(STEPS), st.sampled_from([(1, 0), (-1, 0), (0, 1), (0, -1)])
)
def test_a_button_moves_the_pin_as_far_as_it_says(lon: float, lat: float, step: int, way: tuple[int, int]) -> None:
    moved = shifted(lon, lat, east=way[0] * step, north=way[1] * step)

    assert isclose(metres_between(lon, lat, *moved), step, rel_tol=0.01)
    assert (moved[0] > lon, moved[0] < lon, moved[1] > lat, moved[1] < lat) == (
        way[0] > 0,
        way[0] < 0,
        way[1] > 0,
        way[1] < 0,
    )


@pytest.mark.parametrize("zoom", range(WIDEST, CLOSEST + 1))
def test_the_scale_bar_is_a_round_length_that_fits(zoom: int) -> None:
    scale = View(105.84, 22.26, zoom).metres_in_a_pixel()
    metres, length = bar(scale)

    assert str(metres)[0] in "125"
    assert str(metres)[1:].strip("0") == ""
    assert isclose(length * scale, metres)
    assert 30 < length <= 90


def texts(svg: str) -> list[str]:
    return [found.text or "" for found in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314  (drawn by us)


class TestDrawing:
    def test_it_shows_names_borders_a_scale_and_the_pin(self) -> None:
        svg = draw(
            HERE,
            borders=[Border([(105.83, 22.25), (105.85, 22.27)], approximate=True)],
            labels=[Label("Nà Ít", 105.842, 22.262, LabelKind.HAMLET)],
        )

        assert texts(svg) == ["Nà Ít", "200 m", "B"]
        assert "stroke-dasharray" in svg
        assert "#b00018" in svg

    def test_an_official_border_is_a_whole_line(self) -> None:
        assert "dasharray" not in draw(
            HERE, borders=[Border([(105.83, 22.25), (105.85, 22.27)], approximate=False)], labels=[]
        )

    def test_of_names_that_overlap_the_first_stand(self) -> None:
        names = [Label(name, 105.842, 22.262, LabelKind.HAMLET) for name in ("Nà Ít", "Nà Lẹng", "Nà Cà")]

        # One has room above the place and one below.
        assert texts(draw(HERE, borders=[], labels=names)) == ["Nà Ít", "Nà Lẹng", "200 m", "B"]

    def test_what_is_not_on_the_map_is_not_drawn(self) -> None:
        far = [Label("Xa", 106.5, 22.9, LabelKind.PLACE)]

        assert "Xa" not in texts(draw(HERE, borders=[Border([], approximate=True)], labels=far))

    @given(
        views,
        st.lists(
            st.builds(Label, st.text(), st.floats(105, 107), st.floats(21, 23), st.sampled_from(LabelKind)), max_size=20
        ),
        st.none() | st.floats(0, 10_000),
    )
    def test_whatever_names_there_are_it_is_well_formed_and_small(
        self, view: View, labels: list[Label], accuracy_m: float | None
    ) -> None:
        near = [Label(label.text, view.lon + 0.001, view.lat, label.kind) for label in labels]
        svg = draw(view, borders=[], labels=near, accuracy_m=accuracy_m)

        ET.fromstring(svg)  # noqa: S314  (drawn by us)
        assert len(svg.encode()) < 10_000
        assert "<script" not in svg
