"""A force field and some structures in, a verdict out: is it good for molecular dynamics at constant energy?

Everything is measured on the model as it is deployed: its packed weights and its rounded activations. Rounding of
single precision adds some 5e-5 to the antisymmetry of a Jacobian and 0.2 meV/Å to differences of the energy at 1e-3 Å, so
that packed model computes the derivatives of molecules in float64. Those of larger structures would take hours: there the
engine computes them, and its rounding stays far below the bounds.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from gaq.data import Frames, check_frames
from gaq.dynamics.replicas import Replicas, simulate_replicas
from gaq.errors import ConfigError, DataError
from gaq.graph import Predictor, build_graph
from gaq.metrics.batches import Counted, Told, adding_up, cutoff_of, untold
from gaq.metrics.conservation import replica_drift
from gaq.metrics.finite_differences import force_error_by_differences
from gaq.metrics.jacobian import jacobian_antisymmetry
from gaq.metrics.loops import POINTS, relative_loop_work
from gaq.structure import Structure

FORMAT, FORMAT_VERSION = "gaq-audit", 1
MD_GRADE, SCREENING_GRADE, NOT_DECIDED = "MD-grade", "screening-grade", "not decided"
MEV = 1000.0  # meV per eV

SMALL = 32  # atoms: derivatives of such structures are taken in float64, and their simulations may be long
STEPS = (1e-4, 1e-3, 1e-2)  # Å, of the finite differences
SINGLE_STEPS = STEPS[1:]  # in single precision a shorter one would show nothing but rounding
JUDGED_STEP = 1e-2  # Å: shorter ones see single roundings of the energy, which average out along a path
FORCE_FD_BOUND = 5.0  # meV/Å at JUDGED_STEP, on average; truncation leaves about 1 for bonds of organic molecules
LAMBDA_BOUND = 1e-3
DRIFT_BOUND = 5e-3  # meV/atom/ps, for |drift| + CONFIDENCE standard errors
CONFIDENCE = 2.0
CERTAIN = 5.0  # standard errors beyond the bound, for a failure: few replicas know their own scatter badly
FLUCTUATION_RATIO_BOUND = 1.5
FEWEST_REPLICAS, FEWEST_PICOSECONDS = 8, 10.0  # below, a drift within DRIFT_BOUND cannot be told from luck
ANGULAR_PICOSECONDS = 5.0


@dataclass(frozen=True)
class AuditPlan:
    """How much is measured.

    Args:
        replicas, picoseconds, temperature_K: of the simulations, which start at the first frame.
        timesteps_fs: one set of simulations for each, in fs; the first is the one that is judged.
        frames: most frames for derivatives and loops, evenly spread.
        loops: loops at each frame.
        batch_size: displaced copies in one prediction.
        seed: of velocities and loops.

    Raises:
        ConfigError: a number without meaning.
    """

    replicas: int = 16
    picoseconds: float = 20.0
    timesteps_fs: tuple[float, ...] = (0.5,)
    temperature_K: float = 300.0
    frames: int = 8
    loops: int = 4
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.timesteps_fs or not all(0 < step < np.inf for step in self.timesteps_fs):
            raise ConfigError("timesteps_fs must be positive numbers of fs, such as 1, 0.5 and 0.25; given "
                              f"{self.timesteps_fs}")
        if len(set(self.timesteps_fs)) < len(self.timesteps_fs):
            raise ConfigError(f"timesteps_fs must differ from each other; given {self.timesteps_fs}")
        for name in ("picoseconds", "temperature_K"):
            if not 0 < getattr(self, name) < np.inf:
                raise ConfigError(f"{name} must be a positive number, not {getattr(self, name)}")
        for name in ("replicas", "frames", "loops", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def decides(self) -> bool:
        """Whether there are enough simulations for the best grade."""
        return self.replicas >= FEWEST_REPLICAS and self.picoseconds >= FEWEST_PICOSECONDS


QUICK = AuditPlan(replicas=4, picoseconds=1.0, frames=3)


def usual_plan(atoms: int, quick: bool = False) -> AuditPlan:
    """Return how much is measured of a structure where nothing else is said: of a large one, the least that decides."""
    if quick:
        return QUICK
    return AuditPlan(replicas=FEWEST_REPLICAS, picoseconds=FEWEST_PICOSECONDS) if atoms > SMALL else AuditPlan()


@dataclass(frozen=True)
class Check:
    """One quantity against its bound; `passed` is None where it is not decided, or not judged for want of a bound."""

    name: str
    value: float | None
    bound: float | None
    unit: str
    passed: bool | None
    reason: str = ""


def audit(
    subject: Predictor,
    frames: Frames,
    plan: AuditPlan = AuditPlan(),
    *,
    cutoff: float | None = None,
    reference: Predictor | None = None,
    progress: Told = untold,
) -> dict[str, Any]:
    """Measure how well a force field conserves energy, and grade it.

    Args:
        subject: force field, calculator adapter, or any function of a graph.
        frames: structures; labels are ignored.
        plan: how much is measured.
        cutoff: Å; needed where `subject` has none of its own.
        reference: a force field in full precision, whose energy fluctuation is the measure.
        progress: called with the predictions of one structure so far in this stage, their number, and its name.

    Returns:
        Figures, checks, `grade` ("MD-grade", "screening-grade" or "not decided") and `reasons`, as plain JSON.

    Raises:
        ConfigError: no cutoff is known.
        DataError: no frames.
        SpeciesError, StructureError: frames that the force field cannot take.
        GaqError: a prediction that is not finite.
    """
    if not len(frames):
        raise DataError(f"{frames.source} holds no frames; the audit needs at least one structure")
    cutoff = cutoff_of(subject, cutoff)
    frames = frames.apart()[0] or frames
    for potential in (subject, reference):
        known = getattr(potential, "species", None)
        if known is not None:
            check_frames(frames, known)
    spread = frames.spread(plan.frames)
    small = max(len(frame) for frame in spread) <= SMALL
    computed = getattr(subject, "backend", "")
    double = hasattr(subject, "on") and (small or computed == "torch")
    precise = subject.on("torch", dtype="float64") if double else subject  # type: ignore[attr-defined]
    figures = derivatives(precise, subject, spread, cutoff, plan, progress,
                          SINGLE_STEPS if computed.startswith("engine") and not double else STEPS)
    start = replace(frames[0], energy=None, forces=None)
    runs = [_simulations(subject, reference, start, cutoff, plan, step, progress) for step in plan.timesteps_fs]
    return {
        "format": FORMAT, "format_version": FORMAT_VERSION, "version": version("gaq"),
        "source": frames.source, "source_fingerprint": frames.fingerprint, "frames": len(spread),
        "backend": computed or "torch",
        "derivatives_backend": "torch, float64" if double else computed or "torch",
        "plan": asdict(plan) | {"timesteps_fs": list(plan.timesteps_fs)}, **judge(figures, runs, plan),
    }


def judge(figures: dict[str, Any], runs: Sequence[dict[str, Any]], plan: AuditPlan) -> dict[str, Any]:
    """Return all figures with their checks, `grade` and `reasons`.

    Args:
        figures: what `derivatives` returned.
        runs: what `simulation_figures` returned, for each time step; the first is judged.
        plan: how much was measured.
    """
    judged = runs[0]
    figures = figures | {name: judged[name] for name in (
        "nve_drift_meV_atom_ps", "nve_drift_stderr", "nve_fluctuation_meV_atom", "nve_fluctuation_ratio",
        "angular_momentum_relative")} | {"nve": list(runs)}
    checks = _checks(figures, judged["exploded"], plan.picoseconds)
    grade, reasons = _grade(checks, plan)
    return {"grade": grade, "reasons": reasons, **figures, "checks": [asdict(check) for check in checks]}


def derivatives(precise: Predictor, subject: Predictor, frames: Sequence[Structure], cutoff: float, plan: AuditPlan,
                progress: Told = untold, steps: Sequence[float] = STEPS) -> dict[str, Any]:
    """Measure forces against energies, forces against each other, and work around loops.

    Args:
        precise: the force field with its packed weights and rounded activations, computing in float64.
        subject: the same as it is deployed, for the loops.
        frames: where.
        cutoff: of the neighbours, Å.
        plan: number of loops, batch size and seed.
        progress: as for `audit`.
        steps: of the finite differences, Å; `JUDGED_STEP` among them.
    """
    graphs = [build_graph(frame, cutoff) for frame in frames]
    displaced = 6 * sum(len(frame) for frame in frames)
    count = adding_up(progress, len(frames) + (len(steps) + 1) * displaced,
                      f"forces against differences of the energy, and of each other, at {len(frames)} frames")
    counted = Counted(precise, count)
    rows = [force_error_by_differences(counted, graph, steps, batch_size=plan.batch_size) for graph in graphs]
    asymmetry = [jacobian_antisymmetry(counted, graph, batch_size=plan.batch_size) for graph in graphs]
    loops = plan.loops * len(frames)
    counted = Counted(subject, adding_up(progress, loops * POINTS, f"work around {loops} closed loops"))
    work = np.concatenate([
        relative_loop_work(counted, frame, cutoff, loops=plan.loops, seed=plan.seed + k, batch_size=plan.batch_size)
        for k, frame in enumerate(frames)])
    by_step = {f"{same[0].step:g}": same for same in zip(*rows, strict=True)}
    return {
        "force_fd_meV_A": {step: MEV * max(row.max for row in same) for step, same in by_step.items()},
        "force_fd_mean_meV_A": {step: MEV * float(np.mean([row.mean for row in same])) for step, same in by_step.items()},
        "lambda_antisymmetry": {"median": float(np.median(asymmetry)), "max": float(np.max(asymmetry))},
        "loop_work_relative": {"median": float(np.median(work)), "max": float(np.max(work))},
    }


def _simulations(subject: Predictor, reference: Predictor | None, start: Structure, cutoff: float, plan: AuditPlan,
                 timestep_fs: float, progress: Told) -> dict[str, Any]:
    """Simulate with one time step, and with the reference from the same velocities."""
    def run(predict: Predictor, within: float, name: str) -> dict[str, Any]:
        title = f"{name}{plan.replicas} simulations of {plan.picoseconds:g} ps with {timestep_fs:g} fs"
        total = 1000.0 * plan.picoseconds / timestep_fs * plan.replicas
        progress(0, total, title)
        done = simulate_replicas(
            predict, start, within, replicas=plan.replicas, picoseconds=plan.picoseconds, timestep_fs=timestep_fs,
            temperature_K=plan.temperature_K, seed=plan.seed,
            progress=lambda reached: progress(reached / plan.picoseconds * total, total, title))
        return simulation_figures(done, start)

    result = run(subject, cutoff, "")
    if reference is not None:
        other = run(reference, cutoff_of(reference, None), "reference: ")
        fluctuation, scale = result["nve_fluctuation_meV_atom"], other["nve_fluctuation_meV_atom"]
        result["nve_fluctuation_ratio"] = fluctuation / scale if fluctuation is not None and scale else None
        result["reference"] = {name: value for name, value in other.items() if name != "nve_fluctuation_ratio"}
    return result


def simulation_figures(done: Replicas, start: Structure) -> dict[str, Any]:
    """Return drift, fluctuation and change of the angular momentum of a set of simulations that began at `start`."""
    drift = replica_drift(done.time_ps, done.energy, len(start)) if done.exploded is None else None
    return {
        "timestep_fs": done.timestep_fs, "exploded": done.exploded,
        "nve_drift_meV_atom_ps": drift and drift.slope_meV_atom_ps,
        "nve_drift_stderr": drift and drift.standard_error_meV_atom_ps,
        "nve_fluctuation_meV_atom": drift and drift.fluctuation_meV_atom, "nve_fluctuation_ratio": None,
        "angular_momentum_relative": (
            None if any(start.pbc) or drift is None else done.angular_drift(ANGULAR_PICOSECONDS)),
    }


def _checks(figures: dict[str, Any], exploded: str | None, picoseconds: float) -> list[Check]:
    fd, asymmetry = figures["force_fd_meV_A"], figures["lambda_antisymmetry"]
    judged = f"{JUDGED_STEP:g}"
    checks = [Check(f"force_fd_meV_A at {step} Å (max)", value, None, "meV/Å", None) for step, value in fd.items()]
    checks += [
        _bounded(f"force_fd_meV_A at {judged} Å (mean)", figures["force_fd_mean_meV_A"][judged], FORCE_FD_BOUND, "meV/Å",
                 "the forces are not the gradient of the energy: differences of the energy give other ones"),
        _bounded("lambda_antisymmetry (max)", asymmetry["max"], LAMBDA_BOUND, "", "the forces are the gradient of no "
                 "energy: their Jacobian is not symmetric"),
        Check("lambda_antisymmetry (median)", asymmetry["median"], None, "", None),
        Check("loop_work_relative (max)", figures["loop_work_relative"]["max"], None, "", None),
        _drift_check(figures["nve_drift_meV_atom_ps"], figures["nve_drift_stderr"],
                     figures["nve_fluctuation_meV_atom"], picoseconds, exploded),
        Check("nve_drift_stderr", figures["nve_drift_stderr"], None, "meV/atom/ps", None),
        Check("nve_fluctuation_meV_atom", figures["nve_fluctuation_meV_atom"], None, "meV/atom", None)]
    ratio = figures["nve_fluctuation_ratio"]
    checks.append(
        Check("nve_fluctuation_ratio", None, FLUCTUATION_RATIO_BOUND, "", None) if ratio is None else
        _bounded("nve_fluctuation_ratio", ratio, FLUCTUATION_RATIO_BOUND, "",
                 "the energy fluctuates more than with the reference"))
    checks.append(Check("angular_momentum_relative", figures["angular_momentum_relative"], None, "", None))
    return checks


def _bounded(name: str, value: float, bound: float, unit: str, failure: str) -> Check:
    passed = value <= bound
    reason = "" if passed else f"{failure} ({value:.2g}{' ' if unit else ''}{unit}; the bound is {bound:g})"
    return Check(name, value, bound, unit, passed, reason)


def _drift_check(slope: float | None, error: float | None, fluctuation: float | None, picoseconds: float,
                 exploded: str | None) -> Check:
    """Judge the drift with its uncertainty: it passes, fails, or is not decided between.

    All replicas start at one place, so that short ones share a transient that the standard error does not see; a drift
    fails only where it adds up to more than the fluctuation.
    """
    name, unit = "nve_drift_meV_atom_ps", "meV/atom/ps"
    if slope is None or fluctuation is None:
        return Check(name, None, DRIFT_BOUND, unit, False, f"a simulation exploded {exploded}")
    if error is None:
        return Check(name, slope, DRIFT_BOUND, unit, None, "one simulation gives no standard error of the drift")
    said = (f"{slope:+.2g} ± {error:.1g} {unit}; the bound is {DRIFT_BOUND:g} for |drift| + {CONFIDENCE:g} standard "
            "errors")
    if abs(slope) + CONFIDENCE * error <= DRIFT_BOUND:
        return Check(name, slope, DRIFT_BOUND, unit, True)
    if abs(slope) - CERTAIN * error > DRIFT_BOUND and abs(slope) * picoseconds > fluctuation:
        return Check(name, slope, DRIFT_BOUND, unit, False, f"the total energy drifts ({said})")
    return Check(name, slope, DRIFT_BOUND, unit, None, f"the drift is not shown to be small enough ({said}); more or "
                                                       "longer simulations tell")


def _grade(checks: list[Check], plan: AuditPlan) -> tuple[str, list[str]]:
    """Return the grade and, in words, why it is not better."""
    failed = [check.reason for check in checks if check.passed is False]
    open_ = [check.reason for check in checks if check.passed is None and check.reason]
    if not plan.decides:
        open_.append(f"{plan.replicas} simulations of {plan.picoseconds:g} ps are too few for {MD_GRADE}, which needs "
                     f"{FEWEST_REPLICAS} of {FEWEST_PICOSECONDS:g} ps or more")
    if failed:
        return SCREENING_GRADE, failed
    if not plan.decides:
        return NOT_DECIDED, open_
    return (SCREENING_GRADE, open_) if open_ else (MD_GRADE, [])
