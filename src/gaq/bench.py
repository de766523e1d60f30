"""How fast force fields compute: PyTorch as it is, compiled, and the native engine, side by side in one run.

Repeats are interleaved, so that a busy machine is as unfair to all; figures are medians with quartiles.
"""

import contextlib
import ctypes
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.build import molecule
from torch import Tensor

from gaq.engine.library import Ceilings, library
from gaq.engine.native import NativeForceField
from gaq.errors import ConfigError, GaqError
from gaq.forcefield import ForceField
from gaq.graph import Graph, Structure, build_graph, collate
from gaq.nn.model import Transformer, edge_vectors
from gaq.recipe import RECIPES, Recipe, load_recipe
from gaq.transform import freeze, prepare

WATER, SPACING = (8, 1, 1), 3.1  # Å between the molecules of a grid, as in the liquid
REPEATS = 15
TIMESTEP_FS = 0.5
RECIPES_SHOWN = ("fp32", "w4a16", "w4a8")


@dataclass(frozen=True)
class Row:
    """One line of the table; times in ms for energy and forces, memory in MiB."""

    system: str
    atoms: int
    edges: int
    threads: int
    backend: str
    recipe: str
    ms_per_step: float
    ms_q1: float
    ms_q3: float
    ratio_to_compiled_fp32: float | None
    peak_MiB: float | None

    @property
    def us_per_atom(self) -> float:
        """µs for each atom and step."""
        return 1000.0 * self.ms_per_step / self.atoms

    @property
    def ns_per_day(self) -> float:
        """ns/day at 0.5 fs."""
        return 86.4 * TIMESTEP_FS / self.ms_per_step


def waters(count: int, seed: int = 0) -> Structure:
    """Return a periodic grid of randomly turned water molecules at the density of the liquid."""
    rng, side = np.random.default_rng(seed), round(count ** (1 / 3))
    if side**3 != count:
        raise ConfigError(f"a box of water takes a cubic number of molecules, such as 64 or 512, not {count}")
    grid = SPACING * np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    places = []
    for corner in grid:
        water = molecule("H2O")
        water.rotate(float(rng.uniform(0, 360)), rng.normal(size=3))
        places.append(water.positions - water.positions[0] + corner)
    positions = np.concatenate(places) + 0.02 * rng.normal(size=(3 * count, 3))
    return Structure(species=np.tile(WATER, count), positions=positions, cell=SPACING * side * np.eye(3), pbc=(True,) * 3)


def systems(names: Iterable[str], field: ForceField) -> Iterator[tuple[str, ForceField, Graph]]:
    """Yield name, a float model and a graph for each system.

    A name is that of a molecule ("CH3CH2OH"), "water-N" for N molecules in a periodic box, or "batch-N:MOLECULE". Where
    the model does not know an element, one of its shape with random weights takes its place: speed is the same.
    """
    for name in names:
        kind, _, rest = name.partition("-")
        if kind == "water" and rest.isdigit():
            structures = [waters(int(rest))]
        elif kind == "batch" and rest.partition(":")[0].isdigit():
            count, _, formula = rest.partition(":")
            structures = [_molecule(formula)] * int(count)
        else:
            structures = [_molecule(name)]
        species = tuple(sorted({int(z) for s in structures for z in s.species}))
        model = field
        if not set(species) <= set(field.species):
            torch.manual_seed(0)
            model = ForceField(Transformer(field.config.model_copy(update={"species": species})), RECIPES["fp32"])
        yield name, model, collate([build_graph(s, model.cutoff) for s in structures])


def compare(field: ForceField, names: Iterable[str], *, threads: int = 1, compiled: bool = True, eager: bool = True,
            recipes: Iterable[str] = RECIPES_SHOWN, repeats: int = REPEATS, memory: bool = True,
            progress: Callable[[str], None] | None = None) -> list[Row]:
    """Time energy and forces of every system on every backend.

    Args:
        field: an FP32 force field, whose shape is timed; low-bit forms are calibrated on the system itself.
        names: as for `systems`.
        threads: of all backends.
        compiled: also torch.compile, traced with make_fx; it takes minutes.
        eager: also PyTorch as it is.
        recipes: of the engine.
        repeats: timed rounds.
        memory: also the peak memory of a fresh process.
        progress: told what is done.
    """
    rows: list[Row] = []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name, model, graph in systems(names, field):
            steps: dict[tuple[str, str], Callable[[], object]] = {}
            if eager:
                steps["torch-eager", "fp32"] = lambda m=model, g=graph: m.model(g)  # type: ignore[misc]
            if compiled:
                if progress is not None:
                    progress(f"{name}: compiling")
                steps["torch-compile", "fp32"] = _compiled(model, graph)
            forms = {recipe: low_bit(model, load_recipe(recipe), graph) for recipe in recipes}
            for recipe, form in forms.items():
                steps["engine", recipe] = _engine(form, graph, threads)
            if progress is not None:
                progress(f"{name}: {len(graph.species)} atoms, {len(graph.centers)} edges")
            rows += _rows(name, graph, threads, interleaved(steps, repeats),
                          _peaks(model, forms, graph, threads, list(steps)) if memory else {})
    finally:
        torch.set_num_threads(before)
    return rows


