"""Functions of one distance as tables: cubic splines, refined until they are exact to float rounding.

Knots are evenly spaced in s = log(r + a): filters are steep where atoms are close. A uniform B-spline has one number a knot
and function, and four of them make a value: smooth up to the second derivative, half the size of Hermite polynomials.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaq.lattice import MIN_DISTANCE
from gaq.lowering.blob import NotLowered

TOLERANCE = 3e-7  # of the interpolated values, relative to the largest one of a column
FAINT = 1e-2  # a column below this share of the largest one is measured against that share
CLOSE, LOOSE = 0.5, 0.01  # Å: nearer than that no molecule holds together, and the error counts for this much less
FEWEST, MOST = 96, 4096  # intervals
BENDS = (1.0, 0.3, 3.0, 10.0)  # Å, the constants a that are tried
SUPPORT = (0.1, 0.3, 0.5, 0.7, 0.9)  # where in each interval the error is measured
LOT = 64  # intervals at a time: what is at work stays in the processor's cache
ONE_SIDED, APART = (-25 / 12, 4.0, -3.0, 4 / 3, -1 / 4), 1e-3  # differences of fourth order, from within, in steps of s
INSIDE = 1 - 1e-13  # of the cutoff: slopes there are those from within

Functions = Callable[[NDArray], NDArray]  # of distances (points,), float64, to (points, functions)


@dataclass(frozen=True, eq=False)
class Table:
    """Cubic splines of functions of a distance, Σ_k B_k(t) c_(n+k) between knots n and n + 1 of s, k = 0..3.

    Args:
        start: Å, the first knot; the last one is the cutoff.
        bend: a, Å.
        spacing: h, of the knots in s.
        coefficients: c, float32, shape (knots + 2, functions).
        error: largest error found, relative as `TOLERANCE` is.
    """

    start: float
    bend: float
    spacing: float
    coefficients: NDArray
    error: float

    @property
    def knots(self) -> int:
        """Number of knots."""
        return len(self.coefficients) - 2


def tabulate(functions: Functions, cutoff: float) -> Table:
    """Return the smallest table of `functions` from the least distance of two atoms to the cutoff that is exact enough.

    Raises:
        NotLowered: a function is too steep for a table of reasonable size.
    """
    found: Table | None = None
    for bend in BENDS:
        intervals = FEWEST
        while intervals <= MOST and (found is None or intervals < found.knots - 1):
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused here
                table = _at(functions, cutoff, intervals, bend)
            if not math.isfinite(table.error):
                raise NotLowered("the radial filters have values beyond the range of float32")
            if table.error <= TOLERANCE:
                found = table
                break
            growth = (table.error / TOLERANCE) ** (1 / 4)  # of interpolation by polynomials of degree 3
            if found is not None and intervals * growth > found.knots - 1:
                break
            intervals = max(round(intervals * min(growth, 2.0)), intervals * 17 // 16)
    if found is None:
        raise NotLowered(f"the radial filters are too steep for a table of {MOST} intervals, which leaves an error of "
                         f"{table.error:.1e}, and {TOLERANCE:.0e} is the bound")
    return found


def weights(t: float | NDArray) -> NDArray:
    """Return B_0..B_3 at t in [0, 1] between two knots, shape (4, ...)."""
    u = 1 - t
    return np.stack([u**3, 4 - 3 * t**2 * (1 + u), 4 - 3 * u**2 * (1 + t), t**3]) / 6


def _at(functions: Functions, cutoff: float, intervals: int, bend: float) -> Table:
    start = math.log(MIN_DISTANCE + bend)
    h = (math.log(cutoff + bend) - start) / intervals
    s = start + h * np.arange(intervals + 1)
    r = (_exp(s) - bend).clip(max=cutoff * INSIDE)
    values = functions(r)
    steps = APART * np.arange(len(ONE_SIDED))
    first, last = (h / APART * np.array(ONE_SIDED) @ functions((_exp(at) - bend).clip(max=cutoff * INSIDE))
                   for at in (s[0] + steps, s[-1] - steps))
    coefficients = _solved(values, first, -last).astype(np.float32).astype(np.float64)  # as they will be
    largest = np.abs(values[r > CLOSE]).max(0)
    largest = largest.clip(min=FAINT * largest.max())
    errors = [_error(functions, s[:-1][n : n + LOT] + t * h, bend, coefficients[n : n + LOT + 3], t, largest)
              for t in SUPPORT for n in range(0, intervals, LOT)]
    return Table(MIN_DISTANCE, bend, h, coefficients.astype(np.float32), max(errors))


def _error(functions: Functions, s: NDArray, bend: float, coefficients: NDArray, t: float, largest: NDArray) -> float:
    """Return the largest error at points s, each at t between two knots; the coefficients are theirs in turn."""
    r = _exp(s) - bend
    exact = functions(r)
    found = sum(weight * coefficients[k : k + len(s)] for k, weight in enumerate(weights(t)))
    off = (np.abs(found - exact) / np.maximum(largest, np.abs(exact))).max(-1)
    return float((off * np.where(r > CLOSE, 1.0, LOOSE)).max())


def _exp(s: NDArray) -> NDArray:
    """Return e^s by way of extended precision, so that all processors put knots in the same places."""
    return np.exp(s.astype(np.longdouble)).astype(np.float64)


def _solved(values: NDArray, first: NDArray, last: NDArray) -> NDArray:
    """Return the coefficients of the spline with these values at its knots, and h times these slopes at its ends.

        (c_(n-1) + 4 c_n + c_(n+1)) / 6 = f_n,   (c_1 - c_(-1)) / 2 = h f'_0,   the same at the other end

    What lies beyond the ends is eliminated, and then one unknown after the other, which needs no pivots.
    """
    count = len(values)
    right = 6 * values
    right[0] += 2 * first
    right[-1] -= 2 * last
    ratios: list[float] = []  # of an unknown to the next one
    for n in range(count):
        below, above = (1.0 if n < count - 1 else 2.0), (1.0 if n else 2.0)
        diagonal = 4.0 - (below * ratios[-1] if n else 0.0)
        if n:
            right[n] -= below * right[n - 1]
        right[n] /= diagonal
        ratios.append(above / diagonal)
    for n in range(count - 2, -1, -1):
        right[n] -= ratios[n] * right[n + 1]
    return np.concatenate([right[1:2] - 2 * first, right, right[-2:-1] + 2 * last])
