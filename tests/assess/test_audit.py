"""Grades of force fields whose conservation is known, and the figures behind them."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.emt import EMT
from tiny import cluster, crystal, forcefield
from toys import Broken, Curl, LennardJones, Springs, molecule

from gaq.assess.audit import (
    DRIFT_BOUND,
    FORCE_FD_BOUND,
    MD_GRADE,
    NOT_DECIDED,
    SCREENING_GRADE,
    SINGLE_STEPS,
    AuditPlan,
    Check,
    _drift_check,
    _grade,
    audit,
    derivatives,
    usual_plan,
)
from gaq.backends.torch import TorchPotential
from gaq.data import Frames
from gaq.errors import ConfigError, DataError, GaqError
from gaq.graph import build_graph
from gaq.metrics.batches import MOST_EDGES, batches, copies
from gaq.metrics.calculators import CalculatorPredictor
from gaq.structure import Structure

SHORT = AuditPlan(replicas=2, picoseconds=0.02, frames=2, loops=2)
FIGURES = ("force_fd_meV_A", "lambda_antisymmetry", "loop_work_relative", "nve_drift_meV_atom_ps", "nve_drift_stderr",
           "nve_fluctuation_meV_atom", "nve_fluctuation_ratio", "angular_momentum_relative")


def frames(count: int = 3) -> Frames:
    rng = np.random.default_rng(0)
    return Frames(tuple(molecule(molecule().positions + 0.02 * rng.normal(size=(5, 3))) for _ in range(count)), "toys")


def failures(result: dict) -> set[str]:
    return {check["name"].split()[0] for check in result["checks"] if check["passed"] is False}


def test_a_conservative_toy_has_no_fault_and_a_short_run_decides_nothing():
    told: list[tuple[float, float, str]] = []
    result = audit(Springs(), frames(), SHORT, reference=Springs(), progress=lambda *now: told.append(now))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert set(FIGURES) <= set(result)
    assert result["grade"] == NOT_DECIDED
    assert any("too few for MD-grade" in reason for reason in result["reasons"])
    assert failures(result) == set()
    assert result["lambda_antisymmetry"]["max"] < 1e-5
    assert result["loop_work_relative"]["max"] < 1e-9
    assert result["force_fd_meV_A"]["0.001"] < FORCE_FD_BOUND
    assert result["nve_fluctuation_ratio"] == pytest.approx(1.0)
    assert result["angular_momentum_relative"] < 1e-9
    assert result["frames"] == 2
    for stage in dict.fromkeys(stage for _, _, stage in told):
        counts = [(done, total) for done, total, name in told if name == stage]
        assert counts[0][0] == 0
        assert counts[-1][0] == pytest.approx(counts[-1][1])


def test_a_curl_is_found_by_every_measure():
    result = audit(Curl(0.2), frames(1), replace(SHORT, picoseconds=0.1), reference=Springs())
    assert result["grade"] == SCREENING_GRADE
    assert {"force_fd_meV_A", "lambda_antisymmetry", "nve_fluctuation_ratio"} <= failures(result)
    assert result["lambda_antisymmetry"]["median"] > 1e-2
    assert result["loop_work_relative"]["median"] > 1e-4
    assert abs(result["nve_drift_meV_atom_ps"]) > 10.0
    assert result["angular_momentum_relative"] > 1e-3
    assert len(result["reasons"]) >= 3


@pytest.mark.parametrize(("recipe", "failed"), [
    ("w4", set()), ("w4a8", {"force_fd_meV_A", "lambda_antisymmetry"})])
def test_quantized_models(recipe, failed):
    result = audit(forcefield("l1", recipe).on(), Frames((cluster(),), "clusters"), replace(SHORT, picoseconds=0.004))
    assert failures(result) - {"nve_drift_meV_atom_ps"} == failed
    assert (result["nve_fluctuation_ratio"], result["nve"][0]["timestep_fs"]) == (None, 0.5)


def test_every_time_step_is_reported_and_the_first_judged():
    plan = replace(SHORT, timesteps_fs=(0.5, 0.25))
    result = audit(Springs(), frames(1), plan)
    assert [run["timestep_fs"] for run in result["nve"]] == [0.5, 0.25]
    assert result["nve_fluctuation_meV_atom"] == result["nve"][0]["nve_fluctuation_meV_atom"]


def test_explosions_are_a_verdict():
    apart = Frames((Structure(species=np.array([6, 6]), positions=[[0, 0, 0], [0, 0, 2.0]]),), "pair")
    result = audit(LennardJones(epsilon=5.0, sigma=2.5), apart, SHORT)
    assert result["grade"] == SCREENING_GRADE
    assert any("exploded after" in reason for reason in result["reasons"])
    assert result["nve_drift_meV_atom_ps"] is result["angular_momentum_relative"] is None
    with pytest.raises(GaqError, match="not finite"):
        audit(Broken(), frames(), SHORT)


def test_calculators_of_ase_and_crystals():
    copper = Structure(species=np.array([29, 29]), positions=[[0, 0, 0], [1.7, 1.9, 1.8]], cell=3.6 * np.eye(3),
                       pbc=(True, True, True))
    result = audit(CalculatorPredictor(EMT()), Frames((copper,), "copper"), replace(SHORT, picoseconds=0.001, loops=1))
    assert result["lambda_antisymmetry"]["max"] < 1e-4
    assert result["loop_work_relative"]["max"] < 1e-6
    assert result["angular_momentum_relative"] is None  # a periodic structure has none


def test_a_calculator_gives_what_the_force_field_gives():
    field = forcefield("l1", "w4")
    for structure in (cluster(), crystal()):
        outside = CalculatorPredictor(field.calculator(backend="torch"))
        direct, through = field(field.graph(structure)), outside(field.graph(structure))
        assert np.allclose(through.energy, direct.energy, atol=1e-9)
        assert np.allclose(through.forces, direct.forces, atol=1e-9)


@pytest.mark.parametrize(("slope", "error", "fluctuation", "passed"), [
    (0.001, 0.001, 0.1, True), (-0.001, 0.001, 0.1, True), (0.004, 0.001, 0.1, None), (-0.009, 0.001, 0.1, None),
    (-0.02, 0.001, 0.1, False), (-0.02, 0.001, 0.3, None), (0.0, None, 0.1, None), (None, None, None, False)])
def test_drift_is_judged_with_its_uncertainty(slope, error, fluctuation, passed):
    check = _drift_check(slope, error, fluctuation, 10.0, "after 3 fs")
    assert check.passed is passed
    assert bool(check.reason) != (passed is True)
    assert check.bound == DRIFT_BOUND


def test_grades():
    good, open_ = Check("a", 0.0, 1.0, "", True), Check("b", 0.5, 1.0, "", None, "not shown")
    bad, shown = Check("c", 2.0, 1.0, "", False, "too large"), Check("d", 3.0, None, "", None)
    few = AuditPlan(replicas=4, picoseconds=1.0)
    assert usual_plan(24) == AuditPlan()
    assert usual_plan(81).decides
    assert usual_plan(81).replicas * usual_plan(81).picoseconds < AuditPlan().replicas * AuditPlan().picoseconds / 3
    assert _grade([good, shown], AuditPlan()) == (MD_GRADE, [])
    assert _grade([good, open_], AuditPlan()) == (SCREENING_GRADE, ["not shown"])
    assert _grade([good, open_, bad], AuditPlan()) == (SCREENING_GRADE, ["too large"])
    assert _grade([good, bad], few) == (SCREENING_GRADE, ["too large"])
    assert _grade([good, shown], few)[0] == NOT_DECIDED


@pytest.mark.parametrize("setting", [{"replicas": 0}, {"picoseconds": 0.0}, {"timesteps_fs": ()}, {"frames": 0},
                                     {"timesteps_fs": (0.5, 0.5)}, {"timesteps_fs": (-1.0,)}, {"temperature_K": 0.0}])
def test_plans_without_meaning(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        AuditPlan(**setting)


def test_wrong_arguments():
    with pytest.raises(DataError, match="no frames"):
        audit(Springs(), Frames((), "empty"), SHORT)
    with pytest.raises(ConfigError, match="cutoff"):
        audit(lambda graph: Springs()(graph), frames(), SHORT)


def box(side: int = 3, spacing: float = 3.1) -> Structure:
    """A periodic box of water, 27 molecules and 81 atoms, each turned another way."""
    rng, water = np.random.default_rng(0), np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    places = []
    for corner in spacing * np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        places.append(corner + water @ turn.T)
    return Structure(species=np.tile([8, 1, 1], side**3), positions=np.concatenate(places),
                     cell=spacing * side * np.eye(3), pbc=(True, True, True))


def test_a_periodic_box_is_audited_on_the_engine_and_says_how_far_it_is(monkeypatch):
    """In float64 on PyTorch, 81 atoms took hours without a word: 16 copies in one prediction, a second for each."""
    def forbidden(*arguments, **keywords):
        raise AssertionError("the definition in PyTorch must not be asked")

    field, told, now = forcefield("l1", "w4").on(), [], time.monotonic()
    monkeypatch.setattr(TorchPotential, "predict", forbidden)
    monkeypatch.setattr(TorchPotential, "__call__", forbidden)
    result = audit(field, Frames((box(),), "box"), replace(SHORT, picoseconds=0.005, loops=1, replicas=2),
                   progress=lambda done, total, stage: told.append((done, total, stage, time.monotonic() - now)))
    assert result["backend"] == result["derivatives_backend"]
    assert result["backend"].startswith("engine")
    stages = list(dict.fromkeys(stage for _, _, stage, _ in told))
    assert len(stages) == 3
    for stage in stages:
        counts = [(done, total) for done, total, name, _ in told if name == stage]
        assert counts == sorted(counts)
        assert counts[0][0] == 0
        if stage != stages[-1]:  # a random model may explode before
            assert counts[-1][0] == counts[-1][1]
    displaced = [done for done, _, stage, _ in told if stage == stages[0]]
    assert displaced[-1] == 1 + 3 * 6 * 81  # two steps of differences, the Jacobian, and where they start
    assert max(np.diff(displaced)) <= 12  # structures in one prediction, whatever the batch size
    seconds = [at for *_, at in told]
    assert max(np.diff(seconds)) < 5.0
    assert set(result["force_fd_meV_A"]) == {"0.001", "0.01"}
    assert result["lambda_antisymmetry"]["max"] < 2e-4
    assert result["force_fd_mean_meV_A"]["0.01"] < FORCE_FD_BOUND


def test_rounding_of_the_engine_hides_no_verdict():
    """The figures of the engine on a molecule, beside those in float64."""
    plan = replace(SHORT, frames=1, loops=1)
    for recipe in ("w4", "w4a8"):
        field, frames = forcefield("l1", recipe), [cluster()]
        single = derivatives(field.on("engine"), field, frames, field.cutoff, plan, steps=SINGLE_STEPS)
        double = derivatives(field.on("torch", dtype="float64"), field, frames, field.cutoff, plan)
        fine, coarse = double["lambda_antisymmetry"]["max"], single["lambda_antisymmetry"]["max"]
        assert coarse == pytest.approx(fine, rel=0.1, abs=2e-4)
        assert single["force_fd_mean_meV_A"]["0.01"] == pytest.approx(
            double["force_fd_mean_meV_A"]["0.01"], rel=0.2, abs=0.5)


def test_batches_are_bounded_by_their_edges():
    graph = build_graph(box(2, 3.2), 6.0)
    assert copies(graph, 32) == MOST_EDGES // len(graph.centers)
    assert copies(build_graph(cluster(), 4.0), 32) == 32
    sizes = [len(members) for members in batches([graph] * 7, 5)]
    assert sum(sizes) == 7
    assert max(sizes) * len(graph.centers) <= MOST_EDGES
    huge = build_graph(box(3, 2.4), 7.0)
    assert len(huge.centers) > MOST_EDGES
    assert copies(huge, 8) == 1
    assert [len(members) for members in batches([huge] * 2, 8)] == [1, 1]
