"""What takes the steps of a simulation: the engine's own loop where there is one, or an integrator here.

A stepper starts a `State` and runs it on. After `forget`, what follows depends on the state alone, to the last bit: so a
run that is cut into pieces equals one that is not. `run` returns early, which the state's step tells, where it is too hot.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaq.backends.native.library import Dynamics
from gaq.dynamics.integrators import Integrator, Langevin, VelocityVerlet
from gaq.dynamics.state import Bath, State
from gaq.dynamics.surface import PotentialSurface, Surface
from gaq.errors import GaqError

Array = NDArray[np.float64]


class Stepper(Protocol):
    """What takes the steps of a simulation."""

    def start(self, positions: Array, velocities: Array, step: int = 0) -> State:
        """Return the state at these positions and velocities."""
        ...

    def run(self, state: State, steps: int) -> None:
        """Advance `state` in place; an error leaves it after the last whole step."""
        ...

    def forget(self) -> None:
        """Let what follows depend on the state alone."""
        ...


def stepper_for(surface: Any, masses: Array, bath: Bath) -> Stepper:
    """Return the engine's loop where `surface` has an engine, or an integrator.

    Args:
        surface: gives the forces; of one structure, or (without an engine) of copies side by side.
        masses: amu, shape (R N,); infinite for an atom that stays where it is, whose velocity must be 0.
        bath: how to step.
    """
    return PythonStepper(surface, masses, bath) if surface.engine is None else EngineStepper(surface, masses, bath)


class PythonStepper:
    """Steps of an integrator on any surface."""

    def __init__(self, surface: Surface, masses: Array, bath: Bath) -> None:
        self.surface, self.bath, self.masses = surface, bath, masses[:, None]
        self.integrator: Integrator = VelocityVerlet(bath.timestep) if bath.friction == 0 else Langevin(
            bath.timestep, bath.friction, bath.temperature, bath.seed)

    def start(self, positions: Array, velocities: Array, step: int = 0) -> State:
        """Return the state at these positions and velocities."""
        return started(self.surface, self.masses, positions, velocities, step)

    def run(self, state: State, steps: int) -> None:
        """Advance `state` in place; an error leaves it after the last whole step."""
        goal = state.step + steps
        while state.step < goal:
            self.integrator.step(state, self.masses, self.surface)
            state.kinetic[:] = kinetic_energies(self.masses, state.velocities, len(state.potential))
            if too_hot(state, self.bath):
                return

    def forget(self) -> None:
        """Let what follows depend on the state alone."""
        self.surface.forget()


class EngineStepper:
    """Steps inside the engine: Python is asked for pairs only when the Verlet skin is used up.

    Whatever else uses the engine waits for a run to end.
    """

    def __init__(self, surface: PotentialSurface, masses: Array, bath: Bath) -> None:
        self.surface, self.bath = surface, bath
        self.masses = np.ascontiguousarray(masses, dtype=np.float64)
        self.batch = np.zeros(len(masses), dtype=np.int32)  # all atoms are of one structure

    def start(self, positions: Array, velocities: Array, step: int = 0) -> State:
        """Return the state at these positions and velocities."""
        return started(self.surface, self.masses[:, None], positions, velocities, step)

    def run(self, state: State, steps: int) -> None:
        """Advance `state` in place.

        Raises:
            StructureError: atoms at one place, positions or forces that are not finite.
            GaqError: an atom moves by more than the skin in one step.
        """
        with self.surface.engine.lock:
            self._run(state, state.step + steps)
            self.surface.look(state.positions)

    def forget(self) -> None:
        """Let what follows depend on the state alone."""
        self.surface.forget()

    def _run(self, state: State, goal: int) -> None:
        skin, engine = self.surface.skin, self.surface.engine
        bath = Dynamics(self.bath.timestep, self.bath.friction, self.bath.temperature, self.bath.seed, state.step,
                        skin.reach, self.bath.hottest)
        while state.step < goal:
            before = state.step
            self.surface.give_pairs(state.positions, state.cell)
            assert skin.reference is not None  # the pairs were found
            try:
                engine.advance(bath, goal - state.step, self.masses, self.batch, 1, skin.reference, state)
            finally:
                state.step = int(bath.step)
            if too_hot(state, self.bath):
                return
            if state.step == goal:
                return
            if state.step == before and np.array_equal(skin.reference, state.positions):
                raise GaqError(f"an atom moves by more than {skin.reach:g} Å in one step")
            skin.forget()  # the next step would leave it, wherever its atoms are now


def started(surface: Surface, masses: Array, positions: Array, velocities: Array, step: int, cell: Array | None = None,
            barostat: Array | None = None, stress: bool = False) -> State:
    """Return the state at these positions and velocities; masses have the shape (R N, 1)."""
    first = surface(positions, cell, stress)
    potential = np.array(first.energy, dtype=np.float64)
    x, v, forces = (np.array(values, dtype=np.float64, order="C") for values in (positions, velocities, first.forces))
    return State(step, x, v, forces, potential, kinetic_energies(masses, v, len(potential)), surface.cell, barostat)


def kinetic_energies(masses: Array, velocities: Array, structures: int) -> Array:
    """Return Σ_i ½ m_i v_i² of each structure, eV; an atom of infinite mass is at rest, and has none."""
    moving = np.where(np.isfinite(masses), masses, 0.0)
    return 0.5 * (moving * np.square(velocities)).reshape(structures, -1).sum(1)


def too_hot(state: State, bath: Bath) -> bool:
    """Return whether the kinetic energy of a structure is beyond what the bath allows."""
    atoms = len(state.positions) / len(state.potential)
    return not bool((state.kinetic <= bath.hottest * atoms).all())
