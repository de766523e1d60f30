"""Evaluation and reports from the command line."""

import json
import shutil

import pytest
from invocation import invoke, one_error

from gaq import load
from gaq.report import read_results

QUICK = ("--rotations", 2, "--lee-frames", 1, "--frames", 4)


@pytest.fixture(scope="module")
def evaluated(model, low_bit, frames, folder):
    result = invoke("evaluate", model, low_bit, "--data", frames, *QUICK, "--json", folder / "results.json",
                    "--title", "Springs", "--check-forces")
    assert result.exit_code == 0, result.output
    return result


def test_models_are_compared_in_a_table_and_a_file(evaluated, model, low_bit, folder):
    results = read_results(folder / "results.json")
    assert [entry["name"] for entry in results["models"]] == ["run", "w4a8"]
    assert (results["title"], results["frames"], results["hardware"]["device"]) == ("Springs", 4, "cpu")
    rows = [line.split() for line in evaluated.stdout.splitlines() if line.strip()]
    assert [row[0] for row in rows].count("run") == 1 + 3  # comparison, and one row for each displacement
    assert "meV/atom" in evaluated.stdout
    for entry in results["models"]:
        assert f"{entry['name']}: {entry['backend']}" in evaluated.stdout
    assert "LEE" in rows[0]
    assert "…" not in evaluated.stdout
    assert "w4a8: accuracy" in evaluated.stderr
    assert "\x1b" not in evaluated.output


def test_forces_are_compared_with_finite_differences(evaluated):
    table = evaluated.stdout.partition("finite differences")[2]
    float_rows = [line.split() for line in table.splitlines() if line.split()[:1] == ["run"]]
    assert [row[1] for row in float_rows] == ["0.0001", "0.001", "0.01"]
    assert float(float_rows[1][2]) < 20.0  # meV/Å, float32


def test_results_become_a_page(evaluated, folder, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("old")
    assert "exists already" in one_error(invoke("report", folder / "results.json", "--out", page))
    assert page.read_text() == "old"
    assert invoke("report", folder / "results.json", "--out", page, "--overwrite").stdout == f"wrote {page}\n"
    assert "Springs" in page.read_text()


def test_float64_is_exact_and_does_not_change_the_size_of_the_file(model, frames, tmp_path):
    result = invoke("evaluate", model, "--data", frames, *QUICK, "--dtype", "float64", "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "r.json").read_text())
    entry = results["models"][0]
    assert entry["lee_forces_meV_A"]["max"] < 1e-8
    assert entry["stored_bytes"] == sum(load(model).stored.bytes_by_tensor().values())
    assert any("float64" in note for note in results["notes"])


def test_models_of_one_name_are_told_apart(model, frames, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(model, tmp_path / name / "w4.safetensors")
    result = invoke("evaluate", *(tmp_path / name / "w4.safetensors" for name in ("a", "b")), "--data", frames, *QUICK,
                    "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    names = [entry["name"] for entry in json.loads((tmp_path / "r.json").read_text())["models"]]
    assert names == [str(tmp_path / name / "w4.safetensors") for name in ("a", "b")]
    assert "more than once" in one_error(invoke("evaluate", model, model, "--data", frames, *QUICK))


def test_wrong_arguments(model, frames, tmp_path):
    evaluate = ("evaluate", model, "--data", frames)
    assert "'REF_energy'" in one_error(invoke(*evaluate, "--energy-key", "REF_enrgy"))
    assert "'REF_forces'" in one_error(invoke(*evaluate, "--forces-key", "REF_force"))
    assert "did you mean 'kcal/mol'" in one_error(invoke(*evaluate, "--energy-unit", "kcal-mol"))
    assert "did you mean 'float64'" in one_error(invoke(*evaluate, "--dtype", "float46"), 2)
    assert "1 to 24" in one_error(invoke(*evaluate, "--frames", 100))
    assert "folder" in one_error(invoke(*evaluate, "--json", tmp_path))
    assert "none.json" in one_error(invoke("report", tmp_path / "none.json", "--out", tmp_path / "p.html"))
    (tmp_path / "r.json").write_text("{")
    assert "truncated" in one_error(invoke("report", tmp_path / "r.json", "--out", tmp_path / "p.html"))
    assert not (tmp_path / "p.html").exists()


def test_labels_that_do_not_exist_are_left_out(model, frames, tmp_path):
    lines = frames.read_text().replace("REF_forces", "other")
    (tmp_path / "energies.extxyz").write_text(lines)
    result = invoke("evaluate", model, "--data", tmp_path / "energies.extxyz", "--forces-key", "none", *QUICK)
    assert result.exit_code == 0, result.output


def test_results_on_different_frames_are_not_put_in_one_table(evaluated, model, frames, folder, tmp_path):
    other = tmp_path / "other.json"
    done = invoke("evaluate", model, "--data", frames, "--rotations", 1, "--lee-frames", 1, "--frames", 3, "--json", other)
    assert done.exit_code == 0, done.output
    page = ("--out", tmp_path / "page.html")
    line = one_error(invoke("report", folder / "results.json", other, *page))
    assert f"{folder / 'results.json'} and {other}" in line
    assert "4 frames" in line
    assert "3 frames" in line
    assert "--apart" in line
    assert not (tmp_path / "page.html").exists()
    done = invoke("report", folder / "results.json", other, "--apart", *page)
    assert done.exit_code == 0, done.output
    assert 'id="study-2"' in (tmp_path / "page.html").read_text()


def test_the_json_of_every_command_makes_a_page(evaluated, model, frames, folder, tmp_path):
    for command in (("md", model, "ethanol", "--steps", 20, "--every", 2, "--timestep", 0.01,
                     "--out", tmp_path / "t.extxyz"),
                    ("audit", model, "--data", frames, "--quick", "--replicas", 2, "--picoseconds", 0.002, "--frames", 1),
                    ("sensitivity", model, "--data", frames, "--frames", 2, "--rotations", 1, "--jacobian-frames", 0)):
        done = invoke(*command, "--json", tmp_path / f"{command[0]}.json")
        assert done.exit_code == 0, done.output
        assert json.loads((tmp_path / f"{command[0]}.json").read_text())["format"] == f"gaq-{command[0]}"
    others = [tmp_path / f"{name}.json" for name in ("md", "audit", "sensitivity")]
    done = invoke("report", folder / "results.json", *others, "--out", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    html = (tmp_path / "page.html").read_text()
    for words in ("Springs", "C2H6O, 9 atoms", "lambda_antisymmetry", "attention.0", "computed by engine"):
        assert words in html
