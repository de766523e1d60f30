"""Errors against labels, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from toys import Broken, Springs, molecule

from gaq.errors import ConfigError, DataError, GaqError
from gaq.graph import Prediction, collate
from gaq.metrics.accuracy import accuracy
from gaq.structure import Structure


def labelled(energy_error: float = 0.0, force_error: float = 0.0) -> Structure:
    """A molecule whose labels differ from what `Springs` predicts by known amounts."""
    toy = Springs()
    prediction = toy(toy.graph(molecule()))
    return molecule(energy=prediction.energy.item() - energy_error, forces=prediction.forces - force_error)


def test_errors_by_hand():
    result = accuracy(Springs(), [labelled(0.003, 0.01), labelled(-0.001, -0.02)])
    assert result.frames == 2
    assert result.energy_mae_meV == pytest.approx(2.0)
    assert result.energy_rmse_meV == pytest.approx(np.sqrt(5.0))
    assert result.energy_offset_meV == pytest.approx(1.0)
    assert result.forces_mae_meV_A == pytest.approx(15.0)
    assert result.forces_rmse_meV_A == pytest.approx(np.sqrt(250.0))
    np.testing.assert_allclose(result.frame_energy_errors, [0.003, -0.001], atol=1e-12)
    np.testing.assert_allclose(result.frame_forces_mae, [0.01, 0.02], atol=1e-12)
    assert result.energy_mae == pytest.approx(0.002)


def test_energies_are_totals_not_per_atom():
    assert accuracy(Springs(), [labelled(0.010)]).energy_mae == pytest.approx(0.010)


def test_batching_does_not_change_the_errors():
    frames = [labelled(0.001 * k, 0.002 * k) for k in range(7)]
    one, many = (accuracy(Springs(), frames, batch_size=size) for size in (1, 3))
    batch = collate([Springs().graph(frame) for frame in frames])
    graphs = accuracy(lambda graph: Springs()(graph), [batch])
    for other in (many, graphs):
        assert one.forces_rmse == pytest.approx(other.forces_rmse)
        np.testing.assert_allclose(one.frame_energy_errors, other.frame_energy_errors, atol=1e-12)


def test_frames_without_forces_count_for_energies_only():
    result = accuracy(Springs(), [labelled(0.002, 0.01), replace(labelled(0.004), forces=None)])
    assert result.energy_mae_meV == pytest.approx(3.0)
    assert result.forces_mae_meV_A == pytest.approx(10.0)
    assert np.isnan(result.frame_forces_mae).tolist() == [False, True]
    energies_only = accuracy(Springs(), [replace(labelled(0.004), forces=None)])
    assert energies_only.forces_mae is None
    assert energies_only.forces_mae_meV_A is None
    forces_only = accuracy(Springs(), [replace(labelled(force_error=0.01), energy=None)])
    assert forces_only.energy_mae is None
    assert forces_only.energy_offset_meV is None


def test_parity_points_are_a_seeded_sample():
    frames = [labelled(0.001, 0.01) for _ in range(5)]
    result = accuracy(Springs(), frames, parity_samples=20)
    assert result.forces_parity.shape == (2, 20)
    np.testing.assert_allclose(result.forces_parity[1] - result.forces_parity[0], 0.01, atol=1e-12)
    np.testing.assert_array_equal(result.forces_parity, accuracy(Springs(), frames, parity_samples=20).forces_parity)
    assert result.energy_parity.shape == (2, 5)


def test_a_mean_offset_is_reported():
    result = accuracy(Springs(), [labelled(0.009), labelled(0.011)])
    assert result.energy_offset_meV == pytest.approx(result.energy_mae_meV)


def test_bad_input_says_what_to_do():
    with pytest.raises(DataError, match="no reference labels"):
        accuracy(Springs(), [molecule()])
    with pytest.raises(DataError, match="0 frames"):
        accuracy(Springs(), [])
    with pytest.raises(GaqError, match="not finite"):
        accuracy(Broken(), [labelled()])
    with pytest.raises(ConfigError, match="cutoff"):
        accuracy(lambda graph: Springs()(graph), [labelled()])
    with pytest.raises(GaqError, match="shape"):
        accuracy(lambda graph: Prediction(Springs()(graph).energy.sum(), graph.positions), [labelled()], cutoff=6)
