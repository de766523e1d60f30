"""A `Potential` as a calculator of the Atomic Simulation Environment (ASE)."""

from collections.abc import Sequence
from copy import copy
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from gaq.atoms import charge_and_spin, geometry_of
from gaq.dynamics.extrapolation import Extrapolation
from gaq.dynamics.surface import PotentialSurface
from gaq.errors import StructureError
from gaq.graph import Potential

DEPENDS = "positions", "cell", "numbers", "pbc", "initial_charges"  # in ASE's words, what a result depends on


class UndefinedStress(StructureError, PropertyNotImplementedError):
    """Stress was asked of a structure without a volume."""


class GaqCalculator(Calculator):
    """Energies, forces and stress for `ase.Atoms`, in ASE's units: eV, eV/Å, eV/Å³.

    Stress is (1/V) dE/dε in Voigt order xx, yy, zz, yz, xz, xy, with ASE's sign (tension is positive), and exists only
    with periodicity in all three directions. Energies, forces and stress of an unchanged structure are kept, and while
    atoms move a Verlet skin is: a step of dynamics finds no neighbours but when it is used up. Results for molecules of up
    to 32 atoms depend on the positions alone, to the last bit; for larger and for periodic structures the last bits depend
    on where the pairs were found. The first structure outside of the training data is told by an `ExtrapolationWarning`,
    and all are counted in `extrapolation`.

    Args:
        potential: what predicts, on any backend.

    Raises (from any property):
        StructureError: no atoms, coordinates that are not finite, atoms at one place, or a net charge.
        SpeciesError: an element that the model was not made for.
        UndefinedStress: stress without full periodicity.
        GaqError: a prediction that is not finite.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012, as ASE declares it

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.use_cache = False  # of ASE, which would copy the atoms once more
        self.potential = potential
        self.extrapolation = Extrapolation(potential)
        self._surface: PotentialSurface | None = None
        self._last: Atoms | None = None  # of the last calculation
        self._known: tuple[Any, ...] = ()  # what its results depend on

    @property
    def backend(self) -> str:
        """What computes: "engine" with its instruction set, or "torch"."""
        return self.potential.backend

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what changed since the last calculation, of all that a result depends on, to the last bit."""
        if self.atoms is None:
            return list(all_changes)
        return [name for name, known, now in zip(DEPENDS, self._known, _depends(atoms), strict=True) if known != now]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Predict `properties` of `atoms`, and all others that come with them for free."""
        if atoms is not None:
            self._take(atoms)
        current = self.atoms
        assert current is not None  # ASE hands atoms over, or did
        wants_stress = "stress" in properties
        if wants_stress and not current.pbc.all():
            raise UndefinedStress("stress needs periodicity in all three directions, and pbc is "
                                  f"{current.pbc.tolist()}; set atoms.pbc = True and a cell, or do not ask for stress")
        if self._surface is None:
            self._surface = PotentialSurface(self.potential, geometry_of(current), extrapolation=self.extrapolation)
        prediction = self._surface(current.positions, current.cell.array, wants_stress)
        energy = float(prediction.energy[0])
        results: dict[str, Any] = {"energy": energy, "free_energy": energy, "forces": prediction.forces}
        if prediction.atom_energies is not None:
            results["energies"] = prediction.atom_energies
        if prediction.stress is not None:
            results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress[0])
        self.results = results  # a dictionary of their own: a copy of this calculator keeps those of its structure

    def _take(self, atoms: Atoms) -> None:
        """Keep a copy of `atoms`; where only positions are others, all else is that of the copy before, for speed."""
        now, known = _depends(atoms), self._known
        if self._last is not None and now[1:] == known[1:]:
            kept = copy(self._last)
            kept.arrays = {**self._last.arrays, "positions": atoms.positions.copy()}
        else:
            kept = atoms.copy()
        if not known or now[2:] != known[2:]:
            self._surface = None
        self.atoms = self._last = kept
        self._known = now


def _depends(atoms: Atoms) -> tuple[Any, ...]:
    """Return what a result depends on, in the order of `DEPENDS`; charge and spin are in `atoms.info`, where ASE does not
    look."""
    return (atoms.positions.tobytes(), atoms.cell.array.tobytes(), atoms.numbers.tobytes(), atoms.pbc.tobytes(),
            charge_and_spin(atoms))
