"""The model that is trained, the one that is deployed and the one that comes from a file compute the same bits."""

from pathlib import Path

import pytest
import torch
from tiny import MODELS, SPECIES, calibration, cluster, crystal, deployed, float_model, forcefield, named, prepared, said

from gaq.compress.swap import prepare
from gaq.data import load_frames
from gaq.forcefield import load
from gaq.graph import Graph, build_graph, collate
from gaq.models.transformer.config import ModelConfig
from gaq.models.transformer.network import Transformer
from gaq.models.transformer.recipes import RECIPES
from gaq.nn.tensors import tensors

SAMPLE = tensors(collate([build_graph(s, 4.0) for s in (named("CH3CH2OH"), named("C6H6"), cluster(9, seed=2), crystal())]))


def assert_same(first, second) -> None:
    assert torch.equal(first.energy, second.energy)
    assert torch.equal(first.forces, second.forces)
    assert torch.equal(first.atom_energies, second.atom_energies)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", MODELS)
def test_trained_deployed_and_loaded_models_are_equal(shape: str, recipe: str, tmp_path: Path) -> None:
    trained = prepared(shape, recipe)
    field = deployed(trained, RECIPES[recipe])
    path = tmp_path / "model.safetensors"
    field.save(path)
    loaded = load(path, "torch")
    for graph in (SAMPLE, calibration()):
        expected = trained(graph)
        assert_same(expected, said(field, graph))
        assert_same(expected, said(loaded, graph))
        assert_same(said(field, graph), said(field, graph))  # codes unpacked once are the codes unpacked


@pytest.mark.parametrize("recipe", RECIPES)
def test_after_a_few_steps_of_training_too(recipe: str, tmp_path: Path) -> None:
    """Steps and weights that are not those of calibration."""
    model = prepare(float_model("robust"), RECIPES[recipe], [calibration()])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (model(calibration(), differentiable=True).forces - 0.3).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    field = deployed(model.eval(), RECIPES[recipe])
    field.save(tmp_path / "model.safetensors")
    assert_same(model(SAMPLE), said(field, SAMPLE))
    assert_same(model(SAMPLE), said(load(tmp_path / "model.safetensors", "torch"), SAMPLE))


def test_freezing_twice_changes_nothing() -> None:
    once = forcefield("robust", "w4a8")
    assert_same(said(once, SAMPLE), said(deployed(once.potential.network, once.recipe), SAMPLE))


@pytest.mark.parametrize("recipe", ["fp32", "w4", "w4a8", "int8-naive"])
def test_on_real_molecules(recipe: str, shared_data: Path, tmp_path: Path) -> None:
    def batch() -> Graph:
        parts = [load_frames(shared_data / "rmd17" / f"rmd17_{name}_test_01.npz")[:3]
                 for name in ("azobenzene", "ethanol", "benzene")]
        return collate([build_graph(s, 5.0) for frames in parts for s in frames])

    graph = tensors(batch())
    torch.manual_seed(0)
    model = Transformer(float_model("robust").config.model_copy(update={"cutoff": 5.0, "species": SPECIES}))
    trained = prepare(model, RECIPES[recipe], [graph]).eval()
    field = deployed(trained, RECIPES[recipe])
    field.save(tmp_path / "model.safetensors")
    assert_same(trained(graph), said(field, graph))
    assert_same(trained(graph), said(load(tmp_path / "model.safetensors", "torch"), graph))


def test_several_threads_repeat_to_the_last_bit() -> None:
    """Sums over edges have one order, without which neither resuming nor deploying could be exact."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig(species=SPECIES, layers=1))  # wide enough for torch to share the work out
    graph = tensors(build_graph(cluster(60, seed=0, spacing=1.5), 5.0))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        expected = model(graph).forces
        assert all(torch.equal(model(graph).forces, expected) for _ in range(4))
    finally:
        torch.set_num_threads(threads)
