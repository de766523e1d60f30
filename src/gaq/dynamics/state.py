"""What a simulation is at one step, and what drives it. Time is in Å (amu/eV)^½, ASE's unit; energies in eV."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from ase import units
from numpy.typing import NDArray

from gaq.errors import GaqError

Energy = TypeVar("Energy", float, NDArray[np.float64])
COLDEST_BOUND, TIMES = 1000.0, 10.0  # a run has exploded above 1000 K + 10 times the temperature asked for


class UnstableTrajectory(GaqError):
    """A simulation that exploded: forces that are not finite, atoms at one place, or a temperature beyond reason."""


@dataclass(eq=False)
class State:
    """Where R structures of N atoms in all are; a stepper changes it in place.

    Args:
        step: how many steps were taken.
        positions: Å, shape (N, 3).
        velocities: Å per unit of time, shape (N, 3).
        forces: eV/Å, shape (N, 3).
        potential, kinetic: energies of each structure, shape (R,).
        cell: lattice vectors as rows, Å, shape (3, 3).
        barostat: what a barostat remembers between steps, or None.
    """

    step: int
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    forces: NDArray[np.float64]
    potential: NDArray[np.float64]
    kinetic: NDArray[np.float64]
    cell: NDArray[np.float64]
    barostat: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Bath:
    """How a simulation steps.

    Args:
        timestep: Δt.
        friction: of Langevin dynamics, in 1/time; 0 for velocity Verlet.
        temperature: kT of the bath.
        seed: of the noise, which depends on seed, step, atom and axis alone.
        hottest: kinetic energy for each atom beyond which a run stops.
    """

    timestep: float
    friction: float = 0.0
    temperature: float = 0.0
    seed: int = 0
    hottest: float = np.inf


def bound_K(temperature_K: float) -> float:
    """Return the temperature in K beyond which a run that was asked for `temperature_K` has exploded."""
    return COLDEST_BOUND + TIMES * temperature_K


def kinetic_temperature(kinetic: Energy, freedom: int) -> Energy:
    """Return T = 2 E / (f k) in K of kinetic energies in eV and f degrees of freedom."""
    return 2.0 * kinetic / (freedom * units.kB)
