"""Leaves as data: the shape, the role and the work of every module whose arithmetic depends on precision.

A model is written down once, as a `Schema` of such leaves. From it follow the network's modules, which rules of a recipe
match, the tensors that a model file must hold, what the engine is given, and what a step costs.

| symbol | meaning                                   |
|--------|-------------------------------------------|
| in,out | channels of a linear map                  |
| L, M   | largest degree; (L+1)² - 1 components     |
| C      | vector channels                           |
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from gaq.errors import ConfigError, ModelFileError
from gaq.quant.formats import IntFormat, int_format
from gaq.quant.packing import check_codes, packed_size
from gaq.quant.vector_formats import VectorFormat
from gaq.recipe import Recipe, Rule

Rows = Literal["atom", "edge"]
Shape = tuple[int, ...]
LARGEST_STEP = 1e30  # of codes; the smallest is its inverse


@dataclass(frozen=True)
class TensorType:
    """Type and shape of a stored tensor, and what its numbers are.

    Args:
        dtype, shape: as said.
        steps: step sizes, by which values are divided.
        codes: format of the packed codes of a weight of shape `unpacked`.
    """

    dtype: np.dtype
    shape: Shape
    steps: bool = False
    codes: IntFormat | None = None
    unpacked: Shape = ()

    @property
    def bytes(self) -> int:
        """Bytes that it takes in a file."""
        return math.prod(self.shape) * self.dtype.itemsize

    def check(self, name: str, given: NDArray) -> None:
        """Refuse an array that is not of this type.

        Raises:
            ModelFileError: another type or shape, values that are not finite, steps that cannot be divided by, or codes
                outside of their format.
        """
        if given.dtype != self.dtype or given.shape != self.shape:
            raise ModelFileError(f"the tensor {name!r} is {given.dtype} of shape {given.shape}, and should be "
                                 f"{self.dtype} of shape {self.shape}")
        if given.dtype.kind == "f" and not np.isfinite(given).all():
            raise ModelFileError(f"the tensor {name!r} holds values that are not finite")
        if self.steps and not 1 / LARGEST_STEP <= given.min() <= given.max() <= LARGEST_STEP:
            raise ModelFileError(f"{name}: steps must be from {1 / LARGEST_STEP:.0e} to {LARGEST_STEP:.0e}; they go from "
                                 f"{float(given.min()):.3g} to {float(given.max()):.3g}")
        if self.codes is not None:
            check_codes(given, self.codes, self.unpacked, name)


def float32(*shape: int, steps: bool = False) -> TensorType:
    """Return the type of a float32 tensor."""
    return TensorType(np.dtype(np.float32), shape, steps)


def float64(*shape: int) -> TensorType:
    """Return the type of a float64 tensor."""
    return TensorType(np.dtype(np.float64), shape)


@dataclass(frozen=True)
class Leaf:
    """What all leaves say of themselves.

    Args:
        role: by which a recipe addresses it.
        rows: what its inputs are for, atoms or edges.
    """

    role: str
    rows: Rows = "atom"
    takes_codes: ClassVar[bool] = False  # whether its inputs may be rounded

    @property
    def weight(self) -> Shape:
        """Shape of its weight; the last axis but one has its outputs."""
        raise NotImplementedError

    @property
    def products(self) -> int:
        """Multiply-adds for each row of its input."""
        return 0

    def rounds(self, rule: Rule) -> bool:
        """Return whether a rule asks for anything that the leaf can do."""
        return rule.weight is not None or (self.takes_codes and rule.input is not None)

    def quantizes_activations(self, rule: Rule) -> bool:
        """Return whether activations are rounded in it."""
        return self.takes_codes and rule.input is not None

    def tensors(self, name: str, rule: Rule) -> dict[str, TensorType]:
        """Return the tensors of its deployed form under a rule, by their names in a model file.

        Raises:
            ConfigError: a vector format that cannot code one of its degrees.
        """
        if not self.rounds(rule):
            return {"weight": float32(*self.weight)}
        if rule.weight is None:
            return {"weight.weight": float32(*self.weight)}
        steps = (*self.weight[:-1], 1) if rule.granularity == "channel" else (1,) * len(self.weight)
        fmt = int_format(rule.weight)
        size = packed_size(math.prod(self.weight), fmt)
        packed = TensorType(np.dtype(np.uint8), (size,), codes=fmt, unpacked=self.weight)
        return {"weight.packed": packed, "weight.scale": float32(*steps, steps=True)}


@dataclass(frozen=True)
class LinearLeaf(Leaf):
    """y = x Wᵀ + b on scalars; weight (out, in). `gain` scales the first weights of training."""

    inputs: int = 1
    outputs: int = 1
    bias: bool = True
    gain: float = 1.0
    takes_codes: ClassVar[bool] = True

    @property
    def weight(self) -> Shape:
        return self.outputs, self.inputs

    @property
    def products(self) -> int:
        return self.outputs * self.inputs

    def tensors(self, name: str, rule: Rule) -> dict[str, TensorType]:
        found = super().tensors(name, rule)
        if rule.input is not None:
            found["inputs.scale.value"] = float32(*_steps(self.inputs, rule), steps=True)
        return found | ({"bias": float32(self.outputs)} if self.bias else {})


@dataclass(frozen=True)
class VectorLinearLeaf(Leaf):
    """v'^l = v^l W_lᵀ: channels mix, components never do; weight (L, out, in)."""

    inputs: int = 1
    outputs: int = 1
    max_degree: int = 1

    @property
    def weight(self) -> Shape:
        return self.max_degree, self.outputs, self.inputs

    @property
    def products(self) -> int:
        return ((self.max_degree + 1) ** 2 - 1) * self.outputs * self.inputs


