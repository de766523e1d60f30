"""Formats of vector features, l > 0: the naive one by component, and MDDQ, magnitude times direction."""

import math
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from gaq.errors import ConfigError
from gaq.quant.affine import clipped_fraction, fake_quantize, scale_from_max
from gaq.quant.direction import ComponentDirection, Direction
from gaq.quant.formats import Bits, IntFormat
from gaq.quant.magnitude import LinearMagnitude, Magnitude


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

    def points_shape(self, degree: int) -> tuple[int, int] | None:
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

    @model_validator(mode="after")
    def _closed_under_flips(self) -> "MDDQ":
        if self.aligned and not self.direction.closed:
            raise ValueError(f"the {self.direction.kind} codebook is not closed under flips of the axes, whose signs a "
                             "local frame leaves open; take 'component', 'octahedral_map', 'octahedral' or 'icosahedral'")
        return self

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

    def points_shape(self, degree: int) -> tuple[int, int] | None:
        """Return the shape of the codebook for this degree, or None where there is none to keep."""
        return self.direction.points_shape(degree)

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


def _check(fmt: Components | MDDQ, v: Tensor, degree: int) -> None:
    if not fmt.supports(degree):
        raise ConfigError(f"{fmt!r} cannot code features of degree {degree}; take a direction coder for any degree: "
                          "'component' (of at least 3 bits) or 'kmeans'")
    if v.ndim < 2 or v.shape[-2] != 2 * degree + 1:
        raise ConfigError(f"a feature of degree {degree} has shape (..., {2 * degree + 1}, channels), "
                          f"not {tuple(v.shape)}")
