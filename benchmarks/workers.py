"""Jobs, done side by side by worker processes of one thread each, and kept, so that an interrupted run goes on."""

import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty
from typing import Any

import torch

import gaq
from benchmarks.measurements import MEASUREMENTS, Tell
from gaq.errors import GaqError
from gaq.files import write_atomically

QUIET = 10.0  # s between lines
NUMERICS = ("assess/audit.py", "backends", "compress", "dynamics", "lib", "lowering", "metrics", "models", "nn", "quant",
            "arrays.py", "forcefield.py", "graph.py", "leaves.py", "neighbours.py", "radial.py", "recipe.py",
            "rotations.py", "so3.py", "stored.py", "training/fit.py")  # parts of the package that a figure may depend on
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Job:
    """One measurement.

    Args:
        name: unique in a run, as people see it.
        kind: what is measured, a name of `MEASUREMENTS`.
        path, sha256: of the model file.
        options: everything else that the result depends on; plain JSON.
        predictions: structures that will be predicted.
        atoms: of each.
    """

    name: str
    kind: str
    path: Path
    sha256: str
    options: dict[str, Any]
    predictions: float
    atoms: int

    @property
    def work(self) -> float:
        """What its time goes by, within jobs of one kind."""
        return self.predictions * self.atoms

    @property
    def key(self) -> str:
        """Name of its result in the folder of kept results."""
        said = {"kind": self.kind, "model": self.sha256, "options": self.options, "gaq": version("gaq"),
                "torch": str(torch.__version__), "code": code_digest()}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:24]


@dataclass
class Outcome:
    """Results by name of job; what failed and why; seconds that each took, whenever that was; how many were kept ones."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    kept: int = 0


@cache
def code_digest() -> str:
    """Return a digest of the code that figures depend on: kept results of other code are not taken."""
    digest = hashlib.sha256()
    package = Path(gaq.__file__).parent
    files = [path for part in NUMERICS for path in
             (sorted((package / part).rglob("*")) if (package / part).is_dir() else [package / part])]
    for path in [*files, HERE / "measurements.py", HERE / "coders.py"]:
        if path.suffix in (".py", ".so") and path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def recall(jobs: Sequence[Job], folder: Path) -> Outcome:
    """Return the results of those jobs that an earlier run left in `folder`."""
    outcome = Outcome()
    for job in jobs:
        path = folder / f"{job.key}.json"
        if path.is_file():
            kept = json.loads(path.read_text())
            outcome.results[job.name], outcome.seconds[job.name] = kept["result"], kept["seconds"]
            outcome.kept += 1
    return outcome


def run_jobs(jobs: Sequence[Job], workers: int, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Return the results of all jobs, taking those that an earlier run left in `folder`."""
    outcome = recall(jobs, folder)
    todo = {job.name: job for job in sorted(jobs, key=lambda job: -job.work) if job.name not in outcome.results}
    say(f"{len(jobs)} measurements, {outcome.kept} of them kept from before; {workers} worker processes of one thread")
    board = _Board(list(todo.values()), workers, say)
    for name, what, value in _events(list(todo.values()), workers):  # the longest first, so that all workers end together
        job = todo[name]
        if what == "seen":
            board.seen(job, value)
            continue
        seconds, result, failure = value
        board.ended(job, seconds, failure)
        if failure:
            outcome.failures[name] = failure
            continue
        outcome.results[name], outcome.seconds[name] = result, seconds
        write_atomically(folder / f"{job.key}.json", json.dumps(
            {"job": name, "kind": job.kind, "options": job.options, "seconds": seconds, "result": result},
            allow_nan=False))
    return outcome


Event = tuple[str, str, Any]


