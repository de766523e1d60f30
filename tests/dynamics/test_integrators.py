"""One step at a time: order, reversal, noise, and what an error leaves."""

import numpy as np
import pytest

from gaq.dynamics.integrators import Langevin, VelocityVerlet, normals
from gaq.dynamics.state import State
from gaq.errors import GaqError
from gaq.graph import Prediction

MASSES = np.array([[1.0], [4.0], [np.inf]])
START = np.array([[0.3, 0.0, -0.2], [1.0, 0.5, 0.0], [2.0, 2.0, 2.0]])


def spring(x: np.ndarray) -> Prediction:
    """E = Σ ½ 2 x²."""
    return Prediction(np.array([np.square(x).sum()]), -2.0 * x)


def state() -> State:
    first = spring(START)
    velocities = np.array([[0.1, 0.2, 0.3], [0.0, -0.1, 0.0], [0.0, 0.0, 0.0]])
    return State(0, START.copy(), velocities, first.forces, first.energy, np.zeros(1), np.zeros((3, 3)))


def test_a_harmonic_oscillator_turns_as_paper_says() -> None:
    """x(t) = x₀ cos ωt + v₀ sin ωt / ω with the frequency of the integrator, cos ω'Δt = 1 - (ωΔt)²/2."""
    dt, now, then = 0.1, state(), state()
    for _ in range(50):
        VelocityVerlet(dt).step(now, MASSES, spring)
    for k, mass in ((0, 1.0), (1, 4.0)):
        square = 2.0 / mass
        angle = 50 * np.arccos(1 - square * dt**2 / 2)
        amplitude = then.velocities[k] / np.sqrt(square) / np.sqrt(1 - square * dt**2 / 4)
        expected = then.positions[k] * np.cos(angle) + amplitude * np.sin(angle)
        np.testing.assert_allclose(now.positions[k], expected, atol=1e-12)
    np.testing.assert_array_equal(now.positions[2], START[2])
    assert now.step == 50


def test_velocity_verlet_goes_back_where_it_came_from() -> None:
    now, forth = state(), VelocityVerlet(0.05)
    for _ in range(2):
        for _ in range(20):
            forth.step(now, MASSES, spring)
        now.velocities *= -1
    np.testing.assert_allclose(now.positions, START, atol=1e-13)


def test_langevin_without_friction_is_velocity_verlet() -> None:
    one, other = state(), state()
    VelocityVerlet(0.05).step(one, MASSES, spring)
    Langevin(0.05, 0.0, 0.1, 3).step(other, MASSES, spring)
    np.testing.assert_allclose(one.positions, other.positions, atol=1e-15)
    np.testing.assert_allclose(one.velocities, other.velocities, atol=1e-15)


def test_langevin_samples_boltzmann() -> None:
    """BAOAB has the exact variance of positions in a harmonic well, kT/k."""
    now, bath, squares, kinetic = state(), Langevin(0.3, 1.0, 0.02, 5), [], []
    for step in range(20000):
        bath.step(now, MASSES, spring)
        if step > 100:
            squares.append(np.square(now.positions[:2]).mean(1))
            kinetic.append(MASSES[:2, 0] * np.square(now.velocities[:2]).mean(1))
    np.testing.assert_allclose(np.mean(squares, 0), 0.01, rtol=0.06)
    np.testing.assert_allclose(np.mean(kinetic, 0), 0.02, rtol=0.06)


def test_noise_is_normal_and_a_function_of_seed_step_atom_and_axis() -> None:
    noise = np.stack([normals(7, step, 100) for step in range(200)])
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert noise.var() == pytest.approx(1.0, abs=4 * np.sqrt(2 / noise.size))
    assert np.abs(np.corrcoef(noise.reshape(200, -1)[:, :6].T) - np.eye(6)).max() < 0.3
    np.testing.assert_array_equal(normals(7, 3, 100)[:10], normals(7, 3, 10))
    for seed, step in ((8, 3), (7, 4), (7 + 2**32, 3), (7, 3 + 2**32)):
        assert np.abs(normals(seed, step, 10) - normals(7, 3, 10)).min() > 0


def test_an_error_leaves_the_last_whole_step() -> None:
    def fail(x: np.ndarray) -> Prediction:
        raise GaqError("no")

    for integrator in (VelocityVerlet(0.1), Langevin(0.1, 1.0, 0.1, 0)):
        now, before = state(), state()
        with pytest.raises(GaqError):
            integrator.step(now, MASSES, fail)
        for name in ("step", "positions", "velocities", "forces", "potential"):
            np.testing.assert_array_equal(getattr(now, name), getattr(before, name))
