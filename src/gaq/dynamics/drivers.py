"""Molecular dynamics over ASE's integrators, with restart, conservation figures and typed failures."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from gaq.adapters.ase import GaqCalculator
from gaq.atoms import atoms_of, structure_of
from gaq.backends.native.potential import NativePotential
from gaq.dynamics.extrapolation import Extrapolation
from gaq.dynamics.identity import run_identity
from gaq.dynamics.native import Bath, NativeDynamics, State
from gaq.dynamics.trajectory import Frame, Sample, Trajectory
from gaq.errors import ConfigError, DataError, GaqError, Interrupted, did_you_mean
from gaq.metrics.conservation import Drift, energy_drift
from gaq.structure import Structure

if TYPE_CHECKING:
    from gaq.forcefield import ForceField

SAME_MODEL = 5e-3  # eV; on going on, the energy of the last frame must come out again this well
ROOM_TEMPERATURE = 300.0  # K
HOTTEST = 1000.0, 10.0  # a run has exploded above 1000 K + 10 times the temperature asked for


class UnstableTrajectory(GaqError):
    """A simulation that exploded: forces that are not finite, atoms at one place, or a temperature beyond reason."""


@dataclass(frozen=True)
class MDState:
    """Where a running simulation is; energies in eV."""

    step: int
    steps: int
    time_ps: float
    temperature_K: float
    potential: float
    total: float
    ms_per_step: float


@dataclass(frozen=True, eq=False)
class MDResult:
    """A finished simulation; arrays have one value for each frame written, those before a restart included.

    Args:
        ensemble: "nve" or "nvt".
        timestep_fs, temperature_K: as asked for; or the temperature of the momenta that an NVE run was given.
        steps: step reached.
        time_ps: ps.
        total_energy, potential_energy: eV.
        temperature: K, from the kinetic energy and the degrees of freedom that move.
        drift: slope of the total energy in meV/atom/ps with its standard error; None in NVT, or with one frame.
        ms_per_step: median wall time of a step; 0 where none was left to do.
        final: last positions.
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


def run_md(
    forcefield: Union["ForceField", Calculator],
    structure: Structure,
    *,
    ensemble: str = "nve",
    temperature_K: float | None = None,
    timestep_fs: float = 0.5,
    steps: int = 1000,
    every: int = 10,
    out: str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
    friction_per_ps: float = 10.0,
    progress: Callable[[MDState], None] | None = None,
    backend: str = "auto",
) -> MDResult:
    """Simulate `structure` and return energies, temperatures, drift and speed.

    Its masses count, and its fixed atoms stay where they are. Momenta are drawn without motion of the centre of mass and,
    for molecules, without rotation. NVE is velocity Verlet; NVT is Langevin dynamics, whose noise depends on `seed` and the
    step alone. A run that was cut into pieces therefore equals an uninterrupted one.

    Args:
        forcefield: force field, or any ASE calculator.
        structure: start.
        ensemble: "nve" or "nvt".
        temperature_K: K; of the momenta that are drawn for the start, and in NVT of the bath. None starts from the momenta
            of `structure`, with a bath of 300 K; where it has none, they are drawn at 300 K.
        timestep_fs: fs.
        steps: total number of steps, those before a restart included.
        every: steps between frames and calls of `progress`.
        out: trajectory in extended XYZ, or None.
        seed: of the momenta and of the Langevin noise.
        resume: go on from the last frame of `out`, where it exists, with the model and settings it was made with.
        friction_per_ps: Langevin friction in 1/ps.
        progress: called after each frame.
        backend: "engine", "torch", or "auto", the engine where it can; another ASE calculator goes its own way.

    Raises:
        ConfigError: a setting without meaning.
        StructureError, SpeciesError: a structure that the force field cannot take.
        UnstableTrajectory: the simulation exploded.
        OutputError: `out` exists already, or cannot be written; whole frames stay.
        DataError: `out` is no trajectory of this structure, these settings and this model.
        Interrupted: Ctrl-C or SIGTERM.

    Source: Swope et al., J. Chem. Phys. 76, 637 (1982); Vanden-Eijnden, Ciccotti, Chem. Phys. Lett. 429, 310 (2006).
    """
    _check(ensemble, temperature_K, timestep_fs, steps, every, seed, friction_per_ps, resume and out is None)
    atoms, freedom, temperature_K = _started(structure, ensemble, temperature_K, seed)
    atoms.calc = _calculator(forcefield, backend)
    settings = run_identity(atoms.calc, ensemble=ensemble, temperature_K=temperature_K, friction_per_ps=friction_per_ps,
                            timestep_fs=timestep_fs, seed=seed)
    dynamics = _dynamics(atoms, structure, freedom, ensemble, temperature_K, timestep_fs, friction_per_ps, seed)
    atoms.get_forces()  # a structure that the force field cannot take fails here, before any file is made
    with nullcontext() if out is None else Trajectory(out, structure, settings, resume) as trajectory:
        run = _Run(atoms, dynamics, freedom, ensemble == "nve", trajectory, steps, every, timestep_fs, temperature_K, seed)
        run.start()
        run.advance(progress)
    return run.result()


