"""A model file gives back the model, or one clear error; a prediction is finite, or one clear error."""

import errno
import os
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from sealing import contents, rewrite
from tiny import SHAPES, calibration, cluster, crystal, deployed, forcefield, named, predict

from gaq.compress.swap import prepare, stored
from gaq.errors import GaqError, ModelFileError, OutputError, SpeciesError, StructureError
from gaq.forcefield import ForceField, load
from gaq.graph import build_graph
from gaq.models.transformer.config import ModelConfig
from gaq.models.transformer.network import Transformer
from gaq.models.transformer.recipes import RECIPES
from gaq.stored import FORMAT_VERSION, StoredModel
from gaq.structure import Structure


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    forcefield("robust", "w4a8").save(path)
    return path


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_saved_is_loaded(shape: str, recipe: str, tmp_path: Path) -> None:
    field = forcefield(shape, recipe)
    provenance = {"curves": {"step": [1]}, "best": float("inf"), "none": None}
    made = ForceField(StoredModel(field.config, field.recipe, field.stored.tensors, provenance))
    made.save(tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    assert (loaded.config, loaded.recipe, loaded.species) == (field.config, field.recipe, field.species)
    assert loaded.provenance == {"curves": {"step": [1]}, "best": None, "none": None}
    assert np.array_equal(loaded.on("torch").predict(calibration()).forces, field.predict(calibration()).forces)
    assert loaded.stored.bytes_by_tensor() == field.stored.bytes_by_tensor()
    loaded.save(tmp_path / "again.safetensors")
    assert contents(tmp_path / "again.safetensors")[0] == contents(tmp_path / "m.safetensors")[0]


def test_low_bit_files_are_small(tmp_path: Path) -> None:
    config = ModelConfig(species=(1, 6, 7, 8))
    sizes = {}
    for name in ("fp32", "w4", "w4a8", "w8a8"):
        model = Transformer(config)
        field = deployed(prepare(model, RECIPES[name], [calibration()]), RECIPES[name])
        field.save(tmp_path / name)
        sizes[name] = sum(field.stored.bytes_by_tensor().values())
        on_disk = (tmp_path / name).stat().st_size
        assert sizes[name] < on_disk < sizes[name] + 40_000  # names, shapes and the header
        whole = field.stored.bytes_in_float32()
        assert whole == sizes.setdefault("fp32", whole)
    assert sizes["w4a8"] <= sizes["fp32"] / 4
    assert sizes["w4"] <= sizes["fp32"] / 4
    assert sizes["w8a8"] <= sizes["fp32"] / 3


def test_stored_bytes_are_those_of_the_file(saved: Path) -> None:
    _, state = contents(saved)
    assert forcefield("robust", "w4a8").stored.bytes_by_tensor() == {name: t.nbytes for name, t in state.items()}


def test_a_truncated_file_is_refused_at_every_length(saved: Path, tmp_path: Path) -> None:
    whole, path = saved.read_bytes(), tmp_path / "cut"
    for length in (0, 1, 7, 8, 9, 100, 1000, *range(2000, len(whole), len(whole) // 20), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            load(path)
    path.write_bytes(whole + b"\x00")
    with pytest.raises(ModelFileError):
        load(path)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), in_header=st.booleans())
def test_no_flipped_byte_gives_another_model(saved: Path, tmp_path: Path, where: float, flip: int, in_header: bool) -> None:
    damaged = bytearray(saved.read_bytes())
    header = int.from_bytes(damaged[:8], "little") + 8
    damaged[int(where * (header if in_header else len(damaged)))] ^= flip
    path = tmp_path / "flipped"
    path.write_bytes(damaged)
    try:
        loaded = load(path)
    except ModelFileError:
        return
    expected = forcefield("robust", "w4a8")  # white space that became other white space
    assert loaded.sha256 == expected.sha256


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_pickles_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Bomb(), protocol))
        with pytest.raises(ModelFileError, match="a pickle or zip archive, which gaq never opens"):
            load(tmp_path / "model.safetensors")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "model.pt")
    assert zipfile.is_zipfile(tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match="never opens"):
        load(tmp_path / "model.pt")
    assert not (tmp_path / "exploded").exists()


def test_files_that_are_no_models(tmp_path: Path, saved: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelFileError, match="not a gaq model"):
        load(tmp_path / "foreign.safetensors")
    (tmp_path / "text").write_text("species: 1 6\n")
    with pytest.raises(ModelFileError, match="not a whole safetensors file"):
        load(tmp_path / "text")
    with pytest.raises(ModelFileError, match="no model file"):
        load(tmp_path)
    shutil.copy(saved, tmp_path / "ethanol.safetensors")
    with pytest.raises(ModelFileError, match=r"no model file at .*did you mean 'ethanol.safetensors'\?"):
        load(tmp_path / "etanol.safetensors")
    with pytest.raises(ModelFileError, match="no model file"):
        load(tmp_path / "missing" / "model.safetensors")


