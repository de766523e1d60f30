"""The engine holds back where PyTorch does: dimers at every distance, squeezed structures, in every instruction set."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from engines import LOWERED, SETS, engine_of, native, on_engine
from tiny import MODELS, cluster, crystal, dimers, forcefield, said

from gaq.backends.native.potential import NativePotential
from gaq.forcefield import ForceField, load
from gaq.graph import collate
from gaq.structure import Structure

FOLDER = Path(__file__).parents[3] / "models"
DISTANCES = np.concatenate([np.geomspace(0.0501, 0.5, 16), np.linspace(0.51, 1.6, 40), np.linspace(1.7, 5.0, 20)])
NEAR = torch.from_numpy(DISTANCES <= 0.5)


def agree(field: ForceField, engine: NativePotential, smooth: bool) -> None:
    """Assert that dimers of all species are finite and the same on both backends, and rise below half an ångström."""
    for first, second in itertools.combinations_with_replacement(field.species, 2):
        batch = collate([field.graph(s) for s in dimers(first, second, DISTANCES)])
        expected, found = said(field, batch), said(engine, batch)
        assert torch.isfinite(found.energy).all()
        assert bool((found.energy[NEAR].diff() < 0).all())
        # a network that outgrows its bounds within a hundredth of an Å is as steep as it is inexact
        size = expected.forces.abs().reshape(len(DISTANCES), 6).amax(1).clamp_min(1.0)
        gap = (found.forces - expected.forces).abs().reshape(len(DISTANCES), 6).amax(1) / size
        shift = (found.energy - expected.energy).abs() / size
        if smooth:
            assert float(gap.max()) < 5e-3, (first, second)
            assert float(shift.max()) < 1e-3, (first, second)
        assert float(gap.median()) < 2e-5, (first, second)
        assert float(gap[NEAR].max()) < 1e-3, (first, second)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("recipe", LOWERED)
@pytest.mark.parametrize("shape", MODELS)
def test_dimers_of_random_models(shape: str, recipe: str, isa: str) -> None:
    agree(forcefield(shape, recipe), native(shape, recipe, isa), recipe in ("fp32", "w4"))


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("name", ["ethanol-fp32", "ethanol-w4a16", "ethanol-w4a8", "azobenzene-fp32", "azobenzene-w4a8"])
def test_dimers_of_the_committed_models(name: str, isa: str) -> None:
    field = load(FOLDER / f"{name}.safetensors", "torch")
    agree(field, on_engine(field, isa), "fp32" in name)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("recipe", ["fp32", "w4"])
@pytest.mark.parametrize("shape", MODELS)
def test_squeezed_structures(shape: str, recipe: str, isa: str) -> None:
    """Many pairs within their walls, frames and stress included."""
    field, engine = forcefield(shape, recipe), native(shape, recipe, isa)
    for factor in (0.4, 0.7, 0.9):
        drop = cluster(8, seed=11)
        graph = field.graph(Structure(species=drop.species, positions=factor * drop.positions))
        expected, found = said(field, graph), said(engine, graph)
        size = float(expected.forces.abs().max())
        torch.testing.assert_close(found.forces, expected.forces, rtol=0, atol=1e-4 * size)
        torch.testing.assert_close(found.energy, expected.energy, rtol=0, atol=1e-4 * size)
        torch.testing.assert_close(found.atom_energies, expected.atom_energies, rtol=0, atol=1e-4 * size)
    solid = crystal()
    assert solid.cell is not None
    graph = field.graph(Structure(species=solid.species, positions=0.3 * solid.positions, cell=0.3 * solid.cell,
                                  pbc=solid.pbc))
    assert bool((graph.centers == graph.neighbours).any())
    expected, found = said(field, graph, stress=True), said(engine, graph, stress=True)
    torch.testing.assert_close(found.stress, expected.stress, rtol=1e-4, atol=1e-4 * float(expected.stress.abs().max()))


@pytest.mark.parametrize("isa", SETS)
def test_forces_are_the_slope_of_the_energy_through_both_radii(isa: str) -> None:
    """Of the engine's own energies, as exactly as float32 lets them be differenced."""
    engine, h = native("robust", "fp32", isa), 1e-3
    middle = np.linspace(0.3, 1.2, 91)
    up, here, down = (said(engine, collate([engine.graph(s) for s in dimers(6, 8, middle + d)])) for d in (h, 0.0, -h))
    slope = -(here.forces.reshape(-1, 2, 3)[:, 1] @ torch.tensor([0.36, 0.48, 0.8], dtype=torch.float64))
    numeric = (up.energy - down.energy) / (2 * h)
    assert float(((slope - numeric).abs() / numeric.abs().clamp_min(1.0)).max()) < 2e-2


def test_one_directed_edge_feels_half_of_the_wall() -> None:
    """A pair of which one edge alone is given: its half goes to the atom that receives, as in PyTorch."""
    from dataclasses import replace

    field, engine = forcefield("robust", "fp32"), native("robust", "fp32")
    whole = field.graph(dimers(6, 8, [0.4])[0])
    graph = replace(whole, centers=whole.centers[:1], neighbours=whole.neighbours[:1], shifts=whole.shifts[:1])
    expected, found = said(field, graph), said(engine, graph)
    assert float(expected.atom_energies[graph.centers[0]]) > float(expected.atom_energies[graph.neighbours[0]])
    torch.testing.assert_close(found.atom_energies, expected.atom_energies, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(found.forces, expected.forces, rtol=1e-5, atol=1e-4)


def test_results_do_not_depend_on_threads() -> None:
    drop = cluster(70, seed=5, spacing=1.2)
    squeezed = Structure(species=drop.species, positions=0.6 * drop.positions)
    one, three = (native("robust", "w4", threads=n) for n in (1, 3))
    graph = one.graph(squeezed)
    first, second = said(one, graph), said(three, graph)
    assert engine_of(three).facts().threads == 3
    assert torch.equal(first.energy, second.energy)
    assert torch.equal(first.forces, second.forces)
