"""The first velocities of a simulation, and how many coordinates move.

| symbol | variable | meaning                                    |
|--------|----------|--------------------------------------------|
| m      | masses   | amu, shape (N, 1)                          |
| v      | v        | Å per ASE time, shape (N, 3)               |
| x - x̄  | arms     | Å from the centre of mass, shape (N, 3)    |
| I      | inertia  | Σ_i m_i (r_i² 1 - r_i r_iᵀ), amu Å², (3, 3) |
"""

import numpy as np
from ase import units
from numpy.typing import NDArray

from gaq.structure import Structure

LINEAR = 1e-9  # of the largest moment of inertia: below it a molecule does not turn about that axis


def thermal_velocities(structure: Structure, temperature_K: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw v_i ~ N(0, kT/m_i), then take out the motion of the whole, unless fixed atoms hold it.

    The energy of what is taken out (the motion of the centre of mass and, for molecules, rotation) goes with it, so that
    each degree of freedom that is left keeps ½ kT on average. Fixed atoms rest.

    Returns:
        Velocities in Å per ASE time, shape (N, 3).
    """
    masses = structure.atomic_masses[:, None]
    v = rng.standard_normal(structure.positions.shape) * np.sqrt(units.kB * temperature_K / masses)
    if structure.fixed is not None:
        v[structure.fixed] = 0.0
        return v
    v -= (masses * v).sum(0) / masses.sum()
    if not any(structure.pbc):
        arms, inertia = _inertia(structure)
        angular = (masses * np.cross(arms, v)).sum(0)
        v -= np.cross(np.linalg.pinv(inertia, rcond=LINEAR, hermitian=True) @ angular, arms)
    return v


def degrees_of_freedom(structure: Structure, internal: bool) -> int:
    """Return how many coordinates move, at least 1; `internal` leaves out the motion of the whole."""
    fixed = 0 if structure.fixed is None else int(structure.fixed.sum())
    if fixed or not internal:
        return max(3 * (len(structure) - fixed), 1)
    rotations = 0 if any(structure.pbc) else int(np.linalg.matrix_rank(_inertia(structure)[1], rtol=LINEAR, hermitian=True))
    return max(3 * len(structure) - 3 - rotations, 1)


def _inertia(structure: Structure) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    masses = structure.atomic_masses[:, None]
    arms = structure.positions - (masses * structure.positions).sum(0) / masses.sum()
    return arms, (masses * arms * arms).sum() * np.eye(3) - (masses * arms).T @ arms
