"""Sensitivities are those of models with one part quantized, and allocations made of them keep their budgets."""

import json
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import calibration, cluster, deployed, float_model, forcefield

from gaq.assess.allocate import Budget, allocate
from gaq.assess.sensitivity import (
    WIDTHS,
    Bench,
    Kind,
    Measures,
    Report,
    SensitivityPlan,
    SensitivityRow,
    _operations,
    at_width,
    sensitivity,
)
from gaq.compress.probe import activate, leaves
from gaq.compress.swap import network, prepare
from gaq.data import Frames
from gaq.errors import ConfigError, DataError
from gaq.forcefield import ForceField, load
from gaq.metrics.equivariance import local_equivariance_error
from gaq.metrics.jacobian import jacobian_antisymmetry
from gaq.models import load_recipe
from gaq.models.transformer.recipes import RECIPES
from gaq.nn.tensors import tensors
from gaq.recipe import Recipe, Rule, save_recipe
from gaq.report.plots import part_bars

QUICK = SensitivityPlan(frames=2, rotations=2, lee_frames=1, jacobian_frames=1, batch_size=32)


def labelled(count: int = 3) -> Frames:
    rng, made = np.random.default_rng(0), []
    for k in range(count):
        structure = cluster(5, k)
        made.append(replace(structure, energy=float(rng.normal()), forces=rng.normal(size=structure.positions.shape)))
    return Frames(tuple(made), "clusters")


@pytest.fixture(scope="module")
def original() -> ForceField:
    return forcefield("l1", "fp32")


@pytest.fixture(scope="module")
def report(original) -> Report:
    """One of w4a8, with all alternatives."""
    plan = replace(QUICK, alternatives=("weight", "input", "vectors"), alternative_jacobians=True)
    return sensitivity(original, RECIPES["w4a8"], labelled(), plan)


def row(report: Report, leaf: str, kind: Kind, bits: int) -> SensitivityRow:
    return next(r for r in report.rows if (r.leaf, r.kind, r.bits) == (leaf, kind, bits))


def test_a_float_recipe_has_no_parts(original):
    found = sensitivity(original, RECIPES["fp32"], labelled(), replace(QUICK, jacobian_frames=0))
    assert found.rows == ()
    assert found.whole.forces_rms_change_meV_A == found.reference.forces_rms_change_meV_A == 0.0
    assert found.stored_bytes == sum(original.stored.bytes_by_tensor().values())


def test_every_part_that_a_recipe_rounds_has_a_row(report):
    assert {(r.kind, r.bits) for r in report.rows} >= {(kind, bits) for kind, widths in WIDTHS.items() for bits in widths}
    by_leaf = {r.leaf: r.role for r in report.given}
    assert by_leaf == {name: leaf.leaf.role for name, leaf in leaves(float_model("l1"))}
    assert {r.leaf for r in report.given if r.kind == "vectors"} == {"attention.0.feature", "interaction.0.feature"}
    assert not any(r.kind == "input" for r in report.given if r.role in ("first", "radial", "vector"))
    assert all(sum(r.given for r in part) == 1 for part in report.parts())
    assert all((r.bytes is None) != (r.operations is None) for r in report.rows)
    assert json.loads(json.dumps(report.as_json(), allow_nan=False))["rows"][0]["leaf"] == report.rows[0].leaf


def w4a8(role: str, **changes: object) -> Rule:
    return RECIPES["w4a8"].rule_for("", role).model_copy(update=changes)


