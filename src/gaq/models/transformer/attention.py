"""Attention weights of edges, as small exchangeable classes: both take queries, keys, filters and the envelope."""

import math

import torch
from torch import Tensor, nn

from gaq.models.transformer.config import MAX_TEMPERATURE


class RobustAttention(nn.Module):
    """Attention with bounded logits, which a low-bit query or key cannot blow up.

        ℓ_ij = T_h q̂_i · k̂_j + tanh(b_ij),   a_ij = φ(r_ij) exp(ℓ_ij) / (1 + Σ_k φ(r_ik) exp(ℓ_ik))

    q̂, k̂ are L2-normalized for each head, T_h in (0, 8) is learned, b_ij comes from the edge filter. The envelope φ inside
    and the constant 1 in the denominator make the weights smooth when any neighbour leaves, the last one included; and
    |ℓ| <= 9, so that the exponential needs no maximum subtracted.

    Source: the normalization of arXiv 2603.05343, with envelope, constant and filter bias added.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.filter_width = heads
        self.temperature_logit = nn.Parameter(torch.full((heads,), -1.0))

    def sensitive(self, query: Tensor, key: Tensor, filters: Tensor, *others: Tensor) -> list[Tensor]:
        """Return what is not finite where inputs overflow, which the weights, being bounded, would hide."""
        return [query * query, key * key, filters]

    def forward(self, query: Tensor, key: Tensor, filters: Tensor, envelope: Tensor, centers: Tensor,
                neighbours: Tensor) -> Tensor:
        """Return a_ij of shape (E, H) from query, key (N, F), filters (E, H), envelope (E,)."""
        temperature = MAX_TEMPERATURE * torch.sigmoid(self.temperature_logit)
        q = _unit(query.unflatten(-1, (self.heads, -1))) * temperature[:, None]
        k = _unit(key.unflatten(-1, (self.heads, -1)))
        logits = (q.index_select(0, centers) * k.index_select(0, neighbours)).sum(-1) + torch.tanh(filters)
        weights = envelope[:, None] * torch.exp(logits)
        total = weights.new_ones(query.shape[0], self.heads).index_add(0, centers, weights)
        return weights / total.index_select(0, centers)


class So3kratesAttention(nn.Module):
    """The un-normalized attention of So3krates: a_ij = φ(r_ij) q_i · (w_ij ⊙ k_j) / sqrt(F/H).

    Source: Frank et al., Nat. Commun. 15, 6539 (2024).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.filter_width = width
        self.scale = 1 / math.sqrt(width / heads)

    def forward(self, query: Tensor, key: Tensor, filters: Tensor, envelope: Tensor, centers: Tensor,
                neighbours: Tensor) -> Tensor:
        """Return a_ij of shape (E, H) from query, key (N, F), filters (E, F), envelope (E,)."""
        pairs = query.index_select(0, centers) * key.index_select(0, neighbours)
        products = (pairs * filters).unflatten(-1, (self.heads, -1)).sum(-1)
        return products * (self.scale * envelope)[:, None]


ATTENTIONS: dict[str, type[RobustAttention] | type[So3kratesAttention]] = {
    "robust": RobustAttention, "so3krates": So3kratesAttention}


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)
