"""Levels of theory that label frames: each gives an ASE calculator for energies (eV) and forces (eV/Å)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from gaq.errors import DataError, did_you_mean
from gaq.optional import extras


class Level(Protocol):
    """A level of theory; `available` says that its program is missing or the system out of its reach."""

    def available(self, atoms: Atoms) -> None: ...

    def calculator(self, charge: int, multiplicity: int) -> Calculator: ...


@dataclass(frozen=True)
class Xtb:
    """A GFN extended tight-binding Hamiltonian, calculated by tblite.

    Source: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019); Grimme, Bannwarth, Shushkov, ibid. 13,
    1989 (2017).
    """

    hamiltonian: str
    heaviest: ClassVar[int] = 86
    accuracy: ClassVar[float] = 0.1  # force noise 2e-5 eV/Å, ten times less than at the default, for 6 % more time

    def available(self, atoms: Atoms) -> None:
        with extras():
            import tblite.ase  # noqa: F401
        if atoms.numbers.max() > self.heaviest:
            raise DataError(f"{self.hamiltonian} knows the elements up to Z = {self.heaviest}; the structure has "
                            f"Z = {atoms.numbers.max()}; choose another level of theory")

    def calculator(self, charge: int, multiplicity: int) -> Calculator:
        with extras():
            from tblite.ase import TBLite

        return TBLite(method=self.hamiltonian, charge=charge, multiplicity=multiplicity,
                             accuracy=self.accuracy, verbosity=0)


@dataclass(frozen=True)
class Pyscf:
    """Density functional theory with density fitting, calculated by PySCF; molecules only.

    Source: Sun et al., J. Chem. Phys. 153, 024109 (2020).
    """

    functional: str
    basis: str

    def available(self, atoms: Atoms) -> None:
        with extras():
            import pyscf.dft  # noqa: F401
        if atoms.pbc.any():
            raise DataError("pyscf levels label molecules; the structure is periodic. Choose method='gfn2-xtb'")

    def calculator(self, charge: int, multiplicity: int) -> Calculator:
        return PyscfCalculator(self.functional, self.basis, charge, multiplicity)


LEVELS: dict[str, Level] = {
    "gfn2-xtb": Xtb("GFN2-xTB"),
    "gfn1-xtb": Xtb("GFN1-xTB"),
    "pyscf-pbe": Pyscf("pbe", "def2-svp"),
}


def find_level(method: str) -> Level:
    """Return the level of theory called `method`.

    Raises:
        DataError: no level has that name.
    """
    if method not in LEVELS:
        raise DataError(f"method must be one of {', '.join(LEVELS)}, not {method!r}{did_you_mean(method, LEVELS)}")
    return LEVELS[method]


class PyscfCalculator(Calculator):
    """ASE calculator over PySCF; each frame starts from the density matrix of the one before."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE declares it)

    def __init__(self, functional: str, basis: str, charge: int, multiplicity: int) -> None:
        super().__init__()
        self._functional, self._basis, self._charge, self._unpaired = functional, basis, charge, multiplicity - 1
        self._density: Any = None

    def calculate(self, atoms: Atoms | None = None, properties: list[str] | None = None,
                  system_changes: list[str] = all_changes) -> None:
        with extras():
            from pyscf import dft, gto

        super().calculate(atoms, properties, system_changes)
        if "numbers" in system_changes:
            self._density = None
        assert self.atoms is not None  # set by the base class
        geometry = list(zip(self.atoms.symbols, self.atoms.positions.tolist(), strict=True))
        molecule = gto.M(atom=geometry, unit="Angstrom", basis=self._basis, charge=self._charge, spin=self._unpaired,
                         verbose=0)
        method = (dft.UKS if self._unpaired else dft.RKS)(molecule, xc=self._functional).density_fit()
        method.conv_tol = 1e-9
        energy = method.kernel(dm0=self._density)
        if not method.converged:
            self._density = None
            raise CalculationFailed("the self-consistent field did not converge")
        self._density = method.make_rdm1()
        gradient = np.asarray(method.nuc_grad_method().kernel())
        self.results = {"energy": float(energy) * units.Hartree, "forces": -gradient * units.Hartree / units.Bohr}
