"""Points on the sphere: symmetry, covering angles against the convex hull, search, and k-means."""

import math

import numpy as np
import pytest
import torch
from groups import icosahedral_rotations, signed_permutations

from gaq.quant import codebooks
from gaq.quant.codebooks import (
    covering_angle,
    fibonacci,
    icosahedral,
    kmeans,
    nearest,
    octahedral,
    random_directions,
)


def closed(points: torch.Tensor, group: torch.Tensor) -> bool:
    images = torch.einsum("gij,kj->gki", group, points)
    gap = [torch.cdist(image, points).min(dim=1).values.max() for image in images]
    return max(gap) < 1e-6


@pytest.mark.parametrize("level", [1, 2, 5, 7])
def test_octahedral_points_are_closed_under_the_48_symmetries_of_the_cube(level):
    assert octahedral(level).shape == (4 * level**2 + 2, 3)
    assert closed(octahedral(level), signed_permutations())


@pytest.mark.parametrize("level", [1, 2, 5])
def test_icosahedral_points_are_closed_under_the_60_rotations_and_the_inversion(level):
    rotations = icosahedral_rotations()
    assert rotations.shape == (60, 3, 3)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(60, dtype=torch.float64))
    assert icosahedral(level).shape == (10 * level**2 + 2, 3)
    assert closed(icosahedral(level), torch.cat([rotations, -rotations]))


@pytest.mark.parametrize("points", [fibonacci(100), octahedral(6), icosahedral(4)])
def test_points_are_distinct_unit_vectors(points):
    assert torch.allclose(points.norm(dim=1), torch.ones(len(points), dtype=torch.float64))
    assert torch.pdist(points).min() > 0.5 / math.sqrt(len(points))


@pytest.mark.parametrize("points", [
    octahedral(1), octahedral(7), icosahedral(1), icosahedral(5), fibonacci(256), fibonacci(1000),
    random_directions(60, 3, torch.Generator().manual_seed(3))])
def test_covering_angle_is_that_of_the_widest_hull_triangle(points):
    hull = pytest.importorskip("scipy.spatial").ConvexHull(points.numpy())
    assert covering_angle(points) == pytest.approx(np.arccos(-hull.equations[:, -1]).max(), abs=1e-6)


def test_covering_angle_in_five_dimensions_is_close_to_that_of_the_hull():
    points = random_directions(100, 5, torch.Generator().manual_seed(0))
    hull = pytest.importorskip("scipy.spatial").ConvexHull(points.numpy())
    exact = np.arccos(-hull.equations[:, -1]).max()
    assert 0.97 * exact < covering_angle(points) < exact + 1e-6


def test_too_few_points_cover_nothing():
    assert covering_angle(torch.eye(3, dtype=torch.float64)[:2]) == math.pi


def test_icosahedral_points_cover_best():
    assert covering_angle(icosahedral(5)) < covering_angle(fibonacci(252)) < covering_angle(octahedral(7))


def test_search_in_chunks_finds_the_same(monkeypatch):
    u = torch.randn(4, 7, 3, 5, generator=torch.Generator().manual_seed(0))
    points = fibonacci(50).float()
    whole = nearest(u, points)
    monkeypatch.setattr(codebooks, "SEARCH_SIZE", 300)
    assert torch.equal(nearest(u, points), whole)
    expected = points[torch.einsum("abic,ki->abck", u, points).argmax(-1)].movedim(-1, -2)
    assert torch.equal(whole, expected)
    assert nearest(u[:0], points).shape == (0, 7, 3, 5)


@pytest.mark.parametrize("components", [3, 5])
def test_kmeans_is_repeatable_and_finds_clusters(components):
    generator = torch.Generator().manual_seed(1)
    centers = torch.eye(components, dtype=torch.float64)
    data = centers.repeat_interleave(50, 0) + 0.02 * torch.randn(50 * components, components, generator=generator)
    data = data / data.norm(dim=1, keepdim=True)
    points = kmeans(data, 4 * components, seed=0)
    assert torch.equal(points, kmeans(data, 4 * components, seed=0))
    assert torch.allclose(points.norm(dim=1), torch.ones(len(points), dtype=torch.float64))
    assert (data @ points.T).max(dim=1).values.min() > math.cos(0.1)


def test_kmeans_fills_up_what_the_data_lack():
    points = kmeans(torch.zeros(0, 3, dtype=torch.float64), 16, seed=0)
    assert points.shape == (16, 3)
    assert points.isfinite().all()
    assert len(kmeans(torch.tensor([[1.0, 0.0, 0.0]]).expand(100, 3), 8, seed=0)) == 8
