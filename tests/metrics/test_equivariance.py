"""The LEE metric against toys whose error is known on paper."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import Broken, Cubic, LennardJones, Springs, Wind, molecule

from gaq.errors import ConfigError, DataError, GaqError
from gaq.graph import build_graph, collate
from gaq.metrics.equivariance import equivariance_map, fibonacci_sphere, lee_by_quantizer, local_equivariance_error
from gaq.rotations import axis_rotation, random_rotations
from gaq.structure import Structure


def frames(count: int = 3) -> list[Structure]:
    rng = np.random.default_rng(5)
    return [replace(molecule(), positions=molecule().positions + 0.05 * rng.normal(size=(5, 3))) for _ in range(count)]


@pytest.mark.parametrize("toy", [Springs(), LennardJones(sigma=1.0)])
def test_an_equivariant_model_has_no_error(toy):
    lee = local_equivariance_error(toy, frames(), rotations=16)
    assert lee.forces_meV_A.max <= 1e-9
    assert lee.energy_meV.max <= 1e-9
    assert (lee.forces_meV_A.rotations, lee.forces_meV_A.frames) == (16, 3)


def test_a_periodic_crystal_turns_with_its_cell():
    crystal = Structure(species=np.array([18, 18]), positions=[[0.1, 0, 0], [1.9, 2.1, 1.8]],
                        cell=[[4.0, 0, 0], [0.5, 4.2, 0], [0, 0.3, 3.9]], pbc=(True, True, True))
    assert local_equivariance_error(LennardJones(), [crystal], rotations=8).forces_meV_A.max <= 1e-9


def test_a_constant_force_has_the_error_computed_by_hand():
    lee = local_equivariance_error(Wind(force=0.01), frames(2), rotations=32, seed=3)
    generator = torch.Generator().manual_seed(3)
    rotations = torch.stack([random_rotations(32, generator) for _ in range(2)]).numpy()
    z = np.array([0.0, 0.0, 1.0])
    by_hand = 10.0 * np.linalg.norm(z - rotations @ z, axis=-1)  # g = 10 meV/Å
    np.testing.assert_allclose(lee.forces_by_rotation, by_hand, rtol=1e-9)
    assert lee.forces_meV_A.mean == pytest.approx(by_hand.mean())
    assert lee.forces_meV_A.median == pytest.approx(np.median(by_hand))
    assert lee.forces_meV_A.max == pytest.approx(by_hand.max())
    assert lee.frame_forces_meV_A.mean == pytest.approx(math.sqrt(5) * by_hand.mean())
    positions = np.stack([frame.positions for frame in frames(2)])
    turned = np.einsum("frab,fnb->frna", rotations, positions)
    energy = 10.0 * np.abs(turned[..., 2].sum(-1) - positions[:, None, :, 2].sum(-1))
    np.testing.assert_allclose(lee.energy_by_rotation, energy, rtol=1e-7, atol=1e-9)


def test_the_mean_error_of_a_constant_force_is_that_of_uniform_rotations():
    lee = local_equivariance_error(Wind(force=0.01), frames(20), rotations=100)
    assert lee.forces_meV_A.ci95[0] < 10.0 * 4 / 3 < lee.forces_meV_A.ci95[1]  # <|ẑ - Rẑ|> = 4/3 over the sphere


def test_random_rotations_find_what_axis_permutations_do_not():
    toy = Cubic()
    quarter_turns = axis_rotation(torch.eye(3, dtype=torch.float64), math.pi / 2)
    graph = toy.graph(molecule())
    for rotation in quarter_turns:
        turned = toy(graph.rotated(rotation)).forces
        np.testing.assert_allclose(turned, toy(graph).forces @ rotation.numpy().T, rtol=0, atol=1e-12)
    assert local_equivariance_error(toy, frames(), rotations=16).forces_meV_A.mean > 1.0


def test_results_do_not_depend_on_batches_or_on_how_frames_are_given():
    toy, structures = Wind(), frames()
    one = local_equivariance_error(toy, structures, rotations=7, batch_size=1)
    many = local_equivariance_error(toy, structures, rotations=7, batch_size=5)
    batch = collate([build_graph(structure, toy.cutoff) for structure in structures])
    graphs = local_equivariance_error(lambda graph: toy(graph), [batch], rotations=7)
    np.testing.assert_allclose(one.forces_by_rotation, many.forces_by_rotation, atol=1e-9)
    np.testing.assert_allclose(one.forces_by_rotation, graphs.forces_by_rotation, atol=1e-9)
    assert not np.allclose(one.forces_by_rotation[0], one.forces_by_rotation[1])  # each frame has its own rotations


def test_seeds_repeat_and_differ():
    a, b, c = (local_equivariance_error(Wind(), frames(), rotations=8, seed=seed) for seed in (1, 1, 2))
    assert a.forces_meV_A == b.forces_meV_A
    assert a.forces_meV_A != c.forces_meV_A


def test_the_interval_resamples_frames_not_rotations():
    apart = Structure(species=np.array([6, 6]), positions=[[0, 0, 0], [20.0, 0, 0]])  # no edges, no error
    mixed = local_equivariance_error(Cubic(), [*frames(2), apart, apart], rotations=64).forces_meV_A
    assert mixed.ci95[0] == 0.0  # one draw in 16 takes the two kinds of frame apart
    assert mixed.ci95[1] == pytest.approx(2 * mixed.mean, rel=0.2)
    one = local_equivariance_error(Wind(), frames(1), rotations=64).forces_meV_A
    assert one.ci95[0] < one.mean < one.ci95[1]


def test_the_map_shows_the_symmetry_of_the_model():
    axes = fibonacci_sphere(192)
    torch.testing.assert_close(axes.norm(dim=-1), torch.ones(192, dtype=torch.float64))
    assert axes.mean(0).norm() < 0.01
    toy_map = equivariance_map(Wind(force=0.01), frames(2), axes=24, angle_deg=90.0)
    z = toy_map.axes[:, 2]
    np.testing.assert_allclose(toy_map.lee_forces_meV_A, 10 * np.sqrt(2 * (1 - z * z)), rtol=1e-9)
    assert toy_map.angle_deg == 90.0


def test_the_broken_part_is_named():
    rows = lee_by_quantizer({"linear": Springs(), "vectors": Cubic()}, iter(frames(2)), rotations=4)
    assert [row.quantizer for row in rows] == ["linear", "vectors"]
    assert rows[0].lee_forces_meV_A < 1e-9 < 1.0 < rows[1].lee_forces_meV_A
    assert lee_by_quantizer({}, frames(1)) == []


def test_nan_is_never_passed_on():
    with pytest.raises(GaqError, match=r"forces .*not finite"):
        local_equivariance_error(Broken(), frames(1), rotations=2)
    with pytest.raises(GaqError, match="not finite"):
        equivariance_map(Broken(after=1), frames(1), axes=4)


def test_wrong_arguments_say_what_to_do():
    with pytest.raises(ConfigError, match="cutoff"):
        local_equivariance_error(lambda graph: Springs()(graph), frames(1))
    with pytest.raises(ConfigError, match="rotations"):
        local_equivariance_error(Springs(), frames(1), rotations=0)
    with pytest.raises(ConfigError, match="batch_size"):
        local_equivariance_error(Springs(), frames(1), batch_size=0)
    with pytest.raises(ConfigError, match="axes"):
        equivariance_map(Springs(), frames(1), axes=0)
    for metric in (local_equivariance_error, equivariance_map):
        with pytest.raises(DataError, match="at least one frame"):
            metric(Springs(), [])
