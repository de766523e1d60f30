"""What `gaq info` shows, and `gaq demo`, which has its own tests."""

import torch
from invocation import invoke

import gaq.demo
from gaq.files import sha256


def test_the_installation_is_described():
    shown = invoke("info").stdout
    for word in (torch.__version__, "threads", "cpu", "tblite", "data folders"):
        assert word in shown


def test_a_float_model_is_described(model):
    shown = invoke("info", model).stdout
    assert sha256(model) in shown
    assert "H C N O" in shown
    assert "8 scalar channels" in shown
    assert "20 steps" in shown
    assert "100%" in shown


def test_every_leaf_of_a_low_bit_model_has_its_formats(low_bit, frames):
    shown = invoke("info", low_bit).stdout
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert rows["attention.0.query"] == ["scalar", "4", "8"]
    assert rows["attention.0.filters.radial.first"] == ["radial", "8", "float"]
    assert rows["attention.0.mix"] == ["vector", "8"]
    assert "mddq: linear 8 × component 8, aligned" in shown
    assert "l=1: 32, l=2: 48" in shown
    assert str(frames) in shown
    assert "FP32 training" in shown
    assert "gaq audit --write" in shown


def test_the_demo_gets_its_arguments(tmp_path, monkeypatch):
    called = []

    def demo(structure, out, stage):
        called.append((structure, out))
        with stage("evaluating") as advance:
            advance(1, 2, "half")
        return {"format": "gaq-results", "format_version": 1, "models": [{"name": "FP32", "recipe": "fp32",
                                                                          "energy_mae_meV": 1.25}]}

    monkeypatch.setattr(gaq.demo, "run_demo", demo)
    result = invoke("demo", "--structure", "mine.xyz", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert called == [("mine.xyz", tmp_path)]
    assert "1.25" in result.stdout
    assert f"wrote {tmp_path / 'page.html'}" in result.stdout
    assert invoke("demo").exit_code == 0
    assert called[-1][0] is None
