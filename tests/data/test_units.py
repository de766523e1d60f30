"""Numbers in other units than said are refused, and honest data pass."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.units import Bohr, Hartree, kcal, kJ, mol

from gaq.data.units import KeyMap, all_electron_energy, check_units
from gaq.errors import ConfigError, DataError
from gaq.structure import Structure


def frames(name: str = "CH3CH2OH", length: float = 1.0, force: float = 1.2, energy: float = -4209.5) -> list[Structure]:
    rng = np.random.default_rng(0)
    atoms = molecule(name)
    shape = (len(atoms), 3)
    return [Structure(species=atoms.numbers, positions=length * (atoms.positions + rng.normal(0, 0.05, shape)),
                      energy=energy, forces=rng.normal(0, force / 3**0.5, shape)) for _ in range(40)]


def test_all_electron_energies_are_near_those_of_density_functional_theory() -> None:
    ethanol = molecule("CH3CH2OH").numbers
    assert all_electron_energy(ethanol) == pytest.approx(-4209.5, rel=0.05)
    assert all_electron_energy(np.array([1])) == pytest.approx(-13.6, rel=0.01)


@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "SiH4", "CH3Cl", "LiF"])
def test_molecules_pass(name: str) -> None:
    check_units(frames(name, energy=all_electron_energy(molecule(name).numbers)), "test")


def test_solids_single_atoms_and_noble_gases_pass() -> None:
    for atoms in (bulk("Cu"), bulk("Cu", cubic=True), bulk("NaCl", "rocksalt", 5.64, cubic=True),
                  bulk("Ar", cubic=True)):
        check_units([Structure(species=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array,
                               pbc=(True, True, True))], "test")
    check_units([Structure(species=np.array([6]), positions=np.zeros((1, 3)), energy=-1029.0)], "test")


def test_a_stretched_molecule_passes_beside_a_bound_one() -> None:
    check_units(frames(length=3.0) + frames(), "a scan")


@pytest.mark.parametrize("length", [1 / Bohr, 0.1, 10.0, Bohr, 100.0, 0.001], ids=str)
def test_positions_in_other_units(length: float) -> None:
    with pytest.raises(DataError, match="length_unit"):
        check_units(frames(length=length), "test")


@pytest.mark.parametrize("factor", [mol / kcal, mol / kJ, 1000.0])
def test_forces_in_other_units(factor: float) -> None:
    with pytest.raises(DataError, match="energy_unit"):
        check_units(frames(force=1.0 * factor), "test")


@pytest.mark.parametrize(("factor", "unit"), [(mol / kcal, "kcal/mol"), (mol / kJ, "kJ/mol"), (1000.0, "meV")])
def test_energies_in_other_units(factor: float, unit: str) -> None:
    with pytest.raises(DataError, match=f"perhaps in {unit};"):
        check_units(frames(energy=-4209.5 * factor), "test")
    check_units(frames(energy=-154.7 * Hartree), "test")


def test_unknown_units_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"energy_unit must be one of eV.*did you mean 'kcal/mol'"):
        KeyMap(energy_unit="kcalmol")
    with pytest.raises(ConfigError, match="length_unit"):
        KeyMap(length_unit="A")
