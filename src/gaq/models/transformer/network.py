"""One forward: per-atom energies of a Euclidean transformer; energy, forces and stress around it."""

from collections.abc import Iterable
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn

from gaq.errors import ModelFileError
from gaq.graph import Graph, Prediction
from gaq.models.transformer.blocks import AttentionBlock, InteractionBlock, Mlp, NeighbourEmbedding
from gaq.models.transformer.extrapolation import (
    UNKNOWN,
    check_training_range,
    energy_bounds,
    levelled,
    pair_table,
    repulsion,
    seen_distances,
    shortest_distances,
)
from gaq.nn.geometry import Geometry
from gaq.radial import BASES, CUTOFFS
from gaq.so3 import MAX_DEGREE, harmonics

MAX_ENERGY = 1e30  # eV; the sum over any number of atoms is finite


class ModelShape(BaseModel):
    """Shape of a model but for its species, which come from the data.

    Args:
        cutoff: Å.
        scalars: F, channels of degree 0.
        vectors: C, channels of each degree 1..max_degree.
        max_degree: L.
        heads: H, attention heads; divides F. Vector channels are shared out among them in order.
        layers: T.
        radial_functions: K.
        filter_width: hidden width of the radial filter network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cutoff: float = Field(default=5.0, ge=1, le=100)
    scalars: int = Field(default=64, ge=1, le=4096)
    vectors: int = Field(default=32, ge=1, le=4096)
    max_degree: int = Field(default=2, ge=1, le=MAX_DEGREE)
    heads: int = Field(default=4, ge=1, le=64)
    layers: int = Field(default=3, ge=1, le=64)
    radial_functions: int = Field(default=16, ge=2, le=512)
    filter_width: int = Field(default=32, ge=1, le=4096)
    basis: Literal["bessel", "gaussian", "bernstein"] = "bessel"
    envelope: Literal["polynomial", "cosine"] = "polynomial"
    attention: Literal["robust", "so3krates"] = "robust"

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.scalars % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide scalars ({self.scalars})")
        return self

    def with_species(self, species: tuple[int, ...]) -> "ModelConfig":
        """Return the configuration of a model of this shape."""
        return ModelConfig(species=species, **self.model_dump())


class ModelConfig(ModelShape):
    """Shape of a model; frozen, stored in the model file.

    Args:
        species: atomic numbers the model knows, ascending.
    """

    species: tuple[int, ...]

    @field_validator("species")
    @classmethod
    def _species_ascend(cls, species: tuple[int, ...]) -> tuple[int, ...]:
        if not species or not 1 <= min(species) <= max(species) <= 118 or list(species) != sorted(set(species)):
            raise ValueError(f"species must be different atomic numbers from 1 to 118, ascending, not {species}")
        return species


class Transformer(nn.Module):
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

    energy_scale: Tensor
    energy_offsets: Tensor
    closest: Tensor
    energy_range: Tensor
    index_of: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.envelope = CUTOFFS[c.envelope](c.cutoff)
        self.basis = BASES[c.basis](c.cutoff, c.radial_functions)
        self.embedding = NeighbourEmbedding(len(c.species), c.scalars, c.vectors, c.max_degree, c.radial_functions)
        self.attention = nn.ModuleList(
            AttentionBlock(c.scalars, c.vectors, c.max_degree, c.heads, c.radial_functions, c.filter_width, c.attention)
            for _ in range(c.layers))
        self.interaction = nn.ModuleList(
            InteractionBlock(c.scalars, c.vectors, c.max_degree) for _ in range(c.layers))
        self.head = Mlp(c.scalars, c.scalars // 2 or 1, 1, ("last", "last"), gain=0.1)
        self.register_buffer("energy_scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("energy_offsets", torch.zeros(len(c.species), dtype=torch.float64))
        self.register_buffer("closest", torch.full((len(c.species),) * 2, UNKNOWN, dtype=torch.float64))
        self.register_buffer("energy_range", torch.full((len(c.species), 2), UNKNOWN, dtype=torch.float64))
        index_of = torch.full((max(c.species) + 1,), -1, dtype=torch.int64, device="cpu")  # known, unlike what is loaded
        index_of[list(c.species)] = torch.arange(len(c.species), device="cpu")
        self.register_buffer("index_of", index_of, persistent=False)

    def check(self) -> None:
        """Raise ModelFileError for a unit of energy that is not positive, or energies whose sums are no numbers."""
        largest = max(float(self.energy_scale), float(self.energy_offsets.abs().max()))
        if not (self.energy_scale > 0 and largest <= MAX_ENERGY):
            raise ModelFileError(f"energy_scale must be positive, and it and energy_offsets at most {MAX_ENERGY:.0e} eV")
        check_training_range(self.closest, self.energy_range, self.config.cutoff)

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

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the computation: that of the normalization weights, which are never quantized."""
        return next(p.dtype for name, p in self.named_parameters() if name.endswith("norm.weight"))

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

    def forward(self, graph: Graph, stress: bool = False, differentiable: bool = False) -> Prediction:
        """Return energies, and forces (and stress) as their exact derivatives by automatic differentiation.

            F_i = -∂E/∂x_i,   σ_ab = (1/V) ∂E/∂ε_ab  for  x -> (1 + ε) x

        Args:
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