@pytest.mark.parametrize(("leaf", "kind", "rule"), [
    ("attention.0.query", "weight", w4a8("scalar", match="*.query")),
    ("attention.0.query", "input", w4a8("scalar", match="*.0.query", weight=None)),
    ("attention.0.feature", "vectors", w4a8("feature", match="att*feature")),
])
def test_a_row_is_the_measure_of_a_model_with_that_part_alone(original, report, leaf, kind, rule):
    recipe, frames = Recipe(name="one", rules=(rule,)), labelled()
    batch = [tensors(original.graph(frame)) for frame in frames]
    alone = deployed(prepare(network(original.stored), recipe, batch), recipe)
    double = alone.on("torch", dtype="float64")
    if kind == "weight":
        activate(alone.potential.network, ())
        activate(double.potential.network, ())
    graphs = [original.graph(frame) for frame in frames.spread(2)]
    change = np.concatenate([(alone(g).forces - original(g).forces).ravel() for g in graphs])
    energy = np.array([(alone(g).energy - original(g).energy).item() for g in graphs])
    error = np.concatenate([(alone(g).forces - g.forces).ravel() for g in graphs])
    found = row(report, leaf, kind, 4 if kind == "weight" else 8).measures
    assert found.forces_rms_change_meV_A == pytest.approx(1000 * sqrt(np.square(change).mean()), rel=1e-3, abs=1e-4)
    assert found.forces_mae_change_meV_A == pytest.approx(1000 * np.abs(change).mean(), rel=1e-3, abs=1e-4)
    assert found.energy_change_meV == pytest.approx(1000 * energy.std(), rel=1e-3, abs=1e-2)
    assert found.forces_mae_meV_A == pytest.approx(1000 * np.abs(error).mean(), rel=1e-5)
    lee = local_equivariance_error(alone, graphs[:1], rotations=2, batch_size=32).forces_meV_A.mean
    assert found.lee_forces_meV_A == pytest.approx(lee, rel=1e-2, abs=1e-3)
    if kind == "weight":
        assert found.lambda_antisymmetry is None
        assert jacobian_antisymmetry(double, graphs[0]) < 1e-5
    else:
        expected = jacobian_antisymmetry(double, graphs[0])
        assert found.lambda_antisymmetry == pytest.approx(expected, rel=1e-6)


def test_more_bits_cost_more_and_change_less(report):
    for part in report.parts():
        ordered = sorted(part, key=lambda r: r.bits)
        sizes = [r.bytes for r in ordered if r.bytes is not None]
        assert sizes == sorted(sizes)
        if part[0].kind != "weight":
            first, last = ordered[0].measures, ordered[-1].measures
            assert first.energy_change_meV > last.energy_change_meV
            blind = part[0].leaf == "head.second"  # straight-through forces do not see inputs of the last map
            assert blind or first.forces_rms_change_meV_A > last.forces_rms_change_meV_A


def test_operations_are_rows_times_inputs_times_outputs(report):
    graph = calibration()
    schema = float_model("l1").schema
    counts = _operations(schema, graph)
    atoms, edges = len(graph.species), len(graph.centers)
    assert counts["attention.0.query"] == 8 * 8
    assert counts["attention.0.mix"] == 3 * 4 * 4
    assert counts["attention.0.filters.radial.second"] == pytest.approx(edges / atoms * 8 * (8 + 2 * 4 + 2))
    assert schema.leaves["attention.0.feature"].products == counts["embedding.own"] == 0
    maps = counts["attention.0.mix"] + counts["attention.0.filters.project"]
    assert counts["attention.0.feature"] == maps
    assert row(report, "attention.0.feature", "vectors", 8).operations == maps
    assert row(report, "attention.0.query", "input", 8).operations == 64


def test_simulations_are_compared_with_float(original):
    recipe = Recipe(name="one", rules=(Rule(match="*.query", weight=8),))
    found = sensitivity(original, recipe, labelled(), replace(QUICK, jacobian_frames=0, picoseconds=0.004, replicas=2))
    assert found.reference.nve_fluctuation_ratio == 1.0
    (only,) = found.rows
    fluctuation = only.measures.nve_fluctuation_meV_atom
    assert only.measures.nve_fluctuation_ratio == fluctuation / found.reference.nve_fluctuation_meV_atom


def test_frames_without_labels_and_progress(original):
    bare = Frames(tuple(replace(frame, energy=None, forces=None) for frame in labelled()), "bare")
    recipe, seen = Recipe(name="one", rules=(Rule(match="*.query", weight=4),)), []
    found = sensitivity(original, recipe, bare, replace(QUICK, jacobian_frames=0),
                        progress=lambda *told: seen.append(told))
    assert found.rows[0].measures.forces_mae_meV_A is None
    assert found.rows[0].measures.forces_rms_change_meV_A > 0
    assert [done for done, _, _ in seen] == [0, 1, 2, 3]
    assert seen[2][1:] == (3, "attention.0.query: weight in 4 bits")


