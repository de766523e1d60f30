"""Swapping leaves: float -> quantization-aware (`prepare`) -> packed (`freeze`). The only code that does it."""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gaq.errors import ConfigError
from gaq.graph import Graph
from gaq.models.transformer.network import ModelConfig, Transformer, edge_vectors
from gaq.nn.geometry import Geometry
from gaq.nn.leaves import LEAVES, Embedding, Linear, VectorLinear, VectorQuantizer
from gaq.nn.quantized import (
    QUANTIZED,
    FixedScale,
    FloatWeight,
    InputCodes,
    LearnedScale,
    MasterWeight,
    PackedWeight,
    ProtectedInputCodes,
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedVectorLinear,
    QuantizedVectors,
    Scale,
    Weight,
)
from gaq.quant.affine import clipped_fraction, positive, scale_from_max, scale_from_mse
from gaq.quant.formats import IntFormat
from gaq.quant.packing import packed_size
from gaq.quant.vectors import VectorFormat
from gaq.recipe import Recipe, Rule
from gaq.so3 import degree_slices

SAMPLE_ROWS = 4096  # activations kept for each leaf and batch
SCARCE_BITS, SPARE = 8, 4  # inputs of so few bits have none to spare for the weights' sake; others, steps so much larger
SMALLEST_COLUMN = 1e-3  # of a weight matrix, relative to its largest: silent channels need not be brought to its size


@dataclass
class Observations:
    """What calibration saw: inputs of linear leaves, and vector features with the geometry they came with."""

    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    vectors: dict[str, list[tuple[Tensor, Geometry]]] = field(default_factory=dict)


def leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the name of every leaf, float or quantized, with the leaf, in the order of the forward pass."""
    for name, module in model.named_modules():
        if isinstance(module, LEAVES + QUANTIZED):
            yield name, module


def observe(model: nn.Module, graphs: Iterable[Graph]) -> Observations:
    """Run the model on calibration graphs and keep what its leaves were given."""
    seen = Observations()

    def hook(name: str) -> Callable[[nn.Module, tuple], None]:
        def keep(leaf: nn.Module, arguments: tuple) -> None:
            if isinstance(leaf, (VectorQuantizer, QuantizedVectors)):
                seen.vectors.setdefault(name, []).append(arguments)
            elif isinstance(leaf, (Linear, QuantizedLinear)):
                rows = arguments[0]
                stride = -(-len(rows) // SAMPLE_ROWS) or 1
                seen.inputs.setdefault(name, []).append(rows[::stride])
        return keep

    _watch(model, hook, graphs)
    return seen


def multiplications(model: Transformer, graph: Graph) -> dict[str, float]:
    """Return the multiply-accumulate operations per atom of each leaf of a float model: rows · inputs · outputs / N.

    Leaves on edges count once for each edge. Vector quantizers multiply nothing themselves.
    """
    counts: dict[str, float] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple], None]:
        def count(leaf: nn.Module, arguments: tuple) -> None:
            products = 0
            if isinstance(leaf, (Linear, VectorLinear)):
                products = arguments[0].shape[:-1].numel() * leaf.weight.shape[-1] * leaf.weight.shape[-2]
            counts[name] = products / len(graph.species)
        return count

    _watch(model, hook, [graph])
    return counts


def prepare(model: Transformer, recipe: Recipe, graphs: Iterable[Graph] | Observations) -> Transformer:
    """Return a copy of a float model whose leaves round as the recipe says, with learned steps, ready for training.

    Args:
        model: a float model; it is not changed.
        recipe: which leaf gets which format.
        graphs: calibration batches, or what `observe` saw of them.

    Raises:
        ConfigError: a rule that matches no leaf, or a vector format that cannot code the model's degrees.
    """
    seen = graphs if isinstance(graphs, Observations) else observe(model, graphs)
    prepared = copy.deepcopy(model)
    _swap(prepared, recipe, lambda name, leaf, rule: _low_bit(name, leaf, rule, recipe, seen))
    return prepared


def freeze(model: Transformer) -> Transformer:
    """Return the deployed copy of a prepared model: weights packed at their bit width, steps settled."""
    frozen = copy.deepcopy(model)
    for _, module in leaves(frozen):
        if isinstance(module, QuantizedLinear) and module.inputs is not None:
            step = module.inputs.scale()
            module.weight = module.weight.frozen(step)
            module.inputs = InputCodes(FixedScale(step), module.inputs.fmt)
        elif isinstance(module, (QuantizedLinear, QuantizedVectorLinear, QuantizedEmbedding)):
            module.weight = module.weight.frozen()
    for name, module in list(leaves(frozen)):
        if isinstance(module, QuantizedVectors):
            _replace(frozen, name, module.frozen())
    return frozen.eval()


def build(config: ModelConfig, recipe: Recipe) -> Transformer:
    """Return a deployed model of this shape and recipe without values: its tensors are on PyTorch's "meta" device, take no
    memory, and are to be replaced by those of a file.

    Raises:
        ConfigError: as for `prepare`.
    """
    with torch.device("meta"):
        model = Transformer(config)
        _swap(model, recipe, _deployed)
    return model


def release_vectors(model: nn.Module, active: bool) -> None:
    """Let vector features be rounded, or keep them in float (the first phase of training)."""
    for _, leaf in leaves(model):
        if isinstance(leaf, QuantizedVectors):
            leaf.active = active


def release_inputs(model: nn.Module) -> None:
    """Keep the inputs of linear leaves in float; weights stay rounded with the inputs' steps folded in."""
    for module in model.modules():
        if isinstance(module, InputCodes):
            module.active = False


