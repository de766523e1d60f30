"""Rotations as tensors: of features of any degree, about an axis, at random, and the local frame of each atom."""

from functools import lru_cache

import torch
from torch import Tensor

from gaq.so3 import SPREAD, SPREADING, degree_slices, harmonics


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
