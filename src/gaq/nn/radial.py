"""Functions of one distance: cutoff envelopes and radial bases, as small exchangeable classes."""

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
        self.prefactor = math.sqrt(2 / cutoff)
        self.register_buffer("wavenumbers", torch.arange(1, functions + 1) * (math.pi / cutoff), persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        d = distances[:, None]
        return self.prefactor * torch.sin(d * self.wavenumbers.to(d)) / d


class GaussianBasis(nn.Module):
    """Radial basis e_n(r) = exp(-½ ((r - μ_n) / σ)²), μ_n evenly spaced on [0, r_c], σ their spacing."""

    def __init__(self, cutoff: float, functions: int) -> None:
        super().__init__()
        self.width = cutoff / max(functions - 1, 1)
        self.register_buffer("centres", torch.linspace(0, cutoff, functions), persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        return torch.exp(-0.5 * ((distances[:, None] - self.centres.to(distances)) / self.width) ** 2)


class BernsteinBasis(nn.Module):
    """Radial basis of Bernstein polynomials in t = exp(-γ r): b_n = C(K-1, n) t^n (1 - t)^(K-1-n), n = 0..K-1.

    Source: Unke et al., Nat. Commun. 12, 7273 (2021) (SpookyNet); SO3LR uses it.
    """

    def __init__(self, cutoff: float, functions: int, gamma: float = 0.9448630629184640) -> None:
        super().__init__()
        self.gamma = gamma  # 0.5 / bohr, in 1/Å
        n = torch.arange(functions, dtype=torch.float64)
        last = functions - 1
        binomial = torch.lgamma(torch.tensor(last + 1.0)) - torch.lgamma(n + 1) - torch.lgamma(last - n + 1)
        self.register_buffer("powers", n, persistent=False)
        self.register_buffer("log_binomial", binomial, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        d = distances[:, None]
        n = self.powers.to(d)
        log_t = -self.gamma * d
        log_rest = torch.log(-torch.expm1(log_t))
        return torch.exp(self.log_binomial.to(d) + n * log_t + (n.shape[0] - 1 - n) * log_rest)


CUTOFFS = {"cosine": CosineCutoff, "polynomial": PolynomialCutoff}
BASES = {"bessel": BesselBasis, "gaussian": GaussianBasis, "bernstein": BernsteinBasis}
