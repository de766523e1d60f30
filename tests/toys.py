"""Analytic force fields with the face of a `ForceField`, whose physics is known on paper."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gaq.graph import Graph, Prediction, build_graph
from gaq.nn.tensors import arrays, tensors
from gaq.structure import Structure


class Toy:
    """Energies from edge vectors; forces and stress by automatic differentiation, as in a real model."""

    cutoff = 6.0
    species = tuple(range(1, 19))

    def atom_energies(self, graph: Graph, positions: Tensor, vectors: Tensor) -> Tensor:
        raise NotImplementedError

    def graph(self, structure: Structure) -> Graph:
        return build_graph(structure, self.cutoff)

    def predict(self, graph: Graph, stress: bool = False) -> Prediction:
        graph = tensors(graph)
        strain = torch.zeros(graph.structures, 3, 3, dtype=torch.float64, requires_grad=True)
        deformation = torch.eye(3, dtype=torch.float64) + 0.5 * (strain + strain.mT)
        x = graph.positions.detach().requires_grad_()
        positions = torch.einsum("na,nab->nb", x, deformation[graph.batch])
        cell = torch.einsum("bva,bac->bvc", graph.cell, deformation)
        offsets = torch.einsum("ev,eva->ea", graph.shifts, cell[graph.batch[graph.centers]])
        vectors = positions[graph.neighbours] - positions[graph.centers] + offsets
        atoms = self.atom_energies(graph, positions, vectors)
        energy = torch.zeros(graph.structures, dtype=torch.float64).index_add(0, graph.batch, atoms)
        by_position, by_strain = torch.autograd.grad(energy.sum(), (x, strain))
        volume = torch.linalg.det(graph.cell).abs()
        return arrays(Prediction(energy, -by_position, atoms, by_strain / volume[:, None, None] if stress else None))

    def __call__(self, graph: Graph) -> Prediction:
        return self.predict(graph)


class LennardJones(Toy):
    """E = Σ_pairs 4 ε ((σ/r)¹² - (σ/r)⁶) (1 - r²/c²)³, smooth at the cutoff c."""

    def __init__(self, epsilon: float = 0.01, sigma: float = 3.0, cutoff: float = 6.0) -> None:
        self.epsilon, self.sigma, self.cutoff = epsilon, sigma, cutoff

    def atom_energies(self, graph: Graph, positions: Tensor, vectors: Tensor) -> Tensor:
        r2 = vectors.square().sum(-1)
        sixth = (self.sigma**2 / r2) ** 3
        pair = 2 * self.epsilon * (sixth**2 - sixth) * (1 - r2 / self.cutoff**2).clamp(min=0) ** 3
        return torch.zeros(len(positions), dtype=torch.float64).index_add(0, graph.centers, pair)


class Springs(Toy):
    """E = Σ_pairs ½ k (r - r₀)², between all atoms within the cutoff."""

    def __init__(self, stiffness: float = 3.0, length: float = 1.2) -> None:
        self.stiffness, self.length = stiffness, length

    def atom_energies(self, graph: Graph, positions: Tensor, vectors: Tensor) -> Tensor:
        pair = 0.25 * self.stiffness * (vectors.norm(dim=-1) - self.length).square()
        return torch.zeros(len(positions), dtype=torch.float64).index_add(0, graph.centers, pair)


class Wind(Springs):
    """Springs in a constant force g along z on every atom: not equivariant, and LEE_F = g |ẑ - R ẑ| exactly."""

    def __init__(self, force: float = 0.01) -> None:
        super().__init__()
        self.force = force

    def atom_energies(self, graph: Graph, positions: Tensor, vectors: Tensor) -> Tensor:
        return super().atom_energies(graph, positions, vectors) - self.force * positions[:, 2]


class Cubic(Springs):
    """Springs with a term Σ_edges a (x⁴ + y⁴ + z⁴) / r⁴, which only the 48 signed axis permutations leave alone."""

    def __init__(self, strength: float = 0.01) -> None:
        super().__init__()
        self.strength = strength

    def atom_energies(self, graph: Graph, positions: Tensor, vectors: Tensor) -> Tensor:
        anisotropy = self.strength * (vectors**4).sum(-1) / vectors.square().sum(-1).square()
        return super().atom_energies(graph, positions, vectors).index_add(0, graph.centers, anisotropy)


class Curl(Springs):
    """Springs with F_i = c ẑ × (x_i - x̄) on top: not the gradient of anything, and in no energy."""

    def __init__(self, curl: float = 0.1, stiffness: float = 3.0, length: float = 1.2) -> None:
        super().__init__(stiffness, length)
        self.curl = curl

    def predict(self, graph: Graph, stress: bool = False) -> Prediction:
        prediction = super().predict(graph, stress)
        positions, batch, sums = np.asarray(graph.positions), np.asarray(graph.batch), np.zeros((graph.structures, 3))
        np.add.at(sums, batch, positions)
        x = positions - (sums / np.bincount(batch)[:, None])[batch]
        swirl = self.curl * np.stack([-x[:, 1], x[:, 0], np.zeros(len(x))], -1)
        return Prediction(prediction.energy, prediction.forces + swirl, prediction.atom_energies)


class Broken(Springs):
    """Returns NaN forces from the given call on."""

    def __init__(self, after: int = 0) -> None:
        super().__init__()
        self.after, self.calls = after, 0

    def predict(self, graph: Graph, stress: bool = False) -> Prediction:
        prediction = super().predict(graph, stress)
        self.calls += 1
        if self.calls <= self.after:
            return prediction
        return Prediction(prediction.energy, prediction.forces * torch.nan, prediction.atom_energies)


ASYMMETRIC = ((0.0, 0.1, 0.0), (1.1, 0.0, 0.2), (0.3, 1.2, -0.1), (-0.2, 0.4, 1.1), (0.9, 0.9, 0.8))


def molecule(positions: ArrayLike = ASYMMETRIC, **labels: object) -> Structure:
    """Five atoms without any symmetry, about a spring length apart."""
    return Structure(species=np.array([6, 8, 1, 7, 1]), positions=positions, **labels)