def _started(structure: Structure, ensemble: str, temperature_K: float | None, seed: int) -> tuple[Atoms, int, float]:
    """Return atoms with their momenta, the degrees of freedom that move, and the temperature; arguments as for `run_md`."""
    atoms = atoms_of(structure)
    atoms.set_momenta(atoms.get_momenta())  # which lets fixed atoms rest
    drawn = temperature_K is not None or structure.momenta is None
    freedom = _freedom(atoms, internal=drawn and ensemble == "nve")
    if temperature_K is None:
        given = not drawn and ensemble == "nve"
        temperature_K = _kinetic_temperature(atoms, freedom) if given else ROOM_TEMPERATURE
    if drawn:
        _draw_momenta(atoms, temperature_K, seed)
    return atoms, freedom, temperature_K


@dataclass(eq=False)
class _Run:
    """The moving parts of one call of `run_md`; arguments as there."""

    atoms: Atoms
    dynamics: VelocityVerlet | Langevin | NativeDynamics
    freedom: int
    conserves: bool
    trajectory: Trajectory | None
    steps: int
    every: int
    timestep_fs: float
    temperature_K: float
    seed: int
    step: int = 0
    samples: list[Sample] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # per step, one value for each block
    forces: NDArray[np.float64] | None = None  # of the frame that the run goes on from

    def __post_init__(self) -> None:
        self.state: State | None = None

    def start(self) -> None:
        """Take the last frame on disk, or write the first frame."""
        last = None if self.trajectory is None else self.trajectory.last
        if last is None:
            self._record()
            return
        assert self.trajectory is not None
        self.atoms.set_positions(last.positions)
        self.atoms.set_momenta(last.momenta)
        self.step, self.forces = last.sample.step, last.forces
        self.samples = list(self.trajectory.samples)
        change = self.atoms.get_potential_energy() - last.sample.potential
        if not abs(change) < SAME_MODEL:
            raise DataError(f"{self.trajectory.path} was made with another model: the energy of its last frame is off "
                            f"by {1000 * change:.1f} meV; give the model it was made with, or choose another path")

    def advance(self, progress: Callable[[MDState], None] | None) -> None:
        """Go on to the last step, writing a frame at every multiple of `every` and at the end."""
        try:
            while self.step < self.steps:
                self._block(min(self.every - self.step % self.every, self.steps - self.step))
                self._record()
                if progress is not None:
                    progress(self._state())
        except KeyboardInterrupt as cause:
            advice = ("no trajectory was asked for, so the run starts anew next time" if self.trajectory is None else
                      f"go on with --resume and the trajectory {self.trajectory.path}")
            raise Interrupted(cause, f"after step {self.samples[-1].step} of {self.steps}; {advice}") from None

    def result(self) -> MDResult:
        """Gather the energies of all frames."""
        steps = np.array([sample.step for sample in self.samples])
        potential = np.array([sample.potential for sample in self.samples])
        kinetic = np.array([sample.kinetic for sample in self.samples])
        time_ps = steps * self.timestep_fs / 1000.0
        drift = energy_drift(time_ps, potential + kinetic, len(self.atoms)) if len(steps) > 1 else None
        return MDResult(
            ensemble="nve" if self.conserves else "nvt",
            timestep_fs=self.timestep_fs, temperature_K=self.temperature_K, steps=self.step, time_ps=time_ps,
            total_energy=potential + kinetic, potential_energy=potential,
            temperature=2.0 * kinetic / (self.freedom * units.kB),
            drift=drift if self.conserves else None,
            ms_per_step=1000.0 * float(np.median(self.seconds)) if self.seconds else 0.0,
            final=structure_of(self.atoms), trajectory=None if self.trajectory is None else self.trajectory.path,
            backend=getattr(self.atoms.calc, "backend", type(self.atoms.calc).__name__),
            most_clipped=_most_clipped(self.atoms.calc), extrapolation=getattr(self.atoms.calc, "extrapolation", None))

    def _block(self, count: int) -> None:
        begin = time.perf_counter()
        if isinstance(self.dynamics, NativeDynamics):
            self._native_block(self.dynamics, count)
        else:
            self._ase_block(self.dynamics, count)
        self.seconds.append((time.perf_counter() - begin) / count)

    def _native_block(self, dynamics: NativeDynamics, count: int) -> None:
        try:
            if self.state is None:
                self.state = dynamics.start(self.atoms.get_positions(), self.atoms.get_velocities(), self.step)
                # To the last bit those of the frame, which a run that goes on from it has to begin with.
                self.state.forces[:] = _forces(self.atoms) if self.forces is None else self.forces
            dynamics.run(self.state, count)
        except GaqError as error:
            self.step = self.step if self.state is None else self.state.step
            raise self._exploded(str(error)) from error
        self.step = self.state.step
        self.atoms.set_positions(self.state.positions)
        self.atoms.set_velocities(self.state.velocities)
        self.state.velocities[:] = self.atoms.get_velocities()  # as they come back from the momenta of a frame
        self.atoms.calc.keep(self.atoms, float(self.state.potential[0]), self.state.forces.copy())
        self._check_temperature()

    def _ase_block(self, dynamics: VelocityVerlet | Langevin, count: int) -> None:
        if isinstance(dynamics, Langevin):
            dynamics.rng = np.random.default_rng([self.seed, self.step])  # type: ignore[assignment]
        for _ in range(count):
            try:
                dynamics.step()
            except GaqError as error:
                raise self._exploded(str(error)) from error
            self.step += 1
            self._check_temperature()

    def _check_temperature(self) -> None:
        reached, bound = self._temperature(), HOTTEST[0] + HOTTEST[1] * self.temperature_K
        if not reached < bound:
            raise self._exploded(f"the temperature is {reached:.0f} K, and {bound:.0f} K is the bound")

    def _record(self) -> None:
        sample = Sample(self.step, float(self.atoms.get_potential_energy()), float(self.atoms.get_kinetic_energy()))
        if self.trajectory is not None:
            self.trajectory.append(Frame(sample, self.atoms.get_positions(), self.atoms.get_momenta(),
                                         _forces(self.atoms)))
        self.samples.append(sample)

    def _temperature(self) -> float:
        return _kinetic_temperature(self.atoms, self.freedom)

    def _state(self) -> MDState:
        sample = self.samples[-1]
        return MDState(self.step, self.steps, self.step * self.timestep_fs / 1000.0, self._temperature(),
                       sample.potential, sample.potential + sample.kinetic, 1000.0 * self.seconds[-1])

    def _exploded(self, reason: str) -> UnstableTrajectory:
        kept = "" if self.trajectory is None else (
            f" (whole frames up to step {self.samples[-1].step} are in {self.trajectory.path})")
        return UnstableTrajectory(f"the simulation exploded at step {self.step}, {self.step * self.timestep_fs:g} fs: "
                                  f"{reason}{kept}; try a shorter time step than {self.timestep_fs:g} fs, a relaxed "
                                  "start, or a more precise model")


