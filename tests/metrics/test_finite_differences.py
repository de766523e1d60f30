"""Forces against differences of the energy."""

import numpy as np
import pytest
from toys import LennardJones, Springs, molecule

from gaq.errors import ConfigError
from gaq.graph import Graph, Prediction, collate
from gaq.metrics.finite_differences import force_error_by_differences


def test_conservative_forces_converge_with_the_step():
    toy = Springs()
    coarse, fine = force_error_by_differences(toy, toy.graph(molecule()), (1e-2, 1e-3))
    assert fine.max < 1e-4
    assert coarse.max / fine.max == pytest.approx(100, rel=0.05)  # second order
    assert fine.mean <= fine.max
    assert (coarse.step, fine.step) == (1e-2, 1e-3)


def test_a_force_that_is_no_gradient_is_found():
    def swirl(graph: Graph) -> Prediction:
        prediction = Springs()(graph)
        extra = np.zeros_like(prediction.forces)
        extra[0, 1] = 0.3
        return Prediction(prediction.energy, prediction.forces + extra)

    row, = force_error_by_differences(swirl, Springs().graph(molecule()), (1e-4,), batch_size=4)
    assert row.max == pytest.approx(0.3, abs=1e-5)
    assert row.mean == pytest.approx(0.3 / 15, abs=1e-5)


def test_a_staircase_energy_does_not_converge():
    def staircase(graph: Graph) -> Prediction:
        prediction = LennardJones(sigma=1.0)(graph)
        return Prediction((prediction.energy / 1e-3).round() * 1e-3, prediction.forces)

    row, = force_error_by_differences(staircase, LennardJones().graph(molecule()), (1e-5,))
    assert row.max > 1e-3


def test_wrong_arguments():
    graph = Springs().graph(molecule())
    with pytest.raises(ConfigError, match="one structure"):
        force_error_by_differences(Springs(), collate([graph, graph]))
    for steps in ((), (0.0,), (-1e-3,), (float("nan"),)):
        with pytest.raises(ConfigError, match="steps"):
            force_error_by_differences(Springs(), graph, steps)
