"""Whatever a model file holds, it is a model or one clear error, soon and without memory for what is not in it."""

import contextlib
import json
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sealing import contents, rewrite
from tiny import calibration, forcefield

from gaq.errors import ModelFileError
from gaq.forcefield import load
from gaq.stored import located
from gaq.tensorfile import LONGEST_HEADER

MODELS = Path(__file__).parents[1] / "models"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    forcefield("robust", "w4a8").save(path)
    return path


@pytest.mark.parametrize("version", ["Infinity", "-Infinity", "NaN", "0", "-1", "1.5", "1.0", "true", '"1"', "null", "[1]",
                                     "9" * 5000, "1e999"], ids=lambda text: text[:9])
def test_a_format_version_is_a_whole_number(saved: Path, tmp_path: Path, version: str) -> None:
    header, state = contents(saved)
    text = json.dumps(header | {"format_version": "HERE"}).replace('"HERE"', version)
    save_file(state, tmp_path / "odd", metadata={"gaq": text})
    with pytest.raises(ModelFileError, match="header is damaged"):
        load(tmp_path / "odd")


@pytest.mark.parametrize("provenance", [
    "[" * 100_000, '{"a":' * 100_000, "[" * 200 + "]" * 200, '{"a":' * 200 + "1" + "}" * 200, '"\\ud800"',
    '"' + "x" * LONGEST_HEADER + '"', "[]", "3"], ids=lambda text: text[:9])
def test_headers_out_of_all_proportion(saved: Path, tmp_path: Path, provenance: str) -> None:
    header, state = contents(saved)
    text = json.dumps(header | {"provenance": "HERE"}).replace('"HERE"', provenance)
    save_file(state, tmp_path / "odd", metadata={"gaq": text})
    with contextlib.suppress(ValueError, RecursionError):  # what is not JSON has no checksum
        rewrite(tmp_path / "odd", json.loads(text), state)
    with pytest.raises(ModelFileError) as caught:
        load(tmp_path / "odd")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("name", "value"), [
    *((name, 10**6) for name in (
        "layers", "radial_functions", "filter_width", "scalars", "vectors", "heads", "max_degree")),
    ("layers", 64), ("scalars", 4096), ("vectors", 4096), ("filter_width", 4096), ("radial_functions", 512),
    ("max_degree", 4), ("heads", 1), ("layers", 1), ("species", list(range(1, 119))), ("species", [1, 6, 7, 9]),
    ("attention", "so3krates"),
    *(("cutoff", r) for r in (float("inf"), float("nan"), 1e-300, 0.001, 1000, 1e6, -5)),
], ids=str)
@pytest.mark.parametrize("recipe", ["fp32", "w4a8", "svq-kmeans"])
def test_sizes_of_a_header_that_the_tensors_do_not_have(recipe: str, name: str, value: object, tmp_path: Path) -> None:
    forcefield("robust", recipe).save(tmp_path / "m")
    header, state = contents(tmp_path / "m")
    path = rewrite(tmp_path / "odd", header | {"model": header["model"] | {name: value}}, state)
    if (name, value) == ("species", [1, 6, 7, 9]):
        assert load(path).species == (1, 6, 7, 9)  # as many, and nothing in the tensors says which
        return
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ModelFileError, match="do not make a model"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert time.monotonic() - began < 10


def bad_tensors() -> Iterator[tuple[str, str, float]]:
    """Recipe, end of a tensor's name, and a value that it must not hold."""
    for value in (np.nan, np.inf, -np.inf):
        yield from (("fp32", name, value) for name in (
            "attention.0.query.weight", "norm.weight", "norm.bias", "mix.weight", "energy_scale", "energy_offsets",
            "temperature_logit"))
        yield from (("w4a8", name, value) for name in (
            "inputs.scale.value", "weight.scale", "feature.scales.1.value", "bias"))
        yield "svq-kmeans", "points1", value
    for step in (0.0, -0.0, -1e-3, 1e-40, 1e-45, 3e38):
        yield from (("w4a8", name, step) for name in ("inputs.scale.value", "weight.scale", "feature.scales.0.value"))
        yield from (("int8-naive", name, step) for name in ("inputs.scale.value", "weight.scale", "feature.scales.1.value"))
    yield from (("fp32", *odd) for odd in (("energy_scale", 0.0), ("energy_scale", -1.0), ("energy_scale", 1e40),
                                           ("energy_offsets", 1e308), ("temperature_logit", -1e4),
                                           ("energy_range", 1e17), ("energy_range", -1.0), ("closest", 0.01),
                                           ("closest", 1e3)))


