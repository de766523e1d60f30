"""What counts as a molecule that stayed whole, and the way frames travel."""

import io

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones

from gaq.data.chains import Bonds, Job, flatten, read_frame, relax, run_chains
from gaq.data.levels import LEVELS
from gaq.errors import DataError

STIFFNESS = 1.0  # eV/Å²; periods near 60 fs
WATER = molecule("H2O")


def job(frames: int, chains: int) -> Job:
    return Job(species=WATER.numbers.tolist(), positions=WATER.positions.tolist(), cell=[[0.0] * 3] * 3,
               pbc=[False] * 3, method="springs", charge=0, multiplicity=1, temperature=50, timestep_fs=5.0,
               interval_steps=5, equilibration_steps=100, frames=frames, chains=chains, seed=0)


class Springs(Calculator):
    """Each pair of atoms on a spring, E = Σ k (r - r_0)² / 2, so that the classical averages are known."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE declares it)
    rest = WATER.get_all_distances()

    def calculate(self, atoms: Atoms | None = None, properties: list[str] | None = None,
                  system_changes: list[str] = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        vectors = self.atoms.positions - self.atoms.positions[:, None]
        lengths = np.linalg.norm(vectors, axis=2)
        stretch = lengths - self.rest
        pull = STIFFNESS * (stretch / (lengths + np.eye(3)))[..., None] * vectors
        self.results = {"energy": STIFFNESS * (stretch**2).sum() / 4, "forces": pull.sum(axis=1)}


class SpringLevel:
    """A level of theory that costs nothing."""

    def available(self, atoms: Atoms) -> None:
        """Is always there."""

    def calculator(self, charge: int, multiplicity: int) -> Calculator:
        return Springs()


def test_equipartition(monkeypatch: pytest.MonkeyPatch) -> None:
    """N atoms have (3N - 6)/2 kT of potential energy above the minimum, and the centre of mass rests."""
    monkeypatch.setitem(LEVELS, "springs", SpringLevel())
    rows = np.array(list(run_chains(job(1200, 2), [0, 1])))
    assert rows.shape == (1200, 19)
    assert rows[:, 0].mean() == pytest.approx(1.5 * units.kB * 50, rel=0.2)  # three standard errors
    masses = WATER.get_masses()
    centres = masses @ rows[:, 1:10].reshape(-1, 3, 3) / masses.sum()
    assert np.abs(centres - centres[0]).max() < 1e-9


def test_chains_by_turns_are_the_chains_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LEVELS, "springs", SpringLevel())
    together = list(run_chains(job(7, 3), [0, 1, 2]))
    for chain in range(3):
        alone = list(run_chains(job(7, 3), [chain]))
        np.testing.assert_array_equal(together[chain::3], alone)


@pytest.mark.parametrize(("frames", "chains"), [(1, 1), (7, 3), (8, 4), (4, 4)])
def test_chains_share_the_frames(frames: int, chains: int) -> None:
    assert sum(job(frames, chains).frames_of(chain) for chain in range(chains)) == frames


@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "CH3CONH2", "H2O2", "cyclobutene", "C2H6CHOH", "LiH"])
def test_vibrations_are_no_reaction(name: str) -> None:
    atoms = molecule(name)
    bonds = Bonds(atoms, atoms.positions)
    for seed in range(20):
        moved = atoms.copy()
        moved.rattle(0.08, seed=seed)  # Å; about twice the thermal amplitude of a stretch at 500 K
        bonds.check(moved, "in a test")


def test_a_bond_that_opens() -> None:
    atoms = molecule("CH3CH2OH")
    bonds = Bonds(atoms, atoms.positions)
    atoms.positions[3] += 2.0 * (atoms.positions[3] - atoms.positions[2])  # the hydroxyl hydrogen
    with pytest.raises(DataError, match=r"reacted at 5 fs: the bond O2-H3 opened.*lower the temperature"):
        bonds.check(atoms, "at 5 fs")


def test_a_bond_that_forms_between_heavy_atoms() -> None:
    atoms = molecule("trans-butane")
    bonds = Bonds(atoms, atoms.positions)
    carbons = np.flatnonzero(atoms.numbers == 6)
    distances = atoms.get_all_distances()[np.ix_(carbons, carbons)]
    i, j = carbons[list(np.unravel_index(distances.argmax(), distances.shape))]
    other = atoms.copy()
    other.positions[i] = other.positions[j] + [1.5, 0, 0]
    with pytest.raises(DataError, match="reacted"):
        bonds.check(other, "in a test")


def test_a_fragment_that_leaves() -> None:
    atoms = molecule("H2O")
    pair = atoms + atoms
    pair.positions[3:] += [3.0, 0, 0]
    bonds = Bonds(pair, pair.positions)
    pair.positions[3:] += [1.0, 0, 0]
    bonds.check(pair, "in a test")
    pair.positions[3:] += [5.0, 0, 0]
    with pytest.raises(DataError, match="fell apart"):
        bonds.check(pair, "in a test")


def test_solids_have_no_bonds_to_check() -> None:
    atoms = bulk("Cu", cubic=True)
    bonds = Bonds(atoms, atoms.positions)
    atoms.positions[0] += 3.0
    bonds.check(atoms, "in a test")


def test_relaxation_reaches_a_minimum() -> None:
    atoms = bulk("Ar", cubic=True) * (2, 1, 1)
    atoms.rattle(0.1, seed=0)
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104)
    relax(atoms)
    assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.05


def test_a_row_holds_the_frame() -> None:
    atoms = molecule("CH4")
    atoms.calc = LennardJones()
    row = flatten(atoms)
    assert row[0] == atoms.get_potential_energy()
    np.testing.assert_array_equal(row[1:16], atoms.positions.ravel())
    np.testing.assert_array_equal(row[16:], atoms.get_forces().ravel())


def test_frames_travel_as_numbers() -> None:
    row = np.arange(13.0)
    np.testing.assert_array_equal(read_frame(io.BytesIO(b"F" + row.tobytes()), 2), row)
    assert read_frame(io.BytesIO(b""), 2) is None
    assert read_frame(io.BytesIO(b"F" + row.tobytes()[:-1]), 2) is None
    with pytest.raises(DataError, match=r"^no$"):
        read_frame(io.BytesIO(b"E\x02\x00\x00\x00no"), 2)
