"""Integrators of Newton's and Langevin's equations: each takes one step of a `State`, whatever the forces come from.

| symbol  | variable | meaning                                               |
|---------|----------|-------------------------------------------------------|
| x, v, F | x, v, F  | positions Å, velocities Å/time, forces eV/Å, (N, 3)   |
| m       | masses   | amu, shape (N, 1); infinite for an atom that stays    |
| Δt      | timestep | in ASE's unit of time                                 |
| γ, kT   | friction, temperature | 1/time, eV                               |
| ξ       | normals  | standard normal noise, shape (N, 3)                   |

The engine's own loop (csrc) takes the same steps with the same noise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gaq.dynamics.state import State
from gaq.graph import Prediction

Array = NDArray[np.float64]
Forces = Callable[[Array], Prediction]
_WORD = np.uint64(0xFFFFFFFF)
_BITS = np.uint64(32)


class Integrator(Protocol):
    """What takes one step."""

    def step(self, state: State, masses: Array, predict: Forces) -> None:
        """Advance `state` by one step; an error of `predict` leaves it as it was. The kinetic energies are not updated."""
        ...


@dataclass(frozen=True)
class VelocityVerlet:
    """v += F Δt / 2m,   x += v Δt,   v += F(x) Δt / 2m.

    Source: W. C. Swope et al., J. Chem. Phys. 76, 637 (1982).
    """

    timestep: float

    def step(self, state: State, masses: Array, predict: Forces) -> None:
        """Advance `state` by one step."""
        half = 0.5 * self.timestep
        v = state.velocities + half * state.forces / masses
        x = state.positions + self.timestep * v
        _arrive(state, masses, x, v, half, predict(x))


@dataclass(frozen=True)
class Langevin:
    """Velocity Verlet whose drift is split in two halves around an exact step of the bath (BAOAB).

    v ← c v + √((1 - c²) kT/m) ξ,   c = exp(-γ Δt)

    Source: B. Leimkuhler and C. Matthews, J. Chem. Phys. 138, 174102 (2013).
    """

    timestep: float
    friction: float
    temperature: float
    seed: int

    def step(self, state: State, masses: Array, predict: Forces) -> None:
        """Advance `state` by one step."""
        half, kept = 0.5 * self.timestep, np.exp(-self.friction * self.timestep)
        v = state.velocities + half * state.forces / masses
        x = state.positions + half * v
        v = kept * v + np.sqrt((1.0 - kept * kept) * self.temperature / masses) * normals(self.seed, state.step, len(x))
        x = x + half * v
        _arrive(state, masses, x, v, half, predict(x))


def normals(seed: int, step: int, atoms: int) -> Array:
    """Return noise of the standard normal distribution, shape (atoms, 3), as a function of seed, step, atom and axis alone.

    Philox 4x32-10 with the seed as key and (step, 2 · atom + pair) as counter; Box-Muller makes numbers normal in pairs.

    Source: J. K. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
    """
    low = np.arange(2 * atoms, dtype=np.uint64)
    high = np.full_like(low, step)
    word = [low & _WORD, low >> _BITS, high & _WORD, high >> _BITS]
    key = [np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32 & 0xFFFFFFFF)]
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * word[0], np.uint64(0xCD9E8D57) * word[2]
        word = [(b >> _BITS) ^ word[1] ^ key[0], b & _WORD, (a >> _BITS) ^ word[3] ^ key[1], a & _WORD]
        key = [np.uint64((int(key[0]) + 0x9E3779B9) & 0xFFFFFFFF), np.uint64((int(key[1]) + 0xBB67AE85) & 0xFFFFFFFF)]
    radius = np.sqrt(-2.0 * np.log((word[0] + 0.5) * 2.0**-32))
    angle = 2.0 * np.pi * (word[1] * 2.0**-32 + word[2] * 2.0**-64)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(atoms, 4)[:, :3]


def _arrive(state: State, masses: Array, x: Array, v: Array, half: float, prediction: Prediction) -> None:
    """Take the last half of the kick, and everything over into the state."""
    state.positions[:], state.forces[:] = x, prediction.forces
    state.velocities[:] = v + half * prediction.forces / masses
    state.potential[:] = prediction.energy
    state.step += 1
