"""Are the forces the gradient of the energy? Central differences of the energies that inference really returns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gaq.errors import ConfigError
from gaq.graph import Graph, Predictor, collate
from gaq.metrics.batches import checked_prediction, copies, unlabelled


@dataclass(frozen=True)
class DifferenceError:
    """Largest and mean |F_ia + ΔE/Δx_ia| over all components, eV/Å, at a displacement of `step` Å."""

    step: float
    max: float
    mean: float


def force_error_by_differences(
    predict: Predictor, graph: Graph, steps: Sequence[float] = (1e-3,), *, batch_size: int = 32
) -> list[DifferenceError]:
    """Compare forces with central differences of the energy, for each displacement h of `steps`.

    error_ia = |F_ia + (E(x_ia + h) - E(x_ia - h)) / 2h|

    Energies in single precision carry noise of about 1e-7 |E|, and so 1e-7 |E| / h in the difference. Quantized
    activations make E piecewise constant: there the error does not vanish with h, and that is what this measures. The
    edges of `graph` are kept, so a model must go to zero smoothly at its cutoff.

    Args:
        predict: force field, or any function of a graph.
        graph: one structure with its neighbours.
        steps: displacements h in Å.
        batch_size: displaced copies in one call of `predict`.

    Returns:
        One row for each step.

    Raises:
        ConfigError: a batch of several structures, or a step that is not positive.
        GaqError: a prediction that is not finite.
    """
    if graph.structures != 1:
        raise ConfigError(f"force_error_by_differences takes one structure at a time; graph holds {graph.structures}")
    bad = [step for step in steps if not step > 0]
    if bad or not steps:
        raise ConfigError(f"steps must be positive displacements in Å, such as (1e-3, 1e-2); given {list(steps)}")
    graph = unlabelled(graph)
    forces = checked_prediction(predict, graph).forces.cpu()
    rows = []
    for step in steps:
        error = (forces + _energy_gradient(predict, graph, step, batch_size)).abs()
        rows.append(DifferenceError(float(step), float(error.max()), float(error.mean())))
    return rows


def _energy_gradient(predict: Predictor, graph: Graph, step: float, batch_size: int) -> Tensor:
    """Return (E(x + h) - E(x - h)) / 2h for every component, eV/Å, shape (N, 3)."""
    count = graph.positions.numel()
    units = torch.eye(count, dtype=torch.float64).reshape(count, *graph.positions.shape).to(graph.positions)
    displacements = torch.cat([step * units, -step * units])
    energies = []
    for chunk in displacements.split(copies(graph, batch_size)):
        batch = collate([graph] * len(chunk))
        moved = replace(batch, positions=batch.positions + chunk.reshape(-1, 3))
        energies.append(checked_prediction(predict, moved).energy.cpu())
    plus, minus = torch.cat(energies).split(count)
    return ((plus - minus) / (2 * step)).reshape(graph.positions.shape)
