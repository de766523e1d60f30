"""Blocks of the Euclidean transformer, written once in float and blind to precision.

Shapes: N atoms, E edges, F scalar channels, C vector channels, L degrees, M = (L+1)² - 1 components, H heads.
Atoms give values to edges by `index_select`: the derivative of indexing adds in an order that depends on threads.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from gaq.models.transformer.attention import ATTENTIONS
from gaq.nn.geometry import Geometry
from gaq.nn.leaves import Embedding, Frame, Linear, VectorLinear, VectorQuantizer
from gaq.so3 import degree_slices

SMALL = 0.1  # first size of terms that are quadratic in the vectors; left at 1, layers would amplify each other


class Mlp(nn.Module):
    """x -> W₂ silu(W₁ x): the radial part of a filter, an update, or the energy of an atom."""

    def __init__(self, inputs: int, hidden: int, outputs: int, roles: tuple[str, str], gain: float = 1.0) -> None:
        super().__init__()
        self.first = Linear(inputs, hidden, roles[0])
        self.second = Linear(hidden, outputs, roles[1], gain=gain)

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (..., outputs)."""
        return self.second(functional.silu(self.first(x)))


class ByDegree:
    """Bookkeeping of degrees: multiplies components by values of their degree, and sums components by degree."""

    def __init__(self, max_degree: int) -> None:
        self.max_degree = max_degree
        self.slices = degree_slices(max_degree)

    def scale(self, values: Tensor, components: Tensor) -> Tensor:
        """Multiply (A, M, C) or (A, M, 1) components by the (A, L·C) values of their degree, shape (A, M, C)."""
        parts = values.chunk(self.max_degree, -1)
        return torch.cat([v[:, None] * components[:, part] for v, part in zip(parts, self.slices, strict=True)], 1)

    def sum(self, values: Tensor) -> Tensor:
        """(A, M, C) -> (A, L·C), summed over the components of each degree: invariants, if values are products."""
        return torch.cat([values[:, part].sum(1) for part in self.slices], -1)


