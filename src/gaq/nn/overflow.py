"""Telling overflow where a layer would hide it: normalized to zero, or clamped into a code."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gaq.errors import GaqError
from gaq.nn.quantized import InputCodes, QuantizedVectors


@contextmanager
def overflow_told(model: nn.Module) -> Iterator[None]:
    """Within this context a forward pass of `model` raises where the engine does.

    Raises:
        GaqError: what is to be normalized or coded is not finite, or its square is not.
    """
    # A module may name by `sensitive` what it would hide of its inputs, as an attention that normalizes does.
    handles = [module.register_forward_pre_hook(_check) for module in model.modules()
               if isinstance(module, (nn.LayerNorm, InputCodes, QuantizedVectors)) or hasattr(module, "sensitive")]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _check(module: nn.Module, arguments: tuple[Any, ...]) -> None:
    if isinstance(module, InputCodes):
        values = [arguments[0] / module.scale()]
    elif hasattr(module, "sensitive"):
        values = module.sensitive(*arguments)  # type: ignore[operator]
    else:
        values = [arguments[0] * arguments[0]]
    for value in values:
        if isinstance(value, Tensor) and value.numel() and not bool(torch.isfinite(value.amax() - value.amin())):
            raise GaqError("a value inside of the model is not finite; the geometry is far outside of what it was trained "
                           "on (atoms too close?), or the model is damaged")
