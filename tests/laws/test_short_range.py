"""However near atoms come: energies and forces are finite and right, and below half an ångström atoms part."""

import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import CLOSEST, CUTOFF, MODELS, SHAPES, SMOOTH, at, cluster, copied, crystal, dimers, forcefield, predict, said

from gaq.errors import GaqError
from gaq.forcefield import ForceField, load
from gaq.graph import Prediction, build_graph, collate
from gaq.models.transformer.recipes import RECIPES
from gaq.rotations import random_rotations
from gaq.structure import Structure

FOLDER = Path(__file__).parents[2] / "models"
COMMITTED = ("ethanol-fp32", "ethanol-w4a16", "ethanol-w4a8", "ethanol-svq-kmeans", "ethanol-degree-quant",
             "azobenzene-fp32", "azobenzene-w4a16", "azobenzene-w4a8", "ablation/ethanol-so3krates-fp32")
DISTANCES = np.concatenate([np.geomspace(0.0501, 0.5, 24), np.arange(0.51, 5.0, 0.03)])
NEAR = DISTANCES <= 0.5


@cache
def committed(name: str) -> ForceField:
    return load(FOLDER / f"{name}.safetensors", "torch")


def rises(field: ForceField) -> None:
    """Assert that every dimer is finite everywhere, and rises below half an ångström, with forces that drive apart."""
    for first, second in itertools.combinations_with_replacement(field.species, 2):
        batch = collate([field.graph(s) for s in dimers(first, second, DISTANCES)])
        found = said(field, batch)
        assert torch.isfinite(found.energy).all()
        assert torch.isfinite(found.forces).all()
        assert bool((found.energy[torch.from_numpy(NEAR)].diff() < 0).all()), (first, second)
        apart = found.forces.reshape(-1, 2, 3)[:, 1] @ torch.tensor([0.36, 0.48, 0.8], dtype=torch.float64)
        assert bool((apart[torch.from_numpy(NEAR)] > 0).all()), (first, second)
        assert float(found.energy.max() - found.energy[-1]) < 2e5  # eV; nuclei of oxygen at 0.05 Å
        assert float(found.energy[-1] - found.energy.min()) < 100.0  # no abyss


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", MODELS)
def test_dimers_of_random_models(shape: str, recipe: str) -> None:
    rises(forcefield(shape, recipe))


@pytest.mark.parametrize("name", COMMITTED)
def test_dimers_of_the_committed_models(name: str) -> None:
    rises(committed(name))


@pytest.mark.parametrize("recipe", SMOOTH)
@pytest.mark.parametrize("shape", SHAPES)
def test_forces_are_the_slope_through_both_radii(shape: str, recipe: str) -> None:
    """Dimers, and an atom pushed into a cluster, in float64."""
    field, h = forcefield(shape, recipe, "float64"), 1e-5
    distances = np.concatenate([np.linspace(0.3, 1.2, 19), 0.95 * CLOSEST + np.array([-2e-5, 0, 2e-5]),
                                0.7125 * CLOSEST + np.array([-2e-5, 0, 2e-5])])
    three = cluster(4, seed=4, spacing=1.5)

    def approached(r: float) -> list[Structure]:
        pushed = three.positions.copy()
        direction = pushed[3] - pushed[0]
        pushed[3] = pushed[0] + r * direction / np.linalg.norm(direction)
        return [*dimers(6, 8, [r]), *dimers(1, 1, [r]), at(three, pushed)]

    def energies(offset: float) -> torch.Tensor:
        return said(field, collate([field.graph(s) for r in distances for s in approached(r + offset)])).energy

    numeric = (energies(h) - energies(-h)) / (2 * h)
    middle = [s for r in distances for s in approached(r)]
    middles = said(field, collate([field.graph(s) for s in middle]))
    slopes, begin = [], 0
    for s in middle:
        line = s.positions[-1] - s.positions[0]
        line /= np.linalg.norm(line)
        moved = -line @ middles.forces[begin + len(s) - 1].numpy()
        slopes.append(moved if len(s) > 2 else 0.5 * (moved + line @ middles.forces[begin].numpy()))
        begin += len(s)
    size = numeric.abs().clamp_min(1.0)
    assert float(((torch.tensor(slopes, dtype=torch.float64) - numeric).abs() / size).max()) < 1e-5