def _events(jobs: Sequence[Job], workers: int) -> Iterator[Event]:
    """Do the jobs, and yield how far they are, and their results."""
    if workers == 1:
        torch.set_num_threads(1)
        for job in jobs:
            yield _done(job, lambda seen: None)
        return
    context = multiprocessing.get_context("spawn")
    waiting, events = context.Queue(), context.Queue()
    for job in jobs:
        waiting.put(job)
    for _ in range(workers):
        waiting.put(None)
    with _single_threads(), _ended([context.Process(target=_work, args=(waiting, events), daemon=True)
                                    for _ in range(min(workers, len(jobs)))]) as processes:
        left = len(jobs)
        while left:
            try:
                event = events.get(timeout=1.0)
            except Empty:
                if not any(process.is_alive() for process in processes):
                    raise GaqError("the worker processes ended before their work (out of memory?); run again, results "
                                   "so far are kept") from None
                continue
            left -= event[1] == "done"
            yield event


@contextmanager
def _single_threads() -> Iterator[None]:
    """Let worker processes start with one thread: OpenMP reads the environment before anything else can be said."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


@contextmanager
def _ended(processes: list[BaseProcess]) -> Iterator[list[BaseProcess]]:
    """Start processes, and leave none behind."""
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()


def _work(waiting: Any, events: Any) -> None:
    """Take jobs until there are none."""
    torch.set_num_threads(1)
    while (job := waiting.get()) is not None:
        last = time.monotonic()

        def tell(seen: int, name: str = job.name) -> None:
            nonlocal last
            if time.monotonic() - last > 1.0:
                last = time.monotonic()
                events.put((name, "seen", seen))

        events.put(_done(job, tell))


def _done(job: Job, tell: Tell) -> Event:
    begun = time.perf_counter()
    try:
        result, failure = MEASUREMENTS[job.kind](job.path, job.options, tell), ""
    except GaqError as error:  # of one model; the others go on, and the page says what is missing
        result, failure = {}, str(error)
    return job.name, "done", (time.perf_counter() - begun, result, failure)


class _Board:
    """Progress, and a guess at the time left: work left times the pace of its kind."""

    def __init__(self, jobs: Sequence[Job], workers: int, say: Callable[[str], None]) -> None:
        self.jobs, self.workers, self.say = jobs, workers, say
        self.begun = self.told = time.monotonic()
        self.started: dict[str, float] = {}
        self.fraction: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def seen(self, job: Job, predictions: int) -> None:
        """Note how far a job is."""
        now = time.monotonic()
        self.fraction[job.name] = min(predictions / job.predictions, 1.0)
        self.started.setdefault(job.name, now)
        self.seconds[job.name] = now - self.started[job.name]
        if now - self.told > QUIET:
            self.told = now
            running = ", ".join(f"{name} {100 * done:.0f} %" for name, done in self.fraction.items() if done < 1)
            self.say(f"{self._ended()}/{len(self.jobs)}, {self._rest()}; {running}")

    def ended(self, job: Job, seconds: float, failure: str) -> None:
        """Note the end of a job."""
        self.fraction[job.name], self.seconds[job.name] = 1.0, seconds
        self.told = time.monotonic()
        how = f"left out: {failure}" if failure else f"{seconds:.1f} s"
        self.say(f"{self._ended()}/{len(self.jobs)}, {self._rest()}; {job.name}: {how}")

    def _ended(self) -> int:
        return sum(done == 1.0 for done in self.fraction.values())

    def _rest(self) -> str:
        spent: dict[str, list[float]] = {}
        for job in self.jobs:
            if self.fraction.get(job.name) and self.seconds.get(job.name):
                for kind in (job.kind, ""):
                    sums = spent.setdefault(kind, [0.0, 0.0])
                    sums[0] += self.seconds[job.name]
                    sums[1] += self.fraction[job.name] * job.work
        left = 0.0
        for job in self.jobs:
            seconds, work = spent.get(job.kind) or spent.get("") or (0.0, 1.0)
            left += (1 - self.fraction.get(job.name, 0.0)) * job.work * seconds / work
        minutes = left / self.workers / 60
        return f"{minutes:.1f} min left" if minutes >= 1 else f"{60 * minutes:.0f} s left"


def say(line: str) -> None:
    """Write a line of progress."""
    print(line, file=sys.stderr, flush=True)
