"""The shape of a model, and what its blocks see."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from tiny import SHAPES, calibration, cluster, float_model, forcefield

from gaq.graph import build_graph
from gaq.models.network import edge_vectors
from gaq.models.transformer.blocks import ByDegree
from gaq.models.transformer.config import ModelConfig
from gaq.models.transformer.network import Transformer
from gaq.nn.tensors import tensors
from gaq.rotations import random_rotations, wigner_d
from gaq.so3 import components


@pytest.mark.parametrize(("changes", "message"), [
    ({"heads": 3}, r"heads \(3\) must divide scalars \(16\)"),
    ({"max_degree": 0}, "greater than or equal to 1"),
    ({"max_degree": 5}, "less than or equal to 4"), *(({"cutoff": r}, "cutoff\n.*than or equal to 1") for r in (
        0, -2, 1e-300, 0.001, 0.999, 100.1, 1000, 1e6, float("inf"), float("nan"))),
    ({"layers": 0}, "greater than or equal to 1"), ({"radial_functions": 1}, "greater than or equal to 2"),
    ({"basis": "fourier"}, "'bessel', 'gaussian' or 'bernstein'"), ({"attention": "softmax"}, "'robust' or 'so3krates'"),
    ({"species": ()}, "atomic numbers from 1 to 118, ascending"), ({"species": (6, 1)}, "ascending"),
    ({"species": (1, 1)}, "different"), ({"species": (0, 1)}, "from 1 to 118"), ({"species": (1, 119)}, "from 1 to 118"),
    ({"species": (-1, 6)}, "from 1 to 118"), ({"colour": "red"}, "Extra inputs"),
    *(({name: 10**6}, f"{name}\n.*less than or equal to") for name in (
        "scalars", "vectors", "max_degree", "heads", "layers", "radial_functions", "filter_width")),
])
def test_shapes_that_make_no_model(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(SHAPES["robust"].model_dump() | changes)


def test_a_configuration_is_a_frozen_value() -> None:
    config = SHAPES["robust"]
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValidationError, match="frozen"):
        config.layers = 5


@pytest.mark.parametrize("changes", [{"max_degree": 4}, {"layers": 1}, {"scalars": 2, "vectors": 2, "filter_width": 1},
                                     {"species": (118,)}, {"radial_functions": 2}, {"vectors": 2, "heads": 1},
                                     {"vectors": 3, "heads": 2}, {"vectors": 1, "heads": 4}])
def test_odd_shapes_work(changes: dict) -> None:
    config = SHAPES["robust"].model_copy(update=changes)
    graph = calibration()
    if changes.get("species"):
        graph = replace(graph, species=torch.full_like(graph.species, 118))
    said = Transformer(config)(graph)
    assert torch.isfinite(said.forces).all()
    assert said.forces.abs().max() > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_features_turn_with_the_molecule(shape: str) -> None:
    """Scalars are invariant and features of degree l turn with D^l, after every block."""
    model = forcefield(shape, "fp32", "float64").potential.network
    graph = tensors(build_graph(cluster(7, seed=4), 4.0))
    matrix = random_rotations(1, torch.Generator().manual_seed(0))[0]
    seen: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[], []]
    for turned, kept in zip((graph, graph.rotated(matrix)), seen, strict=True):
        geometry = model.geometry(turned, edge_vectors(turned, turned.positions))
        x, v = model.embedding(model.index_of[turned.species], geometry)
        kept.append((x, v))
        for attend, interact in zip(model.attention, model.interaction, strict=True):
            x, v = attend(x, v, geometry)
            kept.append((x, v))
            x, v = interact(x, v, geometry)
            kept.append((x, v))
    degrees = model.config.max_degree
    d = torch.block_diag(*(wigner_d(matrix, degree) for degree in range(1, degrees + 1)))
    for (x, v), (turned_x, turned_v) in zip(*seen, strict=True):
        assert v.shape[1] == components(degrees)
        torch.testing.assert_close(turned_x, x, rtol=0, atol=1e-10)
        torch.testing.assert_close(turned_v, torch.einsum("ab,nbc->nac", d, v), rtol=0, atol=1e-10)


def test_the_energy_depends_on_angles() -> None:
    """Three atoms with the same distances from the middle one, and the outer pair beyond the cutoff."""
    from tiny import Structure, np
    model = forcefield("robust", "fp32", "float64").potential.network

    def energy(angle: float) -> float:
        positions = 3.0 * np.array([[1.0, 0, 0], [0, 0, 0], [np.cos(angle), np.sin(angle), 0]])
        graph = tensors(build_graph(Structure(species=np.array([1, 8, 1]), positions=positions), 4.0))
        assert len(graph.centers) == 4
        return float(model(graph).energy)

    assert abs(energy(1.8) - energy(2.6)) > 1e-6


def test_energies_are_scaled_and_shifted_in_eV() -> None:
    import copy
    model = copy.deepcopy(float_model("robust"))
    before = model(calibration())
    model.energy_scale.mul_(2.0)
    model.energy_offsets.add_(1.0)
    after = model(calibration())
    torch.testing.assert_close(after.forces, 2 * before.forces)
    offsets = float_model("robust").energy_offsets[model.index_of[calibration().species]]
    torch.testing.assert_close(after.atom_energies, 2 * (before.atom_energies - offsets) + offsets + 1)
    atoms = calibration().atoms_per_structure()
    torch.testing.assert_close(before.energy, torch.stack([e.sum() for e in before.atom_energies.split(atoms.tolist())]))


def test_a_differentiable_prediction_keeps_its_graph() -> None:
    model = float_model("robust")
    assert model(calibration(), differentiable=True).forces.requires_grad
    assert not model(calibration()).forces.requires_grad
    with torch.no_grad():  # forces are derivatives whatever the caller switched off
        assert model(calibration()).forces.abs().max() > 0


def test_bookkeeping_of_degrees() -> None:
    by_degree = ByDegree(2)
    features = torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(0))
    values = torch.arange(1.0, 7.0).expand(4, 6)
    scaled = by_degree.scale(values, features)
    torch.testing.assert_close(scaled[:, :3], features[:, :3] * torch.tensor([1.0, 2, 3]))
    torch.testing.assert_close(scaled[:, 3:], features[:, 3:] * torch.tensor([4.0, 5, 6]))
    torch.testing.assert_close(by_degree.sum(features), torch.cat([features[:, :3].sum(1), features[:, 3:].sum(1)], -1))
    assert by_degree.scale(values, features[:, :, :1]).shape == (4, 8, 3)


def test_the_default_model_is_small_and_starts_near_zero() -> None:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(species=(1, 6, 7, 8)))
    assert sum(p.numel() for p in model.parameters()) < 300_000
    assert model(calibration()).atom_energies.abs().max() < 10
