"""Twice the matter has twice the energy."""

import numpy as np
import pytest
import torch
from tiny import MODELS, cluster, crystal, forcefield, named, predict, said

from gaq.models.transformer.recipes import RECIPES
from gaq.structure import Structure


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", MODELS)
def test_two_molecules_far_apart(shape: str, recipe: str) -> None:
    field, first, second = forcefield(shape, recipe, "float64"), cluster(6, seed=7), named("H2O")
    pair = Structure(species=np.concatenate([first.species, second.species]),
                     positions=np.concatenate([first.positions, second.positions + np.array([40.0, 0, 0])]))
    one, two, both = (predict(field, s) for s in (first, second, pair))
    torch.testing.assert_close(both.energy, one.energy + two.energy, rtol=0, atol=1e-9)
    torch.testing.assert_close(both.forces, torch.cat([one.forces, two.forces]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", MODELS)
def test_a_supercell_of_eight(shape: str, recipe: str) -> None:
    field, cell = forcefield(shape, recipe, "float64"), crystal()
    assert cell.cell is not None
    shifts = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(8, 3)
    large = Structure(species=np.tile(cell.species, 8), cell=2 * cell.cell, pbc=cell.pbc,
                      positions=(cell.positions[None] + (shifts @ cell.cell)[:, None]).reshape(-1, 3))
    small, whole = (said(field, field.graph(s), stress=True) for s in (cell, large))
    assert small.stress is not None
    torch.testing.assert_close(whole.energy, 8 * small.energy, rtol=0, atol=1e-8)
    torch.testing.assert_close(whole.forces, small.forces.repeat(8, 1), rtol=0, atol=1e-9)
    torch.testing.assert_close(whole.stress, small.stress, rtol=0, atol=1e-9)


@pytest.mark.parametrize("recipe", ["fp32", "w4a8"])
def test_periodicity_in_one_direction(recipe: str) -> None:
    """A chain with period 3 Å, described by one atom and by two."""
    field = forcefield("robust", recipe, "float64")
    x_only = (True, False, False)
    one = Structure(species=np.array([6]), positions=np.zeros((1, 3)), cell=np.diag([3.0, 0, 0]), pbc=x_only)
    two = Structure(species=np.array([6, 6]), positions=np.array([[0.0, 0, 0], [3.0, 0, 0]]),
                    cell=np.diag([6.0, 0, 0]), pbc=x_only)
    assert len(field.graph(one).centers) == 2
    torch.testing.assert_close(predict(field, two).energy, 2 * predict(field, one).energy, rtol=0, atol=1e-10)
    assert predict(field, two).forces.abs().max() < 1e-10
