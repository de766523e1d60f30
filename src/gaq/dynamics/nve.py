"""Simulations at constant energy of several replicas at once, side by side in one graph.

| symbol   | variable   | meaning                                                |
|----------|------------|--------------------------------------------------------|
| x, v     | x, v       | positions Å, velocities Å per ASE time, shape (R N, 3) |
| m        | masses     | amu, shape (R N, 1)                                    |
| F        | forces     | eV/Å, shape (R N, 3)                                   |
| Δt       | dt         | time step in ASE's unit of time                        |

Everything but the model computes in float64, so that what drifts is the model. Source of the integrator: W. C. Swope et
al., J. Chem. Phys. 76, 637 (1982).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import units
from numpy.typing import NDArray
from torch import Tensor

from gaq.errors import ConfigError, GaqError
from gaq.graph import Graph, Predictor, build_graph, collate
from gaq.metrics.batches import checked_prediction
from gaq.nn.tensors import tensors
from gaq.structure import Structure

SKIN = 0.5  # Å; candidates beyond the cutoff are kept, and left out of the graph until they come within it
HOTTEST = 1000.0, 10.0  # a replica has exploded above 1000 K + 10 times the temperature asked for


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
    """Integrate Newton's equations for copies of `structure` that differ in their first velocities.

    v += F Δt / 2m,   x += v Δt,   v += F(x) Δt / 2m

    Velocities are Maxwell-Boltzmann, without motion of the centre of mass and, for molecules, without rotation. The
    graphs have the edges that `build_graph` finds at `cutoff`, at every step.

    Args:
        predict: force field, or any function of a graph.
        structure: start of all replicas.
        cutoff: of the neighbours, Å.
        replicas: R.
        picoseconds: length of each.
        timestep_fs: Δt in fs.
        temperature_K: of the first velocities.
        seed: of the first velocities; replica k has the same ones whatever R is.
        progress: called after every step with the time reached in ps.

    Raises:
        ConfigError: a setting without meaning.
        GaqError: the force field cannot take the start; later, it is reported as `exploded`.

    """
    check_settings(replicas, picoseconds, timestep_fs, temperature_K)
    steps, dt = max(round(1000.0 * picoseconds / timestep_fs), 2), timestep_fs * units.fs
    masses = torch.from_numpy(structure.atomic_masses).repeat(replicas)[:, None]
    neighbours = _Neighbours(structure, cutoff, replicas)
    x, v = _start(structure, replicas, temperature_K, seed)
    record = Record(masses, replicas, x, v, temperature_K)
    first = checked_prediction(predict, neighbours.graph(x))
    record.add(first.energy.cpu(), x, v)
    forces, exploded = first.forces.cpu(), None
    for step in range(1, steps + 1):
        v = v + (0.5 * dt) * forces / masses
        x = x + dt * v
        try:
            prediction = checked_prediction(predict, neighbours.graph(x))
            forces = prediction.forces.cpu()
            v = v + (0.5 * dt) * forces / masses
            record.add(prediction.energy.cpu(), x, v)
        except GaqError as error:
            exploded = f"after {step * timestep_fs:g} fs: {error}"
            break
        if progress is not None:
            progress(step * timestep_fs / 1000.0)
    energy, turned = record.series()
    time_ps = np.arange(energy.shape[1], dtype=np.float64) * np.float64(timestep_fs / 1000.0)
    return Replicas(timestep_fs, time_ps, energy, turned, record.scale.numpy(), exploded)


def thermal_velocities(structure: Structure, temperature_K: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw v_i ~ N(0, kT/m_i) and take out the motion of the whole; Å per ASE time, shape (N, 3)."""
    masses = structure.atomic_masses[:, None]
    v = rng.standard_normal(structure.positions.shape) * np.sqrt(units.kB * temperature_K / masses)
    v -= (masses * v).sum(0) / masses.sum()
    if not any(structure.pbc):
        arms = structure.positions - (masses * structure.positions).sum(0) / masses.sum()
        inertia = (masses * arms * arms).sum() * np.eye(3) - (masses * arms).T @ arms
        angular = (masses * np.cross(arms, v)).sum(0)
        v -= np.cross(np.linalg.pinv(inertia, rcond=1e-9, hermitian=True) @ angular, arms)
    return v