def protect(model: nn.Module, graph: Graph, largest: float, generator: torch.Generator) -> None:
    """Draw the atoms that Degree-Quant keeps in float this step: p_i = largest · rank of the number of neighbours.

    Source: Tailor et al., Degree-Quant, ICLR 2021.
    """
    neighbours = torch.bincount(graph.centers, minlength=len(graph.species)).double()
    rank = neighbours.argsort().argsort().double() / max(len(neighbours) - 1, 1)
    chosen = torch.rand(len(rank), generator=generator, dtype=torch.float64) < (largest * rank).cpu()
    for module in model.modules():
        if isinstance(module, ProtectedInputCodes):
            module.atoms, module.centers = chosen.to(graph.centers.device), graph.centers


def single_quantizers(model: Transformer) -> dict[str, Transformer]:
    """Return, for each activation quantizer of a low-bit model, a copy in which it is the only active one."""
    names = [name for name, module in model.named_modules() if isinstance(module, (InputCodes, QuantizedVectors))]
    variants = {}
    for chosen in names:
        variant = copy.deepcopy(model)
        for name, module in variant.named_modules():
            if isinstance(module, (InputCodes, QuantizedVectors)):
                module.active = name == chosen
        variants[chosen.removesuffix(".inputs")] = variant
    return variants


def saturation(model: Transformer, graphs: Iterable[Graph]) -> list[tuple[str, float]]:
    """Return, for each activation quantizer, the share of values beyond its range."""
    seen = observe(model, graphs)
    rows: list[tuple[str, float]] = []
    for name, leaf in leaves(model):
        if isinstance(leaf, QuantizedLinear) and leaf.inputs is not None:
            rows.append((name, clipped_fraction(torch.cat(seen.inputs[name]), leaf.inputs.scale(), leaf.inputs.fmt)))
        elif isinstance(leaf, QuantizedVectors):
            for degree, fmt in enumerate(leaf.formats, start=1):
                v = _vectors(seen.vectors[name], degree, fmt)
                rows.append((f"{name}.l{degree}", fmt.clipped(v, leaf.scales[degree - 1]())))
    return rows


def _watch(model: nn.Module, hook: Callable[[str], Callable[[nn.Module, tuple], None]], graphs: Iterable[Graph]) -> None:
    """Run the model on graphs, with a hook on each leaf."""
    handles = [leaf.register_forward_pre_hook(hook(name)) for name, leaf in leaves(model)]
    try:
        with torch.no_grad():
            for graph in graphs:
                model.node_energies(graph, edge_vectors(graph, graph.positions))  # type: ignore[operator]
    finally:
        for handle in handles:
            handle.remove()


def _swap(model: Transformer, recipe: Recipe, low_bit: Callable[[str, nn.Module, Rule], nn.Module]) -> None:
    """Replace each leaf of a float model that has something to round by what `low_bit` makes of it and its rule.

    Raises:
        ConfigError: a rule that matches no leaf.
    """
    used, names = set(), []
    for name, leaf in list(leaves(model)):
        rule = recipe.rule_for(name, leaf.role)  # type: ignore[arg-type]
        used.add(rule.match)
        names.append(name)
        if not isinstance(leaf, LEAVES):
            raise TypeError(f"leaf {name} of type {type(leaf).__name__} is quantized already; prepare the float model")
        if _rounds(leaf, rule):
            _replace(model, name, low_bit(name, leaf, rule))
    unused = [rule.match for rule in recipe.rules if rule.match not in used]
    if unused:
        raise ConfigError(f"recipe {recipe.name!r}: the rule for {unused[0]!r} matches no leaf; leaves are "
                          f"{', '.join(names)}")


def _rounds(leaf: nn.Module, rule: Rule) -> bool:
    """Return whether a rule asks for anything that the leaf can do."""
    if isinstance(leaf, VectorQuantizer):
        return rule.vectors is not None
    return rule.weight is not None or (rule.input is not None and isinstance(leaf, Linear))


