"""Antisymmetry of the force Jacobian against curls known on paper."""

import numpy as np
import pytest
import torch
from tiny import cluster, forcefield
from toys import Curl, LennardJones, Springs, molecule

from gaq.errors import ConfigError
from gaq.graph import collate
from gaq.metrics.jacobian import force_jacobian, jacobian_antisymmetry
from gaq.structure import Structure

CURL = 0.2  # eV/Å²


@pytest.mark.parametrize("toy", [Springs(), LennardJones(sigma=1.0)])
def test_conservative_forces_have_a_symmetric_jacobian(toy):
    assert jacobian_antisymmetry(toy, toy.graph(molecule())) < 1e-4


def test_the_jacobian_of_one_spring():
    toy = Springs(stiffness=3.0, length=1.0)
    pair = Structure(species=np.array([1, 1]), positions=np.array([[0, 0, 0], [1.0, 0, 0]]))
    jacobian = force_jacobian(toy, toy.graph(pair), batch_size=5)
    expected = torch.zeros(6, 6, dtype=torch.float64)
    expected[0, 0] = expected[3, 3] = -3.0
    expected[0, 3] = expected[3, 0] = 3.0
    assert torch.allclose(jacobian, expected, atol=1e-5)


def test_a_curl_has_the_antisymmetry_that_paper_says():
    """F_i = c ẑ × (x_i - x̄) has J - Jᵀ = 2 A with |A|² = 2 c² (N - 1); one spring at rest has |J + Jᵀ| = 4 k."""
    toy = Curl(CURL, stiffness=3.0, length=1.0)
    pair = Structure(species=np.array([1, 1]), positions=np.array([[0, 0, 0], [1.0, 0, 0]]))
    assert jacobian_antisymmetry(toy, toy.graph(pair)) == pytest.approx(2 * CURL * 2**0.5 / (4 * 3.0), rel=1e-4)


def test_a_pure_curl_is_finite():
    toy = Curl(CURL, stiffness=0.0)
    assert 1e6 < jacobian_antisymmetry(toy, toy.graph(molecule())) < float("inf")


def test_quantized_models():
    def asymmetry(recipe: str) -> float:
        field = forcefield("l1", recipe, "float64")
        return jacobian_antisymmetry(field, field.graph(cluster()))

    assert asymmetry("w4") < 1e-4
    assert asymmetry("w4a8") > 1e-2


def test_wrong_arguments():
    graph = Springs().graph(molecule())
    with pytest.raises(ConfigError, match="one structure"):
        jacobian_antisymmetry(Springs(), collate([graph, graph]))
    with pytest.raises(ConfigError, match="step"):
        jacobian_antisymmetry(Springs(), graph, step=0.0)
