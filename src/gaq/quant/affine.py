"""The linear quantizer, written once: every other path (packed, native) is tested equal to this one.

All functions are made of differentiable torch operations, so that first and second derivatives exist (a force loss
differentiates twice) and torch.func and make_fx can trace them.
"""

import torch
from torch import Tensor

from gaq.errors import ConfigError
from gaq.quant.formats import WholeNumbers

CLIP_RATIOS = torch.logspace(0.0, -1.5, 64, dtype=torch.float64).tolist()  # of the largest value, 1 down to 0.03


def round_through(t: Tensor, low: int, high: int) -> Tensor:
    """Round to whole numbers in [low, high] with a straight-through gradient.

    c = clamp(round(t), low, high);  dc/dt = 1 where low - 1/2 <= t <= high + 1/2, else 0.

    The returned value is the whole number exactly: the clamped t lies within 1/2 of c, so c - t is exact (Sterbenz),
    and so is t + (c - t). Halves go to the even neighbour, hence round(-t) = -round(t).

    Args:
        t: values in units of one step, any shape.
        low: smallest whole number.
        high: largest whole number.

    Returns:
        Whole numbers as floats, shape and dtype of `t`.
    """
    within = t.clamp(low - 0.5, high + 0.5)
    code = within.detach().round().clamp(low, high)
    return within + (code - within).detach()


def codes(x: Tensor, scale: Tensor, fmt: WholeNumbers) -> Tensor:
    """Return the codes of `x` as whole numbers in a float tensor.

    c = clamp(round(x / s), qmin, qmax), straight-through in x. The gradient of c·s to s is then that of LSQ: c - x/s
    inside the range and c outside.

    Args:
        x: values, any shape.
        scale: step s > 0, broadcastable against `x`.
        fmt: range of the codes.

    Returns:
        Codes, shape of `x`.

    Source: Esser et al., Learned Step Size Quantization, arXiv 1902.08153.
    """
    return round_through(x / scale, fmt.qmin, fmt.qmax)


def fake_quantize(x: Tensor, scale: Tensor, fmt: WholeNumbers) -> Tensor:
    """Return the values that the codes stand for, Q(x) = s · c(x); arguments as for `codes`."""
    return codes(x, scale, fmt) * scale


def clipped_fraction(x: Tensor, scale: Tensor, fmt: WholeNumbers) -> float:
    """Return the fraction of `x` beyond the range of the codes by more than half a step (0 for no values)."""
    if x.numel() == 0:
        return 0.0
    t = x.detach() / scale.detach()
    return float(((t > fmt.qmax + 0.5) | (t < fmt.qmin - 0.5)).double().mean())


def scale_from_max(x: Tensor, fmt: WholeNumbers, channel_axis: int | None = None) -> Tensor:
    """Return the smallest step that clips nothing, s = max|x| / qmax.

    Args:
        x: calibration values, any shape.
        fmt: range of the codes.
        channel_axis: the axis that keeps one step for each index; None for one step in all.

    Returns:
        Steps > 0: a scalar tensor, or a tensor with all axes of `x` but `channel_axis` of length 1.

    Raises:
        ConfigError: `x` is empty.
    """
    largest = positive(_reduce(x.detach().abs(), channel_axis, "max"))
    return largest / fmt.qmax


def scale_from_mse(x: Tensor, fmt: WholeNumbers, channel_axis: int | None = None) -> Tensor:
    """Return the step of least squared error, s = argmin_s sum (Q(x; s) - x)², over 64 clipping ratios.

    Args and returns as for `scale_from_max`, which it falls back on where all of `x` is zero.

    Raises:
        ConfigError: `x` is empty.
    """
    x = x.detach()
    widest = scale_from_max(x, fmt, channel_axis)
    best, least = widest, torch.full_like(widest, torch.inf)
    for ratio in CLIP_RATIOS:
        scale = widest * ratio
        error = _reduce((fake_quantize(x, scale, fmt) - x).square(), channel_axis, "sum")
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return best


def positive(largest: Tensor) -> Tensor:
    """Return `largest`, with 1 where it is zero: nothing is known of a channel that never spoke. NaN stays NaN."""
    tiny = torch.finfo(largest.dtype).tiny * 2**20  # a step below this would underflow when divided further
    return torch.where(largest <= tiny, 1.0, largest)


def _reduce(x: Tensor, channel_axis: int | None, how: str) -> Tensor:
    if x.numel() == 0:
        raise ConfigError(f"a scale needs calibration values, but the tensor of shape {tuple(x.shape)} has none; "
                          "calibrate on at least one structure with edges")
    if channel_axis is None:
        return x.amax() if how == "max" else x.sum()
    others = [axis for axis in range(x.ndim) if axis != channel_axis % x.ndim]
    if not others:
        return x
    return x.amax(others, keepdim=True) if how == "max" else x.sum(others, keepdim=True)