def _low_bit(name: str, leaf: nn.Module, rule: Rule, recipe: Recipe, seen: Observations) -> nn.Module:
    """Return the leaf that learns its rounding, with steps from what calibration saw."""
    role = str(leaf.role)
    if isinstance(leaf, VectorQuantizer):
        return _vector_quantizer(name, leaf, rule, seen)
    if isinstance(leaf, Linear):
        inputs = _input_codes(name, leaf.weight.detach(), rule, recipe, seen)
        return QuantizedLinear(role, _weight(leaf.weight, rule, inputs.scale() if inputs else None), leaf.bias, inputs)
    if isinstance(leaf, VectorLinear):
        return QuantizedVectorLinear(role, _weight(leaf.weight, rule), len(leaf.slices))
    assert isinstance(leaf, Embedding)
    return QuantizedEmbedding(role, _weight(leaf.weight, rule))


def _deployed(name: str, leaf: nn.Module, rule: Rule) -> nn.Module:
    """Return the deployed form of a leaf, of the right shapes and no values."""
    role = str(leaf.role)
    if isinstance(leaf, VectorQuantizer):
        formats = _vector_formats(name, leaf, rule)
        points = [fmt.points_shape(degree) for degree, fmt in enumerate(formats, start=1)]
        steps: list[Scale] = [FixedScale(torch.empty(_steps_shape(leaf.channels, rule))) for _ in formats]
        return QuantizedVectors(role, formats, steps, [None if shape is None else torch.empty(shape) for shape in points])
    given = leaf.weight
    assert isinstance(given, Tensor)
    weight: Weight = FloatWeight(given)
    if rule.weight is not None:
        fmt, steps_shape = IntFormat(bits=rule.weight), (*given.shape[:-1], 1)
        weight = PackedWeight(torch.empty(packed_size(given.numel(), fmt), dtype=torch.uint8),
                              torch.empty(steps_shape if rule.granularity == "channel" else (1,) * given.dim()), fmt,
                              tuple(given.shape))
    if isinstance(leaf, Linear):
        inputs = None
        if rule.input is not None:
            inputs = InputCodes(FixedScale(torch.empty(_steps_shape(given.shape[1], rule))), IntFormat(bits=rule.input))
        return QuantizedLinear(role, weight, leaf.bias, inputs)
    if isinstance(leaf, VectorLinear):
        return QuantizedVectorLinear(role, weight, len(leaf.slices))
    return QuantizedEmbedding(role, weight)


def _steps_shape(channels: int, rule: Rule) -> tuple[int, ...]:
    return (channels,) if rule.granularity == "channel" else ()


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
    formats = _vector_formats(name, leaf, rule)
    scales: list[Scale] = []
    points: list[Tensor | None] = []
    for degree, fmt in enumerate(formats, start=1):
        v = _vectors(seen.vectors[name], degree, fmt)
        scales.append(LearnedScale(_vector_scale(v, degree, fmt, rule)))
        points.append(fmt.initial_points(v, degree, seed=0))
    return QuantizedVectors(str(leaf.role), formats, scales, points)


def _vector_formats(name: str, leaf: VectorQuantizer, rule: Rule) -> tuple[VectorFormat, ...]:
    """Return the format of each degree.

    Raises:
        ConfigError: a degree that the rule's formats cannot code.
    """
    formats: list[VectorFormat] = []
    for degree in range(1, leaf.max_degree + 1):
        fmt = rule.vectors
        assert fmt is not None  # the caller checked
        if not fmt.supports(degree) and rule.higher is not None:
            fmt = rule.higher
        if not fmt.supports(degree):
            raise ConfigError(f"{name}: {fmt.model_dump()} cannot code degree {degree}; set feature.higher, or take a "
                              "direction for any degree ('component', 'kmeans')")
        formats.append(fmt)
    return tuple(formats)


def _vector_scale(v: Tensor, degree: int, fmt: VectorFormat, rule: Rule) -> Tensor:
    """Return the scale of a vector format: one for each channel, or one in all."""
    v = v * rule.headroom
    if rule.granularity == "tensor":
        return fmt.initial_scale(v, degree).float()
    return torch.stack([fmt.initial_scale(v[..., c : c + 1], degree) for c in range(v.shape[-1])]).float()


def _vectors(samples: list[tuple[Tensor, Geometry]], degree: int, fmt: VectorFormat) -> Tensor:
    """Return the calibration features of one degree, in local frames where the format is aligned, (atoms, 2l+1, C)."""
    part = degree_slices(degree)[-1]
    return torch.cat([g.wigner(degree).mT @ v[:, part] if fmt.aligned else v[:, part] for v, g in samples])


def _replace(model: nn.Module, name: str, leaf: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, leaf)


