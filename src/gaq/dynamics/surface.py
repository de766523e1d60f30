"""The potential energy surface of one structure: energies and forces where its atoms are, as the atoms move."""

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError
from numpy.typing import NDArray

from gaq.atoms import atoms_of
from gaq.dynamics.extrapolation import Extrapolation
from gaq.dynamics.skin import Skin
from gaq.errors import ConfigError, GaqError
from gaq.graph import Graph, Prediction, build_graph, check_finite, check_graph, collate, summed, volumes
from gaq.structure import Structure
from gaq.threads import Lock

Array = NDArray[np.float64]


class Surface(Protocol):
    """What integrators, barostats and calculators ask for energies and forces.

    Attributes:
        engine: what computes at given positions, and takes steps, without a graph for each; or None.
        backend: what computes, in words.
        cell: lattice vectors of the last prediction as rows, Å, shape (3, 3).
        extrapolation: counts what leaves the training data; or None.
    """

    engine: Any
    cell: Array
    backend: str
    extrapolation: Extrapolation | None

    def __call__(self, positions: Array, cell: Array | None = None, stress: bool = False) -> Prediction:
        """Return the prediction at `positions` (R N, 3), in the structure's own cell or another one."""
        ...

    def forget(self) -> None:
        """Let the next prediction depend on its positions alone, to the last bit."""
        ...


class PotentialSurface:
    """The surface that a `Potential` gives a structure, or copies of it side by side.

    A potential may have an `engine`, an object with `set_graph`, `set_offsets`, `compute`, `advance` and `saturation` as of
    `gaq.backends.native.engine.NativeEngine`: it is given the pairs within a Verlet skin once, and then positions only. Any
    other potential, or function of a graph, sees the graph of the moment.

    Args:
        potential: what predicts.
        structure: species, cell, charge and spin.
        cutoff: Å; needed where `potential` is a plain function.
        extrapolation: is shown every prediction.

    Raises:
        StructureError, SpeciesError: a structure that the potential cannot take.
    """

    def __init__(self, potential: Any, structure: Structure, *, cutoff: float | None = None,
                 extrapolation: Extrapolation | None = None) -> None:
        self.engine: Any = getattr(potential, "engine", None)
        self.backend = getattr(potential, "backend", type(potential).__name__)
        self.extrapolation = extrapolation
        self.skin = Skin(structure, potential.cutoff if cutoff is None else cutoff)
        self._potential = potential
        self._structure = replace(structure, energy=None, forces=None, stress=None, weight=1.0)
        self._graph = self._graph_of(self._structure)
        check_graph(self._graph, getattr(potential, "species", structure.species.tolist()))
        self._token: object = object()  # of the graph that the engine was given
        self._lock = Lock() if self.engine is None else self.engine.lock
        assert structure.cell is not None  # filled by Structure.__post_init__
        self.cell: Array = structure.cell

    def __call__(self, positions: Array, cell: Array | None = None, stress: bool = False) -> Prediction:
        """Return the prediction at `positions`.

        Raises:
            StructureError: positions that are not finite; atoms at one place; stress without a volume.
            GaqError: a prediction that is not finite.
        """
        with self._lock:
            compute = self._by_graph if self.engine is None else self._by_engine
            prediction = compute(positions, self.cell if cell is None else cell, stress)
            self.look(positions)
            return prediction

    def forget(self) -> None:
        """Find the pairs anew for the next prediction."""
        self.skin.forget()

    def look(self, positions: Array) -> None:
        """Show `extrapolation` positions of which the pairs are known."""
        if self.extrapolation is not None:
            self.extrapolation.look(self._graph, positions)

    def give_pairs(self, positions: Array, cell: Array) -> None:
        """Let the engine have all pairs that may be within the cutoff; whoever calls holds its lock until they are used."""
        found, strained = self.skin.update(positions, cell), not np.array_equal(cell, self.cell)
        if found:
            pairs = self.skin.pairs
            self._graph = replace(self._graph, centers=pairs.centers, neighbours=pairs.neighbours, shifts=pairs.shifts)
        if strained:
            self._graph = replace(self._graph, cell=np.where(np.array(self._structure.pbc)[:, None], cell, 0.0)[None])
            self.cell = cell.copy()
        if found or self.engine.graph is not self._token:
            self._token = self.engine.set_graph(self._graph)
        elif strained:
            self.engine.set_offsets(np.einsum("ev,va->ea", self._graph.shifts, self._graph.cell[0]))

    def _by_engine(self, positions: Array, cell: Array, stress: bool) -> Prediction:
        self.give_pairs(positions, cell)
        if stress:
            volumes(self._graph)
        return summed(self._graph, *self.engine.compute(positions, virial=stress))

    def _by_graph(self, positions: Array, cell: Array, stress: bool) -> Prediction:
        places = positions.reshape(-1, len(self._structure), 3)
        self._graph = collate([self._graph_of(replace(self._structure, positions=x, cell=cell)) for x in places])
        self.cell = cell
        predict = getattr(self._potential, "predict", self._potential)
        return check_finite(predict(self._graph, stress=True) if stress else predict(self._graph))

    def _graph_of(self, structure: Structure) -> Graph:
        own = getattr(self._potential, "graph", None)
        return build_graph(structure, self.skin.cutoff) if own is None else own(structure)


class CalculatorSurface:
    """The surface that any calculator of ASE gives a structure.

    Args:
        calculator: of the Atomic Simulation Environment.
        structure: what it is asked about.
    """

    engine: Any = None
    extrapolation: Extrapolation | None = None

    def __init__(self, calculator: Any, structure: Structure) -> None:
        self.backend = type(calculator).__name__
        self._atoms = atoms_of(structure)
        self._atoms.calc = calculator
        self.cell: Array = self._atoms.cell.array.copy()
        self._consistent = "free_energy" in getattr(calculator, "implemented_properties", ())

    def __call__(self, positions: Array, cell: Array | None = None, stress: bool = False) -> Prediction:
        """Return the energy that the forces belong to, the forces of all atoms and, on request, the stress.

        Raises:
            ConfigError: a property that the calculator does not have.
            GaqError: a prediction that is not finite.
        """
        atoms = self._atoms
        atoms.positions[:] = positions
        if cell is not None:
            atoms.set_cell(cell)
            self.cell = cell.copy()
        try:
            energy = np.array([atoms.get_potential_energy(force_consistent=self._consistent)], dtype=np.float64)
            forces = np.array(atoms.get_forces(apply_constraint=False), dtype=np.float64)
            tensor = atoms.get_stress(voigt=False, apply_constraint=False)[None] if stress else None
        except PropertyNotImplementedError as error:
            raise ConfigError(f"the calculator {self.backend} lacks a property ({error}); molecular dynamics needs "
                              "energies and forces, and at constant pressure the stress") from error
        prediction = Prediction(energy, forces, stress=tensor)
        if not (np.isfinite(energy).all() and np.isfinite(forces).all()):
            raise GaqError(f"the calculator {self.backend} gives an energy or a force that is not finite")
        return prediction

    def forget(self) -> None:
        """Do nothing: what a calculator remembers is its own affair."""
