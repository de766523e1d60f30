"""Engines that threads share, that forked processes inherit, and that are copied: always the same bits."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.units import fs
from engines import stepper
from tiny import cluster, crystal, forcefield, said

from gaq.adapters.ase import GaqCalculator
from gaq.atoms import atoms_of
from gaq.backends.native.errors import BUSY, EngineError
from gaq.backends.native.library import library
from gaq.backends.native.potential import NativePotential
from gaq.dynamics.state import Bath, State
from gaq.dynamics.steppers import EngineStepper
from gaq.forcefield import ForceField
from gaq.graph import Prediction
from gaq.structure import Structure
from gaq.threads import Lock

pytestmark = pytest.mark.filterwarnings("ignore::gaq.errors.ExtrapolationWarning")  # random clusters are crowded
STRUCTURES = (cluster(8, seed=1), crystal(), cluster(40, seed=2), cluster(5, seed=3), cluster(20, seed=4))


def own(recipe: str = "w4a8", threads: int = 1) -> NativePotential:
    """An engine that no other test uses."""
    return NativePotential(forcefield("robust", recipe).stored, threads)


def same(first: Prediction, second: Prediction) -> bool:
    return torch.equal(first.energy, second.energy) and torch.equal(first.forces, second.forces)


def dynamics(field: NativePotential, structure: Structure) -> tuple[EngineStepper, State]:
    run = stepper(field, structure, np.full(len(structure), 12.0), Bath(0.2 * fs, 0.1, 0.02, seed=3))
    return run, run.start(structure.positions, np.zeros((len(structure), 3)))


def in_threads(*works: Callable[[], None]) -> None:
    """Run all at once; what one of them raises is raised here."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def stress(field: NativePotential, others: list[NativePotential], count: int) -> None:
    """`count` predictions in each of several threads, on one field and on others, with dynamics beside them."""
    graphs = [field.graph(s) for s in STRUCTURES]
    expected = [said(field, g) for g in graphs]
    runs = [dynamics(field, STRUCTURES[k])[1] for k in (0, 2)]
    for k, state in zip((0, 2), runs, strict=True):
        for _ in range(10):
            dynamics(field, STRUCTURES[k])[0].run(state, 3)

    def predict(user: NativePotential, start: int) -> None:
        for n in range(count):
            k = (n + start) % len(graphs)
            assert same(said(user, graphs[k]), expected[k])

    def simulate(k: int, end: State) -> None:
        run, state = dynamics(field, STRUCTURES[k])
        for _ in range(10):
            run.run(state, 3)
        assert np.array_equal(state.positions, end.positions)
        assert np.array_equal(state.forces, end.forces)

    users = [*[field] * 4, *others]
    in_threads(*[lambda u=u, n=n: predict(u, n) for n, u in enumerate(users)],
               *[lambda k=k, end=end: simulate(k, end) for k, end in zip((0, 2), runs, strict=True)])


@pytest.mark.slow
def test_threads_share_a_field_and_have_their_own() -> None:
    stress(own(), [own(), own(threads=2)], count=2000)


def test_a_prediction_between_steps_changes_no_run() -> None:
    field = own()
    for structure in (STRUCTURES[0], STRUCTURES[2]):
        (run, state), (other, alone) = dynamics(field, structure), dynamics(own(), structure)
        for _ in range(4):
            run.run(state, 2)
            said(field, field.graph(STRUCTURES[3]))
            other.run(alone, 2)
        assert np.array_equal(state.positions, alone.positions)
        assert np.array_equal(state.forces, alone.forces)


def test_two_runs_side_by_side_on_one_field() -> None:
    field = own()
    pairs = [(dynamics(field, s), dynamics(own(), s)) for s in STRUCTURES]
    for _ in range(3):
        for (run, state), (other, alone) in pairs:
            run.run(state, 2)
            other.run(alone, 2)
    for (_, state), (_, alone) in pairs:
        assert np.array_equal(state.positions, alone.positions)


def test_results_belong_to_the_caller() -> None:
    field = own()
    graph = field.graph(STRUCTURES[0])
    first = said(field, graph)
    kept = copy.deepcopy(first)
    said(field, field.graph(STRUCTURES[3]))
    said(field, replace(graph, positions=graph.positions * 1.01))
    assert same(first, kept)


def test_two_calls_at_once_of_the_c_interface_are_told() -> None:
    engine = own().engine
    graph = own().graph(cluster(100, seed=5))
    engine.set_graph(graph)
    expected = engine.compute(graph.positions)[1]
    functions, positions, found = library().functions, np.ascontiguousarray(graph.positions), set()

    def work() -> None:
        forces = np.zeros((100, 3))
        for _ in range(60):
            status = functions.gaq_engine_compute(engine._handle, positions.ctypes.data, None, forces.ctypes.data, None)
            found.add(status)
            assert status == BUSY or np.array_equal(forces, expected)

    in_threads(work, work, work)
    assert found <= {0, BUSY}
    assert BUSY in found


@pytest.mark.parametrize("threads", [0, -1, 257, 100_000, 2**32 + 1])
def test_threads_beyond_reason_are_refused(threads: int) -> None:
    with pytest.raises(EngineError, match="1 to 256"):
        NativePotential(forcefield("l1", "fp32").stored, threads)
    with pytest.raises(EngineError, match="1 to 256"):
        forcefield("l1", "fp32").on("engine", threads).predict(own().graph(STRUCTURES[0]))


