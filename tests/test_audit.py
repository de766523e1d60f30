"""Grades of force fields whose conservation is known, and the figures behind them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.emt import EMT
from tiny import cluster, crystal, forcefield
from toys import Broken, Curl, LennardJones, Springs, molecule

from gaq.audit import (
    DRIFT_BOUND,
    FORCE_FD_BOUND,
    MD_GRADE,
    NOT_DECIDED,
    SCREENING_GRADE,
    Check,
    Plan,
    _drift_check,
    _grade,
    audit,
)
from gaq.data import Frames
from gaq.errors import ConfigError, DataError, GaqError
from gaq.metrics.calculators import CalculatorPredictor
from gaq.structure import Structure

SHORT = Plan(replicas=2, picoseconds=0.02, frames=2, loops=2)
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
    result = audit(forcefield("l1", recipe), Frames((cluster(),), "clusters"), replace(SHORT, picoseconds=0.004))
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
    few = Plan(replicas=4, picoseconds=1.0)
    assert _grade([good, shown], Plan()) == (MD_GRADE, [])
    assert _grade([good, open_], Plan()) == (SCREENING_GRADE, ["not shown"])
    assert _grade([good, open_, bad], Plan()) == (SCREENING_GRADE, ["too large"])
    assert _grade([good, bad], few) == (SCREENING_GRADE, ["too large"])
    assert _grade([good, shown], few)[0] == NOT_DECIDED


@pytest.mark.parametrize("setting", [{"replicas": 0}, {"picoseconds": 0.0}, {"timesteps_fs": ()}, {"frames": 0},
                                     {"timesteps_fs": (0.5, 0.5)}, {"timesteps_fs": (-1.0,)}, {"temperature_K": 0.0}])
def test_plans_without_meaning(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        Plan(**setting)


def test_wrong_arguments():
    with pytest.raises(DataError, match="no frames"):
        audit(Springs(), Frames((), "empty"), SHORT)
    with pytest.raises(ConfigError, match="cutoff"):
        audit(lambda graph: Springs()(graph), frames(), SHORT)
