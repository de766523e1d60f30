"""e_i = W₄ silu(W₃ (x_i + Σ_j φ(r_ij) f(r_ij) ⊙ x_j)),   x_i = A[Z_i],   f = W₂ silu(W₁ e(r))."""

import torch
from gaq.models.pair import PairConfig, schema
from torch import Tensor, nn
from torch.nn.functional import silu

from gaq.graph import Graph
from gaq.models.network import Network
from gaq.radial import BesselBasis, PolynomialCutoff


class Pair(Network):
    """A model of distances alone."""

    def __init__(self, config: PairConfig) -> None:
        super().__init__(config, schema(config))
        self.basis, self.envelope = BesselBasis(config.cutoff, config.functions), PolynomialCutoff(config.cutoff)
        self.species = self.leaf("species")
        self.filter, self.head = (nn.ModuleDict({part: self.leaf.within(name)(part) for part in ("first", "second")})
                                  for name in ("filter", "head"))

    def node_energies(self, graph: Graph, vectors: Tensor) -> Tensor:
        species, r = self.index_of[graph.species], torch.linalg.vector_norm(vectors, dim=-1)
        x, basis = self.species(species), self.basis(r).to(self.dtype)
        filters = self.filter["second"](silu(self.filter["first"](basis))) * self.envelope(r).to(self.dtype)[:, None]
        messages = torch.zeros_like(x).index_add(0, graph.centers, filters * x.index_select(0, graph.neighbours))
        outputs = self.head["second"](silu(self.head["first"](x + messages))).squeeze(-1).double()
        return outputs * self.energy_scale + self.energy_offsets[species]

    @torch.no_grad()
    def shift_energies(self, energy: float) -> None:
        self.head["second"].bias.add_(energy / float(self.energy_scale))


NETWORK = Pair
