"""Operations of a step by formula: what PyTorch's definition multiplies, and what the native engine does instead."""

from collections.abc import Mapping

from gaq.leaves import Leaf
from gaq.models.contract import PartCost
from gaq.models.transformer.config import ModelConfig
from gaq.models.transformer.schema import schema

TABLE_ROWS = 4  # of a cubic spline
KEPT_BYTES = 1 << 20  # filters of all pairs and layers up to which the engine keeps them for its adjoint


def parts(config: ModelConfig, edges: int = 0) -> list[PartCost]:
    """Return the multiply-adds of all parts of a model.

    A linear map of an atom from n to m channels takes n m forward, and n m in the adjoint, which is that of the input
    alone: weights are constants. Vector maps act on M components. For an edge, the definition evaluates the radial network
    and the contractions; the engine interpolates a table (4 rows, and 8 with the slopes) and contracts, once for both
    directions of a pair, and multiplies messages. Its adjoint makes the filters again, unless there are so few edges that
    they were kept.

    A multiplication on its own counts as one. Left out: distances, harmonics and local frames, norms, exponentials and
    activations, rounding to codes, gates by degree, sums over components, padding of channels to 16.
    """
    c, leaves = config, schema(config).leaves
    found = [PartCost(name, leaf.role, "atom", leaf.products, leaf.products, leaf.products)
             for name, leaf in leaves.items() if leaf.rows == "atom" and leaf.products]
    found.append(PartCost("embedding", "first", "edge", leaves["embedding.filters"].products, *_embedding(c)))
    for layer in range(c.layers):
        found += _layer(c, leaves, f"attention.{layer}", keeps_filters(c, edges))
    return found


def _layer(c: ModelConfig, leaves: Mapping[str, Leaf], attention: str, kept: bool) -> list[PartCost]:
    components, again = (c.max_degree + 1) ** 2 - 1, 0 if kept else 1
    filters = f"{attention}.filters"
    contraction = leaves[f"{filters}.contraction"].products
    radial = leaves[f"{filters}.radial.first"].products + leaves[f"{filters}.radial.second"].products
    table, half = TABLE_ROWS * c.width / 2, contraction / 2
    return [
        PartCost(f"{filters}.radial", "radial", "edge", radial, table, (1 + again) * table),
        PartCost(f"{filters}.contraction", "contraction", "edge", contraction, half, (1 + again) * half),
        PartCost(f"{attention}.messages", "", "edge", c.heads * (c.scalars + 2 * c.gates),
                 3 * c.scalars + 2 * components * c.vectors, 7 * c.scalars + 4 * components * c.vectors)]


def keeps_filters(c: ModelConfig, edges: int) -> bool:
    """Return whether the engine keeps the filters of so many directed edges for its adjoint."""
    return edges / 2 * c.layers * c.width * 4 <= KEPT_BYTES


def _embedding(c: ModelConfig) -> tuple[float, float]:
    """Return forward and adjoint of the first messages: table, then scalars and vectors of both directions."""
    filters, components = c.scalars + c.gates, (c.max_degree + 1) ** 2 - 1
    table = TABLE_ROWS * filters / 2
    return table + c.scalars + components * c.vectors, 2 * table + c.scalars + 2 * components * c.vectors
