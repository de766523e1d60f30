"""Forces and stress are the derivatives of the energy, and a loss on forces reaches every parameter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import FORCE, MODELS, SHAPES, SMOOTH, at, calibration, cluster, crystal, forcefield, predict, prepared, said

from gaq.errors import StructureError
from gaq.forcefield import ForceField
from gaq.models.transformer.recipes import RECIPES
from gaq.structure import Structure

STEPS = (1e-2, 1e-3, 1e-4)  # Å


def energy(field: ForceField, structure: Structure) -> float:
    return float(predict(field, structure).energy)


def slope(field: ForceField, structure: Structure, direction: np.ndarray, step: float) -> float:
    """Central difference of the energy along a displacement of all atoms, eV/Å."""
    up, down = (at(structure, structure.positions + sign * step * direction) for sign in (1, -1))
    return (energy(field, up) - energy(field, down)) / (2 * step)


@pytest.mark.parametrize("recipe", SMOOTH)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [lambda: cluster(7, seed=8), crystal], ids=["cluster", "crystal"])
def test_forces_are_the_slope_of_the_energy(shape: str, recipe: str, make) -> None:
    """The error of a central difference falls with the square of the step; where it does not, a force is wrong."""
    field, structure = forcefield(shape, recipe, "float64"), make()
    forces = predict(field, structure).forces.numpy()
    rng = np.random.default_rng(0)
    for _ in range(2):
        direction = rng.normal(size=forces.shape)
        exact = -(forces * direction).sum()
        errors = [abs(slope(field, structure, direction, h) - exact) for h in STEPS]
        assert errors[1] < 0.02 * errors[0] or errors[1] < 1e-8
        assert errors[2] < 0.02 * errors[1] or errors[2] < 1e-8
        assert errors[2] < 1e-5 * FORCE


@pytest.mark.parametrize("recipe", ["fp32", "w4"])
def test_each_component_of_each_force(recipe: str) -> None:
    field, structure = forcefield("robust", recipe, "float64"), cluster(4, seed=3)
    forces = predict(field, structure).forces.numpy()
    numeric = np.array([[slope(field, structure, np.eye(12)[3 * i + k].reshape(4, 3), 1e-4) for k in range(3)]
                        for i in range(4)])
    np.testing.assert_allclose(forces, -numeric, rtol=0, atol=1e-6)


def strained(structure: Structure, deformation: np.ndarray) -> Structure:
    assert structure.cell is not None
    return Structure(species=structure.species, positions=structure.positions @ deformation,
                     cell=structure.cell @ deformation, pbc=structure.pbc)


@pytest.mark.parametrize("recipe", SMOOTH)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("edge", [2.6, 4.5])
def test_stress_is_the_slope_under_strain(shape: str, recipe: str, edge: float) -> None:
    """In a cell smaller than the cutoff every atom is its own neighbour."""
    field, structure = forcefield(shape, recipe, "float64"), crystal(edge)
    graph = field.graph(structure)
    assert (edge > 4.0) or bool((graph.centers == graph.neighbours).any())
    assert structure.cell is not None
    stress = said(field, graph, stress=True).stress
    assert stress is not None
    torch.testing.assert_close(stress, stress.mT, rtol=0, atol=1e-12)
    volume, h = abs(np.linalg.det(structure.cell)), 1e-4
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2)):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5
        strain[b, a] += 0.5
        up, down = (energy(field, strained(structure, np.eye(3) + sign * h * strain)) for sign in (1, -1))
        assert float(stress[0, a, b]) == pytest.approx((up - down) / (2 * h) / volume, abs=2e-6)


def test_stress_turns_with_the_crystal() -> None:
    field = forcefield("robust", "w4a8", "float64")
    graph = field.graph(crystal())
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    stress, turned = (said(field, g, stress=True).stress for g in (graph, graph.rotated(q)))
    assert stress is not None
    torch.testing.assert_close(turned, q @ stress @ q.T, rtol=0, atol=1e-10)


def test_stress_needs_a_cell() -> None:
    field = forcefield("robust", "fp32")
    with pytest.raises(StructureError, match="periodic in three directions"):
        said(field, field.graph(cluster(4)), stress=True)


def test_asking_for_stress_changes_nothing_else() -> None:
    field = forcefield("robust", "w4a8", "float64")
    plain, more = (said(field, field.graph(crystal()), stress=wanted) for wanted in (False, True))
    torch.testing.assert_close(plain.forces, more.forces, rtol=0, atol=1e-12)
    assert plain.stress is None


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", MODELS)
def test_a_loss_on_forces_reaches_every_parameter(shape: str, recipe: str) -> None:
    model, graph = prepared(shape, recipe), calibration()
    constant = ("head.second.bias", "head.second.inputs.scale.logarithm")  # a step of the last layer moves no slope
    parameters = {name: p for name, p in model.named_parameters() if name not in constant}
    loss = (model(graph, differentiable=True).forces - 0.3).square().mean()
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    assert any(name.endswith("logarithm") for name in parameters) or recipe == "fp32"
    missing = [name for name, g in zip(parameters, found, strict=True)
               if g is None or not torch.isfinite(g).all() or not g.abs().max() > 0]
    if SHAPES[shape].vectors == 1:  # a degree may hang on one weight, and four bits may round it, or two, to zero
        assert len(missing) <= 3, missing
    else:
        assert missing == []
    last = [model.get_parameter(name) for name in constant if name in dict(model.named_parameters())]
    by_energy = torch.autograd.grad(model(graph, differentiable=True).energy.square().mean(), last)
    assert all(bool(torch.isfinite(g).all()) and float(g.abs().max()) > 0 for g in by_energy)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_a_force_loss_is_its_slope(shape: str) -> None:
    """Double backward against finite differences, in a float model."""
    model = forcefield(shape, "fp32", "float64").potential.network
    graph = replace(calibration(), forces=None)
    names = ("attention.0.query.weight", "attention.0.filters.project.weight", "interaction.0.mix.weight",
             "embedding.filters.weight", "head.first.weight")

    def loss() -> torch.Tensor:
        return (model(graph, differentiable=True).forces - 0.3).square().mean()

    for name in names:
        p = model.get_parameter(name)
        direction = torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(1))
        p.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(), [p])
        p.requires_grad_(False)
        h = 1e-5
        p.add_(h * direction)
        up = float(loss().detach())
        p.sub_(2 * h * direction)
        down = float(loss().detach())
        p.add_(h * direction)
        assert float((gradient * direction).sum()) == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-8)
