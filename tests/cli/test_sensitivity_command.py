"""Sensitivities and bit allocation from the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
from invocation import invoke, one_error

from gaq import load
from gaq.assess.sensitivity import WIDTHS
from gaq.data import write_frames
from gaq.models import load_recipe
from gaq.recipe import Recipe, Rule, save_recipe

SHORT = ("--frames", 2, "--rotations", 1, "--recipe", "few.json")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a float model, frames, and a recipe for a few parts."""
    rules = (Rule(match="*.query", weight=4, input=8), Rule(match="attention.0.mix", weight=4))
    save_recipe(Recipe(name="few", rules=rules), tmp_path / "few.json")
    tiny.forcefield("l1", "fp32").save(tmp_path / "fp32.safetensors")
    made = [(tiny.cluster(seed=k), np.random.default_rng(k)) for k in range(2)]
    write_frames(tmp_path / "frames.extxyz", [replace(s, energy=0.1, forces=r.normal(size=(6, 3))) for s, r in made])
    write_frames(tmp_path / "bare.extxyz", [made[0][0]])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_table_a_plot_and_a_recipe_that_quantize_takes(place):
    done = invoke("sensitivity", "fp32.safetensors", "--data", "frames.extxyz", *SHORT, "--jacobian-frames", 0,
                  "--budget-forces", 20, "--out", "mixed.json", "--json", "all.json", "--plot", "bars.svg")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    places = [next(k for k, line in enumerate(lines) if line.split()[:1] == [word]) for word in ("float", "few")]
    assert places == sorted(places)
    assert "attention.0.query" in done.stdout
    assert "…" not in done.stdout
    assert "\x1b" not in done.output
    result = json.loads((place / "all.json").read_text())
    changes = [row["measures"]["forces_rms_change_meV_A"] for row in result["rows"] if row["given"]]
    shown = [float(words[4]) for words in map(str.split, lines) if len(words) > 7 and words[1] in WIDTHS]
    assert shown == pytest.approx(sorted(changes, reverse=True), rel=6e-3)
    assert result["allocation"]["predicted"]["forces_rms_change_meV_A"] <= 20
    assert result["allocation"]["predicted"]["stored_bytes"] == result["allocation"]["measured"]["stored_bytes"]
    assert (place / "bars.svg").read_text().startswith("<?xml")
    recipe = load_recipe("mixed.json")
    assert recipe.model_dump(mode="json") == result["allocation"]["recipe"]
    made = invoke("quantize", "fp32.safetensors", "--recipe", "mixed.json", "--data", "frames.extxyz", "--no-train",
                  "--out", "mixed.safetensors")
    assert made.exit_code == 0, made.output
    assert load(place / "mixed.safetensors").recipe == recipe


def test_frames_need_no_labels(place):
    done = invoke("sensitivity", "fp32.safetensors", "--data", "bare.extxyz", "--energy-key", "none", "--forces-key",
                  "none", "--set", "*.query.weight=none", "--budget-bytes", 4450, *SHORT)
    assert done.exit_code == 0, done.output
    assert "attention.0.query" in done.stdout
    assert "few-allocated: <= 4450 bytes" in done.stdout
    assert not any(line.split()[:2] == ["attention.0.query", "weight"] for line in done.stdout.splitlines())


def test_mistakes_in_recipe_files(place):
    (place / "broken.json").write_text("{")
    (place / "list.json").write_text("[1]")
    (place / "binary.json").write_bytes(bytes(range(256)))
    (place / "deep.json").write_text("[" * 100000)
    (place / "odd.json").write_text('{"name": "x", "rules": [{"match": "scalar", "weight": 5.5}]}')
    (place / "folder.json").mkdir()
    quantize = ("quantize", "fp32.safetensors", "--data", "frames.extxyz", "--out", "out.safetensors", "--recipe")
    for name, words in (("brokn.json", "did you mean 'broken.json'"), ("broken.json", "Invalid JSON"),
                        ("list.json", "list.json: "), ("binary.json", "not text in UTF-8"), ("deep.json", "Invalid JSON"),
                        ("odd.json", "rules.0.weight"), ("folder.json", "it is a folder"), ("w4a9", "or a file *.json")):
        assert words in one_error(invoke(*quantize, name)), name
    assert not (place / "out.safetensors").exists()


def test_wrong_arguments(place):
    command = ("sensitivity", "fp32.safetensors", "--data", "frames.extxyz", *SHORT)
    assert "--budget" in one_error(invoke(*command, "--out", "mixed.json"))
    assert ".json" in one_error(invoke(*command, "--budget-forces", 1, "--out", "mixed.yaml"))
    assert "positive" in one_error(invoke(*command, "--budget-bytes", 0))
    assert "jacobian_frames" in one_error(invoke(*command, "--budget-antisymmetry", 1, "--jacobian-frames", 0))
    assert "'--frames'" in one_error(invoke(*command, "--frames", 0), 2)
    assert "folder" in one_error(invoke(*command, "--plot", place))
    assert "unknown recipe" in one_error(invoke(*command, "--recipe", "w4a9"))
    tiny.forcefield("l1", "w4").save(place / "w4.safetensors")
    assert "quantized already" in one_error(invoke("sensitivity", "w4.safetensors", "--data", "frames.extxyz", *SHORT))
    assert "the least of each" in one_error(invoke(*command, "--jacobian-frames", 0, "--budget-forces", 1e-9))
    assert "Example: gaq sensitivity" in invoke("sensitivity", "--help").stdout
