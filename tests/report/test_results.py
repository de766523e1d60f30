"""Reading a results file: what is right passes unchanged, what is wrong is named with the next step."""

import json
import math
import warnings

import pytest

from gaq.errors import DataError
from gaq.report import comparison_table, read_results, write_page
from gaq.report.records import parse_results


@pytest.fixture
def written(tmp_path, results):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    return path


def test_a_complete_file_is_returned_unchanged(written, results):
    assert read_results(written) == results


def test_only_names_are_required():
    parsed = parse_results({"format": "gaq-results", "format_version": 1, "models": [{"name": "a", "recipe": "fp32"}]})
    assert math.isnan(parsed.models[0].forces_mae_meV_A)
    assert parsed.nve == []


def test_null_and_nan_are_numbers_that_are_not_known(results, tmp_path):
    results["models"][0]["energy_mae_meV"] = None
    results["models"][1]["energy_mae_meV"] = math.nan
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    models = parse_results(read_results(path)).models
    assert math.isnan(models[0].energy_mae_meV)
    assert math.isnan(models[1].energy_mae_meV)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"no file at .*gaq evaluate --json"):
        read_results(tmp_path / "no.json")


def test_a_folder_is_not_a_results_file(tmp_path):
    with pytest.raises(DataError, match="it is a folder"):
        read_results(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 200, 20_000])
def test_a_truncated_file_is_named_as_such(written, keep):
    written.write_text(written.read_text()[:keep])
    with pytest.raises(DataError, match="truncated"):
        read_results(written)


@pytest.mark.parametrize("content", [b"\x80\x04\x95pickle", b"PK\x03\x04\xff\xfe"])
def test_a_binary_file_is_not_text(tmp_path, content):
    path = tmp_path / "model.gaq"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a model or a data file"):
        read_results(path)


def test_very_deep_json_is_an_error_and_not_a_crash(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000)
    with pytest.raises(DataError, match="not valid JSON"):
        read_results(path)


@pytest.mark.parametrize("content", [[], 3, "text", {}, {"format": "other"}, {"format": ["x"]}])
def test_foreign_json_is_named(content, tmp_path):
    path = tmp_path / "foreign.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="'format' must be one of gaq-results"):
        read_results(path)


def test_a_newer_format_asks_for_an_update(results):
    results["format_version"] = 2
    with pytest.raises(DataError, match=r"reads up to 1; update gaq"):
        parse_results(results)


@pytest.mark.parametrize(("path", "value", "place"), [
    (("models",), [], "models"),
    (("models", 0, "name"), 3, "models.0.name"),
    (("models", 1, "forces_mae_meV_A"), "a lot", "models.1.forces_mae_meV_A"),
    (("models", 1, "parity", "forces_ref"), [1.0], "models.1.parity"),
    (("models", 1, "lee_map", "axes"), [[0.0, 1.0]], "models.1.lee_map.axes"),
    (("models", 2, "curves", "train_loss"), [1.0], "models.2.curves"),
    (("structure", "species"), [6], "structure"),
    (("structure", "species", 0), 200, "structure.species.0"),
    (("nve", 0, "time_ps"), [0.0], "nve.0"),
])
def test_a_wrong_entry_is_named_by_its_place(results, path, value, place):
    target = results
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(DataError, match=rf"results: {place}[.:].*gaq evaluate"):
        parse_results(results)


def test_control_characters_do_not_reach_terminal_or_page(results):
    results["models"][0]["name"] = "a\x1b[31m\nb\ud800"
    name = parse_results(results).models[0].name
    assert name.isprintable()
    name.encode()


@pytest.mark.parametrize("value", [1e308, -1e308, 1e-320, 5e-324, 1e200, 10**300])
def test_numbers_at_the_ends_of_float64_are_drawn_or_refused(results, tmp_path, value):
    first = results["models"][0]
    first["forces_mae_meV_A"] = first["energy_mae_meV"] = value
    for part, name in (("parity", "forces_pred"), ("curves", "train_loss"), ("curves", "forces_mae_meV_A")):
        first[part][name][:2] = [value] * 2
    first["lee_map"]["lee_forces_meV_A"][0] = first["lee_forces_meV_A"]["max"] = value
    results["nve"][0]["total_energy_meV_atom"][1] = results["nve"][0]["time_ps"][1] = value
    results["models"] = [first]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        comparison_table([results])
        write_page([results], tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size > 1000
