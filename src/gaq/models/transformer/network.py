"""One forward: per-atom energies of a Euclidean transformer."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gaq.graph import Graph
from gaq.models.network import Network, edge_vectors
from gaq.models.transformer.blocks import AttentionBlock, InteractionBlock, Mlp, NeighbourEmbedding
from gaq.models.transformer.config import ModelConfig
from gaq.models.transformer.extrapolation import (
    UNKNOWN,
    energy_bounds,
    levelled,
    pair_table,
    repulsion,
    seen_distances,
)
from gaq.models.transformer.schema import schema
from gaq.nn.distances import shortest_distances
from gaq.nn.geometry import Geometry
from gaq.radial import BASES, CUTOFFS
from gaq.so3 import harmonics


class Transformer(Network):
    """Euclidean transformer of the So3krates family with a wall, E = Σ_i (σ e_i + E_Z(i) + ½ Σ_j V(r_ij)).

    | symbol | buffer or method   | meaning                                            |
    |--------|--------------------|----------------------------------------------------|
    | σ      | energy_scale       | eV, float64; the RMS of the training forces        |
    | E_Z    | energy_offsets     | eV, float64, for each species                      |
    | e_i    | node_energies      | network output for each atom, without unit         |
    | V      | repulsion          | eV, of two nuclei nearer than training saw them    |
    |        | closest            | Å, float64, (S, S): the shortest distance of each  |
    |        |                    | two species in the training data; 0 if not known   |
    |        | energy_range       | float64, (S, 2): least and largest e_i in the      |
    |        |                    | training data; 0 and 0 if not known                |

    Source: after Frank et al., Nat. Commun. 15, 6539 (2024), with several vector channels for each degree.
    """

    closest: Tensor
    energy_range: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, schema(config))
        c, leaf = config, self.leaf
        self.envelope = CUTOFFS[c.envelope](c.cutoff)
        self.basis = BASES[c.basis](c.cutoff, c.radial_functions)
        self.embedding = NeighbourEmbedding(c, leaf.within("embedding"))
        self.attention = nn.ModuleList(AttentionBlock(c, leaf.within(f"attention.{n}")) for n in range(c.layers))
        self.interaction = nn.ModuleList(InteractionBlock(c, leaf.within(f"interaction.{n}")) for n in range(c.layers))
        self.head = Mlp(leaf.within("head"))
        self.register_buffer("closest", torch.full((len(c.species),) * 2, UNKNOWN, dtype=torch.float64))
        self.register_buffer("energy_range", torch.full((len(c.species), 2), UNKNOWN, dtype=torch.float64))

    def geometry(self, graph: Graph, vectors: Tensor) -> Geometry:
        """Turn edge vectors r_ij (E, 3), float64, into what the layers need, in the dtype of the weights.

        Distances and their functions are rounded to that dtype last. So a rotated structure gives the same bits for all
        invariants of an edge, and hardly any rounding of a later activation tips over. All of these functions are of the
        distance that `seen_distances` bends where atoms are nearer than training saw them.
        """
        distances = torch.linalg.vector_norm(vectors, dim=-1)
        directions = vectors / distances[:, None]
        index = self.index_of[graph.species]
        pair = index[graph.centers] * len(self.config.species) + index[graph.neighbours]
        on, inner, strength, rate = pair_table(self.closest, self.config.species, self.config.cutoff).flatten(1)[:, pair]
        seen = seen_distances(distances, on, inner)
        envelope = self.envelope(seen)
        return Geometry(
            atoms=len(graph.species), centers=graph.centers, neighbours=graph.neighbours,
            envelope=envelope.to(self.dtype), basis=self.basis(seen).to(self.dtype), directions=directions,
            harmonics=harmonics(directions, self.config.max_degree).to(self.dtype),
            frame_weights=envelope.detach() * graph.species[graph.neighbours],
            repulsion=repulsion(distances, on, inner, strength, rate))

    def outputs(self, graph: Graph, geometry: Geometry) -> Tensor:
        """Return what the network says of each atom, e_i, without unit, float64, shape (N,)."""
        x, v = self.embedding(self.index_of[graph.species], geometry)
        for attend, interact in zip(self.attention, self.interaction, strict=True):
            x, v = attend(x, v, geometry)
            x, v = interact(x, v, geometry)
        return self.head(x).squeeze(-1).double()

    def node_energies(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Return the energy of each atom in eV, float64, shape (N,), from edge vectors (E, 3) in Å."""
        species, geometry = self.index_of[graph.species], self.geometry(graph, vectors)
        outputs = levelled(self.outputs(graph, geometry), *energy_bounds(self.energy_range)[:, species])
        walls = geometry.sum_at_centers(0.5 * geometry.repulsion)
        return outputs * self.energy_scale + self.energy_offsets[species] + walls

    def start_training(self, graphs: Iterable[Graph] = ()) -> None:
        """Take the shortest distances from training graphs, beside those known; nothing levels off while it learns."""
        known = list(graphs)
        if known:
            self.learn_distances(known, more=True)
        self.energy_range.zero_()

    def finish_training(self, graphs: Iterable[Graph]) -> None:
        """Take the range of the network's outputs from training graphs."""
        self.learn_energies(graphs)

    @torch.no_grad()
    def shift_energies(self, energy: float) -> None:
        """Add an energy to that of every atom, eV, by the last bias."""
        self.head.second.bias.add_(energy / float(self.energy_scale))  # type: ignore[operator, union-attr]

    @torch.no_grad()
    def learn_distances(self, graphs: Iterable[Graph], more: bool = False) -> None:
        """Take the shortest distance of each two species from graphs; `more`: in addition to those it knows."""
        found = shortest_distances(graphs, self.config.species, self.config.cutoff).to(self.closest.device)
        known = self.closest > UNKNOWN if more else torch.zeros_like(found, dtype=torch.bool)
        self.closest.copy_(torch.where(known, torch.minimum(found, self.closest), found))

    @torch.no_grad()
    def learn_energies(self, graphs: Iterable[Graph]) -> None:
        """Take the range of the network's outputs for each species from graphs."""
        said = []
        for graph in graphs:
            geometry = self.geometry(graph, edge_vectors(graph, graph.positions))
            said.append((self.index_of[graph.species], self.outputs(graph, geometry)))
        species, outputs = (torch.cat(parts) for parts in zip(*said, strict=True))
        for index in species.unique().tolist():
            self.energy_range[index] = torch.stack(torch.aminmax(outputs[species == index]))


NETWORK = Transformer
