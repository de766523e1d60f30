"""Swapping leaves: float -> quantization-aware (`prepare`) -> packed (`freeze`). The only code that does it."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gaq.compress.calibrate import calibrated
from gaq.compress.probe import Observations, leaves, observe
from gaq.graph import Graph
from gaq.leaves import Leaf, LinearLeaf, TensorType, VectorLinearLeaf, VectorQuantizerLeaf
from gaq.models import network_of
from gaq.models.contract import Config
from gaq.models.network import Network
from gaq.nn.leaves import LEAVES
from gaq.nn.quantized import (
    FixedScale,
    FloatWeight,
    InputCodes,
    PackedWeight,
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedVectorLinear,
    QuantizedVectors,
    Scale,
    Weight,
)
from gaq.nn.tensors import tensor
from gaq.quant.formats import IntFormat
from gaq.recipe import Recipe, Rule
from gaq.stored import StoredModel


def prepare(model: Network, recipe: Recipe, graphs: Iterable[Graph] | Observations) -> Network:
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
    _swap(prepared, recipe, lambda name, leaf, rule: calibrated(name, leaf, rule, recipe, seen))
    return prepared


def freeze(model: Network) -> Network:
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


def stored(model: Network, recipe: Recipe, provenance: dict[str, Any] | None = None) -> StoredModel:
    """Return a float or prepared model as data, ready to be saved or computed; its recipe is what it was prepared with."""
    state = {name: values.detach().cpu() for name, values in freeze(model).state_dict().items()}
    kinds = model.schema.tensors(recipe)
    return StoredModel(model.config, recipe, {
        name: values.numpy().astype(kinds[name].dtype if name in kinds else values.numpy().dtype, copy=True)
        for name, values in state.items()}, provenance or {})


def network(given: StoredModel, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Network:
    """Return a stored model as a network that computes, in evaluation mode.

    Args:
        device: where.
        dtype: of its activations and float weights; energies that are stored in float64 stay so.
    """
    model = empty(given.config, given.recipe)
    model.load_state_dict({name: tensor(values.copy()) for name, values in given.tensors.items()}, assign=True)
    exact = {name: tensor(values.copy()) for name, values in given.tensors.items() if values.dtype == "float64"}
    model = model.to(device=device, dtype=dtype)
    for name, values in exact.items():  # total energies of 1e4 eV need float64
        part, _, buffer = name.rpartition(".")
        setattr(model.get_submodule(part), buffer, values.to(device))
    return model.eval().requires_grad_(False)


def empty(config: Config, recipe: Recipe) -> Network:
    """Return a deployed model of this shape and recipe without values: its tensors are on PyTorch's "meta" device, take no
    memory, and are to be replaced by those of a file.

    Raises:
        ConfigError: a recipe that does not fit the model.
    """
    with torch.device("meta"):
        model: Network = network_of(config.kind)(config)
        _swap(model, recipe, lambda name, module, rule: _deployed(name, module, rule))
    return model


def _swap(model: Network, recipe: Recipe, low_bit: Callable[[str, nn.Module, Rule], nn.Module]) -> None:
    """Replace each leaf of a float model that has something to round by what `low_bit` makes of it and its rule.

    Raises:
        ConfigError: a rule that matches no leaf.
    """
    rules = model.schema.rules(recipe)
    for name, module in list(leaves(model)):
        if not isinstance(module, LEAVES):
            raise TypeError(f"leaf {name} of type {type(module).__name__} is quantized already; prepare the float model")
        if module.leaf.rounds(rules[name]):
            _replace(model, name, low_bit(name, module, rules[name]))


def _deployed(name: str, module: nn.Module, rule: Rule) -> nn.Module:
    """Return the deployed form of a leaf, of the right shapes and no values."""
    leaf: Leaf = module.leaf  # type: ignore[assignment]
    given = {part: _empty(kind) for part, kind in leaf.tensors(name, rule).items()}
    if isinstance(leaf, VectorQuantizerLeaf):
        degrees = range(1, leaf.max_degree + 1)
        steps: list[Scale] = [FixedScale(given[f"scales.{degree - 1}.value"]) for degree in degrees]
        return QuantizedVectors(leaf, leaf.formats(name, rule), steps, [given.get(f"points{degree}") for degree in degrees])
    weight: Weight
    if rule.weight is None:
        weight = FloatWeight(given["weight.weight"])
    else:
        weight = PackedWeight(given["weight.packed"], given["weight.scale"], IntFormat(bits=rule.weight), leaf.weight)
    if isinstance(leaf, LinearLeaf):
        inputs = None
        if rule.input is not None:
            inputs = InputCodes(FixedScale(given["inputs.scale.value"]), IntFormat(bits=rule.input))
        return QuantizedLinear(leaf, weight, given.get("bias"), inputs)
    if isinstance(leaf, VectorLinearLeaf):
        return QuantizedVectorLinear(leaf, weight, leaf.max_degree)
    return QuantizedEmbedding(leaf, weight)


def _empty(kind: TensorType) -> Tensor:
    return torch.empty(kind.shape, dtype=getattr(torch, kind.dtype.name))


def _replace(model: nn.Module, name: str, leaf: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, leaf)


