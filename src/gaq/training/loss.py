"""The loss: energies, forces, stresses, and the local equivariance error of the forces."""

from collections.abc import Callable

import torch
from torch import Tensor

from gaq.graph import Graph, Prediction
from gaq.training.batches import Batch


def loss(model: Callable[..., Prediction], batch: Batch, weights: Tensor) -> Tensor:
    """Return the loss, differentiable by the parameters.

        L = w_E mean ΔE² + w_F mean |ΔF|² + w_L mean |F(R G) - R F(G)|² + w_S mean |V Δσ / N|²

    Means are over the whole batch, also where a process computes a share of it: shares add up to L. Squares are multiplied
    by the weights of their structures, which are 1 on average (`gaq.training.batches.completed`).

    Args:
        model: called as `Network.forward`.
        batch: with labels; the LEE term is for those with rotations, R random for each structure.
        weights: w_E and w_S in 1/eV², w_F and w_L in (Å/eV)², shape (4,) in the order above: see `loss_weights`.
    """
    graph, rotation, components = batch.graph, batch.rotation, 3 * batch.atoms
    for_energy, for_forces, for_equivariance, for_stress = weights.unbind()
    prediction = (model(graph, differentiable=True) if graph.stress is None else
                  model(graph, stress=True, differentiable=True))
    total = prediction.energy.new_zeros(())
    if graph.energy is not None:
        squares = _weighted(graph, 0, (prediction.energy - graph.energy).square())
        total = total + for_energy * squares.sum() / batch.structures
    if graph.forces is not None:
        squares = _weighted(graph, 1, (prediction.forces - graph.forces).square())
        total = total + for_forces * squares.sum() / components
    if rotation is not None:
        turned = model(graph.rotated(rotation), differentiable=True).forces
        expected = torch.einsum("nab,nb->na", rotation[graph.batch], prediction.forces)
        total = total + for_equivariance * (turned - expected).square().sum() / components
    if graph.stress is not None and prediction.stress is not None:
        ones = torch.ones_like(graph.positions[:, 0])
        atoms = ones.new_zeros(graph.structures).index_add(0, graph.batch, ones)
        room = torch.linalg.det(graph.cell).abs() / atoms
        squares = _weighted(graph, 2, (room[:, None, None] * (prediction.stress - graph.stress)).square())
        total = total + for_stress * squares.sum() / (9 * batch.structures)
    return total


def _weighted(graph: Graph, label: int, squares: Tensor) -> Tensor:
    """Multiply squared errors by the weights of their structures for a label: 0 energy (B,), 1 forces (N, 3), 2 stress."""
    if graph.weights is None:
        return squares
    weights = graph.weights[:, label]
    if label == 1:
        weights = weights[graph.batch]
    return weights.reshape(-1, *[1] * (squares.dim() - 1)) * squares


def loss_weights(energy: float, forces: float, lee: float, scale: Tensor, stress: float = 0.0) -> Tensor:
    """Return the weights of terms in units of σ (eV/Å, and eV over 1 Å), divided by σ²: float64, shape (4,)."""
    return torch.tensor([energy, forces, lee, stress], dtype=torch.float64, device=scale.device) / scale.double().square()
