"""Points on the sphere: the fixed codebooks, the learned one, the search for the nearest, and how well they cover.

A codebook is a tensor of unit vectors, shape (points, n) with n = 2l+1 components.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN = (1 + 5**0.5) / 2
SEARCH_SIZE = 2**20  # products per chunk of a search: bounds its memory to 4 MB in float32
KMEANS_ROUNDS = 20
VECTORS_PER_POINT = 32  # k-means learns from at most this many directions for each point


def nearest(u: Tensor, points: Tensor) -> Tensor:
    """Return the point of largest <u, p> for each vector; ties go to the first.

    Args:
        u: vectors, shape (..., n, C); their length does not matter.
        points: unit vectors, shape (K, n).

    Returns:
        Points, shape of `u`.
    """
    points = points.to(u)
    rows = u.movedim(-2, -1).reshape(-1, points.shape[1])
    chunks = rows.split(max(1, SEARCH_SIZE // len(points)))
    index = torch.cat([(chunk @ points.T).argmax(-1) for chunk in chunks])
    return points[index].reshape(u.movedim(-2, -1).shape).movedim(-1, -2)


@lru_cache(maxsize=32)
def fibonacci(count: int) -> Tensor:
    """Return `count` points on a spiral, z_i = 1 - (2i+1)/K and φ_i = 2π i / golden ratio; shape (count, 3)."""
    i = np.arange(count)
    z, phi = 1 - (2 * i + 1) / count, 2 * np.pi * i / GOLDEN
    r = np.sqrt(1 - z**2)
    return torch.from_numpy(np.stack([r * np.cos(phi), r * np.sin(phi), z], axis=1))


@lru_cache(maxsize=32)
def octahedral(level: int) -> Tensor:
    """Return the 4·level² + 2 points of the divided octahedron, closed under its 48 symmetries; shape (points, 3)."""
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    return _geodesic(axes, level)


@lru_cache(maxsize=32)
def icosahedral(level: int) -> Tensor:
    """Return the 10·level² + 2 points of the divided icosahedron, closed under its 120 symmetries; (points, 3)."""
    corners = [np.roll((0.0, a, b * GOLDEN), shift) for a in (1, -1) for b in (1, -1) for shift in range(3)]
    return _geodesic(np.array(corners) / np.hypot(1, GOLDEN), level)


def _geodesic(corners: NDArray[np.float64], level: int) -> Tensor:
    """Divide each triangle between neighbouring corners into level² triangles, with equal arcs along its edges.

    A point with barycentric coordinates (i, j, k)/level lies along sin(iω/level) A + sin(jω/level) B + sin(kω/level) C,
    ω being the angle of an edge.
    """
    cosines = corners @ corners.T
    closest = np.max(cosines[cosines < 1 - 1e-9])
    joined = np.abs(cosines - closest) < 1e-9
    size = len(corners)
    faces = [(a, b, c) for a in range(size) for b in range(a) for c in range(b)
             if joined[a, b] and joined[b, c] and joined[a, c]]
    whole = np.array([(i, j, level - i - j) for i in range(level + 1) for j in range(level + 1 - i)])
    weights = np.sin(whole / level * np.arccos(closest))
    points = np.concatenate([weights @ corners[list(face)] for face in faces])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    # Rounding makes the copies that symmetric faces give of one coordinate equal to the last bit.
    return torch.from_numpy(np.unique(np.round(points, 12) + 0.0, axis=0))


def kmeans(directions: Tensor, count: int, seed: int) -> Tensor:
    """Return `count` points learned from directions by spherical k-means (Lloyd rounds on the cosine).

    Where fewer directions than points are given, random ones of the whole sphere make up the number; a point that
    loses all its directions moves to the direction that is covered worst. The same seed gives the same points.

    Args:
        directions: unit vectors, shape (M, n).
        count: number of points.
        seed: of the random choice of the first points.

    Returns:
        Unit vectors, shape (count, n), float64.
    """
    generator = torch.Generator().manual_seed(seed)
    data = directions.detach().to("cpu", torch.float64)
    if len(data) < count:
        data = torch.cat([data, random_directions(count - len(data), data.shape[1], generator)])
    data = data[torch.randperm(len(data), generator=generator)[: count * VECTORS_PER_POINT]]
    points = data[:count].clone()
    for _ in range(KMEANS_ROUNDS):
        parts = [(chunk @ points.T).max(-1) for chunk in data.split(max(1, SEARCH_SIZE // count))]
        cosine, owner = torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])
        sums = torch.zeros_like(points).index_add_(0, owner, data)
        lost = sums.norm(dim=1) < 1e-9
        sums[lost] = data[cosine.argsort()[: int(lost.sum())]]
        points = sums / sums.norm(dim=1, keepdim=True)
    return points


def random_directions(count: int, components: int, generator: torch.Generator) -> Tensor:
    """Return unit vectors distributed evenly over the sphere, shape (count, components), float64."""
    v = torch.randn(count, components, generator=generator, dtype=torch.float64)
    return v / v.norm(dim=1, keepdim=True)


def covering_angle(points: Tensor) -> float:
    """Return the largest angle from any direction to its nearest point, in radians.

    It is attained at a corner of a Voronoi cell, which is equally far from its n nearest points. From each of many
    random directions the corner next to it is solved for, and its distance to the codebook taken: every one is a
    lower bound, and the largest is the covering angle once the worst corner has been met. With three components it
    is met in practice; with more there are too many corners to be sure, and the value is an estimate from below.

    Args:
        points: unit vectors, shape (K, n).
    """
    points = points.detach().to("cpu", torch.float64)
    count, n = points.shape
    if count < n:
        return np.pi
    generator = torch.Generator().manual_seed(0)
    starts = random_directions(min(max(count, 1000) * n**3 // 2, 200_000), n, generator)
    least = 1.0
    coarse = points.float()  # enough to tell neighbours apart, in half the time
    for chunk in starts.split(max(1, SEARCH_SIZE // count)):
        for _ in range(2):
            chosen = points[(chunk.float() @ coarse.T).topk(n).indices]
            corner, failed = torch.linalg.solve_ex(chosen, torch.ones(len(chunk), n, dtype=torch.float64))
            corner = corner / corner.norm(dim=1, keepdim=True)
            usable = (failed == 0) & corner.isfinite().all(1)
            chunk = torch.where(usable[:, None], corner, chunk)
        least = min(least, float((chunk @ points.T).amax(1).min()))
    return float(np.arccos(np.clip(least, -1.0, 1.0)))
