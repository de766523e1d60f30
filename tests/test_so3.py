"""Harmonics and rotation matrices against e3nn, the addition theorem and the axioms of a representation."""

import math
import warnings

import numpy as np
import pytest
import torch

from gaq.errors import ConfigError
from gaq.rotations import axis_rotation, local_frames, random_rotations, wigner_d
from gaq.so3 import components, degree_slices, harmonics

DEGREES = (1, 2, 3, 4)


def directions(count: int = 50, seed: int = 0) -> torch.Tensor:
    v = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return v / v.norm(dim=-1, keepdim=True)


def rotations(count: int = 8) -> torch.Tensor:
    return random_rotations(count, torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def o3():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of e3nn's own imports
        module = pytest.importorskip("e3nn.o3")
    return module


def test_the_layout_of_degrees() -> None:
    assert [components(l) for l in DEGREES] == [3, 8, 15, 24]
    assert degree_slices(3) == (slice(0, 3), slice(3, 8), slice(8, 15))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("degree", DEGREES)
def test_harmonics_are_those_of_e3nn(o3, degree: int) -> None:
    u = directions()
    expected = o3.spherical_harmonics(degree, u, normalize=False, normalization="norm")
    torch.testing.assert_close(harmonics(u, 4)[:, degree_slices(4)[degree - 1]], expected, rtol=0, atol=1e-12)
    assert harmonics(u, degree).shape == (50, components(degree))


@pytest.mark.parametrize("degree", DEGREES)
def test_harmonics_of_arrays_are_those_of_tensors(degree: int) -> None:
    u = directions()
    np.testing.assert_allclose(harmonics(u.numpy(), degree), harmonics(u, degree).numpy(), rtol=0, atol=1e-15)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("degree", DEGREES)
def test_matrices_are_those_of_e3nn(o3, degree: int) -> None:
    r = rotations()
    expected = o3.Irrep(degree, 1).D_from_matrix(r)
    torch.testing.assert_close(wigner_d(r, degree), expected, rtol=0, atol=1e-5)  # e3nn goes by Euler angles


@pytest.mark.parametrize("degree", DEGREES)
def test_the_addition_theorem(degree: int) -> None:
    """Y^l(u) · Y^l(v) = P_l(u · v), which fixes the harmonics up to an orthogonal matrix."""
    u, v = directions(seed=2), directions(seed=3)
    part = degree_slices(4)[degree - 1]
    x = (u * v).sum(-1)
    legendre = {1: x, 2: (3 * x**2 - 1) / 2, 3: (5 * x**3 - 3 * x) / 2, 4: (35 * x**4 - 30 * x**2 + 3) / 8}[degree]
    torch.testing.assert_close((harmonics(u, 4)[:, part] * harmonics(v, 4)[:, part]).sum(-1), legendre)


@pytest.mark.parametrize("degree", DEGREES)
def test_matrices_turn_harmonics(degree: int) -> None:
    u, r, part = directions(), rotations(), degree_slices(degree)[-1]
    for matrix in (*r, -r[0]):  # improper ones too
        d = wigner_d(matrix, degree)
        torch.testing.assert_close(harmonics(u @ matrix.T, degree)[:, part], harmonics(u, degree)[:, part] @ d.T,
                                   rtol=0, atol=1e-12)
    torch.testing.assert_close(wigner_d(-torch.eye(3, dtype=torch.float64), degree),
                               (-1) ** degree * torch.eye(2 * degree + 1, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("degree", DEGREES)
def test_matrices_are_an_orthogonal_representation(degree: int) -> None:
    a, b = rotations(2)
    da, db, dab = (wigner_d(m, degree) for m in (a, b, a @ b))
    torch.testing.assert_close(da @ db, dab, rtol=0, atol=1e-12)
    torch.testing.assert_close(da @ da.mT, torch.eye(2 * degree + 1, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(wigner_d(torch.stack([a, b]), degree), torch.stack([da, db]))
    character = sum(math.cos(m * _angle(a)) for m in range(-degree, degree + 1))
    assert float(da.trace()) == pytest.approx(character, abs=1e-10)


def _angle(rotation: torch.Tensor) -> float:
    return math.acos(max(-1.0, min(1.0, float(rotation.trace() - 1) / 2)))


def test_degrees_beyond_four_are_refused() -> None:
    for degree in (0, 5):
        with pytest.raises(ConfigError, match=f"from 1 to 4, not {degree}"):
            harmonics(directions(), degree)


def test_rotations_about_an_axis() -> None:
    x, y, z = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(axis_rotation(z, math.pi / 2) @ x, y)
    torch.testing.assert_close(axis_rotation(torch.tensor([0.0, 5.0, 0.0], dtype=torch.float64), math.pi / 2) @ z, x)
    axes, angles = directions(6), torch.linspace(0.1, 3.0, 6, dtype=torch.float64)
    turned = axis_rotation(axes, angles)
    torch.testing.assert_close(torch.einsum("nab,nb->na", turned, axes), axes)
    assert [_angle(r) for r in turned] == pytest.approx(angles.tolist())
    torch.testing.assert_close(torch.linalg.det(turned), torch.ones(6, dtype=torch.float64))


def test_random_rotations_are_uniform() -> None:
    """The trace has mean 0 and mean square 1, and every image of a vector is equally likely."""
    r = random_rotations(20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(r @ r.mT, torch.eye(3, dtype=torch.float64).expand(len(r), 3, 3))
    assert (torch.linalg.det(r) > 0).all()
    traces = r.diagonal(dim1=1, dim2=2).sum(-1)
    assert abs(traces.mean()) < 0.03
    assert abs((traces**2).mean() - 1) < 0.03
    image = r[:, :, 0]
    torch.testing.assert_close(image.T @ image / len(r), torch.eye(3, dtype=torch.float64) / 3, rtol=0, atol=0.01)
    assert random_rotations(2, dtype=torch.float32).dtype == torch.float32


def test_the_same_generator_gives_the_same_rotations() -> None:
    first, second = (random_rotations(3, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    generator = torch.Generator().manual_seed(5)
    assert not torch.equal(random_rotations(3, generator), random_rotations(3, generator))


def edges(count: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    u = directions(6 * count, seed)
    weights = torch.rand(6 * count, generator=generator, dtype=torch.float64) + 0.1
    return u, weights, torch.arange(6 * count) % count, torch.randint(count, (6 * count,), generator=generator)


def test_local_frames_turn_with_the_molecule_up_to_signs() -> None:
    u, w, i, j = edges()
    frames = local_frames(u, w, i, j, 4)
    torch.testing.assert_close(frames @ frames.mT, torch.eye(3, dtype=torch.float64).expand(4, 3, 3))
    torch.testing.assert_close(torch.linalg.det(frames), torch.ones(4, dtype=torch.float64))
    for matrix in (*rotations(), -rotations()[0]):
        turned = local_frames(u @ matrix.T, w, i, j, 4)
        signs = (matrix @ frames).mT @ turned
        torch.testing.assert_close(signs.abs(), torch.eye(3, dtype=torch.float64).expand(4, 3, 3), rtol=0, atol=1e-10)


@pytest.mark.parametrize("degree", DEGREES)
def test_the_signs_of_a_frame_only_flip_components(degree: int) -> None:
    """So an odd quantizer does not see them."""
    for signs in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1]):
        d = wigner_d(torch.diag(torch.tensor(signs, dtype=torch.float64)), degree)
        torch.testing.assert_close(d.abs(), torch.eye(2 * degree + 1, dtype=torch.float64), rtol=0, atol=1e-12)


def test_local_frames_are_constants_and_exist_for_atoms_alone() -> None:
    u, w, i, j = edges()
    frames = local_frames(u.requires_grad_(), w, i, j, 5)
    assert not frames.requires_grad
    torch.testing.assert_close(frames[4].abs().sum(0), torch.ones(3, dtype=torch.float64))
    assert float(torch.linalg.det(frames[4])) == pytest.approx(1.0)
    assert local_frames(u[:0], w[:0], i[:0], j[:0], 2).shape == (2, 3, 3)