def _start(structure: Structure, replicas: int, temperature_K: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return positions and velocities of all replicas."""
    velocities = [thermal_velocities(structure, temperature_K, np.random.default_rng([seed, k]))
                  for k in range(replicas)]
    return torch.from_numpy(structure.positions).repeat(replicas, 1), torch.from_numpy(np.concatenate(velocities))


class _Neighbours:
    """Candidate edges within cutoff + skin of every replica, found anew when one of its atoms moved half the skin."""

    def __init__(self, structure: Structure, cutoff: float, replicas: int) -> None:
        self.structure = replace(structure, energy=None, forces=None)
        self.cutoff, self.replicas = cutoff, replicas
        self.members = [tensors(build_graph(self.structure, cutoff + SKIN))] * replicas
        self.candidates = collate(self.members)
        self.found_at = self.candidates.positions.clone()

    def graph(self, x: Tensor) -> Graph:
        """Return the graph at positions `x`."""
        moved = (x - self.found_at).norm(dim=-1).reshape(self.replicas, -1).amax(-1)
        stale = (~(moved <= SKIN / 2)).nonzero().flatten().tolist()
        if stale:
            places, found = x.reshape(self.replicas, -1, 3), self.found_at.reshape(self.replicas, -1, 3)
            for k in stale:
                moved = replace(self.structure, positions=places[k].numpy())
                self.members[k] = tensors(build_graph(moved, self.cutoff + SKIN))
                found[k] = places[k]
            self.candidates = collate(self.members)
        every = self.candidates
        offsets = torch.einsum("ev,eva->ea", every.shifts, every.cell[every.batch[every.centers]])
        near = (x[every.neighbours] - x[every.centers] + offsets).norm(dim=-1) <= self.cutoff
        return replace(every, positions=x, centers=every.centers[near], neighbours=every.neighbours[near],
                       shifts=every.shifts[near])


class Record:
    """Series of conserved quantities, of replicas no hotter than a bound.

    Args:
        masses: amu, shape (R N, 1).
        replicas: R.
        x, v: first positions and velocities.
        temperature_K: what the simulation was started with.
    """

    def __init__(self, masses: Tensor, replicas: int, x: Tensor, v: Tensor, temperature_K: float) -> None:
        self.hottest_K = HOTTEST[0] + HOTTEST[1] * temperature_K
        self.masses, self.replicas = masses.reshape(replicas, -1, 1), replicas
        arms, momenta = self._relative(x, v)
        self.scale = (arms.norm(dim=-1) * momenta.norm(dim=-1)).sum(1)
        self.start = torch.linalg.cross(arms, momenta).sum(1)
        self.energies: list[Tensor] = []
        self.turned: list[Tensor] = []

    def add(self, potential: Tensor, x: Tensor, v: Tensor) -> None:
        """Take one sample.

        Raises:
            GaqError: a replica is too hot to be physical.
        """
        arms, momenta = self._relative(x, v)
        velocities = v.reshape(self.replicas, -1, 3)
        kinetic = 0.5 * (self.masses * velocities.square()).sum((1, 2))
        self.energies.append(potential + kinetic)
        self.turned.append((torch.linalg.cross(arms, momenta).sum(1) - self.start).norm(dim=-1))
        reached = float(kinetic.max()) / (1.5 * velocities.shape[1] * units.kB)
        if not reached < self.hottest_K:
            raise GaqError(f"the temperature is {reached:.0f} K, and {self.hottest_K:.0f} K is the bound")

    def series(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return total energies and changes of the angular momentum, shape (R, samples)."""
        return torch.stack(self.energies, 1).numpy(), torch.stack(self.turned, 1).numpy()

    def _relative(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        x, v = x.reshape(self.replicas, -1, 3), v.reshape(self.replicas, -1, 3)
        weights = self.masses / self.masses.sum(1, keepdim=True)
        return x - (weights * x).sum(1, keepdim=True), self.masses * (v - (weights * v).sum(1, keepdim=True))


def check_settings(replicas: int, picoseconds: float, timestep_fs: float, temperature_K: float) -> None:
    """Raise `ConfigError` for a setting without meaning."""
    for name, value, rule, holds in (
        ("replicas", replicas, "at least 1", replicas >= 1),
        ("picoseconds", picoseconds, "a positive number, such as 20", 0 < picoseconds < np.inf),
        ("timestep_fs", timestep_fs, "a positive number of femtoseconds, such as 0.5", 0 < timestep_fs < np.inf),
        ("temperature_K", temperature_K, "zero or a positive number of kelvin", 0 <= temperature_K < np.inf),
    ):
        if not holds:
            raise ConfigError(f"{name} must be {rule}, not {value}")