def _dynamics(atoms: Atoms, structure: Structure, freedom: int, ensemble: str, temperature_K: float, timestep_fs: float,
              friction_per_ps: float, seed: int) -> VelocityVerlet | Langevin | NativeDynamics:
    """Return what takes the steps: the engine where it computes the forces, or ASE."""
    timestep, friction = timestep_fs * units.fs, friction_per_ps / (1000.0 * units.fs)
    native = getattr(atoms.calc, "forcefield", None)
    if isinstance(native, NativePotential):
        masses = atoms.get_masses() if structure.fixed is None else np.where(structure.fixed, np.inf, atoms.get_masses())
        bound = HOTTEST[0] + HOTTEST[1] * temperature_K
        return NativeDynamics(native, structure, masses, Bath(
            timestep=timestep, friction=0.0 if ensemble == "nve" else friction, temperature=units.kB * temperature_K,
            seed=seed, hottest=0.5 * freedom * units.kB * bound / len(atoms)))
    if ensemble == "nvt":
        return Langevin(atoms, timestep=timestep, temperature_K=temperature_K, fixcm=False, friction=friction)
    return VelocityVerlet(atoms, timestep=timestep)


def _calculator(forcefield: "ForceField | Calculator", backend: str) -> Calculator:
    if isinstance(forcefield, Calculator):
        return forcefield
    return forcefield.calculator(backend) if hasattr(forcefield, "calculator") else GaqCalculator(forcefield)


