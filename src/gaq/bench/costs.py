"""Operations of a step by formula: what PyTorch's definition multiplies, and what the native engine does instead.

| symbol | meaning                                     | symbol | meaning                                          |
|--------|---------------------------------------------|--------|--------------------------------------------------|
| F      | scalars                                     | H      | heads                                            |
| C      | vectors of each degree                      | K      | radial functions                                 |
| L      | max_degree                                  | R      | filter_width                                     |
| M      | components, (L+1)² - 1                      | W      | width of a filter, F + 2 L C + (H, or F)         |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gaq.lowering.blob import MOST_CODE_BITS, MOST_WHOLE_BITS
from gaq.models.transformer.attention import ATTENTIONS
from gaq.models.transformer.network import ModelConfig
from gaq.recipe import Recipe

OPERATIONS = 2  # a multiplication and an addition
TABLE_ROWS = 4  # of a cubic spline
KEPT_BYTES = 1 << 20  # filters of all pairs and layers up to which the engine keeps them for its adjoint
Arithmetic = Literal["float32", "int16", "int8"]


@dataclass(frozen=True)
class Part:
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
        if self.role not in ("scalar", "update", "junction", "last"):
            return "float32"
        rule = recipe.rule_for(self.module, self.role)
        if rule.weight is None or rule.weight > MOST_CODE_BITS or rule.input is None or rule.input > MOST_WHOLE_BITS:
            return "float32"
        return "int8" if rule.input <= MOST_CODE_BITS else "int16"


def parts(config: ModelConfig, kept: bool = False) -> list[Part]:
    """Return the multiply-adds of all parts of a model.

    A linear map of an atom from n to m channels takes n m forward, and n m in the adjoint, which is that of the input
    alone: weights are constants. Vector maps act on M components. For an edge, the definition evaluates the radial network
    and the contractions; the engine interpolates a table (4 rows, and 8 with the slopes) and contracts, once for both
    directions of a pair, and multiplies messages. Its adjoint makes the filters again, unless they were `kept`.

    A multiplication on its own counts as one. Left out: distances, harmonics and local frames, norms, exponentials and
    activations, rounding to codes, gates by degree, sums over components, padding of channels to 16.
    """
    c = config
    filters = c.scalars + c.vectors * c.max_degree
    found = [Part("embedding", "first", "edge", c.radial_functions * filters, *_embedding(c))]
    for layer in range(c.layers):
        found += _layer(c, f"attention.{layer}", f"interaction.{layer}", kept)
    hidden = c.scalars // 2 or 1
    return [*found, _map("head.first", "last", c.scalars * hidden), _map("head.second", "last", hidden)]


def step_seconds(config: ModelConfig, recipe: Recipe, atoms: int, edges: int, ceilings: Mapping[str, float]) -> float:
    """Return how long the engine's multiply-adds of energy and forces take one core at its ceilings, s.

        t = Σ_a 2 n_a / rate_a,   a one of float32, int16, int8

    Args:
        atoms, edges: of the system; edges are directed.
        ceilings: rates in 1e9 operations a second, as `timing.ceilings` gives them.
    """
    work: dict[Arithmetic, float] = {"float32": 0.0, "int16": 0.0, "int8": 0.0}
    for part in parts(config, _kept(config, edges)):
        count = atoms if part.per == "atom" else edges
        work[part.arithmetic(recipe)] += count * part.forward
        work["float32"] += count * part.adjoint
    return sum(OPERATIONS * n / (1e9 * ceilings[kind]) for kind, n in work.items())


def _map(module: str, role: str, products: int) -> Part:
    return Part(module, role, "atom", products, products, products)


def _layer(c: ModelConfig, attention: str, interaction: str, kept: bool) -> list[Part]:
    gates, components = c.vectors * c.max_degree, (c.max_degree + 1) ** 2 - 1
    width, heads, again = _filter_width(c), c.heads, 0 if kept else 1
    contraction = c.max_degree * heads * width
    both = c.scalars + gates
    return [
        _map(f"{attention}.query", "scalar", c.scalars**2),
        _map(f"{attention}.key", "scalar", c.scalars**2),
        _map(f"{attention}.value", "update", c.scalars * both),
        _map(f"{attention}.output", "update", c.scalars**2),
        _map(f"{attention}.mix", "vector", components * c.vectors**2),
        _map(f"{attention}.filters.project", "contraction", components * c.vectors * heads),
        Part(f"{attention}.filters.radial", "radial", "edge", c.filter_width * (c.radial_functions + width),
             TABLE_ROWS * width / 2, (1 + again) * TABLE_ROWS * width / 2),
        Part(f"{attention}.filters.contraction", "contraction", "edge", contraction,
             contraction / 2, (1 + again) * contraction / 2),
        Part(f"{attention}.messages", "", "edge", heads * (c.scalars + 2 * gates),
             3 * c.scalars + 2 * components * c.vectors, 7 * c.scalars + 4 * components * c.vectors),
        _map(f"{interaction}.mix", "vector", 2 * components * c.vectors**2),
        _map(f"{interaction}.update.first", "junction", both * c.scalars),
        _map(f"{interaction}.update.second", "update", c.scalars * both),
    ]


def _filter_width(c: ModelConfig) -> int:
    return c.scalars + 2 * c.vectors * c.max_degree + ATTENTIONS[c.attention](c.scalars, c.heads).filter_width


def _kept(c: ModelConfig, edges: int) -> bool:
    return edges / 2 * c.layers * _filter_width(c) * 4 <= KEPT_BYTES


def _embedding(c: ModelConfig) -> tuple[float, float]:
    """Return forward and adjoint of the first messages: table, then scalars and vectors of both directions."""
    filters, components = c.scalars + c.vectors * c.max_degree, (c.max_degree + 1) ** 2 - 1
    table = TABLE_ROWS * filters / 2
    return table + c.scalars + components * c.vectors, 2 * table + c.scalars + 2 * components * c.vectors
