"""Simulations at constant energy of several replicas of one structure, and what they conserve.

| symbol | variable | meaning                                                    |
|--------|----------|------------------------------------------------------------|
| x, v   | x, v     | positions Å, velocities Å per ASE time, shape (R, N, 3)    |
| m      | masses   | amu, shape (N, 1)                                          |

Everything but the model computes in float64, so that what drifts is the model.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import units
from numpy.typing import NDArray

from gaq.dynamics.conditions import check_settings
from gaq.dynamics.state import Bath, State, bound_K, kinetic_temperature
from gaq.dynamics.steppers import stepper_for
from gaq.dynamics.surface import PotentialSurface
from gaq.dynamics.velocities import thermal_velocities
from gaq.errors import GaqError
from gaq.structure import Structure

SAMPLED = 5  # steps between samples inside the engine, where a sample costs as much as a step does of a small molecule


@dataclass(frozen=True, eq=False)
class Replicas:
    """Conserved quantities along R simulations of one structure, until all ended or one exploded.

    Args:
        timestep_fs: fs.
        time_ps: ps, shape (samples,).
        energy: total energies in eV, shape (R, samples).
        angular_momentum: |L(t) - L(0)| about the centre of mass, amu Å² per ASE time, shape (R, samples).
        angular_scale: Σ_i m_i |x_i| |v_i| at the start, which L is to be compared with, shape (R,).
        exploded: why and when the simulation could not go on, or None.
    """

    timestep_fs: float
    time_ps: NDArray[np.float64]
    energy: NDArray[np.float64]
    angular_momentum: NDArray[np.float64]
    angular_scale: NDArray[np.float64]
    exploded: str | None

    def angular_drift(self, within_ps: float) -> float | None:
        """Return the largest |L(t) - L(0)| / Σ_i m_i |x_i| |v_i| within a time, averaged over replicas."""
        if not (self.angular_scale > 0).all():
            return None
        kept = self.angular_momentum[:, self.time_ps <= within_ps]
        return float((kept.max(1) / self.angular_scale).mean())


def simulate_replicas(
    potential: Any,
    structure: Structure,
    cutoff: float,
    *,
    replicas: int = 16,
    picoseconds: float = 20.0,
    timestep_fs: float = 0.5,
    temperature_K: float = 300.0,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Replicas:
    """Integrate Newton's equations for copies of `structure` that differ in their first velocities, by velocity Verlet.

    Velocities are Maxwell-Boltzmann, without motion of the centre of mass and, for molecules, without rotation. Fixed atoms
    are set free. Where an engine takes the steps, one replica runs after the other, and conserved quantities are taken at
    every fifth step; elsewhere all run side by side in one graph, and they are taken at every step.

    Args:
        potential: force field, or any function of a graph.
        structure: start of all replicas.
        cutoff: of the neighbours, Å.
        replicas: R.
        picoseconds: length of each.
        timestep_fs: Δt in fs.
        temperature_K: of the first velocities.
        seed: of the first velocities; replica k has the same ones whatever R is.
        progress: called after every sample with the time reached in ps.

    Raises:
        ConfigError: a setting without meaning.
        GaqError: the force field cannot take the start; later, it is reported as `exploded`.
    """
    _check(replicas, picoseconds, timestep_fs, temperature_K)
    potential = getattr(potential, "potential", potential)  # of a force field
    free = replace(structure, fixed=None, momenta=None)
    within = getattr(potential, "engine", None) is not None
    every, groups = (SAMPLED, [[k] for k in range(replicas)]) if within else (1, [list(range(replicas))])
    samples = max(round(1000.0 * picoseconds / timestep_fs / every), 2)
    bath = Bath(timestep_fs * units.fs, hottest=1.5 * units.kB * bound_K(temperature_K))
    records, exploded = [], None
    for done, members in enumerate(groups):
        velocities = [thermal_velocities(free, temperature_K, np.random.default_rng([seed, k])) for k in members]
        stepper = stepper_for(PotentialSurface(potential, free, cutoff=cutoff),
                              np.tile(free.atomic_masses, len(members)), bath)
        state = stepper.start(np.tile(free.positions, (len(members), 1)), np.concatenate(velocities))
        record = _Record(free.atomic_masses, state, bound_K(temperature_K))
        records.append(record)
        try:
            record.add(state)
            for sample in range(1, samples + 1):
                stepper.run(state, every)
                record.add(state)
                if progress is not None:
                    progress((done + sample / samples) / len(groups) * picoseconds)
        except GaqError as error:
            exploded = f"{f'replica {done} ' if within else ''}after {state.step * timestep_fs:g} fs: {error}"
            break
    return _joined(records, timestep_fs, every, exploded)


def _check(replicas: int, picoseconds: float, timestep_fs: float, temperature_K: float) -> None:
    check_settings(
        ("replicas", replicas, "at least 1", replicas >= 1),
        ("picoseconds", picoseconds, "a positive number, such as 20", 0 < picoseconds < np.inf),
        ("timestep_fs", timestep_fs, "a positive number of femtoseconds, such as 0.5", 0 < timestep_fs < np.inf),
        ("temperature_K", temperature_K, "zero or a positive number of kelvin", 0 <= temperature_K < np.inf))


def _joined(records: "list[_Record]", timestep_fs: float, every: int, exploded: str | None) -> Replicas:
    """Put the series of all replicas side by side, as far as the shortest reaches."""
    length = min(len(record.energies) for record in records)
    times = np.arange(length, dtype=np.float64) * np.float64(every * timestep_fs / 1000.0)
    energies, turned = ([np.stack(series[:length], 1) for series in all_of]
                        for all_of in ([r.energies for r in records], [r.turned for r in records]))
    return Replicas(timestep_fs, times, np.concatenate(energies), np.concatenate(turned),
                    np.concatenate([record.scale for record in records]), exploded)


class _Record:
    """Series of what a group of replicas conserves, as long as none is too hot."""

    def __init__(self, masses: NDArray[np.float64], state: State, hottest_K: float) -> None:
        self.masses, self.hottest_K = masses[:, None], hottest_K
        arms, momenta = self._relative(state)
        self.scale = (np.linalg.norm(arms, axis=-1) * np.linalg.norm(momenta, axis=-1)).sum(1)
        self.start = np.cross(arms, momenta).sum(1)
        self.energies: list[NDArray[np.float64]] = []
        self.turned: list[NDArray[np.float64]] = []

    def add(self, state: State) -> None:
        """Take one sample.

        Raises:
            GaqError: a replica is too hot to be physical.
        """
        arms, momenta = self._relative(state)
        self.energies.append(state.potential + state.kinetic)
        self.turned.append(np.linalg.norm(np.cross(arms, momenta).sum(1) - self.start, axis=-1))
        reached = kinetic_temperature(float(state.kinetic.max()), 3 * len(self.masses))
        if not reached < self.hottest_K:
            raise GaqError(f"the temperature is {reached:.0f} K, and {self.hottest_K:.0f} K is the bound")

    def _relative(self, state: State) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x - x̄ and m (v - v̄), each of shape (R, N, 3)."""
        x, v = (values.reshape(-1, len(self.masses), 3) for values in (state.positions, state.velocities))
        weights = self.masses / self.masses.sum()
        return x - (weights * x).sum(1, keepdims=True), self.masses * (v - (weights * v).sum(1, keepdims=True))
