"""Functions of one distance as tables: quintic Hermite interpolation, refined until it is exact to float rounding."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor

from gaq.engine.errors import NotLowered
from gaq.graph import MIN_DISTANCE

TOLERANCE = 3e-7  # of the interpolated values, relative to the largest one of a column
FAINT = 1e-2  # a column below this share of the largest one is measured against that share
FEWEST, MOST = 48, 4096  # intervals
SUPPORT = (0.1, 0.3, 0.5, 0.7, 0.9)  # where in each interval the error is measured


@dataclass(frozen=True, eq=False)
class Table:
    """Values, slopes and curvatures of functions at evenly spaced distances.

    Args:
        start, spacing: Å; the last knot is the cutoff.
        values: f, h f', h² f'' at the knots, float32, shape (knots, 3, functions).
        error: largest error found, relative as `TOLERANCE` is.
    """

    start: float
    spacing: float
    values: NDArray
    error: float

    @property
    def knots(self) -> int:
        """Number of knots."""
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Jet:
    """Functions of a distance at some points, with their first two derivatives, each of shape (points, functions)."""

    value: Tensor
    slope: Tensor
    curvature: Tensor

    @staticmethod
    def of(function: Callable[[Tensor], Tensor], r: Tensor) -> "Jet":
        """Differentiate a function (points,) -> (points, functions) or (points,), column by column."""
        with torch.enable_grad():
            r = r.detach().requires_grad_()
            y = function(r).reshape(len(r), -1)
            rows = []
            for column in y.unbind(-1):
                first, = torch.autograd.grad(column.sum(), r, create_graph=True)
                second, = torch.autograd.grad(first.sum(), r, retain_graph=True, materialize_grads=True)
                rows.append((first.detach(), second))
        return Jet(y.detach(), *(torch.stack(part, -1) for part in zip(*rows, strict=True)))

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> "Jet":
        """Return W f + b."""
        value = self.value @ weight.T
        return Jet(value if bias is None else value + bias, self.slope @ weight.T, self.curvature @ weight.T)

    def __mul__(self, other: "Jet") -> "Jet":
        return Jet(self.value * other.value, self.slope * other.value + self.value * other.slope,
                   self.curvature * other.value + 2 * self.slope * other.slope + self.value * other.curvature)

    def silu(self) -> "Jet":
        """Return f σ(f)."""
        s = torch.sigmoid(self.value)
        d = s * (1 - s)
        return self * Jet(s, d * self.slope, d * (1 - 2 * s) * self.slope.square() + d * self.curvature)

    @staticmethod
    def joined(parts: "list[Jet]") -> "Jet":
        """Put functions side by side."""
        return Jet(*(torch.cat([getattr(p, name) for p in parts], -1) for name in ("value", "slope", "curvature")))


def tabulate(function: Callable[[Tensor], Jet], cutoff: float) -> Table:
    """Return a table of `function` from the least distance of two atoms to the cutoff.

    Args:
        function: of points (points,), float64.
        cutoff: Å.

    Raises:
        NotLowered: the function is too steep for a table of reasonable size.
    """
    intervals = FEWEST
    while intervals <= MOST:
        table = _at(function, cutoff, intervals)
        if table.error <= TOLERANCE:
            return table
        intervals = intervals * 5 // 4
    raise NotLowered(f"the radial filters are too steep for a table: {intervals} intervals leave an error of "
                     f"{table.error:.1e}, and {TOLERANCE:.0e} is the bound")


def hermite(t: Tensor) -> Tensor:
    """Return the weights of f₀, h f₀', h² f₀'', f₁, h f₁', h² f₁'' at t in [0, 1] between two knots, shape (6, ...)."""
    far = t**3 * (10 - t * (15 - 6 * t))
    return torch.stack([1 - far, t - t**3 * (6 - t * (8 - 3 * t)), t**2 / 2 - t**3 * (1.5 - t * (1.5 - t / 2)), far,
                        -(t**3) * (4 - t * (7 - 3 * t)), t**3 * (0.5 - t * (1 - t / 2))])


def _at(function: Callable[[Tensor], Jet], cutoff: float, intervals: int) -> Table:
    h = (cutoff - MIN_DISTANCE) / intervals
    knots = MIN_DISTANCE + h * torch.arange(intervals + 1, dtype=torch.float64)
    knots[-1] = cutoff * (1 - 1e-13)  # derivatives are those from within
    at = function(knots)
    rows = torch.stack([at.value, h * at.slope, h * h * at.curvature], 1).float()
    ends = torch.cat([rows[:-1], rows[1:]], 1).double()  # (intervals, 6, functions)
    largest = at.value.abs().amax(0)
    largest = largest.clamp_min(FAINT * float(largest.max()))
    error = 0.0
    for t in SUPPORT:
        exact = function(knots[:-1] + t * h).value
        found = torch.einsum("k,nkc->nc", hermite(torch.tensor(t, dtype=torch.float64)), ends)
        error = max(error, float(((found - exact).abs() / largest).max()))
    return Table(MIN_DISTANCE, h, rows.numpy(), error)
