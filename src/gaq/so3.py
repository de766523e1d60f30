"""Rotations and real spherical harmonics: the one feature layout of the package.

Features of degree l have 2l+1 components on the second-to-last axis, channels on the last; degrees 1..L are stacked, so
that a feature array has shape (atoms, M, channels) with M = (L+1)² - 1. Components follow e3nn's order: degree 1 is
(x, y, z). Harmonics are Racah-normalized, |Y^l(u)| = 1 for unit vectors u.
"""

from functools import lru_cache

import torch
from torch import Tensor

from gaq.errors import ConfigError

MAX_DEGREE = 4
SPREAD, SPREADING = 0.01, 3  # ε and rounds of `local_frames`: how far its surroundings reach


def components(max_degree: int) -> int:
    """Return M = (L+1)² - 1, the number of components of degrees 1..L."""
    return (max_degree + 1) ** 2 - 1


def degree_slices(max_degree: int) -> tuple[slice, ...]:
    """Return the slice of the component axis that holds each degree 1..L."""
    return tuple(slice(l * l - 1, (l + 1) ** 2 - 1) for l in range(1, max_degree + 1))


def harmonics(directions: Tensor, max_degree: int) -> Tensor:
    """Return the real spherical harmonics Y^1..Y^L of unit vectors, |Y^l| = 1.

    Args:
        directions: unit vectors, shape (..., 3).
        max_degree: L, from 1 to 4.

    Returns:
        Shape (..., (L+1)² - 1), degrees stacked, components in e3nn's order.

    Raises:
        ConfigError: a degree beyond 4.

    Source: the closed forms of the solid harmonics, e.g. Varshalovich et al., Quantum Theory of Angular Momentum (1988);
    e3nn's order is the textbook one with axes renamed (x, y, z) <- (z, x, y).
    """
    if not 1 <= max_degree <= MAX_DEGREE:
        raise ConfigError(f"max_degree must be from 1 to {MAX_DEGREE}, not {max_degree}")
    y, z, x = directions.unbind(-1)  # textbook axes: polar axis z is e3nn's y
    terms = [y, z, x]
    if max_degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        r3 = 3**0.5
        terms += [r3 * x * y, r3 * y * z, 1.5 * zz - 0.5, r3 * x * z, (r3 / 2) * (xx - yy)]
    if max_degree >= 3:
        a, b, c = (5 / 8) ** 0.5, 15**0.5, (3 / 8) ** 0.5
        terms += [a * y * (3 * xx - yy), b * x * y * z, c * y * (5 * zz - 1), 0.5 * z * (5 * zz - 3),
                  c * x * (5 * zz - 1), (b / 2) * z * (xx - yy), a * x * (xx - 3 * yy)]
    if max_degree >= 4:
        a, b, c, d = 35**0.5 / 2, (35 / 8) ** 0.5, 5**0.5 / 2, (5 / 8) ** 0.5
        terms += [a * x * y * (xx - yy), b * y * z * (3 * xx - yy), c * x * y * (7 * zz - 1), d * y * z * (7 * zz - 3),
                  (35 * zz * zz - 30 * zz + 3) / 8, d * x * z * (7 * zz - 3), (c / 2) * (xx - yy) * (7 * zz - 1),
                  b * x * z * (xx - 3 * yy), (a / 4) * (xx * xx - 6 * xx * yy + yy * yy)]
    return torch.stack(terms, -1)


@lru_cache(maxsize=16)
def _wigner_basis(degree: int) -> tuple[Tensor, Tensor]:
    """Return sample directions X (P, 3) and P(X) = pinv(Y^l(X)), with which D^l(R) = (pinv(Y(X)) Y(X Rᵀ))ᵀ."""
    generator = torch.Generator().manual_seed(degree)
    samples = torch.randn(6 * degree + 6, 3, generator=generator, dtype=torch.float64)
    samples = samples / samples.norm(dim=-1, keepdim=True)
    values = harmonics(samples, degree)[:, degree_slices(degree)[-1]]
    return samples, torch.linalg.pinv(values)


