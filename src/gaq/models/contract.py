"""What a model is to everybody else: one folder of `gaq.models`, named by its kind.

| module of the folder | offers                  | meaning                                                               |
|----------------------|-------------------------|-----------------------------------------------------------------------|
| `__init__`           | `KIND: ModelKind`       | configuration, leaves, recipes, checks; without PyTorch               |
| `network`            | `NETWORK`               | the class of its `gaq.models.network.Network`: definition on PyTorch  |
| `lowering`           | `EMITTER`, or no module | the class that lowers it for the native engine                        |
| `costs`              | `parts`, or no module   | the multiply-adds of its parts, of the definition and of the engine   |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from gaq.leaves import Schema
from gaq.lowering.sections import MOST_CODE_BITS, MOST_WHOLE_BITS
from gaq.recipe import Recipe

Tensors = Mapping[str, NDArray]  # of a model file, by name
Arithmetic = Literal["float32", "int16", "int8"]


class Shape(BaseModel):
    """Shape of a model but for its species, which come from the data.

    Args:
        kind: which model; the name of its folder.
        cutoff: Å.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    cutoff: float

    def with_species(self, species: tuple[int, ...]) -> "Config":
        """Return the configuration of a model of this shape."""
        raise NotImplementedError


class Config(Shape):
    """Shape of a model; frozen, stored in the model file.

    Args:
        species: atomic numbers the model knows, ascending.
    """

    species: tuple[int, ...]

    def described(self) -> dict[str, str]:
        """Return what people want to know of the shape, by a name for each line."""
        return {name: str(value) for name, value in self.model_dump(exclude={"kind", "species", "cutoff"}).items()}

    @field_validator("species")
    @classmethod
    def _species_ascend(cls, species: tuple[int, ...]) -> tuple[int, ...]:
        if not species or not 1 <= min(species) <= max(species) <= 118 or list(species) != sorted(set(species)):
            raise ValueError(f"species must be different atomic numbers from 1 to 118, ascending, not {species}")
        return species


def _nothing(config: Any, tensors: Tensors) -> None:
    return None


@dataclass(frozen=True)
class ModelKind:
    """One kind of model.

    Args:
        shape, config: classes of its shape and configuration.
        schema: leaves and other tensors of a configuration.
        recipes: named ways to quantize it.
        check: raises ModelFileError for values of tensors that no training leads to.
        nearest: how near training saw two atoms by their atomic numbers, Å; see `gaq.graph.Potential`.
        earlier: brings header and tensors of a file of an earlier format version up to date.
    """

    shape: type[Shape]
    config: type[Config]
    schema: Callable[[Any], Schema]
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    check: Callable[[Any, Tensors], None] = _nothing
    nearest: Callable[[Any, Tensors], NDArray[np.float64] | None] = _nothing
    earlier: Callable[[int, dict[str, Any], dict[str, NDArray]], None] = lambda version, header, tensors: None


@dataclass(frozen=True)
class PartCost:
    """Multiply-adds of one part of a model, for each atom or for each directed edge (i, j).

    Args:
        module: which leaf, or which block for what no leaf does.
        role: of the leaf, or "".
        per: what the numbers are for.
        definition: of the matrix products in the forward pass of PyTorch.
        forward, adjoint: of the engine.
    """

    module: str
    role: str
    per: Literal["atom", "edge"]
    definition: float
    forward: float
    adjoint: float

    def arithmetic(self, recipe: Recipe) -> Arithmetic:
        """Return what the engine's forward pass multiplies; adjoints, and all that edges do, are float32."""
        rule = recipe.rule_for(self.module, self.role)
        if self.per == "edge" or self.role == "vector" or rule.weight is None or rule.input is None:
            return "float32"
        if rule.weight > MOST_CODE_BITS or rule.input > MOST_WHOLE_BITS:
            return "float32"
        return "int8" if rule.input <= MOST_CODE_BITS else "int16"
