"""A second kind of model, made to prove the seams: one message passing layer over distances, in the manner of SchNet."""

from typing import Literal

from pydantic import Field

from gaq.leaves import EmbeddingLeaf, LinearLeaf, Schema, float64
from gaq.models.contract import Config, ModelKind, Shape
from gaq.recipe import Recipe, Rule


class PairShape(Shape):
    """Width, and number of radial functions."""

    kind: Literal["pair"] = "pair"
    cutoff: float = 4.0
    width: int = Field(default=8, ge=1)
    functions: int = Field(default=6, ge=2)

    def with_species(self, species: tuple[int, ...]) -> "PairConfig":
        return PairConfig(species=species, **self.model_dump())


class PairConfig(PairShape, Config):
    """With its species."""


def schema(config: PairConfig) -> Schema:
    """Return the leaves, each with its role."""
    width = config.width
    return Schema({
        "species": EmbeddingLeaf("first", entries=len(config.species), width=width),
        "filter.first": LinearLeaf("filter", "edge", config.functions, width),
        "filter.second": LinearLeaf("filter", "edge", width, width),
        "head.first": LinearLeaf("last", "atom", width, width),
        "head.second": LinearLeaf("last", "atom", width, 1),
    }, {"energy_scale": float64(), "energy_offsets": float64(len(config.species))})


RECIPES = {
    "pair-w4": Recipe(name="pair-w4", rules=(Rule(match="filter", weight=4), Rule(match="last", weight=8))),
    "pair-w8a16": Recipe(name="pair-w8a16", rules=(Rule(match="filter", weight=8), Rule(match="last", weight=8, input=16))),
}
KIND = ModelKind(shape=PairShape, config=PairConfig, schema=schema, recipes=RECIPES)
