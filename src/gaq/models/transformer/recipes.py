"""Named recipes of the transformer: ways to quantize it, rivals among them."""

from gaq.models.transformer.schema import ROLES
from gaq.quant.formats import Bits, InputBits
from gaq.quant.vector_formats import MDDQ, ComponentDirection, Components, KMeansCodebook, LinearMagnitude, VectorFormat
from gaq.recipe import FLOAT, Recipe, Rule, Schedule


def _geometry_aware(name: str, weight: Bits, activation: Bits | None, description: str) -> Recipe:
    edge = max(weight, 8)  # bits of weights that are few and matter much
    room = 1.1 if activation == 8 else 1.25  # headroom: eight bits are too few to waste
    coupled: Bits | None = None if activation is None else 16  # inputs whose rounding shows in the energy
    fine: InputBits | None = 24 if activation == 8 else coupled  # where a step of 16 bits would tip codes of vectors
    sparse: Bits | None = 16 if activation == 8 else None  # few inputs with heavy tails; otherwise they stay in float
    vectors = None if activation is None else MDDQ(
        magnitude=LinearMagnitude(bits=activation), direction=ComponentDirection(bits=activation), aligned=True)
    return Recipe(name=name, description=description, rules=(
        Rule(match="first", weight=edge),
        Rule(match="last", weight=edge, input=sparse, headroom=2.0),
        Rule(match="radial", weight=edge),  # functions of one distance: their inputs stay in float, engines use tables
        Rule(match="contraction", weight=edge, input=sparse, headroom=1.25),  # few, and all filters hang on them
        Rule(match="scalar", weight=weight, input=activation, headroom=room, calibration="max"),
        Rule(match="update", weight=weight, input=fine, headroom=1.25, calibration="max"),
        Rule(match="coupling", weight=edge, input=coupled, headroom=1.25),
        Rule(match="vector", weight=edge),
        Rule(match="feature", vectors=vectors, headroom=room)))


def _plain(name: str, vectors: VectorFormat, schedule: Schedule, description: str, weight: Bits = 8,
           higher: VectorFormat | None = None) -> Recipe:
    scalars = tuple(Rule(match=role, weight=weight, input=8, granularity="tensor", calibration="max")
                    for role in ROLES if role != "feature")
    return Recipe(name=name, description=description, schedule=schedule,
                  rules=(*scalars, Rule(match="feature", vectors=vectors, higher=higher, granularity="tensor")))


RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (
    FLOAT,
    _geometry_aware("w4", 4, None, "4-bit weights, float activations: smooth, conserves like float"),
    _geometry_aware("w4a16", 4, 16, "4-bit weights, 16-bit activations and vector codes"),
    _geometry_aware("w4a8", 4, 8, "GAQ: 4-bit weights, 8-bit activations, frame-aligned MDDQ of vector features"),
    _geometry_aware("w8a8", 8, 8, "8-bit weights and activations, frame-aligned MDDQ of vector features"),
    _plain("int8-naive", Components(bits=8), Schedule(train=False),
           "rival: per-tensor min-max post-training INT8, vectors rounded component by component"),
    _plain("svq-kmeans", MDDQ(magnitude=LinearMagnitude(bits=8), direction=KMeansCodebook(points=256), gradient="none"),
           Schedule(scalars_only=0.0),
           "rival: spherical k-means codebook, hard assignment without gradient"),
    _plain("degree-quant", Components(bits=8), Schedule(scalars_only=0.0, protection=0.2),
           "rival: Degree-Quant, stochastic protection of atoms with many neighbours"),
)}
