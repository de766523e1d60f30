"""Quantizers of a magnitude m = |v|: invariant under rotation, so that rounding it never breaks equivariance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from gaq.quant.affine import clipped_fraction, fake_quantize, positive, round_through, scale_from_mse
from gaq.quant.formats import UnsignedFormat
from gaq.quant.vector_formats import FloatMagnitude, LinearMagnitude, LogMagnitude, Magnitude

FLOAT_OCTAVES = 16  # a vector that much below the largest is float32 noise and has no direction


class MagnitudeQuantizer(Protocol):
    """What a format of magnitudes does to them; magnitudes have any shape, the scale is a positive scalar tensor."""

    def quantize(self, m: Tensor, scale: Tensor) -> Tensor:
        """Return Q(m) for m above the resolution, straight-through in m."""

    def resolution(self, scale: Tensor) -> Tensor:
        """Return the magnitude up to which the code is zero."""

    def initial_scale(self, m: Tensor) -> Tensor:
        """Return the scale that suits calibration magnitudes, a scalar tensor."""

    def clipped(self, m: Tensor, scale: Tensor) -> float:
        """Return the fraction of magnitudes beyond the largest code."""


@dataclass(frozen=True)
class EvenSteps:
    """Steps of one size, with the LSQ gradient in the scale; calibrated for the least squared error."""

    codes: UnsignedFormat

    def quantize(self, m: Tensor, scale: Tensor) -> Tensor:
        return fake_quantize(m, scale, self.codes)

    def resolution(self, scale: Tensor) -> Tensor:
        return scale / 2

    def initial_scale(self, m: Tensor) -> Tensor:
        return scale_from_mse(m, self.codes)

    def clipped(self, m: Tensor, scale: Tensor) -> float:
        return clipped_fraction(m, scale, self.codes)


@dataclass(frozen=True)
class EvenRatios:
    """Levels of one ratio below the scale, which is the largest magnitude; Q moves with it only where it is clipped."""

    octaves: float
    steps: int

    def quantize(self, m: Tensor, scale: Tensor) -> Tensor:
        octaves_per_step = self.octaves / self.steps
        k = round_through(torch.log2(m / scale) / octaves_per_step, -self.steps, 0)
        return scale * torch.exp2(k * octaves_per_step)

    def resolution(self, scale: Tensor) -> Tensor:
        return scale * 2.0 ** (-self.octaves - 1)

    def initial_scale(self, m: Tensor) -> Tensor:
        return positive(m.detach().amax())

    def clipped(self, m: Tensor, scale: Tensor) -> float:
        return _fraction(m > scale * 2.0 ** (self.octaves / self.steps / 2))


@dataclass(frozen=True)
class UnroundedMagnitude:
    """The magnitude as it is, zero up to S · 2^-16; nothing is clipped."""

    def quantize(self, m: Tensor, scale: Tensor) -> Tensor:
        return m

    def resolution(self, scale: Tensor) -> Tensor:
        return scale * 2.0**-FLOAT_OCTAVES

    def initial_scale(self, m: Tensor) -> Tensor:
        return positive(m.detach().amax())

    def clipped(self, m: Tensor, scale: Tensor) -> float:
        return 0.0


def magnitude_quantizer(fmt: Magnitude) -> MagnitudeQuantizer:
    """Return what computes a format of magnitudes."""
    return _MAKERS[type(fmt)](fmt)


def _fraction(mask: Tensor) -> float:
    return float(mask.double().mean()) if mask.numel() else 0.0


_MAKERS: dict[type, Callable[[Any], MagnitudeQuantizer]] = {
    LinearMagnitude: lambda fmt: EvenSteps(fmt.format),
    LogMagnitude: lambda fmt: EvenRatios(fmt.octaves, fmt.steps),
    FloatMagnitude: lambda fmt: UnroundedMagnitude(),
}