def _forces(calculator: GaqCalculator, structure: Structure) -> np.ndarray:
    atoms = atoms_of(structure)
    atoms.calc = calculator
    return atoms.get_forces()


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda value: pickle.loads(pickle.dumps(value))}


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("backend", ["engine", "torch"])
def test_copies_give_the_same_bits(backend: str, again: Callable) -> None:
    calculator = forcefield("robust", "w4a8").on(backend, 2).calculator()
    first, second = STRUCTURES[0], STRUCTURES[3]
    expected = _forces(calculator, second)
    atoms = atoms_of(first)
    atoms.calc = calculator
    forces = atoms.get_forces()
    other = again(atoms)
    assert np.array_equal(other.get_forces(), forces)
    if again is not copy.copy:
        assert other.calc is not calculator
    twin = again(calculator)
    assert np.array_equal(_forces(twin, second), expected)
    twin.calculate(atoms_of(second))
    assert np.array_equal(calculator.get_forces(atoms), forces)  # not those of what the copy saw
    field = again(calculator.potential)
    assert type(field) is type(calculator.potential)
    assert same(said(field, field.graph(first)), said(calculator.potential, field.graph(first)))
    calculator.calculate(atoms_of(second))
    assert "stress" not in calculator.results


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)
def test_a_copied_run_goes_on_with_the_same_bits(again: Callable) -> None:
    for structure in (STRUCTURES[0], STRUCTURES[2]):
        run, state = dynamics(own(), structure)
        run.run(state, 3)
        twin, there = again(run), copy.deepcopy(state)
        for _ in range(2):
            run.run(state, 3)
            twin.run(there, 3)
        assert np.array_equal(state.positions, there.positions)


def test_an_instruction_set_goes_with_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = NativePotential(forcefield("l1", "fp32").stored, isa="scalar")
    assert copy.deepcopy(chosen).backend == "engine (scalar)"
    monkeypatch.setenv("GAQ_ISA", "scalar")
    by_environment = NativePotential(forcefield("l1", "fp32").stored)
    monkeypatch.delenv("GAQ_ISA")
    assert pickle.loads(pickle.dumps(by_environment)).backend == "engine (scalar)"


def _predict(field: NativePotential | ForceField) -> np.ndarray:
    return field.predict(field.graph(STRUCTURES[0])).forces


def test_a_spawned_process_takes_a_field() -> None:
    fields = [own(), forcefield("robust", "w4a8")]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for field, found in zip(fields, pool.map_async(_predict, fields).get(timeout=100), strict=True):
            assert np.array_equal(found, _predict(field))


def test_a_lock_that_a_lost_thread_holds_is_renewed() -> None:
    lock, held, done = Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with suppress(RuntimeError), lock:  # not its own any more when it gives it back
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    with copy.copy(lock), pickle.loads(pickle.dumps(lock)):
        lock.renew()
        with lock, lock:
            lock.renew()  # what this thread holds stays held
    done.set()
    thread.join()


FORKS = """
import ctypes, multiprocessing, os, signal, sys, threading, time
sys.path.insert(0, {tests!r})
import numpy as np, torch
from tiny import cluster, forcefield, said
from gaq.backends.native.library import library
from gaq.backends.native.potential import NativePotential

torch.set_num_threads(2)
plain = forcefield("robust", "w4a8")
structure = cluster(150, seed=0, spacing=1.5)
graph = plain.graph(structure)
fields = [NativePotential(plain.stored, 1), NativePotential(plain.stored, 2), plain]
expected = [said(f, graph).forces for f in fields]
functions, inherited = library().functions, fields[1].engine._handle
positions, forces = np.ascontiguousarray(structure.positions), np.zeros((150, 3))


def predict(k):
    return torch.equal(said(fields[k], graph).forces, expected[k])


def as_c(field):
    '''The handle that the parent made, as a program in C would use it.'''
    status = functions.gaq_engine_compute(inherited, positions.ctypes.data, None, forces.ctypes.data, None)
    return status == 0 and np.array_equal(forces, expected[1].numpy())


def forked(work):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if work() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, work


def destroyed():
    functions.gaq_engine_destroy(inherited)
    return True


def deleted():
    fields.clear()
    return True


for k in range(3):
    forked(lambda: predict(k))
forked(lambda: as_c(None) and as_c(None))
forked(destroyed)
forked(lambda: as_c(None) and destroyed())
forked(deleted)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert all(pool.map_async(predict, [0, 1, 2, 2, 1, 0]).get(timeout=40))

stop = threading.Event()  # forks in the middle of calls of other threads
def busy(field):
    while not stop.is_set():
        said(field, graph)
threads = [threading.Thread(target=busy, args=(f,)) for f in fields[:2]]
for thread in threads:
    thread.start()
try:
    for n in range(10):
        time.sleep(0.003 * n)
        forked(lambda: predict(n % 2))
        forked(destroyed)
finally:
    stop.set()
for thread in threads:
    thread.join()
assert all(predict(k) for k in range(3))
print("all right")
"""


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="no fork on this system")
def test_a_forked_process_computes_and_ends() -> None:
    """In a process of its own, which a hanging child cannot take along."""
    script = FORKS.format(tests=str(Path(__file__).parents[2]))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "all right", done.stderr[-2000:]
