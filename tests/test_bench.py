"""Timing side by side: the table is whole, what is left out is said, and names that mean nothing are refused."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import typer
from ase.calculators.calculator import Calculator, all_changes
from tiny import SHAPES, float_model, forcefield
from torch.utils.flop_counter import FlopCounterMode

from gaq.bench import BenchPlan, BenchRow, Comparison, Skip, as_json, compare
from gaq.bench import comparison as comparison_module
from gaq.bench.costs import OPERATIONS, step_seconds
from gaq.bench.peers import PEERS, Peer, PeerFailed, PeerMissing
from gaq.bench.steps import BACKENDS
from gaq.bench.summary import exponent, summarize
from gaq.bench.systems import structures, systems
from gaq.bench.timing import ceilings, interleaved
from gaq.cli.benchmarking import thread_counts
from gaq.data.structures import azobenzene, waters
from gaq.errors import ConfigError, GaqError
from gaq.graph import build_graph, collate
from gaq.models.transformer.costs import keeps_filters, parts
from gaq.models.transformer.recipes import RECIPES
from gaq.nn.tensors import tensors

FIELD = forcefield("robust", "fp32")
FAST = ("torch-eager", "torch-bf16", "engine")
RATES = {"float32": 2.0, "int16": 4.0, "int8": 8.0, "bandwidth": 1.0}


def small(**changes: object) -> BenchPlan:
    given = {"systems": ("H2O",), "threads": (1,), "backends": FAST, "recipes": ("fp32", "w4a8"), "repeats": 3,
             "memory": False}
    return BenchPlan(**(given | changes))  # type: ignore[arg-type]


def row(system: str, atoms: int, backend: str, recipe: str, ms: float, **more: object) -> BenchRow:
    return BenchRow(system, atoms, 10 * atoms, 1, backend, recipe, ms, ms, ms, **more)  # type: ignore[arg-type]


def test_the_table_has_a_row_for_every_backend_recipe_and_number_of_threads() -> None:
    told: list[tuple[float, float | None]] = []
    found = compare(FIELD, small(systems=("H2O", "batch-3:CH4"), threads=(1, 2)),
                    lambda done, total, note="", milestone=False: told.append((done, total)))
    assert [(r.system, r.threads, r.backend, r.recipe) for r in found.rows] == [
        (s, t, b, k) for s in ("H2O", "batch-3:CH4") for t in (1, 2) for b, k in (
            ("torch-eager", "fp32"), ("torch-bf16", "fp32"), ("engine", "fp32"), ("engine", "w4a8"))]
    assert found.rows[-1].atoms == 15
    assert all(0 < r.ms_q1 <= r.ms_per_step <= r.ms_q3 for r in found.rows)
    assert all(r.neighbours_ms and r.ms_per_step_with_neighbours > r.ms_per_step for r in found.rows)
    assert all((r.share_of_ceiling is not None) == (r.backend == "engine") for r in found.rows)
    assert not found.skips
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_json_follows_its_schema() -> None:
    data = json.loads(json.dumps(as_json(compare(FIELD, small()), {"cpu": "x"})))
    assert set(data) == {"format", "format_version", "version", "rows", "skipped", "ceilings", "machine"}
    kinds = {"system": str, "atoms": int, "edges": int, "threads": int, "backend": str, "recipe": str, "ms_per_step": float,
             "ms_q1": float, "ms_q3": float, "neighbours_ms": float, "ms_per_step_with_neighbours": float,
             "us_per_atom": float, "ns_per_day": float, "weights_MiB": float}
    for entry in data["rows"]:
        assert {name: type(entry[name]) for name in kinds} == kinds
        assert {"ratio_to_compiled_fp32", "peak_MiB", "share_of_ceiling", "share_of_bandwidth"} <= set(entry)
    assert data["rows"][0]["ratio_to_compiled_fp32"] is None
    assert data["ceilings"]["float32"] > 0


@pytest.mark.slow
def test_memory_is_that_of_a_fresh_process() -> None:
    found = compare(FIELD, small(systems=("water-27",), backends=("torch-eager", "engine"), recipes=("fp32",), memory=True))
    eager, engine = (r.peak_MiB for r in found.rows)
    assert eager is not None
    assert engine is not None
    assert 0 <= engine < eager


def test_what_is_too_large_for_pytorch_is_left_out_and_said() -> None:
    found = compare(FIELD, small(systems=("H2O", "CH4"), largest_torch=10))
    assert {(r.system, r.backend) for r in found.rows} == {
        ("H2O", "torch-eager"), ("H2O", "torch-bf16"), ("H2O", "engine"), ("CH4", "engine")}
    assert [(s.backend, s.system) for s in found.skips] == [("torch-eager", "CH4"), ("torch-bf16", "CH4")]
    assert all("20 edges, more than --largest-torch 10" in s.reason for s in found.skips)


def test_bfloat16_that_cannot_be_computed_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise RuntimeError("no bfloat16 here")

    monkeypatch.setattr(torch, "autocast", refuse)
    found = compare(FIELD, small())
    assert [(s.backend, s.reason) for s in found.skips] == [("torch-bf16", "no bfloat16 here")]
    assert {r.backend for r in found.rows} == {"torch-eager", "engine"}


def test_elements_that_the_model_does_not_know_get_one_of_its_shape() -> None:
    system = next(systems(["SiH4"], FIELD))
    assert 14 in system.field.species
    assert system.field.config.scalars == FIELD.config.scalars
    assert system.atoms == 5


def test_water_has_the_density_of_the_liquid() -> None:
    box = waters(27)
    graph = build_graph(box, 4.0)
    assert len(box) == 81
    assert 18.015 * 27 / 0.602214 / np.linalg.det(box.cell) == pytest.approx(1.0, abs=0.05)  # g/cm³
    assert len(graph.centers) > 1000


def test_azobenzene_is_a_planar_trans_molecule() -> None:
    molecule = azobenzene()
    assert molecule.formula == "C12H10N2"
    x, z = molecule.positions, molecule.species
    assert not x[:, 2].any()
    assert np.allclose(x.mean(0), 0.0)
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
    bonds = {}
    for i, j in zip(*np.triu_indices(24, 1), strict=True):
        if distances[i, j] < 1.6:
            bonds.setdefault(tuple(sorted((int(z[i]), int(z[j])))), []).append(distances[i, j])
    assert {pair: (len(d), round(float(np.mean(d)), 4), round(float(np.ptp(d)), 9)) for pair, d in bonds.items()} == {
        (7, 7): (1, 1.25, 0.0), (6, 7): (2, 1.42, 0.0), (6, 6): (12, 1.39, 0.0), (1, 6): (10, 1.08, 0.0)}
    apart = distances[(distances > 1.6)]
    assert apart.min() > 2.0  # the closest are neighbours of neighbours
    a, b = np.flatnonzero(z == 7)
    first, second = (int(np.flatnonzero((z == 6) & (distances[n] < 1.6))[0]) for n in (a, b))
    assert np.dot(x[first] - x[a], x[second] - x[b]) < 0  # trans


@pytest.mark.parametrize(("name", "message"), [
    ("phlogiston", "water-64"), ("water-100", "cubic"), ("water-0", "cubic"), ("batch-0:CH4", "number of molecules"),
    ("batch-x:CH4", "number of molecules"), ("batch-2:phlogiston", "phlogiston")])
def test_unknown_systems_are_refused(name: str, message: str) -> None:
    with pytest.raises(GaqError, match=message):
        structures(name)


@pytest.mark.parametrize(("changes", "message"), [
    ({"systems": ()}, "systems must not be empty"), ({"threads": (0,)}, "threads must be at least 1"),
    ({"threads": (1, 1)}, "more than once"), ({"repeats": 2}, "quartiles"), ({"recipes": ("w4a7",)}, "w4a8"),
    ({"backends": ("torch-eagre",)}, "did you mean 'torch-eager'")])
def test_plans_that_mean_nothing_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**changes)


def test_low_bit_models_are_refused() -> None:
    with pytest.raises(ConfigError, match="w4a8"):
        compare(forcefield("robust", "w4a8"), small())


@pytest.mark.parametrize("text", ["", "0", "1,x", "-1", "1.5"])
def test_numbers_of_threads_are_checked(text: str) -> None:
    assert thread_counts("1, 2,4") == (1, 2, 4)
    with pytest.raises((ConfigError, typer.BadParameter), match="whole number"):
        thread_counts(text)


def test_rounds_are_interleaved() -> None:
    calls: list[str] = []
    interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert "".join(dict.fromkeys(calls)) == "ab"
    assert calls.index("b") < len(calls) - 1 - calls[::-1].index("a")
    assert min(ceilings().values()) > 0


@pytest.mark.parametrize("shape", list(SHAPES))
def test_costs_are_the_products_that_pytorch_counts(shape: str) -> None:
    """Within 2 %: geometry may multiply a little too."""
    graph = tensors(collate([build_graph(s, 4.0) for s in structures("batch-2:CH3CH2OH")]))
    model = float_model(shape)
    vectors = graph.positions[graph.neighbours] - graph.positions[graph.centers]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.node_energies(graph, vectors)
    counted = sum(part.definition * (len(graph.species) if part.per == "atom" else len(graph.centers))
                  for part in parts(SHAPES[shape]))
    assert counter.get_total_flops() == pytest.approx(OPERATIONS * counted, rel=0.02)


def test_low_bit_products_run_in_whole_numbers() -> None:
    kinds = {recipe: {part.module: part.arithmetic(RECIPES[recipe]) for part in parts(SHAPES["robust"])}
             for recipe in ("fp32", "w4", "w4a16", "w4a8")}
    assert set(kinds["fp32"].values()) == set(kinds["w4"].values()) == {"float32"}
    assert kinds["w4a8"]["attention.0.query"] == "int8"
    assert kinds["w4a8"]["interaction.1.update.first"] == kinds["w4a16"]["attention.0.query"] == "int16"
    assert kinds["w4a8"]["attention.0.value"] == "float32"  # inputs of 24 bits
    assert kinds["w4a16"]["attention.0.value"] == "int16"
    assert kinds["w4a8"]["attention.0.mix"] == kinds["w4a8"]["attention.0.messages"] == "float32"
    times = {name: step_seconds(SHAPES["robust"], RECIPES[name], 10, 100, RATES) for name in kinds}
    assert times["fp32"] == times["w4"] > max(times["w4a16"], times["w4a8"])
    assert keeps_filters(SHAPES["robust"], 100)
    work = sum((part.forward + part.adjoint) * (10 if part.per == "atom" else 100)
               for part in parts(SHAPES["robust"], edges=100))
    assert times["fp32"] == pytest.approx(OPERATIONS * work / 2e9)


def test_the_exponent_of_cost_is_that_of_the_rows() -> None:
    assert exponent([192, 1536, 12288], [3 * n**1.07 for n in (192, 1536, 12288)]) == pytest.approx(1.07)
    rows = [row(f"water-{n // 3}", n, "engine", "w4a8", 2e-3 * n**0.98) for n in (192, 1536, 12288)]
    growth = summarize(Comparison([*rows, row("CH4", 5, "engine", "w4a8", 1.0)], [], RATES)).growth
    assert [(g.label, g.smallest, g.largest) for g in growth] == [("engine w4a8", 192, 12288)]
    assert growth[0].exponent == pytest.approx(0.98)


def test_the_summary_compares_with_the_best_fp32_mode_and_extrapolates_memory() -> None:
    rows = []
    for n in (192, 1536):
        rows += [row(f"water-{n // 3}", n, "torch-eager", "fp32", 0.1 * n, peak_MiB=100.0 + n, weights_MiB=1.2),
                 row(f"water-{n // 3}", n, "torch-compile", "fp32", 0.02 * n)]
    for n in (192, 1536, 12288):
        rows += [row(f"water-{n // 3}", n, "engine", "fp32", 0.01 * n, peak_MiB=float(n) / 16, weights_MiB=2.0),
                 row(f"water-{n // 3}", n, "engine", "w4a8", 0.008 * n, peak_MiB=float(n) / 16, weights_MiB=0.2)]
    skips = [Skip("torch-eager", "too large", "water-4096", 12288, 0)]
    summary = summarize(Comparison(rows, skips, RATES))
    first = summary.speed[0]
    assert (first.system, first.recipe, first.best_fp32) == ("water-64", "w4a8", "engine fp32")
    assert first.ratio_to_best_fp32 == first.ratio_to_engine_fp32 == pytest.approx(1.25)
    assert [(m.system, m.extrapolated) for m in summary.memory] == [("water-4096", True)] * 2
    assert summary.memory[0].eager_MiB == pytest.approx(100 + 12288)
    low = next(w for w in summary.weights if w.recipe == "w4a8")
    assert (low.share_of_torch_fp32, low.share_of_engine_fp32) == (pytest.approx(1 / 6), pytest.approx(0.1))
    text = "\n".join(summary.lines())
    assert "x = 1.00" in text
    assert "(extrapolated)" in text
    assert "1.25 times as fast as the best FP32 mode (engine fp32)" in text
    assert json.loads(json.dumps(summary.as_json()))["memory"][0]["extrapolated"] is True
    assert summarize(Comparison([], [], RATES)).lines() == []


class Springs(Calculator):
    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=(), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        torch.set_default_dtype(torch.float64)  # some packages do
        self.results = {"energy": 0.0, "forces": -atoms.positions}


def broken() -> Calculator:
    raise ValueError("weights\n are\tof another age")


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(make: Callable[[], Calculator] = Springs, module: str = "json") -> None:
        fake = Peer("sevenn", module, "peers", "springs", make)
        monkeypatch.setitem(PEERS, "sevenn", fake)
        assert comparison_module.PEERS["sevenn"] is fake
    return install


def test_a_peer_has_rows_that_contain_its_neighbours(peer: Callable[..., None]) -> None:
    peer()
    found = compare(FIELD, small(backends=("engine", "sevenn"), recipes=("fp32",), systems=("H2O", "batch-2:CH4")))
    other = next(r for r in found.rows if r.backend == "sevenn")
    assert (other.recipe, other.neighbours_ms, other.weights_MiB) == ("springs", None, None)
    assert other.ms_per_step_with_neighbours == other.ms_per_step
    assert torch.get_default_dtype() is torch.float32
    assert [(s.backend, s.system) for s in found.skips] == [("sevenn", "batch-2:CH4")]
    assert "one structure at a time" in found.skips[0].reason


def test_a_peer_that_fails_says_why_and_leaves_the_others(peer: Callable[..., None]) -> None:
    peer(broken)
    found = compare(FIELD, small(backends=("engine", "sevenn"), recipes=("fp32",)))
    assert [r.backend for r in found.rows] == ["engine"]
    assert found.skips[0].reason == "sevenn is installed and fails: ValueError: weights are of another age"
    peer(lambda: type("Lost", (Springs,), {"calculate": lambda self, *a: self.results.update(forces=[math.nan])})())
    with pytest.raises(PeerFailed, match="no finite forces"):
        PEERS["sevenn"].step(next(systems(["H2O"], FIELD)))


def test_a_peer_that_is_missing_is_named_once_unless_it_was_asked_for(peer: Callable[..., None]) -> None:
    peer(module="no_such_module_at_all")
    with pytest.raises(PeerMissing, match=r"sevenn is not installed; `pip install \"gaq\[peers\]\"`"):
        compare(FIELD, small(backends=("engine", "sevenn")))
    keys = BenchPlan(systems=("H2O",)).keys()
    assert {backend for backend, _ in keys} == set(BACKENDS)