def test_a_newer_format_asks_for_an_upgrade(saved: Path, tmp_path: Path) -> None:
    header, state = contents(saved)
    with pytest.raises(ModelFileError, match=rf"format version {FORMAT_VERSION + 1}, newer .*upgrade gaq"):
        load(rewrite(tmp_path / "new", header | {"format_version": FORMAT_VERSION + 1, "later": {}}, state))


def test_files_of_earlier_versions(saved: Path, tmp_path: Path) -> None:
    header, state = contents(saved)
    for version in (1, 2):  # 1 knew no training range, and both had another name for a role and no kind of model
        older = {name: t for name, t in state.items() if version == 2 or name not in ("closest", "energy_range")}
        rules = [rule | ({"match": "junction"} if rule["match"] == "coupling" else {})
                 for rule in header["recipe"]["rules"]]
        said = {"format_version": version, "model": {k: v for k, v in header["model"].items() if k != "kind"},
                "recipe": header["recipe"] | {"rules": rules}}
        old, new = (load(path, "torch") for path in (rewrite(tmp_path / "old", header | said, older), saved))
        assert old.recipe == new.recipe
        for name in ("closest", "energy_range"):
            assert (old.stored.tensors[name] == 0).all() == (version == 1)
        first, second = (field.predict(calibration()) for field in (old, new))
        assert np.array_equal(first.energy, second.energy)
        assert np.array_equal(first.forces, second.forces)
        for field in (old, new):
            again = tmp_path / "again"
            field.save(again)
            assert contents(again)[0]["format_version"] == FORMAT_VERSION
            assert load(again).sha256 == field.sha256
            brief = load(again).on("torch", dtype="bfloat16").potential.network
            assert np.array_equal(brief.energy_range, field.stored.tensors["energy_range"])


@pytest.mark.parametrize(("name", "value"), [
    ("closest", -1.0), ("closest", 1e-300), ("closest", 0.04), ("closest", np.nan), ("closest", 9.0),
    ("energy_range", np.inf)])
def test_a_training_range_that_is_none_is_refused(saved: Path, tmp_path: Path, name: str, value: float) -> None:
    header, state = contents(saved)
    state[name][0, 0] = value
    with pytest.raises(ModelFileError, match=name):
        load(rewrite(tmp_path / "bad", header, state))
    del state[name]
    with pytest.raises(ModelFileError, match="do not make a model"):
        load(rewrite(tmp_path / "without", header, state))


@pytest.mark.parametrize("change", [
    {"model": None}, {"model": {"species": [1], "layers": 10**4, "colour": "red"}}, {"recipe": "w5a9"},
    {"recipe": {"name": 3}}, {"recipe": None}, {"recipe": 5}, {"recipe": []}, {"model": {"species": []}},
    {"model": {"species": [-4]}}, {"model": {"species": [200]}}, {"format_version": "one"}, {"format_version": None},
    {"model": {"species": [1, 6], "scalars": 10}},
], ids=str)
def test_headers_that_make_no_model(saved: Path, tmp_path: Path, change: dict) -> None:
    header, state = contents(saved)
    with pytest.raises(ModelFileError):
        load(rewrite(tmp_path / "odd", header | change, state))


@pytest.mark.parametrize("header", [[], 3, "text", None, {}])
def test_headers_that_are_no_mapping(saved: Path, tmp_path: Path, header: object) -> None:
    _, state = contents(saved)
    with pytest.raises(ModelFileError):
        load(rewrite(tmp_path / "odd", header, state))


def test_tensors_that_make_no_model(saved: Path, tmp_path: Path) -> None:
    header, state = contents(saved)
    name = next(n for n in state if n.endswith(".packed"))
    for changed in ({k: v for k, v in state.items() if k != name}, state | {"extra": torch.zeros(2)},
                    state | {name: state[name][:-1]}, state | {name: state[name][None]}):
        with pytest.raises(ModelFileError, match="do not make a model"):
            load(rewrite(tmp_path / "odd", header, {k: v.contiguous() for k, v in changed.items()}))


def test_codes_outside_of_their_format_are_refused(saved: Path, tmp_path: Path) -> None:
    header, state = contents(saved)
    name = next(n for n in state if n.startswith("attention.0.query") and n.endswith(".packed"))
    broken = state | {name: torch.full_like(state[name], 0x88)}  # -8 in a format of -7..7
    with pytest.raises(ModelFileError, match="below the smallest code"):
        load(rewrite(tmp_path / "odd", header, broken))


