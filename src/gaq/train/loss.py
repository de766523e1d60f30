"""The loss: energies, forces, and the local equivariance error of the forces."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gaq.graph import Graph, Prediction
from gaq.nn.model import Transformer
from gaq.so3 import random_rotations


@dataclass(frozen=True)
class Loss:
    """L = w_E mean (ΔE/σ)² + w_F mean |ΔF/σ|² + w_L mean |F(R G) - R F(G)|²/σ², R random for each structure.

    Args:
        energy, forces, lee: w_E, w_F, w_L.
        scale: σ, eV/Å (and eV over 1 Å), which makes the terms free of units.
    """

    energy: float
    forces: float
    lee: float
    scale: float

    def __call__(self, model: Transformer, graph: Graph, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch, differentiable by the weights."""
        prediction = model(graph, differentiable=True)
        total = self.labels(prediction, graph)
        if self.lee:
            rotation = random_rotations(graph.structures, generator).to(graph.positions)
            turned = model(graph.rotated(rotation), differentiable=True).forces
            expected = torch.einsum("nab,nb->na", rotation[graph.batch], prediction.forces)
            total = total + self.lee * ((turned - expected) / self.scale).square().mean()
        return total

    def labels(self, prediction: Prediction, graph: Graph) -> Tensor:
        """Return the terms that compare with reference labels."""
        total = prediction.energy.new_zeros(())
        if graph.energy is not None:
            total = total + self.energy * ((prediction.energy - graph.energy) / self.scale).square().mean()
        if graph.forces is not None:
            total = total + self.forces * ((prediction.forces - graph.forces) / self.scale).square().mean()
        return total