def _most_clipped(calculator: Calculator) -> tuple[str, float] | None:
    native = getattr(calculator, "forcefield", None)
    shares = native.saturation() if isinstance(native, NativePotential) else []
    return max(shares, key=lambda share: share[1], default=None)


def _check(ensemble: str, temperature_K: float | None, timestep_fs: float, steps: int, every: int, seed: int,
           friction_per_ps: float, nothing_to_resume: bool) -> None:
    if nothing_to_resume:
        raise ConfigError("resume needs the trajectory to go on from; give its path as out")
    if ensemble not in ("nve", "nvt"):
        raise ConfigError(f"ensemble must be 'nve' or 'nvt', not {ensemble!r}{did_you_mean(ensemble, ('nve', 'nvt'))}")
    for name, value, rule, holds in (
        ("temperature_K", temperature_K, "zero or a positive number of kelvin",
         temperature_K is None or 0 <= temperature_K < np.inf),
        ("timestep_fs", timestep_fs, "a positive number of femtoseconds, such as 0.5", 0 < timestep_fs < np.inf),
        ("steps", steps, "at least 1", steps >= 1),
        ("every", every, "at least 1", every >= 1),
        ("seed", seed, "a whole number from 0", seed >= 0),
        ("friction_per_ps", friction_per_ps, "positive, such as 10", 0 < friction_per_ps < np.inf),
    ):
        if not holds:
            raise ConfigError(f"{name} must be {rule}, not {value}")


def _draw_momenta(atoms: Atoms, temperature_K: float, seed: int) -> None:
    """Draw momenta p_i ~ N(0, m_i kT), then take out the motion of the whole, unless fixed atoms hold it.

    The energy of the motion taken out goes with it, so that each degree of freedom that is left keeps ½ kT on average.
    """
    masses = atoms.get_masses()[:, None]
    rng = np.random.default_rng(seed)
    velocities = rng.standard_normal((len(atoms), 3)) * np.sqrt(units.kB * temperature_K / masses)
    if not atoms.constraints:
        velocities -= (masses * velocities).sum(0) / masses.sum()
    if not atoms.constraints and not atoms.pbc.any():
        arms = atoms.positions - atoms.get_center_of_mass()
        angular = (masses * np.cross(arms, velocities)).sum(0)
        velocities -= np.cross(np.linalg.pinv(_inertia(atoms), rcond=1e-9, hermitian=True) @ angular, arms)
    atoms.set_momenta(masses * velocities)  # zero for fixed atoms


def _freedom(atoms: Atoms, internal: bool) -> int:
    """Return how many coordinates move; where the motion of the whole was taken out, without it; at least 1."""
    fixed = sum(len(constraint.index) for constraint in atoms.constraints)
    if fixed or not internal:
        return max(3 * (len(atoms) - fixed), 1)
    rotations = 0 if atoms.pbc.any() else int(np.linalg.matrix_rank(_inertia(atoms), rtol=1e-9, hermitian=True))
    return max(3 * len(atoms) - 3 - rotations, 1)


def _forces(atoms: Atoms) -> NDArray[np.float64]:
    """Return the forces of the force field, on fixed atoms too."""
    return atoms.get_forces(apply_constraint=False)


def _kinetic_temperature(atoms: Atoms, freedom: int) -> float:
    return 2.0 * float(atoms.get_kinetic_energy()) / (freedom * units.kB)


def _inertia(atoms: Atoms) -> NDArray[np.float64]:
    """Return the tensor of inertia Σ_i m_i (r_i² 1 - r_i r_iᵀ), amu Å², shape (3, 3)."""
    arms = atoms.positions - atoms.get_center_of_mass()
    weighted = atoms.get_masses()[:, None] * arms
    return (weighted * arms).sum() * np.eye(3) - weighted.T @ arms
