"""Simulations at constant energy whose drift is known on paper."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.data import atomic_masses
from ase.md.verlet import VelocityVerlet
from tiny import crystal, forcefield
from toys import Broken, Curl, LennardJones, Springs, molecule

from gaq.dynamics.replicas import simulate_replicas
from gaq.dynamics.velocities import thermal_velocities
from gaq.errors import ConfigError, GaqError
from gaq.metrics.conservation import replica_drift
from gaq.structure import Structure

TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 1.2 / 8**0.5  # edges of 1.2 Å
CARBONS = Structure(species=np.array([6, 6, 6, 6]), positions=TETRAHEDRON)


def test_lines_with_scatter():
    t = np.linspace(0, 10, 101)
    slopes = np.array([[0.001], [0.002], [0.003]])
    kink = 0.5 * (t < 0.9)  # within the tenth that is left out
    found = replica_drift(t, slopes * t + kink, atoms=2)
    assert found.slope_meV_atom_ps == pytest.approx(1.0)
    assert found.standard_error_meV_atom_ps == pytest.approx(0.5 / 3**0.5)
    assert found.fluctuation_meV_atom == pytest.approx(0.0, abs=1e-9)


def test_fluctuation_about_the_line():
    t = np.linspace(0, 100, 20001)
    found = replica_drift(t, [0.001 * t + 0.004 * np.sin(50 * t)], atoms=2)
    assert found.fluctuation_meV_atom == pytest.approx(2.0 / 2**0.5, rel=1e-2)
    assert found.standard_error_meV_atom_ps is None


def test_bad_series():
    for times, energies in (([0.0], [[1.0]]), ([0, 1], [[0, np.nan]]), ([0, 1], [0, 1]), ([0, 1], [[0, 1, 2]])):
        with pytest.raises(ConfigError, match="drift needs"):
            replica_drift(times, energies, 2)


def test_springs_conserve_energy_and_angular_momentum():
    done = simulate_replicas(Springs(), CARBONS, 6.0, replicas=3, picoseconds=0.25)
    found = replica_drift(done.time_ps, done.energy, 4)
    assert done.energy.shape == (3, 501)
    assert done.exploded is None
    assert abs(found.slope_meV_atom_ps) < 0.01
    assert found.fluctuation_meV_atom < 0.1
    assert done.angular_drift(5.0) < 1e-9


def test_the_error_falls_with_the_square_of_the_time_step():
    fluctuations = []
    for timestep in (1.0, 0.5):
        done = simulate_replicas(Springs(), CARBONS, 6.0, replicas=2, picoseconds=0.15, timestep_fs=timestep)
        fluctuations.append(replica_drift(done.time_ps, done.energy, 4).fluctuation_meV_atom)
    assert fluctuations[0] / fluctuations[1] == pytest.approx(4, rel=0.1)


def test_a_curl_heats_as_paper_says():
    """F_i = c ẑ × x_i turns a rigid body of equal masses m by L = c S t, S = Σ ρ², and so E = c² S t² / 2m.

    A line through a t² from T/10 to T has the slope 1.1 a T.
    """
    curl, picoseconds = 2e-4, 0.2
    done = simulate_replicas(Curl(curl, stiffness=30.0), CARBONS, 6.0, replicas=2, picoseconds=picoseconds,
                             temperature_K=0.0)
    spread, mass = np.square(TETRAHEDRON[:, :2]).sum(), atomic_masses[6]
    time = 1000.0 * units.fs  # one ps
    a = curl**2 * spread / (2 * mass) * time**2  # eV/ps²
    found = replica_drift(done.time_ps, done.energy, 4)
    assert found.slope_meV_atom_ps == pytest.approx(1000 * 1.1 * a * picoseconds / 4, rel=0.01)
    assert found.standard_error_meV_atom_ps == pytest.approx(0.0, abs=1e-12)
    assert done.angular_momentum[:, -1] == pytest.approx(curl * spread * picoseconds * time, rel=0.01)
    assert done.angular_drift(5.0) is None  # nothing moves at the start


def test_one_replica_is_the_trajectory_of_ase():
    class Calculator:
        def get_forces(self, atoms):
            return toy(toy.graph(Structure(atoms.numbers, atoms.positions))).forces

    toy = Springs()
    done = simulate_replicas(toy, CARBONS, 6.0, replicas=2, picoseconds=0.02, seed=4)
    atoms = Atoms(CARBONS.species, TETRAHEDRON)
    atoms.calc = Calculator()
    atoms.set_velocities(thermal_velocities(CARBONS, 300.0, np.random.default_rng([4, 1])))
    VelocityVerlet(atoms, 0.5 * units.fs).run(40)
    last = toy(toy.graph(Structure(atoms.numbers, atoms.positions))).energy.item() + atoms.get_kinetic_energy()
    assert done.energy[1, -1] == pytest.approx(last, abs=1e-10)


def test_velocities_are_thermal_and_leave_the_whole_at_rest():
    masses = atomic_masses[molecule().species][:, None]
    kinetic, rng = [], np.random.default_rng(0)
    for _ in range(1000):
        v = thermal_velocities(molecule(), 300.0, rng)
        kinetic.append(0.5 * (masses * v**2).sum())
    assert np.abs((masses * v).sum(0)).max() < 1e-12
    arms = molecule().positions - (masses * molecule().positions).sum(0) / masses.sum()
    assert np.abs((masses * np.cross(arms, v)).sum(0)).max() < 1e-12
    assert np.mean(kinetic) == pytest.approx(0.5 * (15 - 6) * units.kB * 300, rel=0.05)


def test_crystals_run():
    field = forcefield("l1", "w4")
    assert simulate_replicas(field, crystal(), field.cutoff, replicas=1, picoseconds=0.002).energy.shape == (1, 5)


def test_explosions_end_the_run():
    assert "not finite" in simulate_replicas(Broken(after=3), CARBONS, 6.0, replicas=1, picoseconds=0.01).exploded
    hot = simulate_replicas(LennardJones(epsilon=5.0, sigma=2.5), CARBONS, 6.0, replicas=1, picoseconds=0.01)
    assert "temperature" in hot.exploded
    with pytest.raises(GaqError, match="not finite"):
        simulate_replicas(Broken(), CARBONS, 6.0, replicas=1)


@pytest.mark.parametrize("setting", [{"replicas": 0}, {"picoseconds": 0.0}, {"timestep_fs": -1.0},
                                     {"temperature_K": float("nan")}])
def test_wrong_arguments(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        simulate_replicas(Springs(), CARBONS, 6.0, **setting)
