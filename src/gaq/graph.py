"""Graphs and predictions: the values that every layer exchanges. Units are eV, Å and eV/Å.

`build_graph` adds the neighbour list to a `Structure`; `collate` puts several graphs side by side, so that a
batch is one larger graph without edges between its members.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from gaq.arrays import Array, namespace
from gaq.errors import GaqError, SpeciesError, StructureError
from gaq.neighbours import find_neighbours
from gaq.structure import Structure


@dataclass(frozen=True, eq=False)
class Graph:
    """A batch of structures with their neighbour lists: numpy arrays at every border, tensors within models.

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

    species: Array
    positions: Array
    centers: Array
    neighbours: Array
    shifts: Array
    cell: Array
    batch: Array
    energy: Array | None = None
    forces: Array | None = None
    stress: Array | None = None
    weights: Array | None = None

    @property
    def structures(self) -> int:
        """Number of structures in the batch, B."""
        return len(self.cell)

    def mapped(self, change: Callable[[Array], Array]) -> "Graph":
        """Return the graph with `change` applied to every array."""
        return replace(self, **{name: change(value) for name, value in vars(self).items() if value is not None})

    def atoms_per_structure(self) -> Array:
        """Return the number of atoms of each structure, shape (B,)."""
        return namespace(self.batch).bincount(self.batch, minlength=self.structures)

    def rotated(self, rotation: Array) -> "Graph":
        """Return the graph with positions, cells, reference forces and stresses rotated, x -> R x.

        Args:
            rotation: one matrix (3, 3), or one for each structure (B, 3, 3), float64.
        """
        xp = namespace(self.positions)
        matrices = xp.broadcast_to(rotation, (self.structures, 3, 3))
        per_atom = matrices[self.batch]

        def turn(vectors: Array) -> Array:
            return xp.einsum("nab,nb->na", per_atom, vectors)

        return replace(self, positions=turn(self.positions), cell=xp.einsum("bac,bvc->bva", matrices, self.cell),
                       forces=None if self.forces is None else turn(self.forces),
                       stress=None if self.stress is None else matrices @ self.stress @ matrices.mT)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a force field says of a graph; float64 throughout, numpy arrays at every border.

    Args:
        energy: eV, shape (B,).
        forces: eV/Å, shape (N, 3).
        atom_energies: eV, shape (N,), or None where a model has none.
        stress: eV/Å³, shape (B, 3, 3), or None where it was not asked for.
    """

    energy: Array
    forces: Array
    atom_energies: Array | None = None
    stress: Array | None = None

    def mapped(self, change: Callable[[Array], Array]) -> "Prediction":
        """Return the prediction with `change` applied to every array."""
        return replace(self, **{name: change(value) for name, value in vars(self).items() if value is not None})


class Potential(Protocol):
    """What dynamics, adapters and metrics know of a force field.

    Attributes:
        species: atomic numbers it knows.
        cutoff: Å.
        backend: what computes, e.g. "engine (avx512)" or "torch".
        sha256: digest of what computes.
        nearest: how near training saw two atoms by their atomic numbers Z, Å, shape (Z + 1, Z + 1); None if unknown.
    """

    @property
    def species(self) -> tuple[int, ...]: ...
    @property
    def cutoff(self) -> float: ...
    @property
    def backend(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def nearest(self) -> NDArray[np.float64] | None: ...

    def graph(self, structure: Structure) -> Graph:
        """Return the graph of a structure at the cutoff."""
        ...

    def predict(self, graph: Graph, stress: bool = False) -> Prediction:
        """Return energy (eV), forces (eV/Å) and, on request, stress (eV/Å³) of a graph."""
        ...

    def __call__(self, graph: Graph) -> Prediction:
        """Predict without stress: a potential is a `Predictor`."""
        ...


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
        species=structure.species.copy(),
        positions=structure.positions.copy(),
        centers=found.centers,
        neighbours=found.neighbours,
        shifts=found.shifts,
        cell=np.where(np.array(structure.pbc)[:, None], structure.cell, 0.0)[None],
        batch=np.zeros(len(structure), dtype=np.int64),
        energy=None if structure.energy is None else np.array([structure.energy], dtype=np.float64),
        forces=None if structure.forces is None else structure.forces.copy(),
        stress=None if structure.stress is None else structure.stress.copy()[None],
        weights=None if structure.weight == 1 else np.full((1, 3), structure.weight),
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

    join = namespace(graphs[0].positions).concatenate

    def joined(values: Iterable[Array | None]) -> Array | None:
        present = [value for value in values if value is not None]
        return join(present) if len(present) == len(graphs) else None

    weights = [g.cell[:, 0] * 0 + 1 if g.weights is None else g.weights for g in graphs]
    return Graph(
        species=join([g.species for g in graphs]),
        positions=join([g.positions for g in graphs]),
        centers=join([g.centers + int(o) for g, o in zip(graphs, offsets, strict=True)]),
        neighbours=join([g.neighbours + int(o) for g, o in zip(graphs, offsets, strict=True)]),
        shifts=join([g.shifts for g in graphs]),
        cell=join([g.cell for g in graphs]),
        batch=join([g.batch + int(s) for g, s in zip(graphs, structures, strict=True)]),
        energy=joined(g.energy for g in graphs),
        forces=joined(g.forces for g in graphs),
        stress=joined(g.stress for g in graphs),
        weights=None if all(g.weights is None for g in graphs) else join(weights),
    )


def check_graph(graph: Graph, known: Sequence[int]) -> None:
    """Refuse a graph without atoms, with coordinates that are not finite, or with elements that are not known.

    Raises:
        StructureError, SpeciesError: as said.
    """
    xp = namespace(graph.positions)
    if len(graph.species) == 0:
        raise StructureError("a graph needs at least one atom")
    if not bool(xp.isfinite(graph.positions).all() & xp.isfinite(graph.cell).all()):
        raise StructureError("positions and cell must be finite numbers in Å")
    unknown = sorted(set(graph.species.tolist()) - set(known))
    if unknown:
        names = ", ".join(chemical_symbols[z] for z in unknown)
        raise SpeciesError(f"the model does not know {names}; it was trained on "
                           f"{', '.join(chemical_symbols[z] for z in known)}. Use or train another model")


def volumes(graph: Graph) -> NDArray[np.float64]:
    """Return the volume of each cell, Å³, shape (B,), for stresses.

    Raises:
        StructureError: one is not periodic in three directions.
    """
    found = np.abs(np.linalg.det(np.asarray(graph.cell)))
    if not (found > 0).all():
        raise StructureError("stress needs a cell that is periodic in three directions")
    return found


def summed(graph: Graph, atom_energies: NDArray[np.float64], forces: NDArray[np.float64],
           virials: NDArray[np.float64] | None = None) -> Prediction:
    """Return the prediction that energies, forces and, for stress, virials of atoms make: E = Σ_i E_i, σ = Σ_i W_i / V.

    Args:
        graph: whose atoms they are.
        atom_energies: eV, shape (N,).
        forces: eV/Å, shape (N, 3).
        virials: eV, shape (N, 3, 3).

    Raises:
        StructureError: virials without a volume.
    """
    stress, batch = None, np.asarray(graph.batch)
    energy = np.bincount(batch, atom_energies, graph.structures)  # one after the other
    if virials is not None:
        total = np.zeros((graph.structures, 3, 3))
        np.add.at(total, batch, virials)
        stress = 0.5 * (total + total.mT) / volumes(graph)[:, None, None]
    return Prediction(energy, forces, atom_energies, stress)


def check_finite(prediction: Prediction) -> Prediction:
    """Return a prediction whose energies, forces and stress are all finite.

    Raises:
        GaqError: one is not.
    """
    for name, values in (("energy", prediction.energy), ("force", prediction.forces), ("stress", prediction.stress)):
        if values is not None and not np.isfinite(values).all():
            raise GaqError(f"the model gives a value of {name} that is not finite; the geometry is far outside of what it "
                           "was trained on (atoms too close?), or the model is damaged")
    return prediction
