"""Are the forces the gradient of any energy at all? Then their Jacobian, a Hessian, is symmetric."""

from dataclasses import replace

import torch
from torch import Tensor

from gaq.errors import ConfigError
from gaq.graph import Graph, Predictor, collate
from gaq.metrics.batches import checked_prediction, copies, unlabelled

STEP = 1e-3  # Å; the error of the differences, about STEP², lies far below any asymmetry that matters
EPSILON = 1e-15  # keeps λ of a pure curl finite


def jacobian_antisymmetry(predict: Predictor, graph: Graph, *, step: float = STEP, batch_size: int = 32) -> float:
    """Return the antisymmetric part of the force Jacobian relative to its symmetric part.

    λ = |J - Jᵀ|_F / |J + Jᵀ|_F,   J_ab = (F_a(x + h e_b) - F_a(x - h e_b)) / 2h

    λ is 0 for conservative forces, and grows without limit towards a pure curl. Give a model in float64: rounding of
    single precision shows at about 1e-7 |F| / h.

    Args:
        predict: force field, or any function of a graph.
        graph: one structure with its neighbours, which are kept.
        step: displacement h in Å.
        batch_size: displaced copies in one call of `predict`.

    Raises:
        ConfigError: a batch of several structures, or a step that is not positive.
        GaqError: a prediction that is not finite.
    """
    jacobian = force_jacobian(predict, graph, step=step, batch_size=batch_size)
    scale = float((jacobian + jacobian.mT).norm())
    asymmetry = float((jacobian - jacobian.mT).norm())
    return asymmetry / max(scale, EPSILON * asymmetry) if asymmetry > 0 else 0.0  # lone atoms have no forces at all


def force_jacobian(predict: Predictor, graph: Graph, *, step: float = STEP, batch_size: int = 32) -> Tensor:
    """Return ∂F_a/∂x_b by central differences, eV/Å², shape (3 N, 3 N); arguments as `jacobian_antisymmetry`."""
    if graph.structures != 1:
        raise ConfigError(f"the force Jacobian is that of one structure at a time; graph holds {graph.structures}")
    if not 0 < step < float("inf"):
        raise ConfigError(f"step must be a positive displacement in Å, such as 1e-3; given {step}")
    graph = unlabelled(graph)
    count = graph.positions.numel()
    units = torch.eye(count, dtype=torch.float64).reshape(count, *graph.positions.shape).to(graph.positions)
    forces = []
    for chunk in torch.cat([step * units, -step * units]).split(copies(graph, batch_size)):
        batch = collate([graph] * len(chunk))
        moved = replace(batch, positions=batch.positions + chunk.reshape(-1, 3))
        forces.append(checked_prediction(predict, moved).forces.cpu().reshape(len(chunk), count))
    plus, minus = torch.cat(forces).split(count)
    return ((plus - minus) / (2 * step)).mT
