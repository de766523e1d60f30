"""Formats of vector features that the page compares, everything else in float."""

from dataclasses import dataclass

from gaq.quant.formats import Bits
from gaq.quant.vector_formats import (
    MDDQ,
    ComponentDirection,
    Components,
    Direction,
    IcosahedralCodebook,
    KMeansCodebook,
    LinearMagnitude,
    OctahedralCodebook,
    OctahedralMap,
    VectorFormat,
)
from gaq.recipe import Recipe, Rule, Schedule

FINE = Components(bits=8, aligned=True)  # of degrees above 1 where a coder knows degree 1 only; equivariant by itself
HEADROOM = 1.5  # as in the recipes: a value beyond the range loses its gradient, which would cost more than rounding


@dataclass(frozen=True)
class Coder:
    """One row of the comparison.

    Args:
        name: for people.
        family: rows that share a marker.
        vectors: the format.
    """

    name: str
    family: str
    vectors: VectorFormat

    @property
    def only_first_degree(self) -> bool:
        """Whether higher degrees are coded by `FINE`."""
        return not self.vectors.supports(2)

    def recipe(self) -> Recipe:
        """Return a recipe that rounds vector features and nothing else."""
        return Recipe(name=f"coder: {self.name}", schedule=Schedule(train=False), rules=(
            Rule(match="feature", vectors=self.vectors, higher=FINE if self.only_first_degree else None,
                 headroom=HEADROOM),))


def _mddq(direction: Direction, aligned: bool) -> MDDQ:
    return MDDQ(magnitude=LinearMagnitude(bits=8), direction=direction, aligned=aligned)


def _components(bits: Bits, aligned: bool) -> Coder:
    return Coder(f"components, {bits} bits", "components", Components(bits=bits, aligned=aligned))


EITHER = tuple(coder for aligned in (False, True) for coder in (
    _components(5, aligned),
    _components(8, aligned),
    _components(12, aligned),
    Coder("MDDQ, component direction 8 bits", "MDDQ, component direction", _mddq(ComponentDirection(bits=8), aligned)),
    Coder("MDDQ, octahedral map 2 × 8 bits", "MDDQ, octahedral map", _mddq(OctahedralMap(bits=8), aligned)),
    Coder("MDDQ, octahedral codebook, 198 points", "MDDQ, octahedral codebook",
          _mddq(OctahedralCodebook(level=7), aligned)),
    Coder("MDDQ, icosahedral codebook, 252 points", "MDDQ, icosahedral codebook",
          _mddq(IcosahedralCodebook(level=5), aligned)),
))
CODERS = (*EITHER, Coder("MDDQ, k-means codebook, 256 points", "MDDQ, k-means codebook",
                         _mddq(KMeansCodebook(points=256), aligned=False)))
