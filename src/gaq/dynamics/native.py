"""Molecular dynamics inside the engine: Python is asked for neighbours only when the Verlet skin is used up.

A run from a state depends on that state alone, to the last bit: the neighbours are found anew at its start, unless the
molecule is small enough for all pairs to be looked at in every step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import units
from numpy.typing import NDArray

from gaq.backends.native.library import Dynamics
from gaq.backends.native.potential import NativePotential
from gaq.dynamics import nve
from gaq.dynamics.nve import Replicas
from gaq.errors import GaqError, StructureError
from gaq.graph import Graph, Predictor, build_graph, collate
from gaq.structure import Structure

SKIN = 0.6  # Å
SAMPLED = 5  # steps between samples of `simulate_replicas`
SMALL = 32  # atoms of a molecule whose pairs are all looked at: one block of the engine, hence one order of sums


@dataclass(frozen=True)
class Bath:
    """How a simulation steps; time in Å (amu/eV)^½, energies in eV.

    Args:
        timestep: Δt.
        friction: of Langevin dynamics, in 1/time; 0 for velocity Verlet.
        temperature: kT of the bath, eV.
        seed: of the noise, which depends on seed, step, atom and axis alone.
        hottest: kinetic energy for each atom beyond which a run stops.
    """

    timestep: float
    friction: float = 0.0
    temperature: float = 0.0
    seed: int = 0
    hottest: float = np.inf


@dataclass(eq=False)
class State:
    """Positions Å, velocities Å per unit of time, forces eV/Å, each (atoms, 3); energies in eV, one for each structure."""

    step: int
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    forces: NDArray[np.float64]
    potential: NDArray[np.float64]
    kinetic: NDArray[np.float64]


class NativeDynamics:
    """Simulations of one structure, or of replicas of it side by side. Whatever else uses `field` waits for a run to end.

    Args:
        field: on the engine.
        structure: species and cell.
        masses: amu, shape (atoms,); infinite for an atom that stays where it is, whose velocity must be 0.
        bath: how to step.
        replicas: copies of the structure that differ in their states.
    """

    def __init__(self, field: NativePotential, structure: Structure, masses: NDArray[np.float64], bath: Bath,
                 replicas: int = 1) -> None:
        self.field, self.bath, self.replicas = field, bath, replicas
        self.structure = replace(structure, energy=None, forces=None)
        self.masses = np.tile(np.asarray(masses, dtype=np.float64), replicas)
        self.batch = np.repeat(np.arange(replicas, dtype=np.int32), len(structure))
        self.complete = len(structure) <= SMALL and replicas == 1 and not any(structure.pbc)
        self._graph = object()  # token of the graph that was set last

    def start(self, positions: NDArray[np.float64], velocities: NDArray[np.float64], step: int = 0) -> State:
        """Return the state at these positions and velocities."""
        with self.field.engine.lock:
            self._find(positions)
            energies, forces, _ = self.field.engine.compute(positions)
        potential = self._total(energies)
        if not np.isfinite(potential).all():
            raise GaqError("the energy of a structure is not finite; the model is damaged, or far outside of its training")
        kinetic = 0.5 * np.where(np.isfinite(self.masses), self.masses, 0.0) * np.square(velocities).sum(1)
        return State(step, np.array(positions), np.array(velocities), forces, potential, self._total(kinetic))

    def run(self, state: State, steps: int) -> None:
        """Advance `state` in place; it stops early, which its step tells, where it is too hot.

        An error leaves the state after the last whole step.

        Raises:
            StructureError: atoms at one place, positions or forces that are not finite.
            GaqError: an atom moves by more than the skin in one step.
        """
        with self.field.engine.lock:
            self._run(state, state.step + steps)

    def _run(self, state: State, goal: int) -> None:
        self._find(state.positions)
        bath = Dynamics(self.bath.timestep, self.bath.friction, self.bath.temperature, self.bath.seed, state.step,
                        np.finfo(np.float64).max if self.complete else SKIN / 2, self.bath.hottest)
        atoms = np.bincount(self.batch, minlength=self.replicas)
        reference = state.positions.copy()
        while state.step < goal:
            before = state.step
            try:
                self.field.engine.advance(bath, goal - state.step, self.masses, self.batch, self.replicas, reference, state)
            finally:
                state.step = int(bath.step)
            if (state.kinetic > self.bath.hottest * atoms).any():
                return
            if state.step == before and np.array_equal(reference, state.positions):
                raise GaqError(f"an atom moves by more than {SKIN / 2:g} Å in one step")
            if state.step < goal:
                self._find(state.positions)
                reference = state.positions.copy()

    def _total(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(self.batch, values, self.replicas), dtype=np.float64)

    def _find(self, positions: NDArray[np.float64]) -> None:
        """Give the engine the pairs that may come within the cutoff; all pairs are so until another graph is set."""
        if not np.isfinite(positions).all():
            raise StructureError("positions are not finite")
        engine = self.field.engine
        if not self.complete:
            places = positions.reshape(self.replicas, -1, 3)
            self._graph = engine.set_graph(collate([
                build_graph(replace(self.structure, positions=p), self.field.cutoff + SKIN) for p in places]))
        elif engine.graph is not self._graph:
            self._graph = engine.set_graph(_all_pairs(self.structure))


def simulate_replicas(
    predict: Predictor,
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
    """Do as `metrics.nve.simulate_replicas`; inside the engine where that computes, one replica after the other.

    There, conserved quantities are taken at every `SAMPLED`-th step.

    Raises:
        ConfigError, GaqError: as there.
    """
    predict = getattr(predict, "potential", predict)
    if not isinstance(predict, NativePotential):
        return nve.simulate_replicas(predict, structure, cutoff, replicas=replicas, picoseconds=picoseconds,
                                     timestep_fs=timestep_fs, temperature_K=temperature_K, seed=seed, progress=progress)
    nve.check_settings(replicas, picoseconds, timestep_fs, temperature_K)
    samples = max(round(1000.0 * picoseconds / timestep_fs / SAMPLED), 2)
    dynamics = NativeDynamics(predict, structure, structure.atomic_masses, Bath(timestep_fs * units.fs))
    records, exploded = [], None
    for replica in range(replicas):
        v = nve.thermal_velocities(structure, temperature_K, np.random.default_rng([seed, replica]))
        record = nve.Record(torch.from_numpy(dynamics.masses)[:, None], 1, torch.from_numpy(structure.positions),
                            torch.from_numpy(v), temperature_K)
        state = dynamics.start(structure.positions, v)
        records.append(record)
        try:
            _sample(record, state)
            for sample in range(1, samples + 1):
                dynamics.run(state, SAMPLED)
                _sample(record, state)
                if progress is not None:
                    progress((replica + sample / samples) / replicas * picoseconds)
        except GaqError as error:
            exploded = f"replica {replica} after {state.step * timestep_fs:g} fs: {error}"
            break
    length = min(len(record.energies) for record in records)
    series = [record.series() for record in records]
    times = np.arange(length, dtype=np.float64) * np.float64(SAMPLED * timestep_fs / 1000.0)
    return Replicas(timestep_fs, times, np.concatenate([e[:, :length] for e, _ in series]),
                    np.concatenate([turned[:, :length] for _, turned in series]),
                    np.concatenate([record.scale.numpy() for record in records]), exploded)


def _sample(record: nve.Record, state: State) -> None:
    record.add(torch.from_numpy(state.potential.copy()), torch.from_numpy(state.positions.copy()),
               torch.from_numpy(state.velocities.copy()))


def _all_pairs(structure: Structure) -> Graph:
    count = len(structure)
    i, j = np.nonzero(~np.eye(count, dtype=bool))
    return Graph(
        species=structure.species.copy(), positions=structure.positions.copy(), centers=i, neighbours=j,
        shifts=np.zeros((len(i), 3)), cell=np.zeros((1, 3, 3)), batch=np.zeros(count, dtype=np.int64))
