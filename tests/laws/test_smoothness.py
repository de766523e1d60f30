"""Nothing jumps when an atom leaves, and an atom alone is no special case."""

import itertools

import numpy as np
import pytest
import torch
from tiny import (
    CUTOFF,
    FORCE,
    MODELS,
    SHAPES,
    SMOOTH,
    SPECIES,
    at,
    cluster,
    deployed,
    float_model,
    forcefield,
    predict,
    said,
)

from gaq.graph import Prediction, collate
from gaq.models.transformer.network import Transformer
from gaq.models.transformer.recipes import RECIPES
from gaq.structure import Structure


def at_distance(structure: Structure, atom: int, distance: float) -> Structure:
    """The structure with its last atom at `distance` from `atom`, on the line that it was on."""
    positions = structure.positions.copy()
    direction = positions[-1] - positions[atom]
    positions[-1] = positions[atom] + distance * direction / np.linalg.norm(direction)
    return at(structure, positions)


def gap(first: Prediction, second: Prediction) -> float:
    return float(max((first.energy - second.energy).abs().max(), (first.forces - second.forces).abs().max()))


@pytest.mark.parametrize("recipe", SMOOTH)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("atoms", [2, 5])
def test_energy_and_forces_are_continuous_at_the_cutoff(shape: str, recipe: str, atoms: int) -> None:
    """With two atoms it is the last neighbour that leaves."""
    field, structure = forcefield(shape, recipe, "float64"), cluster(atoms, seed=4)
    towards = int(np.argmax(np.linalg.norm(structure.positions[:-1] - structure.positions[-1], axis=1)))
    steps = (1e-2, 1e-3, 1e-4, 1e-5)
    inside = [at_distance(structure, towards, CUTOFF - h) for h in steps]
    outside = [at_distance(structure, towards, CUTOFF + h) for h in steps]
    assert len(field.graph(inside[-1]).centers) == len(field.graph(outside[-1]).centers) + 2
    gaps = [gap(predict(field, a), predict(field, b)) for a, b in zip(inside, outside, strict=True)]
    for wide, narrow in itertools.pairwise(gaps):
        assert narrow < 0.2 * wide or narrow < 1e-12
    assert gaps[-1] < 1e-3 * FORCE


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", MODELS)
def test_a_neighbour_at_the_cutoff_is_no_neighbour(shape: str, recipe: str) -> None:
    """Low-bit models too: what comes from a neighbour at the cutoff is multiplied by an envelope of zero."""
    field = forcefield(shape, recipe, "float64")
    pair = Structure(species=np.array([6, 8]), positions=np.array([[0.0, 0, 0], [0, CUTOFF - 1e-9, 0]]))
    apart = at_distance(pair, 0, CUTOFF + 1e-9)
    assert (len(field.graph(pair).centers), len(field.graph(apart).centers)) == (2, 0)
    torch.testing.assert_close(predict(field, pair).energy, predict(field, apart).energy, rtol=0, atol=1e-7)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", MODELS)
def test_an_atom_alone_feels_nothing(shape: str, recipe: str) -> None:
    field = forcefield(shape, recipe)
    offsets = dict(zip(SPECIES, field.stored.tensors["energy_offsets"].tolist(), strict=True))
    for z in SPECIES:
        alone = predict(field, Structure(species=np.array([z]), positions=np.array([[5.0, -2.0, 0.3]])))
        assert alone.forces.eq(0).all()
        assert abs(float(alone.energy) - offsets[z]) < 100 * FORCE  # the offset and a constant of the network


@pytest.mark.parametrize("recipe", RECIPES)
def test_atoms_without_edges_are_atoms_alone(recipe: str) -> None:
    field = forcefield("robust", recipe)
    single = [Structure(species=np.array([z]), positions=np.zeros((1, 3))) for z in SPECIES]
    gas = Structure(species=np.array(SPECIES), positions=50.0 * np.eye(4)[:, :3])
    together = predict(field, gas)
    assert len(field.graph(gas).centers) == 0
    assert together.forces.eq(0).all()
    torch.testing.assert_close(together.energy, sum(predict(field, s).energy for s in single), rtol=0, atol=1e-4)
    batch = said(field, collate([field.graph(s) for s in single]))
    torch.testing.assert_close(batch.energy.sum()[None], together.energy, rtol=0, atol=1e-4)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", MODELS)
def test_two_atoms_pull_along_their_line(shape: str, recipe: str) -> None:
    field = forcefield(shape, recipe, "float64")
    for distance in (0.8, 1.5, 3.2):
        pair = Structure(species=np.array([1, 8]), positions=np.array([[0.3, 0, 0], [0.3, distance, 0]]))
        forces = predict(field, pair).forces
        assert torch.isfinite(forces).all()
        torch.testing.assert_close(forces[0], -forces[1], rtol=0, atol=1e-10)
        if recipe in SMOOTH:
            assert forces[:, [0, 2]].abs().max() < 1e-10


@pytest.mark.parametrize("basis", ["bessel", "gaussian", "bernstein"])
@pytest.mark.parametrize("envelope", ["polynomial", "cosine"])
def test_every_basis_and_envelope_is_smooth_at_the_cutoff(basis: str, envelope: str) -> None:
    torch.manual_seed(0)
    config = float_model("robust").config.model_copy(update={"basis": basis, "envelope": envelope})
    field = deployed(Transformer(config)).on("torch", dtype="float64")
    pair = Structure(species=np.array([6, 8]), positions=np.array([[0.0, 0, 0], [0, 1.0, 0]]))
    apart = predict(field, at_distance(pair, 0, CUTOFF + 1.0))
    gaps = [gap(predict(field, at_distance(pair, 0, CUTOFF - h)), apart) for h in (1e-1, 1e-2, 1e-3, 1e-4)]
    assert all(narrow < 0.2 * wide for wide, narrow in itertools.pairwise(gaps))
