"""Quantizers of a magnitude m = |v|: invariant under rotation, so that rounding it never breaks equivariance."""

from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gaq.quant.affine import clipped_fraction, fake_quantize, positive, round_through, scale_from_mse
from gaq.quant.formats import Bits, UnsignedFormat

FLOAT_OCTAVES = 16  # a vector that much below the largest is float32 noise and has no direction


class LinearMagnitude(BaseModel):
    """Even steps from zero, Q(m) = s · round(m/s) with codes 0..2^bits - 1; the scale is the step s.

    Args:
        bits: width of a code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["linear"] = "linear"
    bits: Bits = 8

    @property
    def width(self) -> int:
        """Bits stored for one magnitude."""
        return self.bits

    @property
    def format(self) -> UnsignedFormat:
        """Integer format of the codes."""
        return UnsignedFormat(bits=self.bits)

    def quantize(self, m: Tensor, scale: Tensor) -> Tensor:
        """Return Q(m), straight-through in m, with the LSQ gradient in the scale."""
        return fake_quantize(m, scale, self.format)

    def resolution(self, scale: Tensor) -> Tensor:
        """Return the magnitude up to which the code is zero."""
        return scale / 2

    def initial_scale(self, m: Tensor) -> Tensor:
        """Return the step of least squared error on calibration magnitudes, a scalar tensor."""
        return scale_from_mse(m, self.format)

    def clipped(self, m: Tensor, scale: Tensor) -> float:
        """Return the fraction of magnitudes beyond the largest code."""
        return clipped_fraction(m, scale, self.format)


class LogMagnitude(BaseModel):
    """Even ratios below a largest magnitude, Q(m) = S · 2^(-kΔ), so that the relative error is the same everywhere.

    k = round(log2(S/m) / Δ) in 0..K-1 with K = 2^bits - 1 levels and Δ = octaves / (K-1); the last code is zero, for
    magnitudes under half of the smallest level. The scale is S.

    Args:
        bits: width of a code.
        octaves: dynamic range between the largest and the smallest level, as a power of two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["log"] = "log"
    bits: Bits = 8
    octaves: Annotated[float, Field(gt=0, le=32)] = 8.0

    @property
    def width(self) -> int:
        """Bits stored for one magnitude."""
        return self.bits

    @property
    def steps(self) -> int:
        """Number of steps between the largest and the smallest level, K - 1."""
        return 2**self.bits - 2

    def quantize(self, m: Tensor, scale: Tensor) -> Tensor:
        """Return Q(m) for m above the resolution, straight-through in m; it moves with S only where it is clipped."""
        octaves_per_step = self.octaves / self.steps
        k = round_through(torch.log2(m / scale) / octaves_per_step, -self.steps, 0)
        return scale * torch.exp2(k * octaves_per_step)

    def resolution(self, scale: Tensor) -> Tensor:
        """Return the magnitude up to which the code is zero."""
        return scale * 2.0 ** (-self.octaves - 1)

    def initial_scale(self, m: Tensor) -> Tensor:
        """Return the largest calibration magnitude, a scalar tensor."""
        return positive(m.detach().amax())

    def clipped(self, m: Tensor, scale: Tensor) -> float:
        """Return the fraction of magnitudes beyond the largest level."""
        return _fraction(m > scale * 2.0 ** (self.octaves / self.steps / 2))


class FloatMagnitude(BaseModel):
    """The magnitude as it is, for experiments on directions alone; the scale only says what is noise (S · 2^-16)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["float"] = "float"

    @property
    def width(self) -> int:
        """Bits stored for one magnitude."""
        return 32

    def quantize(self, m: Tensor, scale: Tensor) -> Tensor:
        """Return m."""
        return m

    def resolution(self, scale: Tensor) -> Tensor:
        """Return the magnitude up to which a vector becomes zero."""
        return scale * 2.0**-FLOAT_OCTAVES

    def initial_scale(self, m: Tensor) -> Tensor:
        """Return the largest calibration magnitude, a scalar tensor."""
        return positive(m.detach().amax())

    def clipped(self, m: Tensor, scale: Tensor) -> float:
        """Return 0: nothing is clipped."""
        return 0.0


Magnitude = Annotated[LinearMagnitude | LogMagnitude | FloatMagnitude, Field(discriminator="kind")]


def _fraction(mask: Tensor) -> float:
    return float(mask.double().mean()) if mask.numel() else 0.0
