"""First formats and steps of a low-bit model, from what its leaves are given on calibration structures."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gaq.compress.probe import Observations, local_vectors
from gaq.graph import Graph, build_graph, collate
from gaq.nn.leaves import Embedding, Linear, VectorLinear, VectorQuantizer
from gaq.nn.quantized import (
    FloatWeight,
    InputCodes,
    LearnedScale,
    MasterWeight,
    ProtectedInputCodes,
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedVectorLinear,
    QuantizedVectors,
    Scale,
    Weight,
)
from gaq.nn.tensors import tensors
from gaq.quant.affine import positive, scale_from_max, scale_from_mse
from gaq.quant.formats import IntFormat
from gaq.quant.vectors import VectorNumerics, quantizer_of
from gaq.recipe import Recipe, Rule
from gaq.structure import Structure

FRAMES, BATCH = 64, 16  # that steps are chosen on; at a time
SCARCE_BITS, SPARE = 8, 4  # inputs of so few bits have none to spare for the weights' sake; others, steps so much larger
SMALLEST_COLUMN = 1e-3  # of a weight matrix, relative to its largest: silent channels need not be brought to its size


def calibration_batches(frames: Sequence[Structure], cutoff: float, device: str = "cpu") -> list[Graph]:
    """Return the batches that steps are calibrated on: up to 64 structures, evenly spread."""
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).astype(int)]
    return [tensors(collate([build_graph(frame, cutoff) for frame in chosen[k : k + BATCH]]), device)
            for k in range(0, len(chosen), BATCH)]


def calibrated(name: str, leaf: nn.Module, rule: Rule, recipe: Recipe, seen: Observations) -> nn.Module:
    """Return the leaf that learns its rounding, with steps from what calibration saw."""
    if isinstance(leaf, VectorQuantizer):
        return _vector_quantizer(name, leaf, rule, seen)
    if isinstance(leaf, Linear):
        inputs = _input_codes(name, leaf.weight.detach(), rule, recipe, seen)
        return QuantizedLinear(leaf.leaf, _weight(leaf.weight, rule, inputs.scale() if inputs else None), leaf.bias, inputs)
    if isinstance(leaf, VectorLinear):
        return QuantizedVectorLinear(leaf.leaf, _weight(leaf.weight, rule), len(leaf.slices))
    assert isinstance(leaf, Embedding)
    return QuantizedEmbedding(leaf.leaf, _weight(leaf.weight, rule))


def _weight(weight: Tensor, rule: Rule, step: Tensor | None = None) -> Weight:
    if rule.weight is None:
        return FloatWeight(weight)
    fmt = IntFormat(bits=rule.weight)
    choose = scale_from_max if rule.calibration == "max" else scale_from_mse
    folded = weight.detach() if step is None else weight.detach() * step.detach()
    if rule.granularity == "tensor":
        return MasterWeight(weight, choose(folded, fmt).reshape((1,) * weight.dim()), fmt)
    rows = folded.flatten(0, -2)
    return MasterWeight(weight, choose(rows, fmt, channel_axis=0).reshape(*weight.shape[:-1], 1), fmt)


def _input_codes(name: str, weight: Tensor, rule: Rule, recipe: Recipe, seen: Observations) -> InputCodes | None:
    if rule.input is None:
        return None
    fmt = IntFormat(bits=rule.input)
    rows = torch.cat(seen.inputs[name])
    scale = scale_from_max(rows * rule.headroom, fmt)
    if rule.granularity == "channel":
        scale = _channel_steps(rows, weight, scale, rule.headroom, fmt)
    kind = ProtectedInputCodes if recipe.schedule.protection else InputCodes
    return kind(LearnedScale(scale), fmt)


def _channel_steps(rows: Tensor, weight: Tensor, largest: Tensor, headroom: float, fmt: IntFormat) -> Tensor:
    """Return a step for each channel of an input, by which the columns of the weight are multiplied before rounding.

    Both factors want their own steps: the input s_j ~ max|x_j|, the weight, with one step for a row, columns of one size.
    With few bits for the input, s_j is the geometric mean of max|x_j| and one step for all. Where it has bits to spare,
    the weight comes first, s_j ~ (rms(x_j)^½ / max_i|W_ij|)^½: columns are brought to one size, the louder ones a little
    less, for at most two bits of a channel (silent ones keep the geometric mean, lest their weights round to nothing).

    Args:
        rows: inputs seen in calibration, shape (rows, in).
        weight: shape (out, in).
        largest: the step of least size without clipping that all channels can share.
        headroom: see `Rule`.
        fmt: of the input.
    """
    channels = scale_from_max(rows * headroom, fmt, channel_axis=1).squeeze(0)
    between = (largest * channels).sqrt()
    if fmt.bits <= SCARCE_BITS:
        return between
    columns = weight.abs().amax(0)
    rms = rows.square().mean(0).sqrt()
    ratio = (positive(rms).sqrt() / columns.clamp_min(positive(columns.max()) * SMALLEST_COLUMN)).sqrt()
    return torch.minimum(ratio * (channels / ratio).max(), torch.maximum(channels * SPARE, between))


def _vector_quantizer(name: str, leaf: VectorQuantizer, rule: Rule, seen: Observations) -> QuantizedVectors:
    formats = leaf.leaf.formats(name, rule)
    scales: list[Scale] = []
    points: list[Tensor | None] = []
    for degree, fmt in enumerate(formats, start=1):
        v = local_vectors(seen.vectors[name], degree, fmt)
        quantizer = quantizer_of(fmt)
        scales.append(LearnedScale(_vector_scale(v, degree, quantizer, rule)))
        points.append(quantizer.initial_points(v, degree, seed=0))
    return QuantizedVectors(leaf.leaf, formats, scales, points)


def _vector_scale(v: Tensor, degree: int, quantizer: VectorNumerics, rule: Rule) -> Tensor:
    """Return the scale of a vector format: one for each channel, or one in all."""
    v = v * rule.headroom
    if rule.granularity == "tensor":
        return quantizer.initial_scale(v, degree).float()
    return torch.stack([quantizer.initial_scale(v[..., c : c + 1], degree) for c in range(v.shape[-1])]).float()
