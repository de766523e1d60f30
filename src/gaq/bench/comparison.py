"""The table: every system on every backend with every number of threads, timed side by side."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gaq.bench.costs import step_seconds
from gaq.bench.memory import MIB, MemoryNotMeasured, peak_MiB
from gaq.bench.peers import PEERS, PeerFailed, PeerMissing
from gaq.bench.steps import COMPILED, EAGER, ENGINE, FP32, TORCH, Step, check_backend, low_bit, step_of
from gaq.bench.systems import SYSTEMS, System, structures, systems
from gaq.bench.timing import ceilings, interleaved
from gaq.errors import ConfigError
from gaq.forcefield import ForceField
from gaq.models import load_recipe

FORMAT, FORMAT_VERSION = "gaq-bench", 1
TIMESTEP_FS = 0.5
RECIPES_SHOWN = (FP32, "w4a16", "w4a8")
LARGEST_TORCH = 200_000
Key = tuple[str, str]  # backend, recipe


@dataclass(frozen=True)
class BenchPlan:
    """What to time.

    Args:
        systems: names, as `gaq.bench.systems.structures` takes them.
        threads: numbers of threads, each of which has its own rows.
        backends: of `gaq.bench.steps.BACKENDS`; None for all, with those other packages that are installed.
        recipes: of the engine.
        repeats: timed rounds.
        memory: also the peak memory of fresh processes, with the first number of threads.
        largest_torch: edges up to which PyTorch and other packages compute; compiling, memory and patience have an end.

    Raises:
        ConfigError: a value that means nothing; the message names it.
    """

    systems: tuple[str, ...] = SYSTEMS
    threads: tuple[int, ...] = (1, 2)
    backends: tuple[str, ...] | None = None
    recipes: tuple[str, ...] = RECIPES_SHOWN
    repeats: int = 15
    memory: bool = True
    largest_torch: int = LARGEST_TORCH

    def __post_init__(self) -> None:
        for name in ("systems", "threads", "recipes"):
            given = getattr(self, name)
            if not given:
                raise ConfigError(f"{name} must not be empty")
            if len(set(given)) < len(given):
                raise ConfigError(f"{name} are given more than once: {', '.join(map(str, given))}")
        if min(self.threads) < 1:
            raise ConfigError(f"threads must be at least 1, not {min(self.threads)}")
        if self.repeats < 3:
            raise ConfigError(f"repeats must be at least 3, for there are quartiles; given {self.repeats}")
        for name in self.systems:
            structures(name)
        for name in self.recipes:
            load_recipe(name)
        for name in self.backends or ():
            check_backend(name)

    def keys(self) -> list[Key]:
        """Return backend and recipe of all rows of a system; a peer's recipe is the name of its model."""
        chosen = (*TORCH, ENGINE, *PEERS) if self.backends is None else self.backends
        return [(backend, recipe) for backend in chosen for recipe in (
            self.recipes if backend == ENGINE else (PEERS[backend].model if backend in PEERS else FP32,))]


@dataclass(frozen=True)
class BenchRow:
    """One line of the table; times in ms for energy and forces, memory in MiB.

    Args:
        ratio_to_compiled_fp32: time of the compiled row of the same system and threads, divided by this one.
        peak_MiB: how much a fresh process grows.
        neighbours_ms: finding the neighbours and giving them to the backend; None where ms_per_step contains it.
        weights_MiB: as the backend holds them.
        share_of_ceiling: time that the step's multiply-adds take at the ceilings of as many cores as there are threads,
            divided by the time measured; engine only (`gaq.bench.costs`).
        share_of_bandwidth: the same for the bytes that cross the memory if no cache keeps any.
    """

    system: str
    atoms: int
    edges: int
    threads: int
    backend: str
    recipe: str
    ms_per_step: float
    ms_q1: float
    ms_q3: float
    ratio_to_compiled_fp32: float | None = None
    peak_MiB: float | None = None
    neighbours_ms: float | None = None
    weights_MiB: float | None = None
    share_of_ceiling: float | None = None
    share_of_bandwidth: float | None = None

    @property
    def label(self) -> str:
        """Backend and recipe in one."""
        return f"{self.backend} {self.recipe}"

    @property
    def us_per_atom(self) -> float:
        """µs for each atom and step."""
        return 1000.0 * self.ms_per_step / self.atoms

    @property
    def ns_per_day(self) -> float:
        """ns/day at 0.5 fs."""
        return 86.4 * TIMESTEP_FS / self.ms_per_step

    @property
    def ms_per_step_with_neighbours(self) -> float:
        """ms for a step that finds its neighbours anew."""
        return self.ms_per_step + (self.neighbours_ms or 0.0)


