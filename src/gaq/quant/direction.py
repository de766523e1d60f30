"""Coders of directions: unit vectors to a finite set of unit vectors.

A feature has shape (..., 2l+1, C): components on axis -2 (degree 1 in the order x, y, z), channels last.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gaq.errors import ConfigError
from gaq.quant.affine import codes
from gaq.quant.codebooks import covering_angle, fibonacci, icosahedral, kmeans, nearest, octahedral
from gaq.quant.formats import IntFormat
from gaq.quant.vector_formats import (
    ComponentDirection,
    Direction,
    FibonacciCodebook,
    FloatDirection,
    IcosahedralCodebook,
    KMeansCodebook,
    OctahedralCodebook,
    OctahedralMap,
)


class DirectionCoder:
    """What a format of directions does to them; here, what is common to formats without a codebook."""

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        """Return the codebook, shape (points, 2·degree + 1), or None where there is none to keep."""
        return None

    def code(self, u: Tensor, points: Tensor | None) -> Tensor:
        """Return the coded direction of each unit vector, shape (..., 2l+1, C); finite for u = 0 too."""
        raise NotImplementedError

    def worst_angle(self, degree: int, points: Tensor | None) -> float:
        """Return the largest angle δ between a direction and its code, in radians."""
        raise NotImplementedError


@dataclass(frozen=True)
class UnroundedDirection(DirectionCoder):
    """The direction as it is."""

    def code(self, u: Tensor, points: Tensor | None) -> Tensor:
        return u

    def worst_angle(self, degree: int, points: Tensor | None) -> float:
        return 0.0


@dataclass(frozen=True)
class RoundedComponents(DirectionCoder):
    """Each component rounded, then renormalized: `ComponentDirection`."""

    whole: IntFormat

    def code(self, u: Tensor, points: Tensor | None) -> Tensor:
        return _unit(codes(u, torch.full((), 1 / self.whole.qmax, dtype=u.dtype, device=u.device), self.whole))

    def worst_angle(self, degree: int, points: Tensor | None) -> float:
        return math.asin(math.sqrt(2 * degree + 1) / (2 * self.whole.qmax))


@dataclass(frozen=True)
class OctahedralLattice(DirectionCoder):
    """The nearest point of a triangular lattice on the faces of an octahedron: `OctahedralMap`."""

    whole: IntFormat

    def code(self, u: Tensor, points: Tensor | None) -> Tensor:
        q = self.whole.qmax
        size = u.abs()
        exact = size / size.sum(-2, keepdim=True).clamp_min(torch.finfo(u.dtype).tiny) * q
        whole = exact.round()
        excess = whole.sum(-2, keepdim=True) - q
        worst = ((whole - exact) * excess).argmax(-2, keepdim=True)
        return _unit(whole.scatter_add(-2, worst, -excess).copysign(u))

    def worst_angle(self, degree: int, points: Tensor | None) -> float:
        q = self.whole.qmax
        return math.asin(math.sqrt(2) / q) if q > 1 else math.acos(1 / math.sqrt(3))


@dataclass(frozen=True)
class NearestPoint(DirectionCoder):
    """The nearest of a list of unit vectors, which the leaf holds as a buffer."""

    fmt: Direction

    def code(self, u: Tensor, points: Tensor | None) -> Tensor:
        points = self._given(points)
        if points.ndim != 2 or points.shape[1] != u.shape[-2]:
            raise ConfigError(f"points must have shape (K, {u.shape[-2]}) for vectors of shape {tuple(u.shape)}, "
                              f"not {tuple(points.shape)}; take them from initial_points() for that degree")
        return nearest(u, points)

    def worst_angle(self, degree: int, points: Tensor | None) -> float:
        return covering_angle(self._given(points))

    def _given(self, points: Tensor | None) -> Tensor:
        if points is None:
            raise ConfigError(f"the direction coder {self.fmt!r} needs its points; take them from initial_points()")
        return points


@dataclass(frozen=True)
class NearestOfTable(NearestPoint):
    """The nearest of points on the sphere in three dimensions that are known beforehand."""

    table: Callable[[], Tensor]  # of shape (points, 3), float64

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        return self.table().to(v)

    def _given(self, points: Tensor | None) -> Tensor:
        return self.table() if points is None else points


@dataclass(frozen=True)
class NearestLearned(NearestPoint):
    """The nearest of points learned by spherical k-means."""

    count: int

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        rows = v.detach().movedim(-2, -1).reshape(-1, v.shape[-2])
        size = rows.norm(dim=1, keepdim=True)
        return kmeans((rows / size)[size[:, 0] > 1e-6 * size.max()], self.count, seed).to(v)


def direction_coder(fmt: Direction) -> DirectionCoder:
    """Return what computes a format of directions."""
    return _MAKERS[type(fmt)](fmt)


def _unit(code: Tensor) -> Tensor:
    return code / code.square().sum(-2, keepdim=True).sqrt().clamp_min(torch.finfo(code.dtype).tiny)


_MAKERS: dict[type, Callable[[Any], DirectionCoder]] = {
    FloatDirection: lambda fmt: UnroundedDirection(),
    ComponentDirection: lambda fmt: RoundedComponents(fmt.format),
    OctahedralMap: lambda fmt: OctahedralLattice(fmt.format),
    FibonacciCodebook: lambda fmt: NearestOfTable(fmt, partial(fibonacci, fmt.points)),
    OctahedralCodebook: lambda fmt: NearestOfTable(fmt, partial(octahedral, fmt.level)),
    IcosahedralCodebook: lambda fmt: NearestOfTable(fmt, partial(icosahedral, fmt.level)),
    KMeansCodebook: lambda fmt: NearestLearned(fmt, fmt.points),
}
