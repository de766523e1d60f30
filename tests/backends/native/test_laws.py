"""The laws of physics and of software hold for the engine as they do for its definition."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from engines import LOWERED, native
from tiny import (
    ALIGNED,
    CUTOFF,
    FORCE,
    SHAPES,
    SMOOTH,
    at,
    calibration,
    cluster,
    crystal,
    deployed,
    float_model,
    forcefield,
    named,
    said,
)

from gaq.backends.native.potential import NativePotential
from gaq.compress.swap import prepare
from gaq.graph import build_graph, collate
from gaq.models.transformer.recipes import RECIPES
from gaq.rotations import random_rotations
from gaq.structure import Structure

ROTATIONS = random_rotations(12, torch.Generator().manual_seed(3))
NOISE = 1e-4  # eV and eV/Å, float32 of forces of 1 eV/Å
EDGE = 0.01  # eV and eV/Å: what a code that tips over is worth


def hold(recipe: str, errors: torch.Tensor) -> None:
    """The largest error is noise of single precision where no activation is rounded.

    Where they are, that noise may, on some processor, carry a value over a rounding edge: not as a rule, and what it
    changes is no more than `EDGE`.
    """
    errors = errors.abs()
    assert errors.max() < (NOISE if recipe in SMOOTH else EDGE)
    assert errors.median() < NOISE


@pytest.mark.parametrize("recipe", LOWERED)
@pytest.mark.parametrize("shape", SHAPES)
def test_rotation(shape: str, recipe: str) -> None:
    field = native(shape, recipe)
    for structure in (cluster(8, seed=11), crystal(), named("C6H6")):
        graph = field.graph(structure)
        still = said(field, graph)
        moved = said(field, collate([graph] * len(ROTATIONS)).rotated(ROTATIONS))
        expected = torch.einsum("rab,nb->rna", ROTATIONS, still.forces)
        hold(recipe, (moved.forces.reshape(expected.shape) - expected).norm(dim=-1).amax(1) / FORCE)
        hold(recipe, moved.energy - still.energy)


@pytest.mark.parametrize("recipe", [r for r in LOWERED if r in ALIGNED])
@pytest.mark.parametrize("shape", SHAPES)
def test_invariants_of_a_rotated_copy_are_the_same_bits(shape: str, recipe: str) -> None:
    field = native(shape, recipe)
    graph = field.graph(cluster(8, seed=11))
    energies = torch.stack([said(field, graph.rotated(matrix[None])).energy[0] for matrix in ROTATIONS])
    changes = (energies - said(field, graph).energy).abs()
    assert changes.median() == 0
    assert changes.max() < EDGE


@pytest.mark.parametrize("recipe", LOWERED)
def test_translation_and_no_net_force(recipe: str) -> None:
    field = native("robust", recipe)
    for structure in (cluster(7, seed=5), crystal()):
        still = said(field, field.graph(structure))
        moved = said(field, field.graph(at(structure, structure.positions + np.array([3.7, -11.2, 0.4]))))
        hold(recipe, moved.forces - still.forces)
        assert still.forces.sum(0).abs().max() < 1e-12


@pytest.mark.parametrize("recipe", LOWERED)
@pytest.mark.parametrize("shape", SHAPES)
def test_numbering_of_atoms(shape: str, recipe: str) -> None:
    field, structure = native(shape, recipe), cluster(8, seed=6)
    order = np.random.default_rng(1).permutation(8)
    shuffled = Structure(species=structure.species[order], positions=structure.positions[order])
    first, second = said(field, field.graph(structure)), said(field, field.graph(shuffled))
    hold(recipe, second.forces - first.forces[order])
    hold(recipe, second.atom_energies - first.atom_energies[order])


@pytest.mark.parametrize("recipe", LOWERED)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_is_its_members_and_edges_have_no_order(shape: str, recipe: str) -> None:
    field = native(shape, recipe)
    lone = Structure(species=np.array([8]), positions=np.zeros((1, 3)))
    graphs = [field.graph(s) for s in (cluster(6, seed=1), lone, named("CH3OH"), crystal(), cluster(40, seed=2))]
    together, apart = said(field, collate(graphs)), [said(field, g) for g in graphs]
    hold(recipe, together.energy - torch.cat([p.energy for p in apart]))
    hold(recipe, together.forces - torch.cat([p.forces for p in apart]))
    graph = graphs[-1]
    order = torch.randperm(len(graph.centers), generator=torch.Generator().manual_seed(0))
    shuffled = replace(graph, centers=graph.centers[order], neighbours=graph.neighbours[order], shifts=graph.shifts[order])
    torch.testing.assert_close(said(field, shuffled).forces, apart[-1].forces, rtol=0, atol=1e-12)


@pytest.mark.parametrize("recipe", LOWERED)
def test_atoms_alone_feel_nothing(recipe: str) -> None:
    field = native("robust", recipe)
    gas = Structure(species=np.array([1, 6, 7, 8]), positions=50.0 * np.eye(4)[:, :3])
    prediction = said(field, field.graph(gas))
    assert prediction.forces.eq(0).all()
    expected = said(forcefield("robust", recipe), field.graph(gas))
    torch.testing.assert_close(prediction.energy, expected.energy, rtol=0, atol=NOISE)


@pytest.mark.parametrize("recipe", ["fp32", "w4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_jumps_at_the_cutoff(shape: str, recipe: str) -> None:
    field = native(shape, recipe)
    pair = [at(cluster(2, seed=4), [[0.0, 0, 0], [0, CUTOFF + h, 0]]) for h in (-1e-3, -1e-5, 1e-5)]
    wide, narrow, apart = (said(field, field.graph(s)) for s in pair)
    assert narrow.forces.abs().max() < 1e-4 * FORCE
    assert (narrow.energy - apart.energy).abs() < 1e-5
    assert (wide.energy - apart.energy).abs() < 1e-3


@pytest.mark.parametrize("recipe", ["fp32", "w4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_forces_are_the_slope_of_the_energy(shape: str, recipe: str) -> None:
    field, structure, h = native(shape, recipe), cluster(7, seed=9), 2e-3
    forces = said(field, field.graph(structure)).forces
    for atom, axis in ((0, 0), (3, 2)):
        step = np.zeros((7, 3))
        step[atom, axis] = h
        up, down = (said(field, field.graph(at(structure, structure.positions + s * step))).energy for s in (1, -1))
        torch.testing.assert_close((down - up)[0] / (2 * h), forces[atom, axis], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("recipe", LOWERED)
def test_threads_change_no_bit(recipe: str) -> None:
    graph = build_graph(cluster(150, seed=0, spacing=1.5), CUTOFF)
    expected = said(native("robust", recipe), graph)
    for threads in (2, 3):
        found = said(native("robust", recipe, threads=threads), graph)
        for _ in range(3):
            assert torch.equal(found.forces, expected.forces)
            assert torch.equal(found.atom_energies, expected.atom_energies)
            found = said(native("robust", recipe, threads=threads), graph)


def test_engines_work_side_by_side() -> None:
    fields = [native("robust", "w4a8"), native("robust-l3", "fp32"), NativePotential(native("robust", "w4a8").stored)]
    graphs = [f.graph(cluster(8, seed=k)) for k, f in enumerate(fields)]
    expected = [said(f, g).forces for f, g in zip(fields, graphs, strict=True)]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(20):
            if not torch.equal(said(fields[k], graphs[k]).forces, expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_shapes_that_fit_no_vector_unit() -> None:
    """Widths that are no multiples of 16, many heads, one head, degree 4."""
    torch.manual_seed(0)
    base = float_model("robust").config
    for update in ({"scalars": 21, "vectors": 5, "heads": 3}, {"scalars": 40, "vectors": 17, "heads": 20},
                   {"scalars": 48, "vectors": 33, "heads": 1, "max_degree": 4, "layers": 1},
                   {"scalars": 18, "vectors": 3, "heads": 6, "attention": "so3krates", "envelope": "cosine"}):
        model = type(float_model("robust"))(base.model_copy(update=update))
        for recipe in ("fp32", "w4a8"):
            field = deployed(model if recipe == "fp32" else prepare(model, RECIPES[recipe], [calibration()]),
                             RECIPES[recipe])
            graph = field.graph(cluster(9, seed=4))
            gap = (said(field, graph).forces - said(NativePotential(field.stored), graph).forces).abs()
            size = said(field, graph).forces.abs().max()
            assert gap.median() < 1e-5 * size
            assert gap.max() < (2e-5 if recipe == "fp32" else 1e-3) * size
