"""Quantizers of vector features, l > 0: what the formats of `vector_formats` do to tensors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from gaq.errors import ConfigError
from gaq.quant.affine import clipped_fraction, fake_quantize, scale_from_max
from gaq.quant.direction import DirectionCoder, direction_coder
from gaq.quant.magnitude import MagnitudeQuantizer, magnitude_quantizer
from gaq.quant.vector_formats import MDDQ, Components, VectorFormat


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


def no_ste(v: Tensor, m: Tensor, code: Tensor) -> Tensor:
    """Return `code` without a gradient."""
    return code


GRADIENTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "geometric": geometric_ste, "plain": plain_ste, "none": no_ste}


class VectorNumerics(Protocol):
    """What a format of vector features does to them: features (..., 2l+1, C), a positive scalar scale, a codebook."""

    def quantize(self, v: Tensor, scale: Tensor, degree: int, points: Tensor | None = None) -> Tensor:
        """Return Q(v).

        Args:
            v: features, shape (..., 2l+1, C).
            scale: positive scalar tensor, a learned parameter.
            degree: l.
            points: codebook, shape (K, 2l+1), where the format keeps one.

        Raises:
            ConfigError: the degree is not supported, or shapes do not fit it.
        """

    def initial_scale(self, v: Tensor, degree: int) -> Tensor:
        """Return the scale that suits calibration features, a scalar tensor."""

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        """Return the codebook for this degree, learned from `v` where it is a learned one, or None."""

    def clipped(self, v: Tensor, scale: Tensor) -> float:
        """Return the fraction of components, or of vectors, beyond the range."""

    def worst_angle(self, degree: int, points: Tensor | None = None) -> float:
        """Return the largest angle between a vector and its code, if that is not zero, in radians."""


@dataclass(frozen=True)
class ComponentwiseQuantizer:
    """One linear quantizer on the raw components; the first step clips nothing (min-max)."""

    fmt: Components

    def quantize(self, v: Tensor, scale: Tensor, degree: int, points: Tensor | None = None) -> Tensor:
        _check(self.fmt, v, degree)
        return fake_quantize(v, scale, self.fmt.format)

    def initial_scale(self, v: Tensor, degree: int) -> Tensor:
        return scale_from_max(v, self.fmt.format)

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        return None

    def clipped(self, v: Tensor, scale: Tensor) -> float:
        return clipped_fraction(v, scale, self.fmt.format)

    def worst_angle(self, degree: int, points: Tensor | None = None) -> float:
        return math.acos(1 / math.sqrt(2 * degree + 1))  # (1, 1, ..) s/2 may become (1, 0, ..) s


@dataclass(frozen=True)
class DecoupledQuantizer:
    """Magnitude and direction rounded apart, Q(v) = Q_m(|v|) · Q_d(v/|v|): `MDDQ`."""

    fmt: MDDQ
    magnitude: MagnitudeQuantizer
    direction: DirectionCoder
    straight_through: Callable[[Tensor, Tensor, Tensor], Tensor]

    def quantize(self, v: Tensor, scale: Tensor, degree: int, points: Tensor | None = None) -> Tensor:
        _check(self.fmt, v, degree)
        square = v.square().sum(-2, keepdim=True)
        floor = self.magnitude.resolution(scale.detach()).square().clamp_min(torch.finfo(v.dtype).tiny)
        silent = square.detach() <= floor
        m = torch.where(silent, 1.0, square).sqrt()  # any number but zero will do where the result is not used
        d = self.straight_through(v, m, self.direction.code((v / m).detach(), points))
        t = v / scale
        return torch.where(silent, scale * (t - t.detach()), self.magnitude.quantize(m, scale) * d)

    def initial_scale(self, v: Tensor, degree: int) -> Tensor:
        return self.magnitude.initial_scale(v.detach().norm(dim=-2))

    def initial_points(self, v: Tensor, degree: int, seed: int) -> Tensor | None:
        return self.direction.initial_points(v, degree, seed)

    def clipped(self, v: Tensor, scale: Tensor) -> float:
        return self.magnitude.clipped(v.detach().norm(dim=-2), scale.detach())

    def worst_angle(self, degree: int, points: Tensor | None = None) -> float:
        return self.direction.worst_angle(degree, points)


def quantizer_of(fmt: VectorFormat) -> VectorNumerics:
    """Return what computes a format of vector features."""
    return _MAKERS[type(fmt)](fmt)


def _check(fmt: Components | MDDQ, v: Tensor, degree: int) -> None:
    if not fmt.supports(degree):
        raise ConfigError(f"{fmt!r} cannot code features of degree {degree}; take a direction coder for any degree: "
                          "'component' (of at least 3 bits) or 'kmeans'")
    if v.ndim < 2 or v.shape[-2] != 2 * degree + 1:
        raise ConfigError(f"a feature of degree {degree} has shape (..., {2 * degree + 1}, channels), "
                          f"not {tuple(v.shape)}")


_MAKERS: dict[type, Callable[[Any], VectorNumerics]] = {
    Components: ComponentwiseQuantizer,
    MDDQ: lambda fmt: DecoupledQuantizer(fmt, magnitude_quantizer(fmt.magnitude), direction_coder(fmt.direction),
                                         GRADIENTS[fmt.gradient]),
}
