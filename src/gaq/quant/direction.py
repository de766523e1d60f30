"""Quantizers of directions and of whole l > 0 features.

A feature has shape (..., 2l+1, C): components on axis -2 (degree 1 in the order x, y, z), channels last. A direction
coder maps unit vectors to a finite set of unit vectors; a vector format (`Components`, `MDDQ`) maps features to
features and is what a recipe names.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gaq.errors import ConfigError
from gaq.quant.affine import clipped_fraction, codes, fake_quantize, scale_from_max
from gaq.quant.codebooks import covering_angle, fibonacci, icosahedral, kmeans, nearest, octahedral
from gaq.quant.formats import Bits, IntFormat
from gaq.quant.magnitude import FloatMagnitude, LinearMagnitude, LogMagnitude, Magnitude

__all__ = [
    "MDDQ", "ComponentDirection", "Components", "Direction", "FibonacciCodebook", "FloatDirection", "FloatMagnitude",
    "IcosahedralCodebook", "KMeansCodebook", "LinearMagnitude", "LogMagnitude", "Magnitude", "OctahedralCodebook",
    "OctahedralMap", "VectorFormat", "geometric_ste", "plain_ste",
]


class Coder(BaseModel):
    """What all direction coders share: frozen, any degree, no points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def supports(self, degree: int) -> bool:
        """Return whether vectors of 2·degree + 1 components can be coded."""
        return degree >= 1

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        """Return the codebook, shape (points, 2·degree + 1), or None where there is none to keep."""
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
    points: Annotated[int, Field(ge=2, le=65536)] = 256

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        rows = v.detach().movedim(-2, -1).reshape(-1, v.shape[-2])
        size = rows.norm(dim=1, keepdim=True)
        return kmeans((rows / size)[size[:, 0] > 1e-6 * size.max()], self.points, seed).to(v)

    def width(self, degree: int) -> int:
        return (self.points - 1).bit_length()


Direction = Annotated[
    ComponentDirection | FibonacciCodebook | OctahedralCodebook | IcosahedralCodebook | KMeansCodebook
    | OctahedralMap | FloatDirection,
    Field(discriminator="kind"),
]


def geometric_ste(v: Tensor, m: Tensor, code: Tensor) -> Tensor:
    """Return `code` with the gradient of the direction u = v/m: g -> (I - u uᵀ) g / m.

    The tangent projection is the derivative of normalization itself, so m stays differentiable. Taking g to
    (I - u uᵀ) g with u held constant has the same first derivative, but adds a false curvature u (I - u uᵀ)/m² to the
    second, which the training on forces sees.

    Args:
        v: vectors, shape (..., 2l+1, C).
        m: their magnitudes as a function of `v`, shape (..., 1, C), not zero.
        code: coded directions, shape of `v`.
    """
    u = v / m
    return code.detach() + (u - u.detach())


def plain_ste(v: Tensor, m: Tensor, code: Tensor) -> Tensor:
    """Return `code` with the gradient g -> g / m, radial noise included: the ablation of `geometric_ste`."""
    return geometric_ste(v, m.detach(), code)


