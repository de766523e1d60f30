"""Plots: true to their numbers, the same bytes each time, and no trace in global state."""

import math
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest

from gaq.report import plots
from gaq.report.records import parse_results
from gaq.report.results import Curves, EnergySeries, QuantizerError
from gaq.report.style import line_styles, to_svg


@pytest.fixture
def parsed(results):
    return parse_results(results)


@pytest.fixture
def styles(parsed):
    return line_styles([(m.name, m.recipe) for m in parsed.models])


def drawn(parsed, styles):
    model = parsed.models[2]
    return {
        "parity": plots.parity(model.parity.forces_ref, model.parity.forces_pred, "eV/Å", "#0072b2"),
        "errors": plots.force_errors(parsed.models, styles),
        "bars": plots.quantizer_bars(model.lee_by_layer, "#0072b2"),
        "bytes": plots.stored_bytes(parsed.models, styles),
        "training": plots.training(model.curves, "#0072b2"),
        "nve": plots.conservation(parsed.nve, styles),
    }


def test_every_plot_is_valid_svg_with_ids_of_its_own_and_the_same_each_time(parsed, styles):
    once, again = drawn(parsed, styles), drawn(parsed, styles)
    for name, figure in once.items():
        svg = to_svg(figure, name)
        root = ElementTree.fromstring(svg)
        ids = [e.get("id") for e in root.iter() if e.get("id")]
        assert all(i.startswith(f"{name}-") for i in ids)
        assert len(ids) == len(set(ids))
        assert svg == to_svg(again[name], name)
        ElementTree.fromstring(to_svg(figure, name, inline=True))


def test_plotting_leaves_global_state_alone(parsed, styles):
    before = dict(matplotlib.rcParams)
    for name, figure in drawn(parsed, styles).items():
        to_svg(figure, name, inline=True)
    assert dict(matplotlib.rcParams) == before


def test_the_parity_plot_shows_differences_in_milli_units():
    figure = plots.parity([0.0, 1.0], [0.0, 1.01], "eV", "red", error_limit=20.0)
    lower = figure.axes[1]
    assert lower.lines[-1].get_ydata() == pytest.approx([0.0, 10.0])
    assert lower.get_ylim() == (-20.0, 20.0)


def test_the_error_limit_holds_the_largest_error():
    assert plots.error_limit([([0.0], [0.1]), ([0.0], [-0.2])]) == pytest.approx(210.0)
    assert plots.error_limit([([], [])]) is None
    assert plots.error_limit([([1.0], [math.nan])]) is None


def test_shares_of_force_errors_add_up_to_all(parsed, styles):
    axes = plots.force_errors(parsed.models, styles).axes[0]
    outlines = [p for p in axes.patches if not p.get_fill()]
    assert len(outlines) == 3
    for outline in outlines:
        assert outline.get_data().values.sum() == pytest.approx(100.0)


def test_only_the_largest_quantizers_are_drawn_in_the_order_of_the_model():
    contributions = [QuantizerError(quantizer=f"q{i}", lee_forces_meV_A=float(i % 29)) for i in range(60)]
    axes = plots.quantizer_bars(contributions, "red").axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == plots.MAX_BARS
    assert names == sorted(names, key=lambda n: int(n[1:]))
    assert min(bar.get_width() for bar in axes.patches) > 15


def test_phases_are_runs_of_equal_names():
    curves = Curves(step=[0, 10, 20, 30], phase=["float", "float", "scalars", "vectors"])
    assert plots.phases(curves) == [("float", 0, 20), ("scalars", 20, 30), ("vectors", 30, 30)]


def test_one_wild_run_does_not_flatten_the_quiet_ones(styles):
    time = np.linspace(0, 1, 50)
    calm = EnergySeries(name="FP32", time_ps=time.tolist(), total_energy_meV_atom=(0.1 * time).tolist())
    wild = EnergySeries(name="INT8 naive", time_ps=time.tolist(), total_energy_meV_atom=(500 * time).tolist())
    assert plots.conservation([calm], styles).axes[0].get_yscale() == "linear"
    assert plots.conservation([calm, wild], styles).axes[0].get_yscale() == "symlog"


def test_long_runs_keep_their_extremes_with_few_points(styles):
    energy = np.zeros(100_000)
    energy[41_234], energy[77_777] = 3.0, -2.0
    run = EnergySeries(name="FP32", time_ps=np.arange(100_000.0).tolist(), total_energy_meV_atom=energy.tolist())
    faint = plots.conservation([run], styles).axes[0].lines[0].get_ydata()
    assert len(faint) < 2000
    assert (faint.max(), faint.min()) == (3.0, -2.0)


def test_nothing_to_draw_is_drawn_without_complaint(styles):
    empty = EnergySeries(name="FP32", time_ps=[], total_energy_meV_atom=[])
    blown = EnergySeries(name="FP32", time_ps=[0, 1, 2], total_energy_meV_atom=[0, 1e30, math.nan])
    still = EnergySeries(name="FP32", time_ps=[0.0], total_energy_meV_atom=[0.0])
    figures = [
        plots.parity([], [], "eV", "red"), plots.parity([math.nan], [1.0], "eV", "red"),
        plots.parity([1.0], [1.0], "eV", "red"), plots.force_errors([], styles), plots.quantizer_bars([], "red"),
        plots.stored_bytes([], styles), plots.training(Curves(step=[5], train_loss=[math.nan]), "red"),
        plots.training(Curves(step=[]), "red"), plots.conservation([empty], styles),
        plots.conservation([blown, still], styles),
    ]
    for figure in figures:
        ElementTree.fromstring(to_svg(figure, "empty"))


@pytest.mark.parametrize("name", ["$x$", "$\\frac{", "a_b^c", "<b>&", "模型", "\\$", "$", "%s {0}"])
def test_names_are_text_and_never_mathematics(results, name):
    results["models"][0]["name"] = name
    parsed = parse_results(results)
    styles = line_styles([(m.name, m.recipe) for m in parsed.models])
    svg = to_svg(plots.stored_bytes(parsed.models, styles), "p")
    texts = ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert name in texts


def test_models_can_be_told_apart():
    styles = line_styles([("a", "fp32"), ("b", "int8-naive"), *((f"m{i}", "w4a8") for i in range(5))])
    assert len({style.color for style in styles.values()}) == 7
    assert line_styles([("x", "fp32"), ("y", "fp32")])["x"] != line_styles([("x", "fp32"), ("y", "fp32")])["y"]