def test_a_full_disk_keeps_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, field = tmp_path / "model.safetensors", forcefield("robust", "w4a8")
    field.save(path)
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        forcefield("robust", "fp32").save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_unknown_elements_are_named() -> None:
    field = forcefield("robust", "w4a8")
    odd = Structure(species=np.array([1, 26, 17]), positions=np.eye(3) * 2)
    with pytest.raises(SpeciesError, match=r"does not know Cl, Fe; it was trained on H, C, N, O"):
        predict(field, odd)
    with pytest.raises(StructureError):
        predict(field, odd)


def test_positions_that_are_not_finite_are_refused() -> None:
    field = forcefield("robust", "w4a8")
    graph = field.graph(cluster(4))
    for value in (np.nan, np.inf):
        positions = graph.positions.copy()
        positions[1, 2] = value
        with pytest.raises(StructureError, match="finite numbers in Å"):
            field.predict(replace(graph, positions=positions))
        with pytest.raises(StructureError, match="finite numbers in Å"):
            field.predict(replace(graph, cell=graph.cell + value))


def test_no_atoms_are_refused() -> None:
    field, graph = forcefield("robust", "fp32"), forcefield("robust", "fp32").graph(cluster(4))
    nothing = replace(graph, species=graph.species[:0], positions=graph.positions[:0], centers=graph.centers[:0],
                      neighbours=graph.neighbours[:0], shifts=graph.shifts[:0], batch=graph.batch[:0])
    with pytest.raises(StructureError, match="at least one atom"):
        field.predict(nothing)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_damaged_model_never_predicts_nan(recipe: str) -> None:
    field = forcefield("robust", recipe).on("torch")
    field.potential.network.head.second.bias.fill_(torch.nan)
    with pytest.raises(GaqError, match="not finite"):
        field.predict(calibration())
    field = forcefield("robust", recipe).on("torch")
    field.potential.network.attention[0].norm.weight.fill_(torch.inf)
    with pytest.raises(GaqError, match="not finite"):
        field.predict(calibration())


@pytest.mark.parametrize("recipe", ["fp32", "w4a8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_atoms_far_too_close_give_numbers_or_an_error(shape: str, recipe: str) -> None:
    field = forcefield(shape, recipe)
    for distance in (0.06, 0.2):
        pair = Structure(species=np.array([8, 8, 1]), positions=np.array([[0.0, 0, 0], [distance, 0, 0], [1.0, 1, 0]]))
        assert torch.isfinite(predict(field, pair).forces).all()


def test_a_prediction_is_plain_numbers() -> None:
    for recipe in ("fp32", "w4a8"):
        said = forcefield("robust", recipe).predict(build_graph(crystal(), 4.0), stress=True)
        for values in (said.energy, said.forces, said.atom_energies, said.stress):
            assert isinstance(values, np.ndarray)
            assert values.dtype == np.float64
        assert not any(p.requires_grad for p in forcefield("robust", recipe).potential.network.parameters())


def test_predicting_twice_is_the_same_and_threads_do_not_matter() -> None:
    field = forcefield("robust", "w4a8")
    graph = field.graph(named("C6H6"))
    before, threads = field.predict(graph), torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            again = field.predict(graph)
            assert np.array_equal(again.energy, before.energy)
            assert np.array_equal(again.forces, before.forces)
    finally:
        torch.set_num_threads(threads)


def test_another_precision_is_a_copy_and_keeps_total_energies() -> None:
    field = forcefield("robust", "w4a8")
    model = Transformer(SHAPES["robust"])
    model.energy_offsets.fill_(-15587.123456789)
    deep, double = ForceField(stored(model, RECIPES["fp32"])), field.on("torch", dtype="float64")
    assert double.potential.network.dtype == torch.float64
    assert field.potential.network.dtype == torch.float32
    assert np.abs(double.predict(calibration()).forces - field.predict(calibration()).forces).max() < 0.2
    for dtype in ("float32", "float64"):
        assert deep.on("torch", dtype=dtype).potential.network.energy_offsets[0].item() == -15587.123456789
    again = field.on("torch", dtype="float32")
    assert np.array_equal(again.predict(calibration()).energy, field.predict(calibration()).energy)


def test_a_force_field_can_be_called_and_knows_its_bounds() -> None:
    field = forcefield("robust", "fp32")
    assert np.array_equal(field(calibration()).forces, field.predict(calibration()).forces)
    assert (field.cutoff, field.species, field.device) == (4.0, (1, 6, 7, 8), "cpu")


def test_variants_and_saturation_are_those_of_the_model() -> None:
    field = forcefield("robust", "w4a8")
    variants = field.quantizers_alone()
    assert "attention.0.feature" in variants
    assert all(np.isfinite(v.predict(calibration()).forces).all() for v in list(variants.values())[:2])
    assert ("head.second" in dict(field.saturation([calibration()])))
    assert forcefield("robust", "fp32").quantizers_alone() == {}
