"""Distances in batches of structures: of each edge, and the shortest of each pair of species."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gaq.graph import Graph


def shortest_distances(graphs: Iterable[Graph], species: Sequence[int], cutoff: float) -> Tensor:
    """Return the shortest distance of each pair of species in graphs, Å, symmetric, float64, shape (S, S).

    Pairs that never come within the cutoff get the cutoff: nobody saw them closer.
    """
    count = len(species)
    index_of = torch.full((max(species) + 1,), -1, dtype=torch.int64)
    index_of[list(species)] = torch.arange(count)
    found = torch.full((count * count,), float(cutoff), dtype=torch.float64)
    for graph in graphs:
        index = index_of[graph.species.cpu()]
        pair = index[graph.centers.cpu()] * count + index[graph.neighbours.cpu()]
        found.scatter_reduce_(0, pair, edge_distances(graph).cpu(), "amin")
    square = found.reshape(count, count)
    return torch.minimum(square, square.T)


def edge_distances(graph: Graph) -> Tensor:
    """Return the length of each edge, Å, shape (E,)."""
    moved = torch.einsum("ev,eva->ea", graph.shifts, graph.cell[graph.batch[graph.centers]])
    return torch.linalg.vector_norm(graph.positions[graph.neighbours] - graph.positions[graph.centers] + moved, dim=-1)
