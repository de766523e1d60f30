"""Coders of directions: unit vectors to a finite set of unit vectors.

A feature has shape (..., 2l+1, C): components on axis -2 (degree 1 in the order x, y, z), channels last.
"""

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gaq.errors import ConfigError
from gaq.quant.affine import codes
from gaq.quant.codebooks import covering_angle, fibonacci, icosahedral, kmeans, nearest, octahedral
from gaq.quant.formats import Bits, IntFormat


class Coder(BaseModel):
    """What all direction coders share: frozen, any degree, no points."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    closed: ClassVar[bool] = True  # whether flipping an axis takes codes to codes

    def supports(self, degree: int) -> bool:
        """Return whether vectors of 2·degree + 1 components can be coded."""
        return degree >= 1

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        """Return the codebook, shape (points, 2·degree + 1), or None where there is none to keep."""
        return None

    def points_shape(self, degree: int) -> tuple[int, int] | None:
        """Return the shape of the codebook, or None where there is none to keep."""
        return None

    def width(self, degree: int) -> int:
        """Return the bits stored for one direction."""
        raise NotImplementedError

    def code(self, u: Tensor, points: Tensor | None) -> Tensor:
        """Return the coded direction of each unit vector, shape (..., 2l+1, C); finite for u = 0 too."""
        raise NotImplementedError

    def worst_angle(self, degree: int, points: Tensor | None) -> float:
        """Return the largest angle δ between a direction and its code, in radians."""
        raise NotImplementedError


class FloatDirection(Coder):
    """The direction as it is, for experiments on magnitudes alone."""

    kind: Literal["float"] = "float"

    def width(self, degree: int) -> int:
        return 32 * 2 * degree  # the sphere has one dimension less than its vectors have components

    def code(self, u: Tensor, points: Tensor | None) -> Tensor:
        return u

    def worst_angle(self, degree: int, points: Tensor | None) -> float:
        return 0.0


class ComponentDirection(Coder):
    """Each component rounded, then renormalized: d = c/|c|, c = round(q u), q = 2^(bits-1) - 1.

    Commutes with the 48 signed permutations of the axes. |c - q u| <= sqrt(2l+1)/2 gives sin δ <= sqrt(2l+1)/(2q).

    Args:
        bits: width of one component.

    Source: the direction quantizer of arXiv 2601.02213.
    """

    kind: Literal["component"] = "component"
    bits: Bits = 8

    def supports(self, degree: int) -> bool:
        return degree >= 1 and 2 * degree + 1 < (2 * IntFormat(bits=self.bits).qmax) ** 2  # else c could be zero

    def width(self, degree: int) -> int:
        return self.bits * (2 * degree + 1)

    def code(self, u: Tensor, points: Tensor | None) -> Tensor:
        fmt = IntFormat(bits=self.bits)
        return _unit(codes(u, torch.full((), 1 / fmt.qmax, dtype=u.dtype, device=u.device), fmt))

    def worst_angle(self, degree: int, points: Tensor | None) -> float:
        return math.asin(math.sqrt(2 * degree + 1) / (2 * IntFormat(bits=self.bits).qmax))


class OctahedralMap(Coder):
    """The lattice |i| + |j| + |k| = q on the faces of an octahedron, d = (i,j,k)/|(i,j,k)|; degree 1 only.

    u is scaled to |x| + |y| + |z| = q and each |component| rounded; where the sum then misses q by one, the component
    with the largest rounding error gives way, which makes (i,j,k) the nearest point of the triangular lattice on the
    face. Two of the three whole numbers and a fold say which of the 4q² + 2 points it is. Commutes with the 48 signed
    permutations of the axes; sin δ <= sqrt(2)/q.

    Args:
        bits: width of one of the two coordinates; q = 2^(bits-1) - 1.
    """

    kind: Literal["octahedral_map"] = "octahedral_map"
    bits: Bits = 8

    def supports(self, degree: int) -> bool:
        return degree == 1

    def width(self, degree: int) -> int:
        return 2 * self.bits

    def code(self, u: Tensor, points: Tensor | None) -> Tensor:
        q = IntFormat(bits=self.bits).qmax
        size = u.abs()
        exact = size / size.sum(-2, keepdim=True).clamp_min(torch.finfo(u.dtype).tiny) * q
        whole = exact.round()
        excess = whole.sum(-2, keepdim=True) - q
        worst = ((whole - exact) * excess).argmax(-2, keepdim=True)
        return _unit(whole.scatter_add(-2, worst, -excess).copysign(u))

    def worst_angle(self, degree: int, points: Tensor | None) -> float:
        q = IntFormat(bits=self.bits).qmax
        return math.asin(math.sqrt(2) / q) if q > 1 else math.acos(1 / math.sqrt(3))


class Codebook(Coder):
    """A coder that keeps a list of unit vectors and takes the nearest; the leaf holds the list as a buffer."""

    def code(self, u: Tensor, points: Tensor | None) -> Tensor:
        if points is None:
            raise ConfigError(f"the direction coder {self!r} needs its points; take them from initial_points()")
        if points.ndim != 2 or points.shape[1] != u.shape[-2]:
            raise ConfigError(f"points must have shape (K, {u.shape[-2]}) for vectors of shape {tuple(u.shape)}, "
                              f"not {tuple(points.shape)}; take them from initial_points() for that degree")
        return nearest(u, points)

    def worst_angle(self, degree: int, points: Tensor | None) -> float:
        if points is None:
            raise ConfigError(f"the covering angle of {self!r} is that of its points; take them from initial_points()")
        return covering_angle(points)


class FixedCodebook(Codebook):
    """A codebook on the sphere in three dimensions that is known beforehand."""

    def table(self) -> Tensor:
        """Return the points, shape (points, 3), float64."""
        raise NotImplementedError

    def supports(self, degree: int) -> bool:
        return degree == 1

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        return self.table().to(v)

    def points_shape(self, degree: int) -> tuple[int, int] | None:
        return len(self.table()), 3

    def width(self, degree: int) -> int:
        return (len(self.table()) - 1).bit_length()

    def code(self, u: Tensor, points: Tensor | None) -> Tensor:
        return super().code(u, self.table() if points is None else points)

    def worst_angle(self, degree: int, points: Tensor | None) -> float:
        return super().worst_angle(degree, self.table() if points is None else points)


class FibonacciCodebook(FixedCodebook):
    """A spiral of any number of points: even, but without symmetry.

    Args:
        points: number of points.
    """

    kind: Literal["fibonacci"] = "fibonacci"
    closed: ClassVar[bool] = False
    points: Annotated[int, Field(ge=4, le=65536)] = 256

    def table(self) -> Tensor:
        return fibonacci(self.points)


class OctahedralCodebook(FixedCodebook):
    """The divided octahedron, 4·level² + 2 points: exactly equivariant under its 48 symmetries.

    Args:
        level: parts into which each edge is divided; 7 gives 198 points (8 bits), 31 gives 3846 (12 bits).
    """

    kind: Literal["octahedral"] = "octahedral"
    level: Annotated[int, Field(ge=1, le=64)] = 7

    def table(self) -> Tensor:
        return octahedral(self.level)


class IcosahedralCodebook(FixedCodebook):
    """The divided icosahedron, 10·level² + 2 points: exactly equivariant under its 120 symmetries, and the evenest.

    Args:
        level: parts into which each edge is divided; 5 gives 252 points (8 bits), 20 gives 4002 (12 bits).
    """

    kind: Literal["icosahedral"] = "icosahedral"
    level: Annotated[int, Field(ge=1, le=64)] = 5

    def table(self) -> Tensor:
        return icosahedral(self.level)


class KMeansCodebook(Codebook):
    """Points learned from the directions of calibration features by spherical k-means; any degree.

    Args:
        points: number of points.
    """

    kind: Literal["kmeans"] = "kmeans"
    closed: ClassVar[bool] = False
    points: Annotated[int, Field(ge=2, le=65536)] = 256

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        rows = v.detach().movedim(-2, -1).reshape(-1, v.shape[-2])
        size = rows.norm(dim=1, keepdim=True)
        return kmeans((rows / size)[size[:, 0] > 1e-6 * size.max()], self.points, seed).to(v)

    def points_shape(self, degree: int) -> tuple[int, int] | None:
        return self.points, 2 * degree + 1

    def width(self, degree: int) -> int:
        return (self.points - 1).bit_length()


Direction = Annotated[
    ComponentDirection | FibonacciCodebook | OctahedralCodebook | IcosahedralCodebook | KMeansCodebook
    | OctahedralMap | FloatDirection,
    Field(discriminator="kind"),
]


def _unit(code: Tensor) -> Tensor:
    return code / code.square().sum(-2, keepdim=True).sqrt().clamp_min(torch.finfo(code.dtype).tiny)