def wigner_d(rotation: Tensor, degree: int) -> Tensor:
    """Return the matrix D^l(R) with Y^l(R u) = D^l(R) Y^l(u).

    The harmonics themselves define the representation: D^l is solved from their values at fixed sample directions.

    Args:
        rotation: proper or improper orthogonal matrices, shape (..., 3, 3).
        degree: l, from 1 to 4.

    Returns:
        Shape (..., 2l+1, 2l+1), dtype of `rotation`.
    """
    if degree == 1:
        return rotation
    samples, inverse = (t.to(rotation) for t in _wigner_basis(degree))
    turned = torch.einsum("...ab,pb->...pa", rotation, samples)
    values = harmonics(turned, degree)[..., degree_slices(degree)[-1]]
    return torch.einsum("kp,...pm->...mk", inverse, values)


def axis_rotation(axis: Tensor, angle: Tensor | float) -> Tensor:
    """Return the rotation by `angle` (radian) about `axis`: R = cos θ 1 + sin θ [u]× + (1 - cos θ) u uᵀ (Rodrigues).

    Args:
        axis: any non-zero vectors, shape (..., 3).
        angle: radian, a number or shape (...).
    """
    u = axis / axis.norm(dim=-1, keepdim=True)
    theta = torch.as_tensor(angle, dtype=u.dtype, device=u.device).expand(u.shape[:-1])[..., None, None]
    x, y, z = u.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*u.shape[:-1], 3, 3)
    identity = torch.eye(3, dtype=u.dtype, device=u.device)
    return theta.cos() * identity + theta.sin() * cross + (1 - theta.cos()) * u[..., :, None] * u[..., None, :]


def random_rotations(count: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return rotations drawn uniformly from SO(3), shape (count, 3, 3), by way of random unit quaternions."""
    q = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return torch.stack(rows, -1).reshape(count, 3, 3).to(dtype)


def local_frames(vectors: Tensor, weights: Tensor, centers: Tensor, neighbours: Tensor, count: int) -> Tensor:
    """Return a rotation for each atom that turns with the molecule, F(R x) = R F(x).

    The columns of F_i are the eigenvectors of T_i, the solution after a few rounds of

        T_i = Σ_j w_ij r̂_ij r̂_ijᵀ + ε Σ_j w_ij T_j / Σ_j w_ij,

    where the second term lets an atom whose neighbours lie on a line, or around a symmetric site, see what they see. The
    axis whose eigenvalue stands apart is the second column, for the polar axis of the harmonics is y: a feature that is
    symmetric about it has one component for each degree, and the arbitrary choice of the other two axes does not matter to
    its code. (A cubic site leaves all three arbitrary: features of degree 1 and 2 vanish there, of degree 3 need not.)
    Signs are arbitrary, and that costs nothing: a real harmonic is odd or even in every axis, and a symmetric quantizer is
    odd. Frames are constants for derivatives.

    Args:
        vectors: unit vectors r̂_ij of the edges, shape (E, 3).
        weights: w_ij >= 0, smooth and zero at the cutoff, shape (E,).
        centers: i, shape (E,).
        neighbours: j, shape (E,).
        count: number of atoms N.

    Returns:
        Shape (N, 3, 3), float64, determinant +1; a permutation of the axes for an atom without neighbours.
    """
    u, w = vectors.detach().double(), weights.detach().double()[:, None]
    products = torch.stack([u[:, a] * u[:, b] for a in range(3) for b in range(a + 1)], -1)
    own = torch.zeros(count, 6, dtype=torch.float64, device=u.device).index_add(0, centers, w * products)
    total = own[:, [0, 2, 5]].sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    lower = own
    for _ in range(SPREADING):
        lower = own + SPREAD * torch.zeros_like(own).index_add(0, centers, w * lower[neighbours]) / total
    xx, xy, yy, xz, yz, zz = lower.unbind(-1)
    tensor = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).reshape(count, 3, 3)
    values, frames = torch.linalg.eigh(tensor)
    last_apart = values[:, 2] - values[:, 1] > values[:, 1] - values[:, 0]
    frames = torch.where(last_apart[:, None, None], frames[:, :, [0, 2, 1]], frames[:, :, [1, 0, 2]])
    return frames * torch.linalg.det(frames)[:, None, None].sign()
