"""The loss: energies, forces, and the local equivariance error of the forces."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gaq.graph import Prediction
from gaq.train.batches import Batch


@dataclass(frozen=True)
class Loss:
    """L = w_E mean (ΔE/σ)² + w_F mean |ΔF/σ|² + w_L mean |F(R G) - R F(G)|²/σ², R random for each structure.

    Means are over the whole batch, also where a process computes a share of it: shares add up to L.

    Args:
        energy, forces, lee: w_E, w_F, w_L.
    """

    energy: float
    forces: float
    lee: float

    def __call__(self, model: Callable[..., Prediction], batch: Batch, scale: Tensor) -> Tensor:
        """Return the loss of a batch, differentiable by the weights.

        Args:
            model: called as `Transformer.forward`.
            batch: with labels; the LEE term is for those with rotations.
            scale: σ, eV/Å (and eV over 1 Å), which makes the terms free of units; a scalar.
        """

        def squares(error: Tensor) -> Tensor:
            return (error / scale).square().sum()

        graph, rotation, components = batch.graph, batch.rotation, 3 * batch.atoms
        prediction = model(graph, differentiable=True)
        total = prediction.energy.new_zeros(())
        if graph.energy is not None:
            total = total + self.energy * squares(prediction.energy - graph.energy) / batch.structures
        if graph.forces is not None:
            total = total + self.forces * squares(prediction.forces - graph.forces) / components
        if rotation is not None:
            turned = model(graph.rotated(rotation), differentiable=True).forces
            expected = torch.einsum("nab,nb->na", rotation[graph.batch], prediction.forces)
            total = total + self.lee * squares(turned - expected) / components
        return total
