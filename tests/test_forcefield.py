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
from tiny import SHAPES, calibration, cluster, crystal, forcefield, named, predict

from gaq.compress.swap import freeze, prepare
from gaq.errors import GaqError, ModelFileError, OutputError, SpeciesError, StructureError
from gaq.forcefield import FORMAT_VERSION, ForceField, load
from gaq.graph import build_graph
from gaq.models.transformer.network import ModelConfig, Transformer
from gaq.recipe import RECIPES
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
    made = ForceField(field.model, field.recipe, {"curves": {"step": [1]}, "best": float("inf"), "none": None})
    made.save(tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    assert (loaded.config, loaded.recipe, loaded.species) == (field.config, field.recipe, field.species)
    assert loaded.provenance == {"curves": {"step": [1]}, "best": None, "none": None}
    assert torch.equal(loaded.predict(calibration()).forces, field.predict(calibration()).forces)
    assert loaded.stored_bytes() == field.stored_bytes()
    loaded.save(tmp_path / "again.safetensors")
    assert contents(tmp_path / "again.safetensors")[0] == contents(tmp_path / "m.safetensors")[0]


def test_low_bit_files_are_small(tmp_path: Path) -> None:
    config = ModelConfig(species=(1, 6, 7, 8))
    sizes = {}
    for name in ("fp32", "w4", "w4a8", "w8a8"):
        model = Transformer(config)
        field = ForceField(freeze(prepare(model, RECIPES[name], [calibration()])), RECIPES[name])
        field.save(tmp_path / name)
        sizes[name] = sum(field.stored_bytes().values())
        on_disk = (tmp_path / name).stat().st_size
        assert sizes[name] < on_disk < sizes[name] + 40_000  # names, shapes and the header
        assert field.fp32_bytes() == sizes.setdefault("fp32", field.fp32_bytes())
    assert sizes["w4a8"] <= sizes["fp32"] / 4
    assert sizes["w4"] <= sizes["fp32"] / 4
    assert sizes["w8a8"] <= sizes["fp32"] / 3


def test_stored_bytes_are_those_of_the_file(saved: Path) -> None:
    _, state = contents(saved)
    assert forcefield("robust", "w4a8").stored_bytes() == {name: t.nbytes for name, t in state.items()}


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
    assert torch.equal(loaded.predict(calibration()).forces, expected.predict(calibration()).forces)


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


def test_a_file_of_version_1_knows_no_training_range(saved: Path, tmp_path: Path) -> None:
    header, state = contents(saved)
    older = {name: t for name, t in state.items() if name not in ("closest", "energy_range")}
    old, new = load(rewrite(tmp_path / "old", header | {"format_version": 1}, older)), load(saved)
    assert old.model.closest.eq(0).all()
    assert old.model.energy_range.eq(0).all()
    assert new.model.closest.dtype == old.model.closest.dtype == torch.float64
    first, second = (field.predict(calibration()) for field in (old, new))
    assert torch.equal(first.energy, second.energy)
    assert torch.equal(first.forces, second.forces)
    for field in (old, new):
        again = tmp_path / "again"
        field.save(again)
        assert contents(again)[0]["format_version"] == FORMAT_VERSION
        assert torch.equal(load(again).model.closest, field.model.closest)
        assert torch.equal(load(again).to(dtype=torch.bfloat16).model.energy_range, field.model.energy_range)


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
    for value in (torch.nan, torch.inf):
        positions = graph.positions.clone()
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
    field = forcefield("robust", recipe).to()
    field.model.head.second.bias.fill_(torch.nan)
    with pytest.raises(GaqError, match="not finite"):
        field.predict(calibration())
    field = forcefield("robust", recipe).to()
    field.model.attention[0].norm.weight.fill_(torch.inf)
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
            assert values.dtype == torch.float64
            assert not values.requires_grad
            assert values.device.type == "cpu"
        assert not any(p.requires_grad for p in forcefield("robust", recipe).model.parameters())


def test_predicting_twice_is_the_same_and_threads_do_not_matter() -> None:
    field = forcefield("robust", "w4a8")
    graph = field.graph(named("C6H6"))
    before, threads = field.predict(graph), torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            again = field.predict(graph)
            assert torch.equal(again.energy, before.energy)
            assert torch.equal(again.forces, before.forces)
    finally:
        torch.set_num_threads(threads)


def test_another_precision_is_a_copy_and_keeps_total_energies() -> None:
    field = forcefield("robust", "w4a8")
    deep = ForceField(Transformer(SHAPES["robust"]), RECIPES["fp32"])
    deep.model.energy_offsets.fill_(-15587.123456789)
    double = field.to(dtype=torch.float64)
    assert double.model.dtype == torch.float64
    assert field.model.dtype == torch.float32
    assert (double.predict(calibration()).forces - field.predict(calibration()).forces).abs().max() < 0.2
    for dtype in (torch.float32, torch.float64):
        assert deep.to(dtype=dtype).model.energy_offsets[0].item() == -15587.123456789
    assert torch.equal(field.to(dtype=torch.float32).predict(calibration()).energy, field.predict(calibration()).energy)


def test_a_force_field_can_be_called_and_knows_its_bounds() -> None:
    field = forcefield("robust", "fp32")
    assert torch.equal(field(calibration()).forces, field.predict(calibration()).forces)
    assert (field.cutoff, field.species, field.device.type) == (4.0, (1, 6, 7, 8), "cpu")


def test_variants_and_saturation_are_those_of_the_model() -> None:
    field = forcefield("robust", "w4a8")
    variants = field.single_quantizer_variants()
    assert "attention.0.feature" in variants
    assert all(torch.isfinite(v(calibration()).forces).all() for v in list(variants.values())[:2])
    assert ("head.second" in dict(field.saturation([calibration()])))
    assert forcefield("robust", "fp32").single_quantizer_variants() == {}
