"""The loss: energies, forces, and the local equivariance error of the forces."""

from collections.abc import Callable

import torch
from torch import Tensor

from gaq.graph import Prediction
from gaq.train.batches import Batch


def loss(model: Callable[..., Prediction], batch: Batch, weights: Tensor) -> Tensor:
    """Return L = w_E mean ΔE² + w_F mean |ΔF|² + w_L mean |F(R G) - R F(G)|², differentiable by the parameters.

    Means are over the whole batch, also where a process computes a share of it: shares add up to L.

    Args:
        model: called as `Transformer.forward`.
        batch: with labels; the LEE term is for those with rotations, R random for each structure.
        weights: w_E in 1/eV², w_F and w_L in (Å/eV)², shape (3,): see `loss_weights`.
    """
    graph, rotation, components = batch.graph, batch.rotation, 3 * batch.atoms
    for_energy, for_forces, for_equivariance = weights.unbind()
    prediction = model(graph, differentiable=True)
    total = prediction.energy.new_zeros(())
    if graph.energy is not None:
        total = total + for_energy * (prediction.energy - graph.energy).square().sum() / batch.structures
    if graph.forces is not None:
        total = total + for_forces * (prediction.forces - graph.forces).square().sum() / components
    if rotation is not None:
        turned = model(graph.rotated(rotation), differentiable=True).forces
        expected = torch.einsum("nab,nb->na", rotation[graph.batch], prediction.forces)
        total = total + for_equivariance * (turned - expected).square().sum() / components
    return total


def loss_weights(energy: float, forces: float, lee: float, scale: Tensor) -> Tensor:
    """Return the weights of terms in units of σ (eV/Å, and eV over 1 Å), divided by σ²: float64, shape (3,)."""
    return torch.tensor([energy, forces, lee], dtype=torch.float64, device=scale.device) / scale.double().square()
