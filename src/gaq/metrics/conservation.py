"""Energy drift of a trajectory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gaq.errors import ConfigError

BLOCKS = 10
FEWEST_BLOCKS = 3  # a line through two points leaves no residual to estimate an error from


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
