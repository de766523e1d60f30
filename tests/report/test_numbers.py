"""Numbers for readers."""

import math

import pytest

from gaq.report.numbers import FIGURE_SPACE, POINT_SPACE, aligned, interval, kilobytes, number, percent, ratio, setting


@pytest.mark.parametrize(("value", "text"), [
    (None, "n/a"), (math.nan, "n/a"), (math.inf, "n/a"), (-math.inf, "n/a"), (0.0, "0"), (21.234, "21.2"),
    (1234.6, "1235"), (0.15, "0.150"), (-0.0213, "-0.0213"), (0.000518, "0.00052"), (3e-5, "3.0×10⁻⁵"),
    (2.5e8, "2.5×10⁸"),
])
def test_three_significant_digits(value, text):
    assert number(value) == text


def test_units_of_sizes_and_fractions():
    assert kilobytes(1_482_240) == "1,482.2"
    assert kilobytes(None) == "n/a"
    assert percent(0.0123) == "1.2"
    assert setting(0.5) == "0.5"
    assert setting(300.0) == "300"
    assert setting(math.nan) == "n/a"


def test_a_ratio_without_a_meaning_is_not_a_number():
    assert ratio(1.0, 4.0) == 0.25
    for value, reference in ((1.0, 0.0), (None, 1.0), (1.0, None), (math.inf, 1.0), (1.0, math.nan)):
        assert math.isnan(ratio(value, reference))


def test_an_interval_needs_both_ends():
    assert interval(1.0, 2.0) == "1.00–2.00"
    assert interval(math.nan, 2.0) == "n/a"


def test_decimal_points_stand_in_one_column():
    cells = aligned(["21.2", "0.150", "102", "n/a"])
    places = [len(cell) - cell.index(".") for cell in cells[:2]]
    assert places[0] == places[1]
    assert cells[2] == "102" + POINT_SPACE + 3 * FIGURE_SPACE
    assert cells[3] == "n/a"
