"""How long the operations of a step take at the ceilings of a machine."""

from collections.abc import Mapping

from gaq.models import costs_of
from gaq.models.contract import Arithmetic, Config, PartCost
from gaq.recipe import Recipe

OPERATIONS = 2  # a multiplication and an addition


def step_seconds(config: Config, recipe: Recipe, atoms: int, edges: int, ceilings: Mapping[str, float]) -> float:
    """Return how long the engine's multiply-adds of energy and forces take one core at its ceilings, s.

        t = Σ_a 2 n_a / rate_a,   a one of float32, int16, int8

    Args:
        atoms, edges: of the system; edges are directed.
        ceilings: rates in 1e9 operations a second, as `timing.ceilings` gives them.
    """
    work: dict[Arithmetic, float] = {"float32": 0.0, "int16": 0.0, "int8": 0.0}
    for part in parts_of(config, edges):
        count = atoms if part.per == "atom" else edges
        work[part.arithmetic(recipe)] += count * part.forward
        work["float32"] += count * part.adjoint
    return sum(OPERATIONS * n / (1e9 * ceilings[kind]) for kind, n in work.items())


def parts_of(config: Config, edges: int = 0) -> list[PartCost]:
    """Return the multiply-adds of all parts of a model; none where its kind does not say them."""
    parts = costs_of(config.kind)
    return [] if parts is None else parts(config, edges)
