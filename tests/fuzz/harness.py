"""Runs the cases of a fuzzer in child processes with limits, and stops at the first that breaks a rule.

A fuzzer is a module of this package with

    def try_case(rng: numpy.random.Generator, folder: pathlib.Path) -> str

which makes one input from the random numbers, in an empty folder, uses it as users would, asserts that results are finite,
and says in one word what became of it ("accepted", "refused", ...). A `GaqError` that leaves it counts as "refused". Case n
of a seed has random numbers of its own, so that it can be run alone.

The rules: nothing but a `GaqError` of one short line; no dead process; at most `SECONDS` and `MEMORY` for a case.
"""

import contextlib
import faulthandler
import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

KINDS = ("models", "blobs", "inputs")
SECONDS, PATIENCE = 20.0, 100.0  # for one case: of the processor, which others may use too, and by the clock
STARTING = 120.0  # seconds until a child has imported what it needs
MEMORY = 10**9  # bytes that one case may add
ROOM = 3 * 10**9  # bytes of address space, which libraries reserve more of than they use
LONGEST = 600  # characters of a message
PER_CHILD = 2000  # cases
DRIVER = "GAQ_FUZZ_DRIVER"  # environment variable: the sanitized program that blobs are given to, if any


@dataclass(frozen=True)
class Failure:
    """A case that broke a rule, and how."""

    number: int
    what: str


@dataclass(frozen=True)
class Verdict:
    """What a child says of a case: a word, or what is wrong."""

    number: int
    outcome: str = ""
    wrong: str = ""


def run(kind: str, cases: int, seed: int, first: int = 0, go_on: bool = False) -> int:
    """Try cases `first` to `first + cases - 1` of a seed, with progress; return the number of failures."""
    began, found = time.monotonic(), Counter[str]()
    failures = 0
    told = began
    number = first
    while number < first + cases:
        for verdict in _in_child(kind, seed, range(number, min(number + PER_CHILD, first + cases))):
            number = verdict.number + 1
            if isinstance(verdict, Failure):
                failures += 1
                print(f"\n{kind}: case {verdict.number} of seed {seed} {verdict.what.rstrip()}\nrun it alone:  "
                      f"python -m tests.fuzz {kind} --seed {seed} --first {verdict.number} --cases 1", flush=True)
                if not go_on:
                    return failures
            else:
                found[verdict.outcome] += 1
            now, done = time.monotonic(), number - first
            if now - told > 5:
                told, rate = now, done / (now - began)
                print(f"{kind}: {done} of {cases}, {rate:.0f}/s, {(cases - done) / rate:.0f} s to go; {_words(found)}",
                      flush=True)
    print(f"{kind}: {cases} cases of seed {seed} from {first} on in {time.monotonic() - began:.0f} s: {_words(found)}; "
          f"{failures} failures", flush=True)
    return failures


def _in_child(kind: str, seed: int, numbers: range) -> Iterator[Verdict | Failure]:
    """Yield what becomes of cases that one child tries, in order; the first failure is the last of them."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    folder = Path(tempfile.mkdtemp(prefix="gaq-fuzz-"))
    child = context.Process(target=_try_all, args=(kind, seed, numbers, folder, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        with contextlib.suppress(EOFError):
            if not ours.poll(STARTING):
                raise RuntimeError(f"the fuzzer {kind!r} did not start within {STARTING:.0f} s")
            ours.recv()
        for number in numbers:
            try:
                if not _answers(ours, child.pid):
                    yield Failure(number, f"takes longer than {SECONDS:.0f} s")
                    return
                verdict: Verdict = ours.recv()
            except EOFError:
                child.join()
                yield Failure(number, f"ended the process: {_end_of(child.exitcode)}")
                return
            if verdict.wrong:
                yield Failure(number, verdict.wrong)
                return
            yield verdict
    finally:
        child.kill()
        child.join()
        ours.close()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(ours: Connection, child: int | None) -> bool:
    """Return whether the child says something before it has had its time."""
    began, used = time.monotonic(), _processor_seconds(child)
    while not ours.poll(1.0):
        if _processor_seconds(child) - used > SECONDS or time.monotonic() - began > PATIENCE:
            return False
    return True


def _processor_seconds(process: int | None) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _try_all(kind: str, seed: int, numbers: range, folder: Path, parent: Connection) -> None:
    """The child: try cases one after the other and say of each what became of it."""
    os.environ["OMP_NUM_THREADS"] = "1"  # before anything reads it
    from gaq.errors import GaqError

    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    try_case = importlib.import_module(f"tests.fuzz.{kind}").try_case
    resource.setrlimit(resource.RLIMIT_AS, (_pages(0) + ROOM, resource.RLIM_INFINITY))
    parent.send("ready")
    for number in numbers:
        room = folder / str(number)
        room.mkdir()
        before, outcome, wrong = _pages(1), "", ""
        try:
            outcome = try_case(np.random.default_rng([seed, number]), room)
        except MemoryError:  # the engine's is a GaqError too
            wrong = f"ran out of memory:\n{traceback.format_exc()}"
        except GaqError as error:
            outcome, text = "refused", str(error)
            if "\n" in text or len(text) > LONGEST:
                wrong = f"has a message of {len(text)} characters and {text.count(chr(10)) + 1} lines: {text[:LONGEST]}"
        except BaseException:  # pytest.fail, SystemExit: nothing but a GaqError is right
            wrong = f"raises what is no GaqError:\n{traceback.format_exc()[-4000:]}"
        grown = _peak() - before
        if not wrong and grown > MEMORY:
            wrong = f"takes {grown / 1e9:.1f} GB"
        shutil.rmtree(room, ignore_errors=True)
        parent.send(Verdict(number, outcome, wrong))
    parent.close()


def _pages(which: int) -> int:
    """Return bytes of address space (0) or of resident memory (1) of this process."""
    return int(Path("/proc/self/statm").read_text().split()[which]) * resource.getpagesize()


def _peak() -> int:
    """Return the most resident memory of this process so far, in bytes; that of getrusage includes its parent's."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition("VmHWM:")[2].split()[0])


def _end_of(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _words(found: Counter[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(found.items())) or "nothing yet"


def exists(kind: str) -> bool:
    """Return whether this checkout has the fuzzer."""
    return (Path(__file__).parent / f"{kind}.py").is_file()


def fail(message: str) -> None:
    """End the command with a message."""
    print(message, file=sys.stderr)
    sys.exit(2)
