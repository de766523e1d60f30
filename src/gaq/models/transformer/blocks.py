"""Blocks of the Euclidean transformer, written once in float and blind to precision.

Shapes: N atoms, E edges, F scalar channels, C vector channels, L degrees, M = (L+1)² - 1 components, H heads.
Atoms give values to edges by `index_select`: the derivative of indexing adds in an order that depends on threads.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from gaq.models.transformer.attention import ATTENTIONS
from gaq.models.transformer.config import ModelConfig
from gaq.nn.geometry import Geometry
from gaq.nn.leaves import FeatureFrame, Leaves
from gaq.so3 import degree_slices


class Mlp(nn.Module):
    """x -> W₂ silu(W₁ x): the radial part of a filter, an update, or the energy of an atom."""

    def __init__(self, leaf: Leaves) -> None:
        super().__init__()
        self.first = leaf("first")
        self.second = leaf("second")

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

    def __init__(self, config: ModelConfig, leaf: Leaves) -> None:
        super().__init__()
        self.scalars = config.scalars
        self.own = leaf("own")
        self.other = leaf("other")
        self.filters = leaf("filters")
        self.by_degree = ByDegree(config.max_degree)

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

    def __init__(self, config: ModelConfig, leaf: Leaves) -> None:
        super().__init__()
        self.radial = Mlp(leaf.within("radial"))
        self.project = leaf("project")
        self.contraction = leaf("contraction")
        self.by_degree = ByDegree(config.max_degree)

    def forward(self, v: Tensor, frame: FeatureFrame, geometry: Geometry) -> Tensor:
        """Return shape (E, width) from vector features (N, M, C) in a frame."""
        projected = frame.back(self.project(v), exact=True)
        difference = projected.index_select(0, geometry.neighbours) - projected.index_select(0, geometry.centers)
        contracted = self.by_degree.sum(difference * difference).to(v.dtype)
        return self.radial(geometry.basis) + self.contraction(contracted)


class AttentionBlock(nn.Module):
    """Messages from neighbours, weighted by attention.

        x_i += W_o Σ_j a_ij (s_j ⊙ f_ij),   v_i^l += Σ_j a_ij [ (t_j ⊙ f'_ij) Y^l(r̂_ij) + f''_ij ⊙ v_j^l ]
    """

    def __init__(self, config: ModelConfig, leaf: Leaves) -> None:
        super().__init__()
        c = config
        self.scalars, self.gates = c.scalars, c.vectors * c.max_degree
        self.norm = nn.LayerNorm(c.scalars)
        self.query = leaf("query")
        self.key = leaf("key")
        self.value = leaf("value")
        self.output = leaf("output")
        self.feature = leaf("feature")
        self.mix = leaf("mix")
        self.attention = ATTENTIONS[c.attention](c.scalars, c.heads)
        self.filters = EdgeFilter(c, leaf.within("filters"))
        self.by_degree = ByDegree(c.max_degree)
        self.register_buffer("of_head", _membership(c.scalars, c.vectors, c.max_degree, c.heads), persistent=False)

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

    def __init__(self, config: ModelConfig, leaf: Leaves) -> None:
        super().__init__()
        self.scalars, self.vectors = config.scalars, config.vectors
        self.norm = nn.LayerNorm(config.scalars)
        self.feature = leaf("feature")
        self.mix = leaf("mix")
        self.update = Mlp(leaf.within("update"))
        self.by_degree = ByDegree(config.max_degree)

    def forward(self, x: Tensor, v: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
        """Return updated scalars (N, F) and vectors (N, M, C)."""
        rounded, frame = self.feature(v, geometry)
        p, q = self.mix(rounded).split(self.vectors, -1)
        invariants = self.by_degree.sum(p * q)
        change, gates = self.update(torch.cat([self.norm(x), invariants], -1)).split(
            [self.scalars, invariants.shape[-1]], -1)
        return x + change, v + self.by_degree.scale(gates, frame.back(q))
