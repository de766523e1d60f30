"""The comparison in the terminal."""

import copy
import io
import math

import pytest
from rich.console import Console

from gaq.errors import DataError
from gaq.report import comparison_table
from gaq.report.tables import cautions, gather, summary_columns


def shown(results, width=100):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(comparison_table(results))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_every_number_is_whole_at_usual_widths(results, width):
    text = shown([results], width)
    for model in results["models"]:
        assert model["name"] in text
        assert f"{model['stored_bytes'] / 1000:,.1f}" in text
    assert "…" not in text


def test_ratios_are_to_the_naive_and_the_full_precision_row(results):
    models = gather([results])[0].models
    columns = {c.name: c.cells for c in summary_columns(models)}
    assert columns["Forces ÷ FP32"][0] == "1.00"
    assert columns["LEE ÷ naive"][1] == "1.00"
    expected = results["models"][2]["lee_forces_meV_A"]["mean"] / results["models"][1]["lee_forces_meV_A"]["mean"]
    assert float(columns["LEE ÷ naive"][2]) == pytest.approx(expected, rel=1e-2)
    assert float(columns["Size ÷ FP32"][2]) == pytest.approx(263_424 / 1_482_240, rel=1e-2)


def test_ratios_are_left_out_without_their_reference(results):
    results["models"] = results["models"][2:]
    names = [c.name for c in summary_columns(gather([results])[0].models)]
    assert "LEE ÷ naive" not in names
    assert "Forces ÷ FP32" not in names


def test_what_is_not_known_is_shown_as_such(results):
    results["models"][0]["forces_mae_meV_A"] = math.inf
    results["models"][1]["lee_forces_meV_A"] = None
    text = shown([results])
    assert "n/a" in text
    assert "nan" not in text.lower()
    assert "inf" not in text.lower()


def test_models_on_the_same_data_are_compared_and_others_set_apart(results):
    same, other = copy.deepcopy(results), copy.deepcopy(results)
    other["source_fingerprint"], other["source"] = "00" * 32, "rmd17:ethanol:test"
    studies = gather([results, same, other])
    assert [len(study.models) for study in studies] == [6, 3]
    assert len({model.name for model in studies[0].models}) == 6
    assert "rmd17:ethanol:test" in shown([results, same, other])


def test_names_are_no_markup(results):
    results["models"][0]["name"] = "[red]x[/red] [link=a]"
    assert "[red]x[/red] [link=a]" in shown([results], 200)


def test_cautions_name_overlapping_intervals_and_unequal_frames(results):
    models = gather([results])[0].models
    assert cautions(models) == []
    results["models"][2]["lee_forces_meV_A"]["ci95"] = results["models"][1]["lee_forces_meV_A"]["ci95"]
    results["models"][2]["frames"] = 7
    first, second = cautions(gather([results])[0].models)
    assert "INT8 naive and W4A8 (GAQ) overlap" in first
    assert "7, 200" in second


def test_the_faulty_one_of_several_results_is_named(results):
    with pytest.raises(DataError, match=r"results\[1\]"):
        comparison_table([results, {}])
