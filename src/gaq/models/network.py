"""The definition of a model on PyTorch: energies of atoms, and their exact derivatives around them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gaq.graph import Graph, Prediction
from gaq.leaves import Schema
from gaq.nn.leaves import Leaves


class Network(nn.Module):
    """What all models share: E = Σ_i e_i and its derivatives; a model says what e_i is, by `node_energies`.

    Its float leaves are made by `leaf`, from the schema, which is all that `gaq.compress` needs to know to swap them.

    | symbol | buffer         | meaning                                        |
    |--------|----------------|------------------------------------------------|
    | σ      | energy_scale   | eV, float64; the RMS of the training forces    |
    | E_Z    | energy_offsets | eV, float64, for each species                  |

    Args:
        config: its shape and species.
        schema: its leaves.
    """

    energy_scale: Tensor
    energy_offsets: Tensor
    index_of: Tensor

    def __init__(self, config: Any, schema: Schema) -> None:
        super().__init__()
        self.config, self.schema = config, schema
        self.leaf = Leaves(schema.leaves)
        self.register_buffer("energy_scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("energy_offsets", torch.zeros(len(config.species), dtype=torch.float64))
        index_of = torch.full((max(config.species) + 1,), -1, dtype=torch.int64, device="cpu")  # not loaded
        index_of[list(config.species)] = torch.arange(len(config.species), device="cpu")
        self.register_buffer("index_of", index_of, persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the computation: that of the parameters, which are never quantized as such."""
        return next(self.parameters()).dtype

    def node_energies(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Return the energy of each atom in eV, float64, shape (N,), from edge vectors (E, 3) in Å."""
        raise NotImplementedError

    def start_training(self, graphs: Iterable[Graph] = ()) -> None:
        """Prepare for training, and take from training graphs what no gradient finds."""

    def finish_training(self, graphs: Iterable[Graph]) -> None:
        """Take from training graphs, in batches, what the trained network says of them."""

    def shift_energies(self, energy: float) -> None:
        """Add an energy to that of every atom, eV, by what is neither an element's energy nor quantized."""
        raise NotImplementedError

    def forward(self, graph: Graph, stress: bool = False, differentiable: bool = False) -> Prediction:
        """Return energies, and forces (and stress) as their exact derivatives by automatic differentiation.

            F_i = -∂E/∂x_i,   σ_ab = (1/V) ∂E/∂ε_ab  for  x -> (1 + ε) x

        Args:
            graph: of tensors.
            stress: also differentiate by a symmetric strain; 0 where there is no cell.
            differentiable: keep the graph, so that a loss on the forces can be differentiated by the weights.
        """
        with torch.enable_grad():
            positions = graph.positions.detach().requires_grad_()
            strain = torch.zeros(graph.structures, 3, 3, dtype=positions.dtype, device=positions.device,
                                 requires_grad=stress)
            vectors = edge_vectors(graph, positions, strain if stress else None)
            atoms = self.node_energies(graph, vectors)
            energy = atoms.new_zeros(graph.structures).index_add(0, graph.batch, atoms)
            wanted = [positions, strain] if stress else [positions]
            if len(graph.centers):
                gradients = torch.autograd.grad(energy.sum(), wanted, create_graph=differentiable)
            else:  # no edges: the energy does not depend on the positions
                gradients = tuple(torch.zeros_like(w) for w in wanted)
        prediction = Prediction(energy, -gradients[0], atoms)
        if stress:
            symmetric = 0.5 * (gradients[1] + gradients[1].mT)
            volume = torch.linalg.det(graph.cell).abs()[:, None, None]
            bounded = torch.where(volume > 0, volume, torch.inf)
            prediction = Prediction(energy, -gradients[0], atoms, symmetric / bounded)
        return prediction if differentiable else prediction.mapped(Tensor.detach)


def edge_vectors(graph: Graph, positions: Tensor, strain: Tensor | None = None) -> Tensor:
    """Return r_ij = x_j - x_i + S_ij · cell of shape (E, 3), Å, optionally strained by (1 + ε), ε (B, 3, 3)."""
    structure = graph.batch[graph.centers]
    vectors = positions.index_select(0, graph.neighbours) - positions.index_select(0, graph.centers)
    vectors = vectors + torch.einsum("ev,eva->ea", graph.shifts, graph.cell[structure])
    if strain is not None:
        symmetric = 0.5 * (strain + strain.mT)
        vectors = vectors + torch.einsum("eab,eb->ea", symmetric.index_select(0, structure), vectors)
    return vectors
