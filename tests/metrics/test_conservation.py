"""Drift of a series whose slope is known."""

import numpy as np
import pytest

from gaq.errors import ConfigError
from gaq.metrics.conservation import energy_drift


def test_a_straight_line():
    t = np.linspace(0, 10, 101)
    drift = energy_drift(t, 5.0 + 0.006 * t, atoms=3)
    assert drift.slope_meV_atom_ps == pytest.approx(2.0)
    assert drift.standard_error_meV_atom_ps == pytest.approx(0.0, abs=1e-9)


def test_the_standard_error_covers_the_slope_of_correlated_noise():
    t = np.linspace(0, 10, 2001)
    z = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        noise = np.convolve(rng.normal(size=len(t) + 49), np.ones(50) / 50, mode="valid")
        drift = energy_drift(t, (0.1 * t + noise) / 1000, atoms=1)
        z.append((drift.slope_meV_atom_ps - 0.1) / drift.standard_error_meV_atom_ps)
    assert 0.7 < np.std(z) < 1.5  # Student's t with 8 degrees of freedom: 1.15
    assert abs(np.mean(z)) < 0.3


def test_few_samples_have_no_error_estimate():
    assert energy_drift([0, 1], [0, 0.001], 1).standard_error_meV_atom_ps is None


def test_bad_series():
    for times, energies in (([0.0], [1.0]), ([0, 1], [0, np.nan]), ([0, 0], [0, 1]), ([0, 1, 2], [0, 1])):
        with pytest.raises(ConfigError, match="drift needs"):
            energy_drift(times, energies, 2)
