"""What is timed: molecules, boxes of water, batches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from gaq.compress.swap import stored
from gaq.data.structures import AZOBENZENE, structure_from
from gaq.errors import ConfigError
from gaq.forcefield import ForceField
from gaq.graph import Graph, build_graph, collate
from gaq.models import network_of
from gaq.recipe import FLOAT
from gaq.structure import Structure

SYSTEMS = ("CH3CH2OH", AZOBENZENE, "water-64", "water-512", "batch-64:CH3CH2OH")
LARGE = "water-4096"


@dataclass(frozen=True, eq=False)
class System:
    """A system and a float model that knows its elements.

    Args:
        name: as it was asked for.
        field: the model.
        structures: one, or the members of a batch.
        graph: all of them, at the model's cutoff.
    """

    name: str
    field: ForceField
    structures: tuple[Structure, ...]
    graph: Graph

    @property
    def atoms(self) -> int:
        """Number of atoms, N."""
        return len(self.graph.species)

    @property
    def edges(self) -> int:
        """Number of directed edges, E."""
        return len(self.graph.centers)

    @property
    def is_water(self) -> bool:
        """Whether it is one of the boxes that differ in nothing but size."""
        return is_water(self.name)

    def neighbours(self) -> Graph:
        """Find the neighbours anew."""
        return collate([build_graph(s, self.field.cutoff) for s in self.structures])


def is_water(name: str) -> bool:
    """Return whether a name is that of a periodic box of water."""
    kind, _, count = name.partition("-")
    return kind == "water" and count.isdigit()


def structures(name: str) -> tuple[Structure, ...]:
    """Return the structure that a name means (`structure_from`), or those of "batch-N:NAME".

    Raises:
        ConfigError: an empty batch.
        DataError: a name that means nothing.
    """
    kind, _, rest = name.partition("-")
    count, _, member = rest.partition(":")
    if kind != "batch" or not member:
        return (structure_from(name),)
    if not count.isdigit() or int(count) < 1:
        raise ConfigError(f"a batch needs a number of molecules, as in batch-64:CH3CH2OH; given {name!r}")
    return (structure_from(member),) * int(count)


def systems(names: Iterable[str], field: ForceField) -> Iterator[System]:
    """Yield each system with a model for it.

    Where the model does not know an element, one of its shape with random weights takes its place: speed is the same.

    Raises:
        ConfigError: as `structures`.
    """
    for name in names:
        members = structures(name)
        species = tuple(sorted({int(z) for s in members for z in s.species}))
        model = field
        if not set(species) <= set(field.species):
            torch.manual_seed(0)
            config = field.config.model_copy(update={"species": species})
            model = ForceField(stored(network_of(config.kind)(config), FLOAT))
        yield System(name, model, members, collate([build_graph(s, model.cutoff) for s in members]))
