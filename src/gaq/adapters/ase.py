"""A `ForceField` as a calculator of the Atomic Simulation Environment (ASE)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from gaq.atoms import charge_and_spin, geometry_of
from gaq.dynamics.extrapolation import Extrapolation
from gaq.errors import StructureError

if TYPE_CHECKING:
    from gaq.graph import Potential


class UndefinedStress(StructureError, PropertyNotImplementedError):
    """Stress was asked of a structure without a volume."""


class GaqCalculator(Calculator):
    """Energies, forces and stress for `ase.Atoms`, in ASE's units: eV, eV/Å, eV/Å³.

    Stress is (1/V) dE/dε in Voigt order xx, yy, zz, yz, xz, xy, with ASE's sign (tension is positive), and exists only
    with periodicity in all three directions. Energies, forces and stress of an unchanged structure are kept. The first
    structure outside of the training data is told by an `ExtrapolationWarning`, and all are counted in `extrapolation`.

    Args:
        forcefield: the model that predicts, on either backend.

    Raises (from any property):
        StructureError: no atoms, coordinates that are not finite, atoms at one place, or a net charge.
        SpeciesError: an element that the model was not made for.
        UndefinedStress: stress without full periodicity.
        GaqError: a prediction that is not finite.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012, as ASE declares it

    def __init__(self, forcefield: "Potential") -> None:
        super().__init__()
        self.forcefield = forcefield
        self.extrapolation = Extrapolation(forcefield)

    @property
    def backend(self) -> str:
        """What computes: "engine" with its instruction set, or "torch"."""
        return getattr(self.forcefield, "backend", "torch")

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what changed since the last calculation, for which there was no charge or spin; ASE does not look at those
        in `atoms.info`."""
        changes = super().check_state(atoms, tol)
        return changes or (["initial_charges"] if any(charge_and_spin(atoms)) else [])

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Predict `properties` of `atoms`, and all others that come with them for free."""
        super().calculate(atoms, properties, system_changes)
        current = self.atoms
        assert current is not None  # the base class has just set it
        wants_stress = "stress" in properties
        if wants_stress and not current.pbc.all():
            raise UndefinedStress("stress needs periodicity in all three directions, and pbc is "
                                  f"{current.pbc.tolist()}; set atoms.pbc = True and a cell, or do not ask for stress")
        graph = self.forcefield.graph(geometry_of(current))
        prediction = self.forcefield.predict(graph, stress=wants_stress)
        self.extrapolation.look(graph)
        energy = prediction.energy.item()
        results: dict[str, Any] = {"energy": energy, "free_energy": energy, "forces": prediction.forces}
        if prediction.atom_energies is not None:
            results["energies"] = prediction.atom_energies
        if prediction.stress is not None:
            results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress[0])
        self.results = results  # a dictionary of their own: a copy of this calculator keeps those of its structure

    def keep(self, atoms: Atoms, energy: float, forces: NDArray[np.float64]) -> None:
        """Take results for `atoms` that came from elsewhere, so that they are not computed again."""
        self.atoms = atoms.copy()
        self.results = {"energy": energy, "free_energy": energy, "forces": forces.copy()}
        self.extrapolation.look(self.forcefield.graph(geometry_of(atoms)))
