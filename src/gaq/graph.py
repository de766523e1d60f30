"""Graphs and predictions: the values that every layer exchanges. Units are eV, Å and eV/Å.

`build_graph` adds the neighbour list to a `Structure`; `collate` puts several graphs side by side, so that a
batch is one larger graph without edges between its members.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gaq.errors import StructureError
from gaq.neighbours import find_neighbours
from gaq.structure import Structure


@dataclass(frozen=True, eq=False)
class Graph:
    """A batch of structures with their neighbour lists.

    | symbol | field      | shape  | meaning                                                                  |
    |--------|------------|--------|--------------------------------------------------------------------------|
    | Z_i    | species    | (N,)   | atomic numbers, int64                                                    |
    | x_i    | positions  | (N, 3) | Å, float64                                                               |
    | i      | centers    | (E,)   | the atom that receives, int64                                            |
    | j      | neighbours | (E,)   | the atom that sends, int64                                               |
    | S_ij   | shifts     | (E, 3) | cell shifts, float64 whole numbers: r_ij = x_j - x_i + S_ij · cell       |
    |        | cell       | (B,3,3)| lattice vectors as rows, Å, float64; zero without periodicity            |
    |        | batch      | (N,)   | the structure an atom belongs to, int64, ascending                       |
    |        | energy     | (B,)   | reference energies, eV, float64, or None                                 |
    |        | forces     | (N, 3) | reference forces, eV/Å, float64, or None                                 |
    |        | stress     | (B,3,3)| reference stresses, eV/Å³, float64, or None                              |
    |        | weights    | (B, 3) | of energies, forces and stresses in training, float64; None for 1        |
    """

    species: Tensor
    positions: Tensor
    centers: Tensor
    neighbours: Tensor
    shifts: Tensor
    cell: Tensor
    batch: Tensor
    energy: Tensor | None = None
    forces: Tensor | None = None
    stress: Tensor | None = None
    weights: Tensor | None = None

    @property
    def structures(self) -> int:
        """Number of structures in the batch, B."""
        return self.cell.shape[0]

    def to(self, device: torch.device | str) -> "Graph":
        """Return the graph with every tensor on `device`."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)

    def atoms_per_structure(self) -> Tensor:
        """Return the number of atoms of each structure, shape (B,)."""
        return torch.bincount(self.batch, minlength=self.structures)

    def rotated(self, rotation: Tensor) -> "Graph":
        """Return the graph with positions, cells, reference forces and stresses rotated, x -> R x.

        Args:
            rotation: one matrix (3, 3), or one for each structure (B, 3, 3), float64.
        """
        matrices = rotation.to(self.positions).expand(self.structures, 3, 3)
        per_atom = matrices[self.batch]

        def turn(vectors: Tensor) -> Tensor:
            return torch.einsum("nab,nb->na", per_atom, vectors)

        return replace(self, positions=turn(self.positions), cell=torch.einsum("bac,bvc->bva", matrices, self.cell),
                       forces=None if self.forces is None else turn(self.forces),
                       stress=None if self.stress is None else matrices @ self.stress @ matrices.mT)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a force field says of a graph; float64 throughout.

    Args:
        energy: eV, shape (B,).
        forces: eV/Å, shape (N, 3).
        atom_energies: eV, shape (N,), or None where a model has none.
        stress: eV/Å³, shape (B, 3, 3), or None where it was not asked for.
    """

    energy: Tensor
    forces: Tensor
    atom_energies: Tensor | None = None
    stress: Tensor | None = None

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Prediction":
        """Return the prediction with `change` applied to every tensor."""
        return replace(self, **{name: change(value) for name, value in vars(self).items() if value is not None})


Predictor = Callable[[Graph], Prediction]


def build_graph(structure: Structure, cutoff: float) -> Graph:
    """Find all neighbours r_ij <= cutoff, periodic images included, and return a batch of one.

    Raises:
        StructureError: two atoms (or an atom and an image) closer than 0.05 Å; more pairs than a structure of atoms has; a
            charge or a spin, which a graph does not carry.
    """
    if structure.charge or structure.spin:
        given = (f"a net charge of {structure.charge:g} e" if structure.charge else f"a total spin of {structure.spin:g}")
        raise StructureError(f"the structure carries {given}, and the force field knows neutral structures without a spin "
                             "only; take a model that knows charges and spins, or clear them if they are zero after all")
    found = find_neighbours(structure, cutoff)
    assert structure.cell is not None  # filled by Structure.__post_init__
    return Graph(
        species=torch.from_numpy(structure.species.copy()),
        positions=torch.from_numpy(structure.positions.copy()),
        centers=torch.from_numpy(found.centers),
        neighbours=torch.from_numpy(found.neighbours),
        shifts=torch.from_numpy(found.shifts),
        cell=torch.from_numpy(np.where(np.array(structure.pbc)[:, None], structure.cell, 0.0))[None],
        batch=torch.zeros(len(structure), dtype=torch.int64),
        energy=None if structure.energy is None else torch.tensor([structure.energy], dtype=torch.float64),
        forces=None if structure.forces is None else torch.from_numpy(structure.forces.copy()),
        stress=None if structure.stress is None else torch.from_numpy(structure.stress.copy())[None],
        weights=None if structure.weight == 1 else torch.full((1, 3), structure.weight, dtype=torch.float64),
    )


def collate(graphs: Sequence[Graph]) -> Graph:
    """Put graphs side by side in one batch; labels are kept where every member has them."""
    if not graphs:
        raise StructureError("a batch needs at least one structure")
    if len(graphs) == 1:
        return graphs[0]
    atoms = [len(g.species) for g in graphs]
    offsets = np.concatenate([[0], np.cumsum(atoms)[:-1]])
    structures = np.concatenate([[0], np.cumsum([g.structures for g in graphs])[:-1]])

    def joined(values: Iterable[Tensor | None]) -> Tensor | None:
        present = [value for value in values if value is not None]
        return torch.cat(present) if len(present) == len(graphs) else None

    weights = [torch.ones_like(g.cell[:, 0]) if g.weights is None else g.weights for g in graphs]
    return Graph(
        species=torch.cat([g.species for g in graphs]),
        positions=torch.cat([g.positions for g in graphs]),
        centers=torch.cat([g.centers + int(o) for g, o in zip(graphs, offsets, strict=True)]),
        neighbours=torch.cat([g.neighbours + int(o) for g, o in zip(graphs, offsets, strict=True)]),
        shifts=torch.cat([g.shifts for g in graphs]),
        cell=torch.cat([g.cell for g in graphs]),
        batch=torch.cat([g.batch + int(s) for g, s in zip(graphs, structures, strict=True)]),
        energy=joined(g.energy for g in graphs),
        forces=joined(g.forces for g in graphs),
        stress=joined(g.stress for g in graphs),
        weights=None if all(g.weights is None for g in graphs) else torch.cat(weights),
    )