@pytest.mark.parametrize("budget", [
    Budget(forces_meV_A=60.0), Budget(bytes=2600), Budget(antisymmetry=0.02),
    Budget(forces_meV_A=80.0, antisymmetry=0.1), Budget(bytes=2600, antisymmetry=0.02)])
def test_an_allocated_recipe_is_what_was_predicted(original, report, budget, tmp_path):
    found = allocate(report, budget)
    assert budget.holds(found.forces_meV_A, found.antisymmetry, found.bytes)
    save_recipe(found.recipe, tmp_path / "mixed.json")
    assert load_recipe(str(tmp_path / "mixed.json")) == found.recipe
    made = Bench(original, labelled(), QUICK).deployed(found.recipe)
    assert sum(made.bytes_by_tensor().values()) == found.bytes
    for chosen in found.rows:
        rule = found.recipe.rule_for(chosen.leaf, chosen.role)
        bits = rule.vectors.direction.bits if chosen.kind == "vectors" else getattr(rule, chosen.kind)
        assert bits == chosen.bits
        if chosen.kind not in budget.kinds or (chosen.role, chosen.kind) == ("last", "input"):
            assert chosen.given


def test_what_is_rounded_in_12_bits_survives_the_file(original, tmp_path):
    base = RECIPES["w4a8"]
    changes = [{"match": "*", "field": kind, "value": at_width(base.rule_for("", "feature"), kind, 12)} for kind in WIDTHS]
    recipe = load_recipe(base.model_dump() | {"changes": changes})
    assert recipe.rule_for("", "feature").vectors.magnitude.bits == recipe.rule_for("", "scalar").input == 12
    made = Bench(original, labelled(), QUICK).deployed(recipe)
    made.save(tmp_path / "a12.safetensors")
    graph = original.graph(cluster())
    assert (load(tmp_path / "a12.safetensors", "torch")(graph).forces == ForceField(made, "torch")(graph).forces).all()


SIZES = st.floats(min_value=1e-3, max_value=10.0)


@st.composite
def reports(draw) -> Report:
    """Reports of parts with any errors; more bits need not help."""
    rows: list[SensitivityRow] = []
    for place, kind in enumerate(draw(st.lists(st.sampled_from(list(WIDTHS)), min_size=1, max_size=6))):
        own, size = draw(st.sampled_from(WIDTHS[kind])), draw(st.integers(1, 500))
        weight = kind == "weight"
        rows += [SensitivityRow(f"leaf{place}", "feature" if kind == "vectors" else "scalar", kind, bits, bits == own,
                     size * bits if weight else None, None if weight else float(size),
                     Measures(draw(SIZES), 0.0, 0.0, lambda_antisymmetry=None if weight else draw(SIZES)))
                 for bits in WIDTHS[kind]]
    stored = 100 + sum(r.bytes or 0 for r in rows if r.given)
    nothing = Measures(0.0, 0.0, 0.0)
    return Report(RECIPES["w4a8"], "made up", "", 1, QUICK, nothing, nothing, stored, tuple(rows))


def cost(rows) -> float:
    return sum(r.bytes or 0.0 for r in rows) + sum((r.operations or 0.0) * r.bits for r in rows)


@settings(max_examples=60, deadline=None)
@given(reports(), SIZES, st.floats(min_value=1.0, max_value=3.0))
def test_budgets_are_kept_and_wider_ones_cost_no_more(made, bound, factor):
    for field, kind in (("forces_meV_A", None), ("antisymmetry", "weight")):
        results = []
        for limit in (bound, bound * factor):
            try:
                results.append(allocate(made, Budget(**{field: limit})))
            except ConfigError:
                measure = "forces_rms_change_meV_A" if kind is None else "lambda_antisymmetry"
                least = sum(min(getattr(r.measures, measure) or 0 for r in part) ** 2 for part in made.parts())
                assert sqrt(least) > limit  # only what is impossible is refused
                results.append(None)
        narrow, wide = results
        if narrow is None:
            continue
        assert wide is not None
        assert getattr(narrow, field) <= bound
        assert getattr(wide, field) <= bound * factor
        kinds = {r.kind for r in narrow.rows}
        if kind == "weight":
            assert all(r.given for r in narrow.rows if r.kind == kind)
        if len(kinds & {"weight"}) == 0 or kinds == {"weight"} or kind == "weight":  # one currency
            assert cost(wide.rows) <= cost(narrow.rows) * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(reports(), st.integers(500, 20000), st.integers(0, 5000))
