"""The demo from end to end, with a budget of seconds: on the shipped model, and on a molecule of one's own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import gaq
from gaq.demo import Advance, DemoBudget, run_demo
from gaq.report import read_results

SECONDS = DemoBudget(training_frames=24, test_frames=8, float_minutes=0.03, low_bit_minutes=0.03, nve_steps=20, rotations=4,
                 lee_frames=2)


@contextmanager
def silent(title: str) -> Iterator[Advance]:
    yield lambda done, total, note="": None


@pytest.mark.slow
@pytest.mark.parametrize("structure", [None, "water"])
def test_the_demo_makes_all_it_promises(structure: str | None, tmp_path: Path) -> None:
    results = run_demo(structure, tmp_path, silent, SECONDS)
    assert [m["recipe"] for m in results["models"]] == ["fp32", "int8-naive", "w4a8"]
    assert read_results(tmp_path / "results.json")["frames"] == 8
    assert "<svg" in (tmp_path / "page.html").read_text()
    full, naive, low = results["models"]
    assert low["stored_bytes"] <= 0.25 * full["stored_bytes"]
    assert low["lee_forces_meV_A"]["median"] < naive["lee_forces_meV_A"]["median"] / 30
    assert [run["recipe"] for run in results["nve"]] == ["fp32", "w4a8"]
    assert json.dumps(results, allow_nan=False)
    packed = gaq.load(tmp_path / "w4a8.safetensors")
    graph = packed.graph(gaq.load_frames(tmp_path / "frames-test.extxyz")[0])
    assert np.isfinite(packed(graph).forces).all()
