"""One contract for every model, recipe and backend; it runs on a second kind of model, too, a folder of the tests."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from invocation import invoke
from tiny import ALIGNED, RECIPES, SHAPES, SMOOTH, calibration, cluster, deployed
from toys import Springs, molecule

import gaq.models
from gaq.backends import compute
from gaq.backends.contract import Computed
from gaq.compress.swap import empty, prepare
from gaq.data import write_frames
from gaq.forcefield import ForceField, load
from gaq.graph import build_graph, collate
from gaq.lowering.blob import NotLowered
from gaq.models import emitter_of, kinds, model_kind, named_recipes, network_of
from gaq.recipe import FLOAT
from gaq.rotations import random_rotations
from gaq.structure import Structure

SECOND = Path(__file__).parents[1] / "second"
LOWERED = (*SMOOTH, *ALIGNED)  # what the engine computes
CASES = [("transformer", recipe, backend) for recipe in RECIPES for backend in ("torch", "engine")
         if backend == "torch" or recipe in LOWERED]
CASES += [("pair", recipe, "torch") for recipe in ("fp32", "pair-w4", "pair-w8a16")]


@pytest.fixture(autouse=True, scope="module")
def second() -> Iterator[None]:
    """Add the second kind as users add theirs: one more folder."""
    gaq.models.__path__.append(str(SECOND))
    yield
    gaq.models.__path__.remove(str(SECOND))
    for name in [name for name in sys.modules if name.startswith("gaq.models.pair")]:
        del sys.modules[name]


def field(kind: str, recipe: str) -> ForceField:
    """A force field of random weights."""
    torch.manual_seed(1)
    config = SHAPES["l1"] if kind == "transformer" else model_kind("pair").shape().with_species(SHAPES["l1"].species)
    network = network_of(kind)(config)
    chosen = named_recipes(kind)[recipe]
    return deployed(prepare(network, chosen, [calibration()]) if chosen.rules else network, chosen)


def potential(kind: str, recipe: str, backend: str) -> Computed:
    return compute(field(kind, recipe).stored, backend, threads=1)


def test_kinds_are_folders() -> None:
    assert {"transformer", "pair"} <= set(kinds())
    assert emitter_of("pair") is None
    with pytest.raises(NotLowered, match="kind 'pair'"):
        compute(field("pair", "fp32").stored, "engine")
    for recipe in set(RECIPES) - set(LOWERED):
        with pytest.raises(NotLowered):
            compute(field("transformer", recipe).stored, "engine")


@pytest.mark.parametrize(("kind", "recipe"), sorted({case[:2] for case in CASES}))
def test_a_schema_is_all_that_a_file_holds(kind: str, recipe: str, tmp_path: Path) -> None:
    made = field(kind, recipe)
    needed = made.stored.schema.tensors(made.recipe)
    state = empty(made.config, made.recipe).state_dict()
    assert {name: (kind.dtype.name, kind.shape) for name, kind in needed.items()} == {
        name: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in state.items()}
    assert sum(made.stored.bytes_by_tensor().values()) == sum(kind.bytes for kind in needed.values())
    made.save(tmp_path / "m")
    again = load(tmp_path / "m", "torch")
    assert (again.config, again.recipe, again.sha256) == (made.config, made.recipe, made.sha256)
    graph = made.graph(cluster(6))
    assert np.array_equal(again.predict(graph).forces, made.predict(graph).forces)


@pytest.mark.parametrize(("kind", "recipe", "backend"), CASES)
def test_every_potential_says_what_it_is(kind: str, recipe: str, backend: str) -> None:
    made = potential(kind, recipe, backend)
    assert made.backend.startswith(backend)
    assert made.species == SHAPES["l1"].species
    assert made.cutoff == made.stored.config.cutoff
    assert made.sha256 == made.stored.sha256
    said = made.predict(made.graph(cluster(7)))
    for values, shape in ((said.energy, (1,)), (said.forces, (7, 3)), (said.atom_energies, (7,))):
        assert isinstance(values, np.ndarray)
        assert (values.dtype, values.shape) == (np.float64, shape)
    named = {name.partition(".l")[0] for name, _ in made.saturation([made.graph(cluster(7))])}
    assert named == set(made.stored.schema.quantizers(made.stored.recipe))


@pytest.mark.parametrize(("kind", "recipe", "backend"), CASES)
def test_symmetries_of_every_potential(kind: str, recipe: str, backend: str) -> None:
    """Translation, permutation and batches for every recipe, rotation for those that keep it."""
    made, structure = potential(kind, recipe, backend), cluster(7, seed=3)
    said = made.predict(made.graph(structure))
    size = np.abs(said.forces).max()
    moved = made.predict(made.graph(Structure(structure.species, structure.positions + np.array([0.5, -2.0, 1.0]))))
    assert np.abs(moved.forces - said.forces).max() < 2e-4 * size
    order = np.random.default_rng(0).permutation(7)
    shuffled = made.predict(made.graph(Structure(structure.species[order], structure.positions[order])))
    assert np.abs(shuffled.forces - said.forces[order]).max() < 2e-4 * size
    both = made.predict(collate([made.graph(cluster(5, seed=1)), made.graph(structure)]))
    assert np.abs(both.forces[5:] - said.forces).max() < 2e-4 * size
    assert abs(both.energy[1] - said.energy[0]) < 1e-5 * (1 + abs(said.energy[0]))
    if recipe in ("int8-naive", "svq-kmeans", "degree-quant"):
        return
    for rotation in random_rotations(3, torch.Generator().manual_seed(0)).numpy():
        turned = made.predict(made.graph(Structure(structure.species, structure.positions @ rotation.T)))
        assert np.abs(turned.forces - said.forces @ rotation.T).max() < 1e-3 * size
        assert abs(turned.energy[0] - said.energy[0]) < 1e-5 * (1 + abs(said.energy[0]))


def test_the_second_kind_is_trained_quantized_audited_and_simulated(tmp_path: Path) -> None:
    toy, rng, frames = Springs(), np.random.default_rng(0), []
    for _ in range(24):
        positions = molecule().positions + 0.05 * rng.normal(size=(5, 3))
        said = toy.predict(build_graph(molecule(positions), toy.cutoff))
        frames.append(molecule(positions, energy=said.energy.item(), forces=said.forces))
    data, folder = tmp_path / "frames.extxyz", tmp_path / "run"
    write_frames(data, frames)
    (tmp_path / "config.yaml").write_text(
        f"data: {{train: {data}, validation_frames: 4}}\nmodel: {{kind: pair, width: 6}}\n"
        f"optimization: {{steps: 20, validate_every: 10, batch_size: 4, warmup_steps: 5}}\nout: {folder}\n")
    low = tmp_path / "w4.safetensors"
    for arguments in (
            ("train", tmp_path / "config.yaml"),
            ("quantize", folder, "--recipe", "pair-w4", "--data", data, "--steps", 4, "--batch-size", 4, "--out", low),
            ("info", low), ("evaluate", folder, low, "--data", data, "--rotations", 2, "--lee-frames", 2),
            ("audit", low, "--data", data, "--frames", 1, "--replicas", 2, "--picoseconds", 0.01),
            ("md", low, f"{data}@0", "--steps", 5, "--timestep", 0.1, "--out", tmp_path / "md.extxyz", "--json",
             tmp_path / "md.json")):
        done = invoke(*arguments)
        assert done.exit_code == 0, done.output
    assert load(low).recipe.name == "pair-w4"
    assert load(folder / "model.safetensors").recipe == FLOAT
    assert json.loads((tmp_path / "md.json").read_text())["backend"] == "torch"
    assert "does not compute models of kind 'pair'" in invoke("export", low, "--out", tmp_path / "a.gaqblob").output
