"""A simulation from its start, or from where it stopped, to its end: frames, conservation figures and typed failures."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaq.dynamics.barostat import BarostatStepper
from gaq.dynamics.conditions import ROOM_TEMPERATURE, Conditions, check_settings
from gaq.dynamics.extrapolation import Extrapolation
from gaq.dynamics.identity import run_identity
from gaq.dynamics.state import State, UnstableTrajectory, bound_K, kinetic_temperature
from gaq.dynamics.steppers import Stepper, stepper_for
from gaq.dynamics.surface import CalculatorSurface, PotentialSurface, Surface
from gaq.dynamics.trajectory import Frame, Sample, Trajectory
from gaq.dynamics.velocities import degrees_of_freedom, thermal_velocities
from gaq.errors import ConfigError, DataError, GaqError, Interrupted
from gaq.metrics.conservation import Drift, energy_drift
from gaq.structure import Structure

SAME_MODEL = 5e-3  # eV; on going on, the energy of the last frame must come out again this well
Told = Callable[[float, float, str], None]


@dataclass(frozen=True, eq=False)
class MDResult:
    """A finished simulation; arrays have one value for each frame written, those before a restart included.

    Args:
        ensemble: "nve", "nvt" or "npt".
        timestep_fs, temperature_K: as asked for; or the temperature of the momenta that an NVE run was given.
        steps: step reached.
        time_ps: ps.
        total_energy, potential_energy: eV.
        temperature: K, from the kinetic energy and the degrees of freedom that move.
        volume: Å³ in NPT, else None.
        drift: slope of what is conserved in meV/atom/ps with its standard error: the total energy in NVE, in NPT that of
            atoms and barostat together; None in NVT, or with one frame.
        ms_per_step: median wall time of a step; 0 where none was left to do.
        final: last positions, momenta and cell.
        trajectory: the file, or None.
        backend: what computed: "engine (avx512)", "torch", or the name of an ASE calculator.
        most_clipped: the quantizer that clipped the largest share of its values in all steps of this call, and that share;
            None for models without codes, and where another backend computed.
        extrapolation: in how many of the structures looked at atoms were nearer than training saw them, and how near;
            looked at are the frames of this call where the engine takes the steps, else the structures of all steps. None
            for other calculators.
    """

    ensemble: str
    timestep_fs: float
    temperature_K: float
    steps: int
    time_ps: NDArray[np.float64]
    total_energy: NDArray[np.float64]
    potential_energy: NDArray[np.float64]
    temperature: NDArray[np.float64]
    volume: NDArray[np.float64] | None
    drift: Drift | None
    ms_per_step: float
    final: Structure
    trajectory: Path | None
    backend: str
    most_clipped: tuple[str, float] | None
    extrapolation: Extrapolation | None = None

    def to_results(self, name: str, recipe: str) -> dict[str, Any]:
        """Return the entry of `results.json` for this run, energies in meV/atom relative to the first."""
        energy = 1000.0 * (self.total_energy - self.total_energy[0]) / len(self.final)
        return {"name": name, "recipe": recipe, "timestep_fs": self.timestep_fs, "temperature_K": self.temperature_K,
                "time_ps": self.time_ps.tolist(), "total_energy_meV_atom": energy.tolist(),
                "drift_meV_atom_ps": None if self.drift is None else self.drift.slope_meV_atom_ps,
                "ms_per_step": self.ms_per_step}


def simulate(subject: Any, structure: Structure, conditions: Conditions, *, steps: int, every: int,
             out: str | Path | None = None, resume: bool = False, progress: Told | None = None) -> MDResult:
    """Simulate `structure`; see `gaq.run_md`.

    Args:
        subject: a `Potential`, or a calculator of ASE.
        structure: start.
        conditions: what is simulated.
        steps, every, out, resume, progress: as for `run_md`.
    """
    check_settings(("steps", steps, "at least 1", steps >= 1), ("every", every, "at least 1", every >= 1))
    if resume and out is None:
        raise ConfigError("resume needs the trajectory to go on from; give its path as out")
    momenta, freedom, temperature_K = _started(structure, conditions)
    surface = surface_of(subject, structure)
    bath = conditions.bath(temperature_K, freedom, len(structure))
    barostat = BarostatStepper(surface, structure, bath, conditions.pressure) if conditions.flexible else None
    stepper: Stepper = barostat or stepper_for(surface, _moving_masses(structure), bath)
    begin = stepper.start(structure.positions, momenta / structure.atomic_masses[:, None])  # fails before a file is made
    identity = run_identity(subject, conditions, temperature_K)
    with nullcontext() if out is None else Trajectory(out, structure, identity, resume, conditions.flexible) as trajectory:
        run = _Run(stepper, barostat, surface, structure, conditions, freedom, temperature_K, trajectory, steps, every,
                   begin)
        run.start()
        run.advance(progress)
    return run.result()


def surface_of(subject: Any, structure: Structure) -> Surface:
    """Return the surface that a potential or a calculator of ASE gives a structure."""
    if hasattr(subject, "predict"):
        return PotentialSurface(subject, structure, extrapolation=Extrapolation(subject))
    return CalculatorSurface(subject, structure)


def _started(structure: Structure, conditions: Conditions) -> tuple[NDArray[np.float64], int, float]:
    """Return the first momenta, the degrees of freedom that move, and the temperature."""
    asked, masses = conditions.temperature_K, structure.atomic_masses[:, None]
    given = structure.momenta if asked is None else None
    temperature_K = ROOM_TEMPERATURE if asked is None else asked
    if given is None:
        velocities = thermal_velocities(structure, temperature_K, np.random.default_rng(conditions.seed))
        momenta = masses * velocities
    else:
        momenta = np.where(_fixed(structure)[:, None], 0.0, given)
    rests = conditions.flexible or (given is None and conditions.ensemble == "nve")  # the whole does, and stays at rest
    freedom = degrees_of_freedom(structure, internal=rests)
    if given is not None and conditions.ensemble == "nve":
        temperature_K = kinetic_temperature(_kinetic(momenta, masses), freedom)
    return momenta, freedom, temperature_K


def _fixed(structure: Structure) -> NDArray[np.bool_]:
    return np.zeros(len(structure), dtype=bool) if structure.fixed is None else structure.fixed


def _moving_masses(structure: Structure) -> NDArray[np.float64]:
    """Return the masses, infinite for fixed atoms."""
    return np.where(_fixed(structure), np.inf, structure.atomic_masses)


def _kinetic(momenta: NDArray[np.float64], masses: NDArray[np.float64]) -> float:
    return 0.5 * float(np.vdot(momenta, momenta / masses))


@dataclass(eq=False)
class _Run:
    """The moving parts of one simulation; arguments as for `simulate`, and the state it begins with."""

    stepper: Stepper
    barostat: BarostatStepper | None
    surface: Surface
    structure: Structure
    conditions: Conditions
    freedom: int
    temperature_K: float
    trajectory: Trajectory | None
    steps: int
    every: int
    state: State
    samples: list[Sample] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # per step, one value for each block

    def __post_init__(self) -> None:
        self.masses = self.structure.atomic_masses[:, None]

    def start(self) -> None:
        """Take the last frame on disk, or write the first frame."""
        last = None if self.trajectory is None else self.trajectory.last
        if last is None:
            self._record()
            return
        assert self.trajectory is not None
        self.stepper.forget()
        place = last.positions, last.momenta / self.masses, last.sample.step
        self.state = (self.stepper.start(*place) if self.barostat is None
                      else self.barostat.start(*place, last.cell, last.barostat))
        change = float(self.state.potential[0]) - last.sample.potential
        if not abs(change) < SAME_MODEL:
            raise DataError(f"{self.trajectory.path} was made with another model: the energy of its last frame is off "
                            f"by {1000 * change:.1f} meV; give the model it was made with, or choose another path")
        self.state.forces[:] = last.forces  # to the last bit those of the run that stopped
        self.samples = list(self.trajectory.samples)
        self.stepper.forget()

    def advance(self, progress: Told | None) -> None:
        """Go on to the last step, writing a frame at every multiple of `every` and at the end."""
        try:
            while self.state.step < self.steps:
                self._block(min(self.every - self.state.step % self.every, self.steps - self.state.step))
                self._record()
                if progress is not None:
                    progress(self.state.step, self.steps, f"{self._temperature():.0f} K")
        except KeyboardInterrupt as cause:
            advice = ("no trajectory was asked for, so the run starts anew next time" if self.trajectory is None else
                      f"go on with resume=True and the trajectory {self.trajectory.path}")
            raise Interrupted(cause, f"after step {self.samples[-1].step} of {self.steps}; {advice}") from None

    def result(self) -> MDResult:
        """Gather the energies of all frames."""
        columns = np.array([[s.step, s.potential, s.kinetic, s.conserved, s.volume] for s in self.samples]).T
        steps, potential, kinetic, conserved, volume = columns
        time_ps = steps * self.conditions.timestep_fs / 1000.0
        conserves = self.conditions.ensemble != "nvt" and len(steps) > 1
        state, looked = self.state, self.surface.extrapolation
        return MDResult(
            ensemble=self.conditions.ensemble, timestep_fs=self.conditions.timestep_fs, temperature_K=self.temperature_K,
            steps=state.step, time_ps=time_ps, total_energy=potential + kinetic, potential_energy=potential,
            temperature=kinetic_temperature(kinetic, self.freedom),
            volume=volume if self.conditions.flexible else None,
            drift=energy_drift(time_ps, conserved, len(self.structure)) if conserves else None,
            ms_per_step=1000.0 * float(np.median(self.seconds)) if self.seconds else 0.0,
            final=self._final(), trajectory=None if self.trajectory is None else self.trajectory.path,
            backend=self.surface.backend, most_clipped=None if looked is None else looked.most_clipped,
            extrapolation=looked)

    def _block(self, count: int) -> None:
        begin = time.perf_counter()
        try:
            self.stepper.run(self.state, count)
        except GaqError as error:
            raise self._exploded(str(error)) from error
        self.stepper.forget()
        self.seconds.append((time.perf_counter() - begin) / count)
        reached, bound = self._temperature(), bound_K(self.temperature_K)
        if not reached < bound:
            raise self._exploded(f"the temperature is {reached:.0f} K, and {bound:.0f} K is the bound")

    def _record(self) -> None:
        state = self.state
        momenta = self.masses * state.velocities
        state.velocities[:] = momenta / self.masses  # as they come back from the momenta of a frame
        potential, kinetic = float(state.potential[0]), _kinetic(momenta, self.masses)
        conserved, volume = potential + kinetic, 0.0
        if self.barostat is not None:
            conserved, volume = self.barostat.conserved(state), float(abs(np.linalg.det(state.cell)))
        sample = Sample(state.step, potential, kinetic, conserved, volume)
        if self.trajectory is not None:
            self.trajectory.append(Frame(sample, state.positions, momenta, state.forces, state.cell, state.barostat))
        self.samples.append(sample)

    def _temperature(self) -> float:
        return kinetic_temperature(_kinetic(self.masses * self.state.velocities, self.masses), self.freedom)

    def _final(self) -> Structure:
        state = self.state
        return replace(self.structure, positions=state.positions.copy(), momenta=self.masses * state.velocities,
                       cell=state.cell.copy(), energy=None, forces=None, stress=None)

    def _exploded(self, reason: str) -> UnstableTrajectory:
        step, timestep = self.state.step, self.conditions.timestep_fs
        kept = "" if self.trajectory is None else (
            f" (whole frames up to step {self.samples[-1].step} are in {self.trajectory.path})")
        return UnstableTrajectory(f"the simulation exploded at step {step}, {step * timestep:g} fs: {reason}{kept}; try a "
                                  f"shorter time step than {timestep:g} fs, a relaxed start, or a more precise model")