def test_bytes_are_kept_and_more_of_them_are_no_worse(made, room, more):
    least = made.stored_bytes + sum(min(r.bytes or 0 for r in part) - next(r.bytes or 0 for r in part if r.given)
                                    for part in made.parts())
    if least > room:
        with pytest.raises(ConfigError, match=f"<= {room} bytes.*{least} bytes"):
            allocate(made, Budget(bytes=room))
        return
    narrow, wide = allocate(made, Budget(bytes=room)), allocate(made, Budget(bytes=room + more))
    assert narrow.bytes <= room
    assert wide.bytes <= room + more
    assert wide.forces_meV_A <= narrow.forces_meV_A * (1 + 1e-9)
    assert all(r.given for r in narrow.rows if r.kind != "weight")


@settings(max_examples=30, deadline=None)
@given(reports(), SIZES, SIZES, st.integers(500, 20000))
def test_all_budgets_hold_at_once(made, forces, antisymmetry, room):
    budget = Budget(forces, antisymmetry, room)
    try:
        found = allocate(made, budget)
    except ConfigError:
        return
    assert budget.holds(found.forces_meV_A, found.antisymmetry, found.bytes)
    assert [r.leaf for r in found.rows] == [part[0].leaf for part in made.parts()]


def test_mistakes(original, report, tmp_path):
    with pytest.raises(ConfigError, match="quantized already"):
        sensitivity(forcefield("l1", "w4a8"), RECIPES["w4a8"], labelled(), QUICK)
    with pytest.raises(DataError, match="no frames"):
        sensitivity(original, RECIPES["w4a8"], Frames((), "empty"), QUICK)
    with pytest.raises(ConfigError, match="matches no leaf"):
        sensitivity(original, Recipe(name="x", rules=(Rule(match="quary", weight=4),)), labelled(), QUICK)
    for setting in ({"frames": 0}, {"rotations": 0}, {"jacobian_frames": -1}, {"picoseconds": 0.0}, {"replicas": 0}):
        with pytest.raises(ConfigError, match=next(iter(setting))):
            SensitivityPlan(**setting)
    with pytest.raises(ConfigError, match="needs a budget"):
        Budget()
    with pytest.raises(ConfigError, match="positive"):
        Budget(forces_meV_A=-1.0)
    with pytest.raises(ConfigError, match="jacobian_frames"):
        Budget(antisymmetry=1e-3).planned(replace(QUICK, jacobian_frames=0))
    with pytest.raises(ConfigError, match=r"no allocation keeps forces <= 1e-09 meV/Å; the least of each"):
        allocate(report, Budget(forces_meV_A=1e-9))
    with pytest.raises(ConfigError, match="quantizes nothing"):
        allocate(replace(report, rows=()), Budget(bytes=10))
    unknown = tuple(replace(r, measures=replace(r.measures, lambda_antisymmetry=None)) for r in report.rows)
    with pytest.raises(ConfigError, match="antisymmetry of every width"):
        allocate(replace(report, rows=unknown), Budget(antisymmetry=1.0))


def test_bars_show_the_largest_parts_in_the_order_of_the_model(report):
    bars = [(r.leaf, r.kind, r.measures.forces_rms_change_meV_A) for r in report.given]
    (axes,) = part_bars(bars).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == min(24, len(bars))
    largest = max(bars, key=lambda bar: bar[2])
    assert f"{largest[0]} {largest[1]}" in names
    order = [f"{leaf} {kind}" for leaf, kind, _ in bars]
    assert [order.index(name) for name in names] == sorted(order.index(name) for name in names)