class Components(BaseModel):
    """The naive format: one linear quantizer on the raw components, Q(v) = s · round(v/s); the scale is the step s.

    Args:
        bits: width of one component.
        aligned: the leaf turns features into a local frame before, and back after.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["components"] = "components"
    bits: Bits = 8
    aligned: bool = False

    def supports(self, degree: int) -> bool:
        """Return whether features of this degree can be quantized: all can."""
        return degree >= 1

    def quantize(self, v: Tensor, scale: Tensor, degree: int, points: Tensor | None = None) -> Tensor:
        """Return Q(v), shape of `v` (..., 2l+1, C); `scale` is a positive scalar tensor.

        Raises:
            ConfigError: `v` has not 2·degree + 1 components.
        """
        _check(self, v, degree)
        return fake_quantize(v, scale, IntFormat(bits=self.bits))

    def initial_scale(self, v: Tensor, degree: int) -> Tensor:
        """Return the step that clips nothing of the calibration features (min-max), a scalar tensor."""
        return scale_from_max(v, IntFormat(bits=self.bits))

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        """Return None: there is no codebook."""
        return None

    def bits_per_vector(self, degree: int) -> float:
        """Return the bits stored for one vector."""
        return float(self.bits * (2 * degree + 1))

    def clipped(self, v: Tensor, scale: Tensor) -> float:
        """Return the fraction of components beyond the range."""
        return clipped_fraction(v, scale, IntFormat(bits=self.bits))

    def worst_angle(self, degree: int, points: Tensor | None = None) -> float:
        """Return the largest angle to a non-zero code, in radians: (1, 1, ..) s/2 may become (1, 0, ..) s."""
        return math.acos(1 / math.sqrt(2 * degree + 1))


class MDDQ(BaseModel):
    """Magnitude-direction decoupled quantization, Q(v) = Q_m(|v|) · Q_d(v/|v|).

    |Q(Rv) - R Q(v)| <= 2 Q_m(|v|) sin δ for every rotation R, with δ the `worst_angle` of the direction coder. A vector
    whose magnitude rounds to zero has no direction: it becomes zero, straight-through, as the zero code of a linear
    quantizer. So derivatives of every order stay bounded in units of the scale.

    Args:
        magnitude: quantizer of |v|; it gives `scale` its meaning.
        direction: coder of v/|v|.
        aligned: the leaf turns features into a local frame before, and back after.
        gradient: through the direction: projected on the tangent ("geometric"), not projected ("plain"), or none.

    Source: arXiv 2603.05343.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["mddq"] = "mddq"
    magnitude: Magnitude = LinearMagnitude()
    direction: Direction = ComponentDirection()
    aligned: bool = False
    gradient: Literal["geometric", "plain", "none"] = "geometric"

    def supports(self, degree: int) -> bool:
        """Return whether features of this degree can be quantized."""
        return self.direction.supports(degree)

    def quantize(self, v: Tensor, scale: Tensor, degree: int, points: Tensor | None = None) -> Tensor:
        """Return Q(v).

        Args:
            v: features, shape (..., 2l+1, C).
            scale: positive scalar tensor, the learned parameter of the magnitude.
            degree: l.
            points: codebook, shape (K, 2l+1), where the direction coder keeps one.

        Raises:
            ConfigError: the degree is not supported, or shapes do not fit it.
        """
        _check(self, v, degree)
        square = v.square().sum(-2, keepdim=True)
        floor = self.magnitude.resolution(scale.detach()).square().clamp_min(torch.finfo(v.dtype).tiny)
        silent = square.detach() <= floor
        m = torch.where(silent, 1.0, square).sqrt()  # any number but zero will do where the result is not used
        code = self.direction.code((v / m).detach(), points)
        match self.gradient:
            case "geometric":
                d = geometric_ste(v, m, code)
            case "plain":
                d = plain_ste(v, m, code)
            case "none":
                d = code
        t = v / scale
        return torch.where(silent, scale * (t - t.detach()), self.magnitude.quantize(m, scale) * d)

    def initial_scale(self, v: Tensor, degree: int) -> Tensor:
        """Return the scale that suits the magnitudes of calibration features, a scalar tensor."""
        return self.magnitude.initial_scale(v.detach().norm(dim=-2))

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        """Return the codebook for this degree, learned from `v` where it is a learned one, or None."""
        return self.direction.initial_points(v, degree, seed)

    def bits_per_vector(self, degree: int) -> float:
        """Return the bits stored for one vector: those of its magnitude and of its direction."""
        return float(self.magnitude.width + self.direction.width(degree))

    def clipped(self, v: Tensor, scale: Tensor) -> float:
        """Return the fraction of vectors whose magnitude is beyond the range."""
        return self.magnitude.clipped(v.detach().norm(dim=-2), scale.detach())

    def worst_angle(self, degree: int, points: Tensor | None = None) -> float:
        """Return the covering angle δ of the direction coder, in radians."""
        return self.direction.worst_angle(degree, points)


VectorFormat = Annotated[Components | MDDQ, Field(discriminator="kind")]


def _unit(code: Tensor) -> Tensor:
    return code / code.square().sum(-2, keepdim=True).sqrt().clamp_min(torch.finfo(code.dtype).tiny)


def _check(fmt: Components | MDDQ, v: Tensor, degree: int) -> None:
    if not fmt.supports(degree):
        raise ConfigError(f"{fmt!r} cannot code features of degree {degree}; take a direction coder for any degree: "
                          "'component' (of at least 3 bits) or 'kmeans'")
    if v.ndim < 2 or v.shape[-2] != 2 * degree + 1:
        raise ConfigError(f"a feature of degree {degree} has shape (..., {2 * degree + 1}, channels), "
                          f"not {tuple(v.shape)}")
