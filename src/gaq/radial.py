"""Functions of one distance: cutoff envelopes and radial bases, as small exchangeable classes.

They take numpy arrays and tensors, of shape (N,), and compute in the precision of the distances.
"""

import math
from collections.abc import Callable

from gaq.arrays import Array, kind, namespace, power


class CosineCutoff:
    """Smooth envelope φ(r) = ½ (1 + cos(π r / r_c)) for r < r_c, else 0; once differentiable at r_c.

    Source: Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007); So3krates uses it.
    """

    def __init__(self, cutoff: float) -> None:
        self.cutoff = cutoff

    def __call__(self, distances: Array) -> Array:
        xp = namespace(distances)
        inside = distances < self.cutoff
        return xp.where(inside, 0.5 * (1 + xp.cos(distances * (math.pi / self.cutoff))), 0.0)


class PolynomialCutoff:
    """Smooth envelope φ(t) = 1 - ½(p+1)(p+2) t^p + p(p+2) t^(p+1) - ½p(p+1) t^(p+2), t = r/r_c < 1, else 0.

    Twice differentiable at r_c, so that forces are once. Source: Gasteiger et al., ICLR 2020 (DimeNet).
    """

    def __init__(self, cutoff: float, power: int = 5) -> None:
        self.cutoff, self.power = cutoff, power

    def __call__(self, distances: Array) -> Array:
        p = self.power
        t = namespace(distances).clip(distances / self.cutoff, None, 1.0)
        tp = power(t, p)
        return 1 - tp * (0.5 * (p + 1) * (p + 2) - t * (p * (p + 2) - t * (0.5 * p * (p + 1))))


class BesselBasis:
    """Radial basis e_n(r) = sqrt(2/r_c) sin(n π r / r_c) / r, n = 1..K.

    Source: Gasteiger et al., ICLR 2020 (DimeNet).
    """

    def __init__(self, cutoff: float, functions: int) -> None:
        self.cutoff, self.functions = cutoff, functions

    def __call__(self, distances: Array) -> Array:
        xp, d = namespace(distances), distances[:, None]
        n = xp.arange(1, self.functions + 1, **kind(d))
        return math.sqrt(2 / self.cutoff) * xp.sin(d * (n * (math.pi / self.cutoff))) / d


class GaussianBasis:
    """Radial basis e_n(r) = exp(-½ ((r - μ_n) / σ)²), μ_n evenly spaced on [0, r_c], σ their spacing."""

    def __init__(self, cutoff: float, functions: int) -> None:
        self.cutoff, self.functions = cutoff, functions
        self.width = cutoff / max(functions - 1, 1)

    def __call__(self, distances: Array) -> Array:
        xp = namespace(distances)
        centres = xp.linspace(0, self.cutoff, self.functions, **kind(distances))
        return xp.exp(-0.5 * ((distances[:, None] - centres) / self.width) ** 2)


class BernsteinBasis:
    """Radial basis of Bernstein polynomials in t = exp(-γ r): b_n = C(K-1, n) t^n (1 - t)^(K-1-n), n = 0..K-1.

    Source: Unke et al., Nat. Commun. 12, 7273 (2021) (SpookyNet); SO3LR uses it.
    """

    def __init__(self, cutoff: float, functions: int, gamma: float = 0.9448630629184640) -> None:
        self.gamma = gamma  # 0.5 / bohr, in 1/Å
        self.log_binomial = tuple(math.log(math.comb(functions - 1, n)) for n in range(functions))

    def __call__(self, distances: Array) -> Array:
        xp, d = namespace(distances), distances[:, None]
        log_binomial = xp.asarray(self.log_binomial, **kind(d))
        n = xp.arange(len(log_binomial), **kind(d))
        log_t = -self.gamma * d
        log_rest = xp.log(-xp.expm1(log_t))
        return xp.exp(log_binomial + n * log_t + (len(log_binomial) - 1 - n) * log_rest)


Radial = Callable[[Array], Array]  # of distances: (N,) of an envelope, (N, K) of a basis

CUTOFFS: dict[str, Callable[[float], Radial]] = {"cosine": CosineCutoff, "polynomial": PolynomialCutoff}
BASES: dict[str, Callable[[float, int], Radial]] = {
    "bessel": BesselBasis, "gaussian": GaussianBasis, "bernstein": BernsteinBasis}
