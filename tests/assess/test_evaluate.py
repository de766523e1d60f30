"""The results of toys have the shape that the report reads, and the numbers that paper says."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import cluster, forcefield
from toys import Broken, Cubic, Springs, Wind, molecule

import gaq
from gaq.assess.evaluate import evaluate
from gaq.data import Frames
from gaq.errors import ConfigError, DataError, GaqError
from gaq.files import sha256
from gaq.lowering.blob import NotLowered
from gaq.machine import hardware
from gaq.report import read_results

QUICK = {"rotations": 8, "lee_frames": 2}


def as_forcefield(toy, recipe: str = "fp32", variants=(), **provenance):
    """Give a toy the bookkeeping of a `ForceField`."""
    toy.recipe = SimpleNamespace(name=recipe)
    toy.provenance = {"version": "0.1.0", **provenance}
    toy.stored = SimpleNamespace(bytes_by_tensor=lambda: {"a.weight": 60, "b.weight": 40}, bytes_in_float32=lambda: 400)
    toy.backend = "torch"
    toy.quantizers_alone = lambda: dict(variants)
    toy.saturation = lambda graphs: [(name, 0.25) for name, _ in variants]
    return toy


def frames(count: int = 5, energy_error: float = 0.002) -> Frames:
    toy, rng, made = Springs(), np.random.default_rng(0), []
    for _ in range(count):
        positions = molecule().positions + 0.05 * rng.normal(size=(5, 3))
        prediction = toy(toy.graph(molecule(positions)))
        made.append(molecule(positions, energy=prediction.energy.item() - energy_error,
                             forces=prediction.forces + 0.01))
    return Frames(tuple(made), source="toys")


def test_the_report_reads_what_evaluate_writes(tmp_path):
    model_file = tmp_path / "model.gaq"
    model_file.write_bytes(b"model")
    curves = {"step": [1, 2], "train_loss": [2.0, 1.0]}
    wind = as_forcefield(Wind(), "w4a8", [("layers.0.vectors", Cubic())], curves=curves)
    models = [("FP32", as_forcefield(Springs()), model_file), ("W4A8", wind, tmp_path / "none")]
    told: list[tuple[float, float, str]] = []
    results = evaluate(models, frames(), title="Toys", progress=lambda *now: told.append(now), **QUICK)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results, allow_nan=False))
    assert read_results(path) == json.loads(path.read_text())
    float_model, quantized = results["models"]
    assert results["source_fingerprint"] == frames().fingerprint
    assert (results["frames"], results["title"], len(results["structure"]["species"])) == (5, "Toys", 5)
    assert float_model["energy_mae_meV"] == pytest.approx(2.0)
    assert float_model["energy_offset_meV"] == pytest.approx(2.0)
    assert float_model["forces_rmse_meV_A"] == pytest.approx(10.0)
    assert float_model["lee_forces_meV_A"]["max"] < 1e-9
    assert float_model["lee_forces_meV_A"]["frames"] == 2
    assert float_model["model_sha256"] == sha256(model_file)
    assert (float_model["stored_bytes"], float_model["fp32_bytes"]) == (100, 400)
    assert float_model["lee_by_layer"] == float_model["saturation"] == []
    assert "curves" not in float_model
    assert np.mean(float_model["parity"]["energy_ref"]) == pytest.approx(0.0, abs=1e-5)
    assert len(float_model["parity"]["forces_ref"]) == 5 * 15
    assert quantized["lee_forces_meV_A"]["mean"] > 1.0
    assert quantized["lee_by_layer"][0]["quantizer"] == "layers.0.vectors"
    assert quantized["lee_by_layer"][0]["lee_forces_meV_A"] > 0.1
    assert quantized["saturation"] == [{"quantizer": "layers.0.vectors", "clipped": 0.25}]
    assert (quantized["recipe"], quantized["curves"], quantized["model_sha256"]) == ("w4a8", curves, "")
    assert len(quantized["lee_map"]["axes"]) == len(quantized["lee_map"]["lee_forces_meV_A"]) == 192
    assert float_model["energy_mae_meV_atom"] == pytest.approx(2.0 / 5)
    assert float_model["energy_rmse_meV_atom"] == pytest.approx(2.0 / 5)
    assert set(float_model["forces_by_element"]) == {"H", "C", "N", "O"}
    assert all(errors["mae_meV_A"] == pytest.approx(10.0) for errors in float_model["forces_by_element"].values())
    assert float_model["backend"] == "torch"
    for name in ("FP32", "W4A8"):  # every prediction is counted, and their number was known from the start
        own = [(done, total) for done, total, stage in told if stage.startswith(f"{name}: ")]
        assert own[0][0] == 0
        assert own == sorted(own)
        assert own[-1][0] == own[-1][1] == own[0][1]
    assert {stage.partition(": ")[2] for _, _, stage in told} >= {"accuracy", "equivariance"}


def test_results_repeat_with_the_seed():
    models = [("a", as_forcefield(Wind()), "a")]
    assert evaluate(models, frames(), **QUICK) == evaluate(models, frames(), **QUICK)
    assert evaluate(models, frames(), **QUICK) != evaluate(models, frames(), **QUICK, seed=1)


def test_frames_without_forces_give_null(tmp_path):
    bare = Frames(tuple(molecule(energy=1.0) for _ in range(2)), source="energies")
    entry = evaluate([("a", as_forcefield(Springs()), "a")], bare, **QUICK)["models"][0]
    assert entry["forces_mae_meV_A"] is None
    assert entry["parity"]["forces_ref"] == []


def test_hardware_names_the_processor():
    assert hardware()["cpu"]
    assert hardware()["threads"] >= 1


def test_wrong_arguments():
    entry = ("a", as_forcefield(Springs()), "a")
    with pytest.raises(ConfigError, match="at least one force field"):
        evaluate([], frames(), **QUICK)
    with pytest.raises(ConfigError, match="more than once: a"):
        evaluate([entry, entry], frames(), **QUICK)
    with pytest.raises(ConfigError, match="rotations must be"):
        evaluate([entry], frames(), **{**QUICK, "rotations": 0})
    with pytest.raises(DataError, match="no frames"):
        evaluate([entry], Frames((), source="empty"), **QUICK)
    with pytest.raises(DataError, match="no reference labels"):
        evaluate([entry], Frames((molecule(),), source="bare"), **QUICK)
    with pytest.raises(GaqError, match="not finite"):
        evaluate([("a", as_forcefield(Broken()), "a")], frames(), **QUICK)


def clusters(count: int = 6) -> Frames:
    """Frames of different sizes with labels near what the float model says."""
    field, made = forcefield("robust", "fp32"), []
    for seed in range(count):
        structure = cluster(5 + seed % 3, seed=seed)
        said = field.predict(field.graph(structure))
        made.append(replace(structure, energy=said.energy.item() + 0.01, forces=said.forces + 0.02))
    return Frames(tuple(made), source="clusters")


@pytest.mark.parametrize("recipe", ["fp32", "w4", "w4a16", "w4a8"])
def test_the_engine_measures_what_pytorch_measures(recipe):
    both = {backend: evaluate([("a", forcefield("l1", recipe), "a")], clusters(), backend=backend, **QUICK)["models"][0]
            for backend in ("engine", "torch")}
    engine, torch_ = both["engine"], both["torch"]
    assert engine["backend"].startswith("engine")
    assert torch_["backend"] == "torch"
    smooth = recipe in ("fp32", "w4")
    for key in ("energy_mae_meV", "energy_mae_meV_atom", "forces_mae_meV_A", "forces_rmse_meV_A"):
        assert engine[key] == pytest.approx(torch_[key], rel=1e-3 if smooth else 0.05)
    assert {e["quantizer"]: pytest.approx(e["clipped"], abs=0.05) for e in torch_["saturation"]} == {
        e["quantizer"]: e["clipped"] for e in engine["saturation"]}
    assert [e["quantizer"] for e in engine["lee_by_layer"]] == [e["quantizer"] for e in torch_["lee_by_layer"]]
    if smooth:
        assert engine["lee_forces_meV_A"]["max"] < 0.1
    for symbol, errors in torch_["forces_by_element"].items():
        assert engine["forces_by_element"][symbol]["mae_meV_A"] == pytest.approx(errors["mae_meV_A"],
                                                                                 rel=1e-3 if smooth else 0.05)


def test_what_the_engine_does_not_compute_pytorch_does():
    entry = evaluate([("a", forcefield("l1", "int8-naive").on(), "a")], clusters(), **QUICK)["models"][0]
    assert entry["backend"] == "torch"
    with pytest.raises(NotLowered):
        evaluate([("a", forcefield("l1", "int8-naive"), "a")], clusters(), backend="engine", **QUICK)
    double = evaluate([("a", forcefield("robust", "w4", "float64"), "a")], clusters(), **QUICK)["models"][0]
    assert double["backend"] == "torch"
    assert double["lee_forces_meV_A"]["max"] < 1e-7
    with pytest.raises(ConfigError, match="did you mean 'engine'"):
        evaluate([("a", forcefield("robust", "w4"), "a")], clusters(), backend="engin", **QUICK)


def test_metrics_take_a_field_on_any_backend():
    field = forcefield("robust", "fp32")
    errors = [gaq.local_equivariance_error(predict, clusters(2), rotations=3).forces_meV_A.max
              for predict in (field, field.on("engine"), field.on("torch"))]
    assert max(errors) < 0.1
