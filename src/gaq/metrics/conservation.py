"""Energy drift of a trajectory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gaq.errors import ConfigError

BLOCKS = 10
FEWEST_BLOCKS = 3  # a line through two points leaves no residual to estimate an error from
SETTLING = 0.1  # of a simulation is left out: the start is not typical


@dataclass(frozen=True)
class Drift:
    """Slope of the total energy per atom and its standard error, meV/atom/ps; the error is None for < 6 samples."""

    slope_meV_atom_ps: float
    standard_error_meV_atom_ps: float | None


def energy_drift(time_ps: ArrayLike, energy: ArrayLike, atoms: int) -> Drift:
    """Fit E(t)/N = a + b t by least squares and return b with its standard error.

    The error comes from the scatter of block means about the line, se² = Σ_b r_b² / (B - 2) / Σ_b (t_b - t̄)²: samples
    of a trajectory are correlated, and the residuals of single samples would make b look far more certain than it is.

    Args:
        time_ps: ps, shape (samples,), ascending.
        energy: total energies in eV, shape (samples,).
        atoms: number of atoms N.

    Raises:
        ConfigError: fewer than two samples, different lengths, values that are not finite, or times that do not ascend.

    Source: H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989), for blocking.
    """
    t, e = np.asarray(time_ps, dtype=np.float64), 1000.0 * np.asarray(energy, dtype=np.float64) / atoms
    if t.ndim != 1 or t.shape != e.shape or len(t) < 2:
        raise ConfigError(f"drift needs at least two samples of time and energy; given shapes {t.shape} and {e.shape}")
    if not (np.isfinite(t).all() and np.isfinite(e).all() and (np.diff(t) > 0).all()):
        raise ConfigError("drift needs finite energies at ascending times; look for NaN or repeated frames in the "
                          "trajectory")
    e = e - e[0]
    centred = t - t.mean()
    slope = float(centred @ e / (centred @ centred))
    blocks = min(BLOCKS, len(t) // 2)
    if blocks < FEWEST_BLOCKS:
        return Drift(slope, None)
    times = np.array([part.mean() for part in np.array_split(t, blocks)])
    means = np.array([part.mean() for part in np.array_split(e, blocks)])
    residuals = means - means.mean() - slope * (times - times.mean())
    spread = np.square(times - times.mean()).sum()
    return Drift(slope, float(np.sqrt(np.square(residuals).sum() / (blocks - 2) / spread)))


@dataclass(frozen=True)
class ReplicaDrift:
    """Drift and fluctuation of the total energy per atom over independent simulations.

    Args:
        slope_meV_atom_ps: mean of the slopes, meV/atom/ps.
        standard_error_meV_atom_ps: of that mean, from the scatter over replicas; None for one replica.
        fluctuation_meV_atom: root mean square about the lines, meV/atom.
    """

    slope_meV_atom_ps: float
    standard_error_meV_atom_ps: float | None
    fluctuation_meV_atom: float


def replica_drift(time_ps: ArrayLike, energies: ArrayLike, atoms: int) -> ReplicaDrift:
    """Fit E_r(t)/N = a_r + b_r t to every replica r by least squares, without the first tenth of the time.

    drift = mean_r b_r ± std_r b_r / √R

    Args:
        time_ps: ps, shape (samples,), ascending.
        energies: total energies in eV, shape (R, samples).
        atoms: number of atoms N.

    Raises:
        ConfigError: fewer than two samples after the first tenth, different lengths, or values that are not finite.
    """
    t, e = np.asarray(time_ps, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    if t.ndim != 1 or e.ndim != 2 or e.shape[1] != len(t) or not e.size or not np.isfinite(e).all():
        raise ConfigError("drift needs finite energies of shape (replicas, samples) and as many times; given shapes "
                          f"{e.shape} and {t.shape}")
    kept = t >= t[0] + SETTLING * (t[-1] - t[0])
    if kept.sum() < 2:
        raise ConfigError(f"drift needs two samples after the first tenth of time, not {len(t)} in all")
    t, e = t[kept], 1000.0 * (e[:, kept] - e[:, :1]) / atoms
    centred = t - t.mean()
    slopes = e @ centred / (centred @ centred)
    residuals = e - e.mean(1, keepdims=True) - np.outer(slopes, centred)
    error = float(slopes.std(ddof=1) / np.sqrt(len(slopes))) if len(slopes) > 1 else None
    return ReplicaDrift(float(slopes.mean()), error, float(np.sqrt(np.square(residuals).mean())))
