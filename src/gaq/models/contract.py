"""What a model is to everybody else: one folder of `gaq.models`, named by its kind.

| module of the folder | offers                  | meaning                                                               |
|----------------------|-------------------------|-----------------------------------------------------------------------|
| `__init__`           | `KIND: ModelKind`       | configuration, leaves, recipes, checks; without PyTorch               |
| `network`            | `NETWORK`               | the class of its `gaq.models.network.Network`: definition on PyTorch  |
| `lowering`           | `EMITTER`, or no module | the class that lowers it for the native engine                        |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from gaq.leaves import Schema
from gaq.recipe import Recipe

Tensors = Mapping[str, NDArray]  # of a model file, by name


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
