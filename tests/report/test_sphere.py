"""Maps over the sphere of rotation axes."""

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from gaq.report import sphere
from gaq.report.results import AxisMap
from gaq.report.style import to_svg

POLES = [[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]


def image_of(figure):
    return np.asarray(figure.axes[0].images[0].get_array())


def test_a_constant_error_gives_an_even_map():
    axis_map = AxisMap(axes=POLES, lee_forces_meV_A=[0.3] * 6)
    assert image_of(sphere.sphere_map(axis_map, (0.1, 1.0))) == pytest.approx(0.3)
    assert image_of(sphere.anisotropy_map(axis_map, 2.0)) == pytest.approx(1.0)


def test_the_map_is_right_way_up_and_centered_on_x():
    lon, lat = np.meshgrid(np.linspace(-np.pi, np.pi, 20), np.linspace(-1.5, 1.5, 11))
    vectors = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1).reshape(-1, 3)
    for axis, place in (((1, 0, 0), (0.5, 0.5)), ((0, 1, 0), (0.5, 0.75)), ((0, -1, 0), (0.5, 0.25))):
        values = np.exp(4 * vectors @ np.array(axis))
        image = image_of(sphere.sphere_map(AxisMap(axes=vectors.tolist(), lee_forces_meV_A=values.tolist()), (0.1, 9)))
        row, column = np.unravel_index(image.argmax(), image.shape)
        assert (row / image.shape[0], column / image.shape[1]) == pytest.approx(place, abs=0.05)
    up = np.exp(4 * vectors[:, 2])
    image = image_of(sphere.sphere_map(AxisMap(axes=vectors.tolist(), lee_forces_meV_A=up.tolist()), (0.1, 9)))
    assert image[2, image.shape[1] // 2] > 10 * image[-3, image.shape[1] // 2]  # the first row is drawn on top


def test_known_points_of_the_projection():
    x, y = sphere._projected(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1]]))
    assert x == pytest.approx([0, math.sqrt(2), 0, 0], abs=1e-9)
    assert y == pytest.approx([0, 0, math.sqrt(2), -math.sqrt(2)], abs=1e-9)


def test_one_scale_holds_all_maps_and_at_most_three_decades():
    maps = [AxisMap(axes=POLES, lee_forces_meV_A=[v] * 6) for v in (1e-6, 0.1, 5.0)]
    assert sphere.map_scale(maps) == pytest.approx((5e-3, 5.0))
    assert sphere.map_scale(maps[1:]) == pytest.approx((0.1, 5.0))


@pytest.mark.parametrize("values", [[], [0.0] * 6, [math.nan] * 6, [1e-300] * 6, [1e300] * 6,
                                    [0.0, 1.0, 2.0, 3.0, 4.0, math.inf]])
def test_degenerate_maps_are_drawn_without_complaint(values):
    axis_map = AxisMap(axes=POLES[:len(values)], lee_forces_meV_A=values)
    low, high = sphere.map_scale([axis_map])
    assert 0 < low < high
    spread = sphere.map_spread([axis_map])
    for figure in (sphere.sphere_map(axis_map, (low, high)), sphere.anisotropy_map(axis_map, spread)):
        ElementTree.fromstring(to_svg(figure, "map"))
