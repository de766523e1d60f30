"""Numbers as a reader wants them: three significant digits, points in one column, `n/a` for what is not known."""

import math
from collections.abc import Sequence

MISSING = "n/a"
FIGURE_SPACE = "\u2007"  # as wide as a digit
POINT_SPACE = "\u2008"  # as wide as a decimal point
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits (5 decimals at most), a power of ten if extreme, or `n/a`."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 5)}f}"


def setting(value: float | None) -> str:
    """Return a number that somebody chose (a time step, an angle) as it was written, or `n/a`."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:g}"


def interval(low: float, high: float) -> str:
    """Return `low–high`, or `n/a` where either is not known."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    return f"{number(low)}–{number(high)}"


def kilobytes(count: int | None) -> str:
    """Return a number of bytes in kB (1000 bytes) with one decimal."""
    return MISSING if count is None else f"{count / 1000:,.1f}"


def percent(fraction: float | None) -> str:
    """Return a fraction as a percentage, without its sign."""
    return MISSING if fraction is None else number(100 * fraction, digits=2)


def ratio(value: float | None, reference: float | None) -> float:
    """Return value / reference, or NaN where that has no meaning."""
    if value is None or reference is None or not math.isfinite(value) or not math.isfinite(reference) or not reference:
        return math.nan
    return value / reference


def aligned(cells: Sequence[str]) -> list[str]:
    """Pad plain decimals on the right, so that their points stand in one column where digits are equally wide."""
    tails = [len(cell) - cell.index(".") - 1 if _plain(cell) and "." in cell else 0 for cell in cells]
    widest = max(tails, default=0)
    padded = []
    for cell, tail in zip(cells, tails, strict=True):
        missing_point = POINT_SPACE if widest and "." not in cell else ""
        padded.append(cell + missing_point + FIGURE_SPACE * (widest - tail) if _plain(cell) else cell)
    return padded


def _plain(cell: str) -> bool:
    return bool(cell) and all(c in "0123456789.,-" for c in cell)
