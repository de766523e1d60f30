"""Functions of one distance: cutoff envelopes and radial bases, as small exchangeable classes.

They compute in the precision of the distances, and keep no tensors that a change of the model's precision would round.
"""

import math

import torch
from torch import Tensor, nn


class CosineCutoff(nn.Module):
    """Smooth envelope φ(r) = ½ (1 + cos(π r / r_c)) for r < r_c, else 0; once differentiable at r_c.

    Source: Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007); So3krates uses it.
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, distances: Tensor) -> Tensor:
        inside = distances < self.cutoff
        return torch.where(inside, 0.5 * (1 + torch.cos(distances * (math.pi / self.cutoff))), 0.0)


class PolynomialCutoff(nn.Module):
    """Smooth envelope φ(t) = 1 - ½(p+1)(p+2) t^p + p(p+2) t^(p+1) - ½p(p+1) t^(p+2), t = r/r_c < 1, else 0.

    Twice differentiable at r_c, so that forces are once. Source: Gasteiger et al., ICLR 2020 (DimeNet).
    """

    def __init__(self, cutoff: float, power: int = 5) -> None:
        super().__init__()
        self.cutoff, self.power = cutoff, power

    def forward(self, distances: Tensor) -> Tensor:
        p = self.power
        t = (distances / self.cutoff).clamp(max=1.0)
        tp = t**p
        return 1 - tp * (0.5 * (p + 1) * (p + 2) - t * (p * (p + 2) - t * (0.5 * p * (p + 1))))


class BesselBasis(nn.Module):
    """Radial basis e_n(r) = sqrt(2/r_c) sin(n π r / r_c) / r, n = 1..K.

    Source: Gasteiger et al., ICLR 2020 (DimeNet).
    """

    def __init__(self, cutoff: float, functions: int) -> None:
        super().__init__()
        self.cutoff, self.functions = cutoff, functions

    def forward(self, distances: Tensor) -> Tensor:
        d = distances[:, None]
        n = torch.arange(1, self.functions + 1, dtype=d.dtype, device=d.device)
        return math.sqrt(2 / self.cutoff) * torch.sin(d * (n * (math.pi / self.cutoff))) / d


class GaussianBasis(nn.Module):
    """Radial basis e_n(r) = exp(-½ ((r - μ_n) / σ)²), μ_n evenly spaced on [0, r_c], σ their spacing."""

    def __init__(self, cutoff: float, functions: int) -> None:
        super().__init__()
        self.cutoff, self.functions = cutoff, functions
        self.width = cutoff / max(functions - 1, 1)

    def forward(self, distances: Tensor) -> Tensor:
        centres = torch.linspace(0, self.cutoff, self.functions, dtype=distances.dtype, device=distances.device)
        return torch.exp(-0.5 * ((distances[:, None] - centres) / self.width) ** 2)


class BernsteinBasis(nn.Module):
    """Radial basis of Bernstein polynomials in t = exp(-γ r): b_n = C(K-1, n) t^n (1 - t)^(K-1-n), n = 0..K-1.

    Source: Unke et al., Nat. Commun. 12, 7273 (2021) (SpookyNet); SO3LR uses it.
    """

    def __init__(self, cutoff: float, functions: int, gamma: float = 0.9448630629184640) -> None:
        super().__init__()
        self.gamma = gamma  # 0.5 / bohr, in 1/Å
        self.log_binomial = tuple(math.log(math.comb(functions - 1, n)) for n in range(functions))

    def forward(self, distances: Tensor) -> Tensor:
        d = distances[:, None]
        log_binomial = torch.tensor(self.log_binomial, dtype=d.dtype, device=d.device)
        n = torch.arange(len(log_binomial), dtype=d.dtype, device=d.device)
        log_t = -self.gamma * d
        log_rest = torch.log(-torch.expm1(log_t))
        return torch.exp(log_binomial + n * log_t + (len(log_binomial) - 1 - n) * log_rest)


CUTOFFS = {"cosine": CosineCutoff, "polynomial": PolynomialCutoff}
BASES = {"bessel": BesselBasis, "gaussian": GaussianBasis, "bernstein": BernsteinBasis}
