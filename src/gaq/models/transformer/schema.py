"""The leaves of the transformer: names, shapes, roles and rows, from which everything else about them follows.

| role        | leaf                    | what it computes                                              |
|-------------|-------------------------|---------------------------------------------------------------|
| first       | Embedding, Linear       | species to scalars; filters of the first messages             |
| radial      | Linear                  | filters from the radial basis (a function of one distance)    |
| contraction | VectorLinear, Linear    | filters from rotation-invariant contractions of vectors       |
| scalar      | Linear                  | queries and keys of attention                                 |
| update      | Linear                  | values and outputs of attention, updates of scalars           |
| coupling    | Linear                  | where scalars meet invariants of vectors, before an update    |
| vector      | VectorLinear            | channel mixing of each degree, which commutes with rotations  |
| feature     | VectorQuantizer         | nothing in float: where vector features are rounded           |
| last        | Linear                  | per-atom energies                                             |
"""

from functools import lru_cache

from gaq.leaves import (
    EmbeddingLeaf,
    Leaf,
    LinearLeaf,
    Schema,
    TensorType,
    VectorLinearLeaf,
    VectorQuantizerLeaf,
    float32,
    float64,
)
from gaq.models.transformer.config import ModelConfig

ROLES = ("first", "radial", "contraction", "scalar", "update", "coupling", "vector", "feature", "last")
SMALL = 0.1  # first size of terms that are quadratic in the vectors; left at 1, layers would amplify each other


@lru_cache(maxsize=64)
def schema(config: ModelConfig) -> Schema:
    """Return the leaves and the other tensors of a model.

    | symbol | variable | meaning                                       |
    |--------|----------|-----------------------------------------------|
    | F      | scalars  | scalar channels                               |
    | L C    | gates    | one for each vector channel and degree        |
    | W      | width    | of an edge filter                             |
    """
    c = config
    leaves: dict[str, Leaf] = {
        "embedding.own": EmbeddingLeaf("first", entries=len(c.species), width=c.scalars),
        "embedding.other": EmbeddingLeaf("first", entries=len(c.species), width=c.scalars + c.gates),
        "embedding.filters": LinearLeaf("first", "edge", c.radial_functions, c.scalars + c.gates, bias=False)}
    kept: dict[str, TensorType] = {}
    for layer in range(c.layers):
        leaves |= _attention(f"attention.{layer}", c)
        kept |= _norm(f"attention.{layer}.norm", c)
        if c.attention == "robust":
            kept[f"attention.{layer}.attention.temperature_logit"] = float32(c.heads)
    for layer in range(c.layers):
        leaves |= _interaction(f"interaction.{layer}", c)
        kept |= _norm(f"interaction.{layer}.norm", c)
    hidden, count = c.scalars // 2 or 1, len(c.species)
    leaves |= {"head.first": LinearLeaf("last", "atom", c.scalars, hidden),
               "head.second": LinearLeaf("last", "atom", hidden, 1, gain=0.1)}
    kept |= {"energy_scale": float64(), "energy_offsets": float64(count), "closest": float64(count, count),
             "energy_range": float64(count, 2)}
    return Schema(leaves, kept)


def _attention(name: str, c: ModelConfig) -> dict[str, Leaf]:
    return {
        f"{name}.query": LinearLeaf("scalar", "atom", c.scalars, c.scalars, bias=False),
        f"{name}.key": LinearLeaf("scalar", "atom", c.scalars, c.scalars, bias=False),
        f"{name}.value": LinearLeaf("update", "atom", c.scalars, c.scalars + c.gates),
        f"{name}.output": LinearLeaf("update", "atom", c.scalars, c.scalars, bias=False),
        f"{name}.feature": VectorQuantizerLeaf("feature", "atom", c.vectors, c.max_degree),
        f"{name}.mix": VectorLinearLeaf("vector", "atom", c.vectors, c.vectors, c.max_degree),
        f"{name}.filters.radial.first": LinearLeaf("radial", "edge", c.radial_functions, c.filter_width),
        f"{name}.filters.radial.second": LinearLeaf("radial", "edge", c.filter_width, c.width),
        f"{name}.filters.project": VectorLinearLeaf("contraction", "atom", c.vectors, c.heads, c.max_degree),
        f"{name}.filters.contraction": LinearLeaf("contraction", "edge", c.heads * c.max_degree, c.width, bias=False,
                                                  gain=SMALL)}


def _interaction(name: str, c: ModelConfig) -> dict[str, Leaf]:
    return {
        f"{name}.feature": VectorQuantizerLeaf("feature", "atom", c.vectors, c.max_degree),
        f"{name}.mix": VectorLinearLeaf("vector", "atom", c.vectors, 2 * c.vectors, c.max_degree),
        f"{name}.update.first": LinearLeaf("coupling", "atom", c.scalars + c.gates, c.scalars),
        f"{name}.update.second": LinearLeaf("update", "atom", c.scalars, c.scalars + c.gates, gain=SMALL)}


def _norm(name: str, c: ModelConfig) -> dict[str, TensorType]:
    return {f"{name}.weight": float32(c.scalars), f"{name}.bias": float32(c.scalars)}
