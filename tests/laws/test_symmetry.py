"""Energies do not see how a molecule is turned, mirrored, moved or numbered; forces turn with it. For every recipe."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny import (
    ALIGNED,
    CODED,
    FORCE,
    MODELS,
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
    predict,
    said,
)

from gaq.compress.swap import prepare
from gaq.forcefield import ForceField
from gaq.graph import Graph, collate
from gaq.models.transformer.recipes import RECIPES
from gaq.quant.vector_formats import MDDQ, Components, FibonacciCodebook, IcosahedralCodebook, KMeansCodebook, OctahedralMap
from gaq.rotations import axis_rotation, random_rotations
from gaq.structure import Structure

EXACT = 1e-10  # eV and eV/Å, of forces of 1 eV/Å
EDGE = 0.01  # eV and eV/Å: what a code that tips over is worth
TIPPED = 1  # of the rotations: noise of 1e-7 may carry a value over a rounding edge, on some processor; none did here
AXIAL = ("CO2", "C2H2", "CH4")  # atoms on a threefold or continuous axis
ROTATIONS = random_rotations(16, torch.Generator().manual_seed(3))


def errors(field: ForceField, graph: Graph, matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest |ΔF| (eV/Å) and |ΔE| (eV) for each orthogonal matrix."""
    still = said(field, graph)
    moved = said(field, collate([graph] * len(matrices)).rotated(matrices))
    expected = torch.einsum("rab,nb->rna", matrices, still.forces)
    forces = (moved.forces.reshape(expected.shape) - expected).norm(dim=-1).amax(1)
    return forces, (moved.energy - still.energy).abs()


@pytest.mark.parametrize("recipe", [*SMOOTH, *ALIGNED])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_rotation(shape: str, recipe: str) -> None:
    field = forcefield(shape, recipe, "float64")
    for structure in (cluster(8, seed=11), crystal()):
        forces, energy = errors(field, field.graph(structure), ROTATIONS)
        assert forces.max() < EXACT
        assert energy.max() < EXACT


@pytest.mark.parametrize("recipe", [*SMOOTH, *ALIGNED])
@pytest.mark.parametrize("shape", SHAPES)
def test_float32_adds_only_its_noise(shape: str, recipe: str) -> None:
    field = forcefield(shape, recipe)
    forces, energy = errors(field, field.graph(cluster(8, seed=11)), ROTATIONS)
    assert forces.max() < (1e-4 * FORCE if recipe in SMOOTH else EDGE)
    assert energy.max() < (1e-4 if recipe in SMOOTH else EDGE)
    assert (forces >= 1e-4 * FORCE).sum() <= TIPPED
    assert (energy >= 1e-4).sum() <= TIPPED


@pytest.mark.parametrize("recipe", ALIGNED)
@pytest.mark.parametrize("shape", SHAPES)
def test_invariants_of_a_rotated_copy_are_the_same_bits(shape: str, recipe: str) -> None:
    """Vector features stay in local frames until they have become invariants: so no code downstream can tip over."""
    field = forcefield(shape, recipe)
    _, energy = errors(field, field.graph(cluster(8, seed=11)), ROTATIONS)
    assert (energy != 0).sum() <= TIPPED  # frames in float64 differ by 1e-16
    assert energy.max() < EDGE


@pytest.mark.parametrize("shape", SHAPES)
def test_components_rounded_in_fixed_axes_break_it(shape: str) -> None:
    """The law is worth something only if it sees a model that breaks it."""
    for recipe in ("int8-naive", "svq-kmeans", "degree-quant"):
        field = forcefield(shape, recipe, "float64")
        forces, _ = errors(field, field.graph(cluster(8, seed=11)), ROTATIONS)
        assert forces.min() > 1e-5 * FORCE


def test_axis_rotations_alone_pass_a_model_that_is_not_equivariant() -> None:
    quarter = [axis_rotation(axis, math.pi / 2) for axis in torch.eye(3, dtype=torch.float64)]
    group = [torch.eye(3, dtype=torch.float64)]
    for element in group:  # grows while it is walked through, until all 24 are found
        for turn in quarter:
            product = (turn @ element).round()
            if not any(torch.equal(product, known) for known in group):
                group.append(product)
    assert len(group) == 24
    field = forcefield("l1", "int8-naive", "float64")
    graph = field.graph(cluster(8, seed=11))
    assert errors(field, graph, torch.stack(group))[0].max() < EXACT
    assert errors(field, graph, ROTATIONS)[0].min() > 1e-5 * FORCE


@pytest.mark.parametrize("recipe", [*SMOOTH, *ALIGNED])
@pytest.mark.parametrize("shape", SHAPES)
def test_mirrors_and_inversion(shape: str, recipe: str) -> None:
    field = forcefield(shape, recipe, "float64")
    mirrors = torch.cat([-torch.eye(3, dtype=torch.float64)[None], -ROTATIONS[:4],
                         torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))[None]])
    forces, energy = errors(field, field.graph(cluster(8, seed=11)), mirrors)
    assert forces.max() < EXACT
    assert energy.max() < EXACT


@pytest.mark.parametrize("recipe", ALIGNED)
@pytest.mark.parametrize("shape", ["l1", "robust"])
@pytest.mark.parametrize("name", ["C6H6", "H2O", "NH3", "CH3OH", *AXIAL])
def test_planar_and_symmetric_molecules(shape: str, recipe: str, name: str) -> None:
    """Where the surroundings of an atom are symmetric, its local frame is not unique, and must not matter."""
    field = forcefield(shape, recipe, "float64")
    forces, energy = errors(field, field.graph(named(name)), ROTATIONS)
    assert forces.max() < 1e-8 * FORCE
    assert energy.max() < EXACT