class NeighbourEmbedding(nn.Module):
    """First features: x_i = A[Z_i] + Σ_j φ f(r_ij) ⊙ B[Z_j],  v_i^l = Σ_j φ g_l(r_ij) ⊙ B_l[Z_j] Y^l(r̂_ij)."""

    def __init__(self, species: int, scalars: int, vectors: int, max_degree: int, basis: int) -> None:
        super().__init__()
        self.scalars = scalars
        width = scalars + vectors * max_degree
        self.own = Embedding(species, scalars)
        self.other = Embedding(species, width)
        self.filters = Linear(basis, width, "first", bias=False)
        self.by_degree = ByDegree(max_degree)

    def forward(self, species: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
        """Return scalars (N, F) and vectors (N, M, C)."""
        filters = self.filters(geometry.basis) * geometry.envelope[:, None]
        messages = filters * self.other(species).index_select(0, geometry.neighbours)
        x = self.own(species) + geometry.sum_at_centers(messages[:, : self.scalars])
        v = geometry.sum_at_centers(self.by_degree.scale(messages[:, self.scalars :], geometry.harmonics[:, :, None]))
        return x, v


class EdgeFilter(nn.Module):
    """f_ij = W₂ silu(W₁ e(r_ij)) + W₃ c_ij with the contractions c_ij^lg = |(v_j - v_i)^l A_l|²_g for g = 1..G.

    The first term is a function of one distance; the second sees angles through rotation-invariant contractions of the
    vector features, projected to G channels for each degree. Features that come in local frames are turned, subtracted and
    squared in float64: atoms i and j have different frames, and float32 would give a rotated copy other codes.
    """

    def __init__(self, vectors: int, basis: int, hidden: int, groups: int, max_degree: int, width: int) -> None:
        super().__init__()
        self.radial = Mlp(basis, hidden, width, ("radial", "radial"))
        self.project = VectorLinear(vectors, groups, max_degree, role="contraction")
        self.contraction = Linear(groups * max_degree, width, "contraction", bias=False, gain=SMALL)
        self.by_degree = ByDegree(max_degree)

    def forward(self, v: Tensor, frame: Frame, geometry: Geometry) -> Tensor:
        """Return shape (E, width) from vector features (N, M, C) in a frame."""
        projected = frame.back(self.project(v), exact=True)
        difference = projected.index_select(0, geometry.neighbours) - projected.index_select(0, geometry.centers)
        contracted = self.by_degree.sum(difference * difference).to(v.dtype)
        return self.radial(geometry.basis) + self.contraction(contracted)


class AttentionBlock(nn.Module):
    """Messages from neighbours, weighted by attention.

        x_i += W_o Σ_j a_ij (s_j ⊙ f_ij),   v_i^l += Σ_j a_ij [ (t_j ⊙ f'_ij) Y^l(r̂_ij) + f''_ij ⊙ v_j^l ]
    """

    def __init__(self, scalars: int, vectors: int, max_degree: int, heads: int, basis: int, hidden: int,
                 attention: str) -> None:
        super().__init__()
        self.scalars, self.gates = scalars, vectors * max_degree
        self.norm = nn.LayerNorm(scalars)
        self.query = Linear(scalars, scalars, "scalar", bias=False)
        self.key = Linear(scalars, scalars, "scalar", bias=False)
        self.value = Linear(scalars, scalars + self.gates, "update")
        self.output = Linear(scalars, scalars, "update", bias=False)
        self.feature = VectorQuantizer(vectors, max_degree)
        self.mix = VectorLinear(vectors, vectors, max_degree)
        self.attention = ATTENTIONS[attention](scalars, heads)
        width = scalars + 2 * self.gates + self.attention.filter_width
        self.filters = EdgeFilter(vectors, basis, hidden, heads, max_degree, width)
        self.by_degree = ByDegree(max_degree)
        self.register_buffer("of_head", _membership(scalars, vectors, max_degree, heads), persistent=False)

    def forward(self, x: Tensor, v: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
        """Return updated scalars (N, F) and vectors (N, M, C)."""
        i, j = geometry.centers, geometry.neighbours
        h = self.norm(x)
        rounded, frame = self.feature(v, geometry)
        filters = self.filters(rounded, frame, geometry)
        filters, attention_filters = filters.split([self.scalars + 2 * self.gates, self.attention.filter_width], -1)
        weights = self.attention(self.query(h), self.key(h), attention_filters, geometry.envelope, i, j)
        filters = filters * (weights @ self.of_head)  # each channel takes the weight of its head
        own, carried = filters.split([self.scalars + self.gates, self.gates], -1)
        messages, gates = (own * self.value(h).index_select(0, j)).split([self.scalars, self.gates], -1)
        x = x + self.output(geometry.sum_at_centers(messages))
        vectors = self.by_degree.scale(gates, geometry.harmonics[:, :, None])
        vectors = vectors + self.by_degree.scale(carried, frame.back(self.mix(rounded)).index_select(0, j))
        return x, v + geometry.sum_at_centers(vectors)


@lru_cache(maxsize=8)
def _membership(scalars: int, vectors: int, max_degree: int, heads: int) -> Tensor:
    """Return 1 where a channel of a filter, (F + 2 L C), belongs to a head, shape (H, F + 2 L C); on the CPU."""
    head_of = torch.cat([torch.arange(scalars, device="cpu") * heads // scalars,
                         (torch.arange(vectors, device="cpu") * heads // vectors).repeat(2 * max_degree)])
    return (head_of[:, None] == torch.arange(heads, device="cpu")).float().T


class InteractionBlock(nn.Module):
    """Scalars and vectors of one atom meet: invariants feed the scalars, scalars gate the vectors.

        p = v A, q = v B (channels only),   [Δx, g] = W₂ silu(W₁ [x, Σ_m p_m q_m]),   x += Δx,  v^l += g_l ⊙ q^l
    """

    def __init__(self, scalars: int, vectors: int, max_degree: int) -> None:
        super().__init__()
        self.scalars, self.vectors = scalars, vectors
        gates = vectors * max_degree
        self.norm = nn.LayerNorm(scalars)
        self.feature = VectorQuantizer(vectors, max_degree)
        self.mix = VectorLinear(vectors, 2 * vectors, max_degree)
        self.update = Mlp(scalars + gates, scalars, scalars + gates, ("junction", "update"), gain=SMALL)
        self.by_degree = ByDegree(max_degree)

    def forward(self, x: Tensor, v: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
        """Return updated scalars (N, F) and vectors (N, M, C)."""
        rounded, frame = self.feature(v, geometry)
        p, q = self.mix(rounded).split(self.vectors, -1)
        invariants = self.by_degree.sum(p * q)
        change, gates = self.update(torch.cat([self.norm(x), invariants], -1)).split(
            [self.scalars, invariants.shape[-1]], -1)
        return x + change, v + self.by_degree.scale(gates, frame.back(q))