@dataclass(frozen=True)
class Skip:
    """Rows of a backend that were left out, and why; without a system, those of all."""

    backend: str
    reason: str
    system: str = ""
    atoms: int = 0
    edges: int = 0


@dataclass(frozen=True)
class Comparison:
    """What was measured.

    Args:
        rows: measured.
        skips: left out.
        ceilings: of one core, in this run: 1e9 operations or bytes a second.
    """

    rows: list[BenchRow]
    skips: list[Skip]
    ceilings: dict[str, float]


class Told(Protocol):
    """Is told how far the comparison is."""

    def __call__(self, done: float, total: float | None, note: str = "", milestone: bool = False) -> None: ...


def compare(model: ForceField, plan: BenchPlan, progress: Told = lambda done, total, note="", milestone=False: None
            ) -> Comparison:
    """Time energy and forces of every system on every backend.

    Args:
        model: an FP32 force field, whose shape is timed; low-bit forms are calibrated on the system itself.
        plan: what to time.
        progress: told after every part.

    Raises:
        ConfigError: a low-bit model.
        EngineMissing, NotLowered: the engine is not installed, or does not compute a recipe.
        PeerMissing: a package that was asked for by name is not installed.
    """
    if model.recipe.rules:
        raise ConfigError(f"the benchmark needs an FP32 model, whose low-bit forms it makes; given one with recipe "
                          f"{model.recipe.name}")
    run = _Comparing(plan, progress)
    with _threads_restored():
        for system in systems(plan.systems, model):
            run.measure(system)
    progress(run.total, run.total, "done")
    return Comparison(run.rows, run.skips, run.ceilings)


def as_json(comparison: Comparison, machine: dict[str, Any]) -> dict[str, Any]:
    """Return the table as plain data."""
    derived = ("us_per_atom", "ns_per_day", "ms_per_step_with_neighbours")
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "version": version("gaq"),
            "rows": [asdict(row) | {name: getattr(row, name) for name in derived} for row in comparison.rows],
            "skipped": [asdict(skip) for skip in comparison.skips],
            "ceilings": comparison.ceilings, "machine": machine}