def squeezed(structure: Structure, factor: float) -> Structure:
    cell = None if structure.cell is None else factor * structure.cell
    return Structure(species=structure.species, positions=factor * structure.positions, cell=cell, pbc=structure.pbc)


def same(first: Prediction, second: Prediction, tolerance: float) -> None:
    size = max(float(first.forces.abs().max()), 1.0)
    torch.testing.assert_close(first.energy, second.energy, rtol=0, atol=tolerance * size)
    torch.testing.assert_close(first.forces, second.forces, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("recipe", SMOOTH)
@pytest.mark.parametrize("shape", MODELS)
@pytest.mark.parametrize("factor", [0.4, 0.65, 0.8])
def test_squeezed_structures_obey_the_laws(shape: str, recipe: str, factor: float) -> None:
    field, structure = forcefield(shape, recipe, "float64"), squeezed(cluster(8, seed=11), factor)
    here = predict(field, structure)
    assert torch.isfinite(here.forces).all()
    assert float(here.forces.sum(0).abs().max()) < 1e-8 * float(here.forces.abs().max())
    (q,) = random_rotations(1, torch.Generator().manual_seed(2))
    turned = predict(field, at(structure, structure.positions @ q.numpy().T))
    same(here, Prediction(turned.energy, turned.forces @ q), 1e-9)
    order = np.random.default_rng(0).permutation(8)
    mixed = predict(field, Structure(species=structure.species[order], positions=structure.positions[order]))
    same(Prediction(here.energy, here.forces[order]), mixed, 1e-10)
    far = Structure(species=np.tile(structure.species, 2),
                    positions=np.concatenate([structure.positions, structure.positions + 30.0]))
    both = predict(field, far)
    same(Prediction(2 * here.energy, here.forces.repeat(2, 1)), both, 1e-9)


@pytest.mark.parametrize("recipe", SMOOTH)
@pytest.mark.parametrize("shape", MODELS)
def test_stress_of_a_squeezed_crystal_is_the_slope_under_strain(shape: str, recipe: str) -> None:
    field, structure, h = forcefield(shape, recipe, "float64"), squeezed(crystal(), 0.3), 1e-5
    assert structure.cell is not None
    assert np.linalg.norm(field.graph(structure).positions) > 0
    stress = said(field, field.graph(structure), stress=True).stress
    assert stress is not None
    up, down = (predict(field, squeezed(structure, 1 + sign * h)).energy.item() for sign in (1, -1))
    volume = abs(np.linalg.det(structure.cell))
    assert float(stress.diagonal(dim1=-2, dim2=-1).sum()) == pytest.approx((up - down) / (2 * h) / volume, rel=1e-5)


@pytest.mark.parametrize("name", ["aspirin-fp32", "aspirin-w4a16", "aspirin-w4a8"])
def test_aspirin_squeezed_to_half_its_size(name: str, shared_data: Path) -> None:
    """Never an abyss, never 1e36 eV/Å: a repulsion of a sensible size, or a typed error."""
    from gaq.data import load_frames

    field = committed(name)
    frame = load_frames(shared_data / "rmd17" / "rmd17_aspirin_test_01.npz")[0]
    relaxed = predict(field, frame).energy
    for factor in (0.7, 0.6, 0.5, 0.4):
        try:
            there = predict(field, squeezed(frame, factor))
        except GaqError:
            assert name == "aspirin-fp32"
            assert factor <= 0.6
            continue
        assert 10.0 < float(there.energy - relaxed) < 1e4
        assert 10.0 < float(there.forces.abs().max()) < 1e4


def test_ordinary_structures_know_nothing_of_it() -> None:
    """The same bits as a model without any wall and without bounds."""
    for recipe in RECIPES:
        field = forcefield("robust", recipe)
        plain = copied(field)
        plain.stored.tensors["closest"].fill(0.1)
        plain.stored.tensors["energy_range"].fill(0.0)
        for structure in (cluster(8, seed=3), crystal()):
            graph = build_graph(structure, CUTOFF)
            first, second = (said(f, graph, stress=all(structure.pbc)) for f in (field, plain))
            assert torch.equal(first.energy, second.energy)
            assert torch.equal(first.forces, second.forces)
            assert first.stress is None or torch.equal(first.stress, second.stress)