@pytest.mark.parametrize("recipe", ALIGNED)
@pytest.mark.parametrize("name", ["C6H6", "H2O", *AXIAL[:2]])
def test_linear_and_planar_molecules_of_degree_three(recipe: str, name: str) -> None:
    field = forcefield("robust-l3", recipe, "float64")
    assert errors(field, field.graph(named(name)), ROTATIONS)[0].max() < 1e-8 * FORCE


@pytest.mark.parametrize("recipe", ALIGNED)
def test_an_atom_with_one_neighbour_whose_neighbour_sees_more(recipe: str) -> None:
    """The neighbours of the outer atoms lie on a line, but the features that reach them in two steps do not."""
    bent = Structure(species=np.array([6, 8, 1]), positions=np.array([[3.0, 0, 0], [0, 0, 0], [-1.2, 2.6, 0.3]]))
    field = forcefield("robust", recipe, "float64")
    assert len(field.graph(bent).centers) == 4
    assert errors(field, field.graph(bent), ROTATIONS)[0].max() < 1e-8 * FORCE


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", MODELS)
def test_translation(shape: str, recipe: str) -> None:
    field = forcefield(shape, recipe, "float64")
    for structure in (cluster(7, seed=5), crystal()):
        still = predict(field, structure)
        moved = predict(field, at(structure, structure.positions + np.array([3.7, -11.2, 0.4])))
        torch.testing.assert_close(moved.energy, still.energy, rtol=0, atol=EXACT)
        torch.testing.assert_close(moved.forces, still.forces, rtol=0, atol=EXACT)
        assert still.forces.sum(0).abs().max() < EXACT  # no net force


@pytest.mark.parametrize("recipe", SMOOTH)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_net_torque(shape: str, recipe: str) -> None:
    field, structure = forcefield(shape, recipe, "float64"), cluster(8, seed=11)
    torque = np.cross(structure.positions, predict(field, structure).forces.numpy()).sum(0)
    assert np.abs(torque).max() < EXACT


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", MODELS)
def test_numbering_of_atoms(shape: str, recipe: str) -> None:
    field, structure = forcefield(shape, recipe, "float64"), cluster(8, seed=6)
    order = np.random.default_rng(1).permutation(8)
    shuffled = Structure(species=structure.species[order], positions=structure.positions[order])
    first, second = predict(field, structure), predict(field, shuffled)
    torch.testing.assert_close(second.energy, first.energy, rtol=0, atol=EXACT)
    torch.testing.assert_close(second.forces, first.forces[order], rtol=0, atol=EXACT)
    torch.testing.assert_close(second.atom_energies, first.atom_energies[order], rtol=0, atol=EXACT)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", MODELS)
def test_a_batch_is_its_members(shape: str, recipe: str) -> None:
    field = forcefield(shape, recipe, "float64")
    lone = Structure(species=np.array([8]), positions=np.zeros((1, 3)))
    graphs = [field.graph(s) for s in (cluster(6, seed=1), lone, named("CH3OH"), crystal(), cluster(9, seed=2))]
    together, apart = said(field, collate(graphs)), [said(field, g) for g in graphs]
    torch.testing.assert_close(together.energy, torch.cat([p.energy for p in apart]), rtol=0, atol=EXACT)
    torch.testing.assert_close(together.forces, torch.cat([p.forces for p in apart]), rtol=0, atol=EXACT)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_order_of_edges_does_not_matter(recipe: str) -> None:
    field = forcefield("robust", recipe, "float64")
    graph = field.graph(cluster(8, seed=6))
    order = torch.randperm(len(graph.centers), generator=torch.Generator().manual_seed(0))
    shuffled = replace(graph, centers=graph.centers[order], neighbours=graph.neighbours[order],
                       shifts=graph.shifts[order])
    torch.testing.assert_close(said(field, shuffled).forces, said(field, graph).forces, rtol=0, atol=EXACT)


def test_every_direction_coder_and_gradient_turns_with_the_molecule_when_aligned() -> None:
    for vectors in (Components(bits=4, aligned=True), MDDQ(direction=OctahedralMap(bits=4), aligned=True),
                    MDDQ(direction=IcosahedralCodebook(level=2), aligned=True, gradient="plain")):
        higher = None if vectors.supports(2) else Components(bits=4, aligned=True)
        rule = RECIPES["w4a8"].rules[-1].model_copy(update={"vectors": vectors, "higher": higher})
        recipe = RECIPES["w4a8"].model_copy(update={"rules": (*RECIPES["w4a8"].rules[:-1], rule)})
        field = deployed(prepare(float_model("robust"), recipe, [calibration()]), recipe)
        field = field.on("torch", dtype="float64")
        forces, energy = errors(field, field.graph(cluster(8, seed=11)), ROTATIONS)
        assert forces.max() < EXACT
        assert energy.max() < EXACT


@pytest.mark.parametrize("direction", [KMeansCodebook(points=32), FibonacciCodebook(points=32)])
def test_codebooks_not_closed_under_flips_are_refused_in_frames(direction: KMeansCodebook | FibonacciCodebook) -> None:
    """Frames are unique up to the signs of their axes."""
    with pytest.raises(ValidationError, match="not closed under flips"):
        MDDQ(direction=direction, aligned=True)


def test_coded_recipes_are_all_tried() -> None:
    assert set(CODED) | set(SMOOTH) == set(RECIPES)