@dataclass(frozen=True)
class EmbeddingLeaf(Leaf):
    """Row Z of a table for each atom; weight (entries, width)."""

    entries: int = 1
    width: int = 1

    @property
    def weight(self) -> Shape:
        return self.entries, self.width


@dataclass(frozen=True)
class VectorQuantizerLeaf(Leaf):
    """Where vector features (N, M, C) are rounded; nothing in float."""

    channels: int = 1
    max_degree: int = 1

    def rounds(self, rule: Rule) -> bool:
        return rule.vectors is not None

    def quantizes_activations(self, rule: Rule) -> bool:
        return self.rounds(rule)

    def formats(self, name: str, rule: Rule) -> tuple[VectorFormat, ...]:
        """Return the format of each degree.

        Raises:
            ConfigError: a degree that the rule's formats cannot code.
        """
        found: list[VectorFormat] = []
        for degree in range(1, self.max_degree + 1):
            fmt = rule.vectors
            assert fmt is not None  # the caller asked `rounds`
            if not fmt.supports(degree) and rule.higher is not None:
                fmt = rule.higher
            if not fmt.supports(degree):
                raise ConfigError(f"{name}: {fmt.model_dump()} cannot code degree {degree}; set feature.higher, or take a "
                                  "direction for any degree ('component', 'kmeans')")
            found.append(fmt)
        return tuple(found)

    def tensors(self, name: str, rule: Rule) -> dict[str, TensorType]:
        if not self.rounds(rule):
            return {}
        found = {}
        for degree, fmt in enumerate(self.formats(name, rule), start=1):
            found[f"scales.{degree - 1}.value"] = float32(*_steps(self.channels, rule), steps=True)
            points = fmt.points_shape(degree)
            if points is not None:
                found[f"points{degree}"] = float32(*points)
        return found


@dataclass(frozen=True)
class Schema:
    """All that a model file holds of one model.

    Args:
        leaves: by the name of their module, in the order in which a network makes them.
        kept: further tensors, which no recipe touches: norms, and buffers.
    """

    leaves: Mapping[str, Leaf]
    kept: Mapping[str, TensorType] = field(default_factory=dict)

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of the leaves, each once."""
        return tuple(dict.fromkeys(leaf.role for leaf in self.leaves.values()))

    def rules(self, recipe: Recipe) -> dict[str, Rule]:
        """Return the rule of each leaf.

        Raises:
            ConfigError: a rule that matches no leaf.
        """
        found = {name: recipe.rule_for(name, leaf.role) for name, leaf in self.leaves.items()}
        used = {rule.match for rule in found.values()}
        unused = [rule.match for rule in recipe.rules if rule.match not in used]
        if unused:
            raise ConfigError(f"recipe {recipe.name!r}: the rule for {unused[0]!r} matches no leaf; leaves are "
                              f"{', '.join(self.leaves)}")
        return found

    def tensors(self, recipe: Recipe) -> dict[str, TensorType]:
        """Return all tensors of the deployed model by name.

        Raises:
            ConfigError: the recipe does not fit the model.
        """
        rules = self.rules(recipe)
        return dict(self.kept) | {f"{name}.{part}": kind for name, leaf in self.leaves.items()
                                  for part, kind in leaf.tensors(name, rules[name]).items()}

    def quantizers(self, recipe: Recipe) -> tuple[str, ...]:
        """Return the leaves in which activations are rounded."""
        return tuple(name for name, rule in self.rules(recipe).items() if self.leaves[name].quantizes_activations(rule))


def _steps(channels: int, rule: Rule) -> Shape:
    return (channels,) if rule.granularity == "channel" else ()
