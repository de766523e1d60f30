"""Functions of one distance as tables: quintic Hermite interpolation, refined until it is exact to float rounding.

Knots are evenly spaced in s = log(r + a): filters are steep where atoms are close.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor

from gaq.engine.errors import NotLowered
from gaq.graph import MIN_DISTANCE

TOLERANCE = 1e-7  # of the interpolated values, relative to the largest one of a column
FAINT = 1e-2  # a column below this share of the largest one is measured against that share
CLOSE, LOOSE = 0.5, 0.01  # Å: nearer than that no molecule holds together, and the error counts for this much less
FEWEST, MOST = 48, 4096  # intervals
BENDS = (1.0, 0.3, 3.0, 10.0)  # Å, the constants a that are tried
SUPPORT = (0.1, 0.3, 0.5, 0.7, 0.9)  # where in each interval the error is measured


@dataclass(frozen=True, eq=False)
class Table:
    """Values, slopes and curvatures of functions at evenly spaced distances.

    Args:
        start: Å, the first knot; the last one is the cutoff.
        bend: a, Å.
        spacing: h, of the knots in s.
        values: f, h f', h² f'' at the knots, derivatives by s, float32, shape (knots, 3, functions).
        error: largest error found, relative as `TOLERANCE` is.
    """

    start: float
    bend: float
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
    def of(function: Callable[[Tensor], Tensor], r: Tensor, differentiate: bool = True) -> "Jet":
        """Differentiate a function (points,) -> (points, functions) or (points,), column by column; zeros if not."""
        if not differentiate:
            y = function(r).reshape(len(r), -1)
            return Jet(y, torch.zeros_like(y), torch.zeros_like(y))
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


Functions = Callable[[Tensor, bool], Jet]


def tabulate(function: Functions, cutoff: float) -> Table:
    """Return the smallest table of `function` from the least distance of two atoms to the cutoff that is exact enough.

    Args:
        function: of points (points,), float64, and of whether derivatives are wanted.
        cutoff: Å.

    Raises:
        NotLowered: the function is too steep for a table of reasonable size.
    """
    found: Table | None = None
    for bend in BENDS:
        intervals = FEWEST
        while intervals <= MOST and (found is None or intervals < found.knots - 1):
            table = _at(function, cutoff, intervals, bend)
            if table.error <= TOLERANCE:
                found = table
                break
            growth = (table.error / TOLERANCE) ** (1 / 6)  # of interpolation by polynomials of degree 5
            intervals = max(round(intervals * min(growth, 2.0)), intervals * 17 // 16)
    if found is None:
        raise NotLowered(f"the radial filters are too steep for a table of {MOST} intervals, which leaves an error of "
                         f"{table.error:.1e}, and {TOLERANCE:.0e} is the bound")
    return found


def hermite(t: Tensor) -> Tensor:
    """Return the weights of f₀, h f₀', h² f₀'', f₁, h f₁', h² f₁'' at t in [0, 1] between two knots, shape (6, ...)."""
    far = t**3 * (10 - t * (15 - 6 * t))
    return torch.stack([1 - far, t - t**3 * (6 - t * (8 - 3 * t)), t**2 / 2 - t**3 * (1.5 - t * (1.5 - t / 2)), far,
                        -(t**3) * (4 - t * (7 - 3 * t)), t**3 * (0.5 - t * (1 - t / 2))])


def _at(function: Functions, cutoff: float, intervals: int, bend: float) -> Table:
    start = math.log(MIN_DISTANCE + bend)
    h = (math.log(cutoff + bend) - start) / intervals
    stretch = torch.exp(start + h * torch.arange(intervals + 1, dtype=torch.float64))  # dr/ds = r + a
    stretch[-1] = cutoff * (1 - 1e-13) + bend  # derivatives are those from within
    at = function(stretch - bend, True)
    by_s, by_ss = at.slope * stretch[:, None], (at.curvature * stretch[:, None] + at.slope) * stretch[:, None]
    rows = torch.stack([at.value, h * by_s, h * h * by_ss], 1).float()
    ends = torch.cat([rows[:-1], rows[1:]], 1).double()  # (intervals, 6, functions)
    largest = at.value[stretch - bend > CLOSE].abs().amax(0)
    largest = largest.clamp_min(FAINT * float(largest.max()))
    support = torch.tensor(SUPPORT, dtype=torch.float64)
    r = stretch[:-1] * torch.exp(support * h)[:, None] - bend
    exact = function(r.flatten(), False).value.unflatten(0, r.shape)
    found = torch.einsum("kt,nkc->tnc", hermite(support), ends)
    off = ((found - exact).abs() / torch.maximum(largest, exact.abs())).amax(-1)
    error = float((off * torch.where(r > CLOSE, 1.0, LOOSE)).max())
    return Table(MIN_DISTANCE, bend, h, rows.numpy(), error)
