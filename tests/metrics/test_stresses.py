"""Errors of stresses, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from toys import LennardJones, molecule

from gaq.metrics.stresses import stress_accuracy
from gaq.structure import Structure


def crystal(error: float, seed: int = 0) -> Structure:
    """A crystal whose reference stress differs from what `LennardJones` predicts by a known amount."""
    toy, rng = LennardJones(), np.random.default_rng(seed)
    places = np.array([[0.0, 0, 0], [2.6, 2.5, 2.4]]) + 0.1 * rng.normal(size=(2, 3))
    bare = Structure(species=np.array([18, 18]), positions=places,
                     cell=5.0 * np.eye(3) + 0.2 * rng.normal(size=(3, 3)), pbc=(True, True, True))
    return replace(bare, stress=toy.predict(toy.graph(bare), stress=True).stress[0] - error)


def test_errors_by_hand() -> None:
    frames = [crystal(0.001), crystal(-0.003, seed=1)]
    found = stress_accuracy(LennardJones().predict, frames, cutoff=6.0)
    room = [abs(np.linalg.det(s.cell)) / 2 for s in frames]
    assert found.frames == 2
    assert found.mae_meV_A3 == pytest.approx(2.0)
    assert found.rmse_meV_A3 == pytest.approx(np.sqrt(5.0))
    assert found.virial_mae == pytest.approx((0.001 * room[0] + 0.003 * room[1]) / 2)


def test_frames_without_a_stress_are_passed_over() -> None:
    frames = [molecule(), crystal(0.001), replace(crystal(9.0), stress=None)]
    for size in (1, 2):
        assert stress_accuracy(LennardJones().predict, frames, cutoff=6.0, batch_size=size).mae == pytest.approx(0.001)
    assert stress_accuracy(LennardJones().predict, [molecule()], cutoff=6.0) is None