def interleaved(steps: dict[Any, Callable[[], object]], repeats: int) -> dict[Any, np.ndarray]:
    """Return the times in ms of each function, called in turn; fast ones several times in a row."""
    inner = {}
    for key, step in steps.items():
        step()
        begin = time.perf_counter()
        step()
        inner[key] = max(1, min(50, round(0.01 / (time.perf_counter() - begin))))
    times: dict[Any, list[float]] = {key: [] for key in steps}
    for _ in range(repeats):
        for key, step in steps.items():
            begin = time.perf_counter()
            for _ in range(inner[key]):
                step()
            times[key].append(1000.0 * (time.perf_counter() - begin) / inner[key])
    return {key: np.array(values) for key, values in times.items()}


def ceilings() -> dict[str, float]:
    """Return what one core can do at most: 1e9 operations (float32, int16, int8) or bytes (bandwidth) a second."""
    found = Ceilings()
    library().functions.gaq_measure_ceilings(None, ctypes.byref(found))
    return {name: float(getattr(found, name)) for name, _ in Ceilings._fields_}


def as_json(rows: Iterable[Row], machine: dict[str, Any]) -> dict[str, Any]:
    """Return the table as plain data."""
    return {"rows": [asdict(row) | {"us_per_atom": row.us_per_atom, "ns_per_day": row.ns_per_day} for row in rows],
            "ceilings": ceilings(), "machine": machine}


def low_bit(field: ForceField, recipe: Recipe, graph: Graph) -> ForceField:
    """Return the force field in a recipe, calibrated on one graph and not trained."""
    return field if not recipe.rules else ForceField(freeze(prepare(field.model, recipe, [graph])), recipe)


def _molecule(name: str) -> Structure:
    try:
        atoms = molecule(name)
    except KeyError:
        raise ConfigError(f"no molecule {name!r} is known; take a name of ase.build.molecule, or water-64") from None
    return Structure(species=atoms.numbers, positions=atoms.positions)


def _engine(field: ForceField, graph: Graph, threads: int) -> Callable[[], object]:
    native = NativeForceField(field, threads)
    native.engine.set_graph(graph)
    positions = graph.positions.numpy()
    return lambda: native.engine.compute(positions)


def _compiled(field: ForceField, graph: Graph) -> Callable[[], object]:
    """Return energy and forces as one compiled function: make_fx traces the gradient into it."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def step(positions: Tensor) -> tuple[Tensor, Tensor]:
        x = positions.detach().requires_grad_()
        energy = field.model.node_energies(graph, edge_vectors(graph, x)).sum()
        return energy, torch.autograd.grad(energy, x)[0]

    fast = torch.compile(make_fx(step)(graph.positions))

    def call() -> object:
        with torch.no_grad():
            return fast(graph.positions)
    return call


def _rows(name: str, graph: Graph, threads: int, times: dict[tuple[str, str], np.ndarray],
          peaks: dict[tuple[str, str], float]) -> list[Row]:
    fastest = times.get(("torch-compile", "fp32"))
    rows = []
    for (backend, recipe), values in times.items():
        q1, median, q3 = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
        ratio = None if fastest is None else float(np.median(fastest)) / median
        rows.append(Row(name, len(graph.species), len(graph.centers), threads, backend, recipe, median, q1, q3, ratio,
                        peaks.get((backend, recipe))))
    return rows


def _peaks(field: ForceField, forms: dict[str, ForceField], graph: Graph, threads: int, keys: list[tuple[str, str]]
           ) -> dict[tuple[str, str], float]:
    """Return how much a fresh process grows by computing, MiB; compiled code is left out, its compiler outgrows it."""
    context = multiprocessing.get_context("spawn")
    peaks = {}
    for backend, recipe in keys:
        if backend == "torch-compile":
            continue
        receive, send = context.Pipe(duplex=False)
        chosen = forms[recipe] if backend == "engine" else field
        child = context.Process(target=_measure, args=(send, chosen, graph, threads, backend))
        child.start()
        send.close()
        try:
            peaks[backend, recipe] = float(receive.recv())
        except EOFError:
            raise GaqError(f"the process that measured the memory of {backend} {recipe} ended early") from None
        finally:
            child.join()
    return peaks


def _measure(send: Any, field: ForceField, graph: Graph, threads: int, backend: str) -> None:
    torch.set_num_threads(threads)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew from what is in use
    begin = _peak_MiB()
    step = _engine(field, graph, threads) if backend == "engine" else lambda: field.model(graph)
    step()
    send.send(_peak_MiB() - begin)


def _peak_MiB() -> float:
    """Return the largest memory of this process; Linux' ru_maxrss would start with that of the process before."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
