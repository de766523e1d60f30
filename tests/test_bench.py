"""Timing side by side: the table is whole, and names that mean nothing are refused."""

import json

import numpy as np
import pytest
from tiny import forcefield

from gaq.bench import as_json, ceilings, compare, interleaved, systems, waters
from gaq.errors import ConfigError
from gaq.graph import build_graph


def test_the_table_has_a_row_for_every_backend_and_recipe() -> None:
    rows = compare(forcefield("robust", "fp32"), ["H2O", "batch-3:CH4"], compiled=False, repeats=3, memory=False,
                   recipes=("fp32", "w4a8"))
    assert [(r.system, r.backend, r.recipe) for r in rows] == [
        (s, b, k) for s in ("H2O", "batch-3:CH4") for b, k in (
            ("torch-eager", "fp32"), ("engine", "fp32"), ("engine", "w4a8"))]
    assert rows[-1].atoms == 15
    assert all(0 < r.ms_q1 <= r.ms_per_step <= r.ms_q3 for r in rows)
    data = json.loads(json.dumps(as_json(rows, {})))
    assert data["rows"][0]["ratio_to_compiled_fp32"] is None
    assert data["ceilings"]["float32"] > 0


def test_elements_that_the_model_does_not_know_get_one_of_its_shape() -> None:
    _, model, graph = next(systems(["SiH4"], forcefield("robust", "fp32")))
    assert 14 in model.species
    assert model.config.scalars == forcefield("robust", "fp32").config.scalars
    assert len(graph.species) == 5


def test_water_has_the_density_of_the_liquid() -> None:
    box = waters(27)
    graph = build_graph(box, 4.0)
    assert len(box) == 81
    assert 18.015 * 27 / 0.602214 / np.linalg.det(box.cell) == pytest.approx(1.0, abs=0.05)  # g/cm³
    assert len(graph.centers) > 1000
    with pytest.raises(ConfigError, match="cubic"):
        waters(100)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="water-64"):
        next(systems(["phlogiston"], forcefield("robust", "fp32")))


def test_rounds_are_interleaved() -> None:
    calls: list[str] = []
    interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert "".join(dict.fromkeys(calls)) == "ab"
    assert calls.index("b") < len(calls) - 1 - calls[::-1].index("a")
    assert min(ceilings().values()) > 0