@pytest.mark.parametrize(("recipe", "ending", "value"), list(bad_tensors()))
def test_values_that_no_model_has(recipe: str, ending: str, value: float, tmp_path: Path) -> None:
    forcefield("robust", recipe).save(tmp_path / "m")
    header, state = contents(tmp_path / "m")
    name = next(name for name in state if name.endswith(ending))
    state[name] = state[name].clone()
    state[name].view(-1)[-1] = value
    with pytest.raises(ModelFileError, match="do not make a model") as caught:
        load(rewrite(tmp_path / "odd", header, state))
    assert name.rpartition(".")[0] in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.bool, torch.complex64,
                                   torch.uint8, torch.float8_e4m3fn])
def test_tensors_of_another_type(dtype: torch.dtype, saved: Path, tmp_path: Path) -> None:
    header, state = contents(saved)
    for name in ("attention.0.norm.weight", "attention.0.query.weight.packed", "energy_offsets"):
        if state[name].dtype != dtype:
            # numpy has no bfloat16 and no float8: such a file is refused before its tensors are looked at
            said = str(dtype).removeprefix("torch.")
            with pytest.raises(ModelFileError, match=f"'{name}' is {said}|not a whole safetensors"):
                load(rewrite(tmp_path / "odd", header, state | {name: state[name].to(dtype)}))


def test_a_model_in_another_precision_is_stored_in_float32(tmp_path: Path) -> None:
    field = forcefield("robust", "w4a8")
    field.on("torch", dtype="float64").save(tmp_path / "m")
    assert load(tmp_path / "m").sha256 == field.sha256


@pytest.mark.parametrize("change", [
    {"rules": [{"match": "*", "weight": 8}] * 5000}, {"changes": [{"match": "*", "field": "weight", "value": 8}] * 5000},
    {"name": "x" * 10**6}, {"rules": [{"match": "*" * 10**5, "weight": 8}]},
    {"rules": [{"match": "*", "headroom": float("inf")}]},
    {"rules": [{"match": "nothing", "weight": 8}]}, {"changes": [{"match": "*", "field": "headroom", "value": -1}]},
    {"rules": [{"match": "feature", "vectors": {"kind": "mddq", "direction": {"kind": "fibonacci"}}}]},
    {"schedule": {"lee_weight": float("nan")}}, {"rules": {"match": "*"}}, {"name": 5}, {"version": 5},
], ids=lambda change: str(change)[:60])
def test_recipes_that_make_no_model(change: dict, saved: Path, tmp_path: Path) -> None:
    header, state = contents(saved)
    with pytest.raises(ModelFileError, match="do not make a model") as caught:
        load(rewrite(tmp_path / "odd", header | {"recipe": header["recipe"] | change}, state))
    assert len(str(caught.value)) < 500


def test_a_file_that_changes_after_it_was_read_changes_nothing(saved: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(saved, tmp_path / "m"))
    field = load(path)
    before = field.predict(calibration()).forces
    field = load(path)
    path.write_bytes(b"")  # in place: a memory map of it would end the process
    assert np.array_equal(load(saved).predict(calibration()).forces, before)
    assert np.array_equal(field.predict(calibration()).forces, before)


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b", "/dev/null", "/", ""])
def test_paths_that_are_no_files(path: str) -> None:
    with pytest.raises(ModelFileError):
        load(path)


def test_models_that_come_with_gaq_are_known_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert located("ethanol-w4a16").read_bytes() == (MODELS / "ethanol-w4a16.safetensors").read_bytes()
    assert load("ethanol-w4a16").recipe.name == "w4a16"
    (tmp_path / "ethanol-w4a16").write_text("of the user")  # goes first
    assert located("ethanol-w4a16") == Path("ethanol-w4a16")
    assert located("ethanol") == Path("ethanol")
