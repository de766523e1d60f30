"""Work around closed loops against curls known on paper."""

import math

import numpy as np
import pytest
from tiny import cluster, forcefield
from toys import Curl, LennardJones, Springs, molecule

from gaq.errors import ConfigError
from gaq.metrics.loops import loop_work, random_plane, relative_loop_work
from gaq.structure import Structure


@pytest.mark.parametrize("toy", [Springs(), LennardJones(sigma=1.0)])
def test_conservative_forces_do_no_work_around_a_loop(toy):
    assert relative_loop_work(toy, molecule(), toy.cutoff).max() < 1e-9


def test_the_work_of_a_curl_is_the_curl_times_the_area():
    """A linear force A x does 2 π ρ² v·(A u) around a circle in the plane of u and v."""
    curl, radius = 0.2, 0.03
    plane = random_plane(5, np.random.default_rng(3))
    turned = curl * np.cross([0, 0, 1.0], plane[0] - plane[0].mean(0))
    work, scale = loop_work(Curl(curl), molecule(), 6.0, plane, radius=radius, batch_size=7)
    assert work == pytest.approx(2 * math.pi * radius**2 * (plane[1] * turned).sum(), rel=1e-6)
    assert abs(work) < scale


def test_one_atom_on_a_circle():
    """Atom 0 of two goes round the z axis: F - F̄ is tangential, so all work has one sign."""
    plane = np.zeros((2, 2, 3))
    plane[0, 0, 0] = plane[1, 0, 1] = 1.0
    pair = Structure(species=np.array([1, 1]), positions=np.array([[0, 0, 0], [0, 0, 2.0]]))
    work, scale = loop_work(Curl(0.2, stiffness=0.0), pair, 6.0, plane)
    assert work == pytest.approx(2 * math.pi * 0.05**2 * 0.2 / 2)
    assert work == pytest.approx(scale)


def test_planes_are_orthonormal_and_repeat_with_the_seed():
    plane = random_plane(4, np.random.default_rng(0)).reshape(2, 12)
    assert np.allclose(plane @ plane.T, np.eye(2))
    first, again, other = (relative_loop_work(Curl(0.2), molecule(), 6.0, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_quantized_models():
    def work(recipe: str) -> float:
        field = forcefield("l1", recipe, "float64")
        return relative_loop_work(field, cluster(), field.cutoff, loops=2).max()

    assert work("w4") < 1e-7
    assert work("w4a8") > 1e-6


def test_wrong_arguments():
    plane = random_plane(5, np.random.default_rng(0))
    for settings in ({"radius": 0.0}, {"points": 2}):
        with pytest.raises(ConfigError, match="loop"):
            loop_work(Springs(), molecule(), 6.0, plane, **settings)
    with pytest.raises(ConfigError, match="loops"):
        relative_loop_work(Springs(), molecule(), 6.0, loops=0)