@dataclass(eq=False)
class _Comparing:
    """A comparison under way."""

    plan: BenchPlan
    progress: Told
    rows: list[BenchRow] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    ceilings: dict[str, float] = field(init=False)
    done: int = 0

    def __post_init__(self) -> None:
        self.ceilings = ceilings()
        self.keys = list(self._installed(self.plan.keys()))
        rounds = self.plan.repeats + 1 + len(self.keys)
        self.total = len(self.plan.systems) * (len(self.plan.threads) * rounds + self.plan.memory * len(self.keys))

    def measure(self, system: System) -> None:
        """Add the rows of one system."""
        forms = {recipe: low_bit(system.field, load_recipe(recipe), system.graph) for recipe in {*self.plan.recipes, FP32}}
        keys = [key for key in self.keys if self._fits(key[0], system)]
        peaks: dict[Key, float | None] = {}
        for threads in self.plan.threads:
            torch.set_num_threads(threads)
            steps: dict[Key, Step] = {}
            for key in list(keys):
                self._told(system, threads, f"preparing {key[0]}")
                try:
                    step = steps[key] = step_of(key[0], system, forms.get(key[1], system.field), threads)
                    step.compute()
                except PeerFailed as reason:
                    self._left_out(key, system, reason, keys, steps)
                except RuntimeError as reason:  # PyTorch lacks bfloat16, a compiler or memory on this machine
                    if key[0] not in TORCH:
                        raise
                    self._left_out(key, system, reason, keys, steps)
            self._told(system, threads, "timing", parts=0)
            times = interleaved(_timed(steps), self.plan.repeats, lambda: self._told(system, threads, "timing"))  # noqa: B023
            if self.plan.memory and threads == self.plan.threads[0]:
                peaks = {key: self._peak(key, system, forms.get(key[1], system.field), threads) for key in steps
                         if key[0] != COMPILED}  # its compiler needs more than what it makes
            self.rows += self._rows(system, threads, steps, times, peaks)

    def _rows(self, system: System, threads: int, steps: dict[Key, Step], times: dict[Any, NDArray[np.float64]],
              peaks: dict[Key, float | None]) -> Iterator[BenchRow]:
        fastest = times.get((COMPILED, FP32))
        for key, step in steps.items():
            q1, median, q3 = (float(q) for q in np.quantile(times[key], (0.25, 0.5, 0.75)))
            row = BenchRow(
                system.name, system.atoms, system.edges, threads, *key, median, q1, q3,
                ratio_to_compiled_fp32=None if fastest is None else float(np.median(fastest)) / median,
                peak_MiB=peaks.get(key),
                neighbours_ms=None if step.finds_neighbours else float(np.median(times[_finding(key)])),
                weights_MiB=None if step.weight_bytes is None else step.weight_bytes / MIB)
            yield row if key[0] != ENGINE else self._with_shares(row, step, system)

    def _with_shares(self, row: BenchRow, step: Step, system: System) -> BenchRow:
        seconds, cores = 1e-3 * row.ms_per_step, row.threads
        least = step_seconds(system.field.config, load_recipe(row.recipe), row.atoms, row.edges, self.ceilings)
        crossing = (step.traffic_bytes or 0) / (1e9 * self.ceilings["bandwidth"])
        return replace(row, share_of_ceiling=least / (cores * seconds), share_of_bandwidth=crossing / (cores * seconds))

    def _peak(self, key: Key, system: System, form: ForceField, threads: int) -> float | None:
        self._told(system, threads, f"memory of {key[0]}")
        try:
            return peak_MiB(key[0], system, form, threads)
        except MemoryNotMeasured as reason:  # the times stay
            self.skips.append(Skip(key[0], f"memory: {reason}", system.name, system.atoms, system.edges))
            return None

    def _installed(self, keys: Iterable[Key]) -> Iterator[Key]:
        for backend, recipe in keys:
            peer = PEERS.get(backend)
            if peer is None or peer.installed:
                yield backend, recipe
            elif self.plan.backends is not None:
                raise PeerMissing(peer.missing)
            else:
                self.skips.append(Skip(backend, peer.missing))

    def _fits(self, backend: str, system: System) -> bool:
        if backend == ENGINE or system.edges <= self.plan.largest_torch:
            return True
        self.skips.append(Skip(backend, f"{system.edges} edges, more than --largest-torch {self.plan.largest_torch}",
                               system.name, system.atoms, system.edges))
        return False

    def _left_out(self, key: Key, system: System, reason: Exception, keys: list[Key], steps: dict[Key, Step]) -> None:
        self.skips.append(Skip(key[0], " ".join(str(reason).split())[:300], system.name, system.atoms, system.edges))
        keys.remove(key)
        steps.pop(key, None)

    def _told(self, system: System, threads: int, what: str, parts: int = 1) -> None:
        self.done = min(self.done + parts, self.total)
        self.progress(self.done, self.total, f"{system.name}, {threads} thread{'s' if threads > 1 else ''}: {what}")


def _timed(steps: dict[Key, Step]) -> dict[Any, Callable[[], object]]:
    """Return what the rounds call: every step, and neighbours once for the engine and once for PyTorch."""
    found: dict[Any, Callable[[], object]] = {_finding(key): step.neighbours for key, step in reversed(steps.items())
                                              if not step.finds_neighbours}
    return found | {key: step.compute for key, step in steps.items()}


def _finding(key: Key) -> str:
    return f"neighbours for {ENGINE if key[0] == ENGINE else EAGER}"


@contextmanager
def _threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
