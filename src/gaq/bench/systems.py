"""What is timed: molecules, boxes of water, batches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from ase.build import molecule

from gaq.errors import ConfigError
from gaq.forcefield import ForceField
from gaq.graph import Graph, build_graph, collate
from gaq.nn.model import Transformer
from gaq.recipe import RECIPES
from gaq.structure import Structure

WATER, SPACING = (8, 1, 1), 3.1  # Å between the molecules of a grid, as in the liquid
RING, HYDROGEN, AZO, ANCHOR = 1.39, 1.08, 1.25, 1.42  # Å: C-C, C-H, N=N, C-N
AZOBENZENE = "azobenzene"
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
    """Return the structures of "CH3CH2OH", "azobenzene", "water-N" (a periodic box) or "batch-N:MOLECULE".

    Raises:
        ConfigError: a name that means nothing, an empty batch, a number of waters that is not cubic.
    """
    kind, _, rest = name.partition("-")
    count, _, formula = rest.partition(":")
    if is_water(name):
        return (waters(int(rest)),)
    if kind != "batch" or not formula:
        return (_molecule(name),)
    if not count.isdigit() or int(count) < 1:
        raise ConfigError(f"a batch needs a number of molecules, as in batch-64:CH3CH2OH; given {name!r}")
    return (_molecule(formula),) * int(count)


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
            model = ForceField(Transformer(field.config.model_copy(update={"species": species})), RECIPES["fp32"])
        yield System(name, model, members, collate([build_graph(s, model.cutoff) for s in members]))


def waters(count: int, seed: int = 0) -> Structure:
    """Return a periodic grid of randomly turned water molecules at the density of the liquid."""
    rng, side = np.random.default_rng(seed), round(count ** (1 / 3))
    if side < 1 or side**3 != count:
        raise ConfigError(f"a box of water takes a cubic number of molecules, such as 64 or 512, not {count}")
    grid = SPACING * np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    places = []
    for corner in grid:
        water = molecule("H2O")
        water.rotate(float(rng.uniform(0, 360)), rng.normal(size=3))
        places.append(water.positions - water.positions[0] + corner)
    positions = np.concatenate(places) + 0.02 * rng.normal(size=(3 * count, 3))
    return Structure(species=np.tile(WATER, count), positions=positions, cell=SPACING * side * np.eye(3), pbc=(True,) * 3)


def azobenzene() -> Structure:
    """Return planar trans-azobenzene, C12H10N2: regular hexagons, angles of 120°, inversion in the middle of N=N.

    One half is placed with N at (AZO/2, 0) and its ring along the direction of 60°; the other is its image -x.
    """
    along = np.array([np.cos(np.pi / 3), np.sin(np.pi / 3)])
    nitrogen = np.array([AZO / 2, 0.0])
    middle = nitrogen + (ANCHOR + RING) * along
    spokes = [np.array([np.cos(a), np.sin(a)]) for a in np.pi / 3 + np.pi + np.arange(6) * np.pi / 3]  # first: to N
    flat = [nitrogen, *(middle + RING * s for s in spokes), *(middle + (RING + HYDROGEN) * s for s in spokes[1:])]
    half = np.pad(np.array(flat), ((0, 0), (0, 1)))
    return Structure(species=np.array(2 * [7, *6 * [6], *5 * [1]]), positions=np.concatenate([half, -half]))


def _molecule(name: str) -> Structure:
    if name == AZOBENZENE:
        return azobenzene()
    try:
        atoms = molecule(name)
    except KeyError:
        raise ConfigError(f"no molecule {name!r} is known; take {AZOBENZENE}, a name of ase.build.molecule such as "
                          "CH3CH2OH, water-64 or batch-64:CH3CH2OH") from None
    return Structure(species=atoms.numbers, positions=atoms.positions)
