"""Envelopes and bases against their formulas, and what they do at the cutoff."""

import math

import numpy as np
import pytest
import torch

from gaq.radial import BASES, CUTOFFS, BernsteinBasis, BesselBasis, CosineCutoff, GaussianBasis, PolynomialCutoff

R = 4.5


def derivatives(function, at: float, order: int) -> list[float]:
    """The value and the first derivatives by distance, by automatic differentiation."""
    x = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    y = function(x).sum()
    found = [y.item()]
    for _ in range(order):
        (y,) = torch.autograd.grad(y, x, create_graph=True, allow_unused=True)
        if y is None or not y.requires_grad:
            found += [0.0 if y is None else y.item()] * (order + 1 - len(found))
            break
        found.append(y.item())
    return found


@pytest.mark.parametrize(("name", "smoothness"), [("cosine", 1), ("polynomial", 2)])
def test_envelopes_go_from_one_to_zero(name: str, smoothness: int) -> None:
    envelope = CUTOFFS[name](R)
    assert envelope(torch.zeros(1, dtype=torch.float64)).item() == pytest.approx(1.0)
    r = torch.linspace(0, R, 200, dtype=torch.float64)
    assert bool((envelope(r).diff() <= 1e-15).all())
    assert envelope(torch.tensor([R, R + 0.1, 99.0], dtype=torch.float64)).abs().max() < 1e-12
    for at in (R - 1e-9, R + 1e-9):  # from both sides
        assert derivatives(envelope, at, smoothness) == pytest.approx([0.0] * (smoothness + 1), abs=1e-7)


def test_envelopes_are_their_formulas() -> None:
    r = torch.linspace(0.1, R - 0.1, 30, dtype=torch.float64)
    torch.testing.assert_close(CosineCutoff(R)(r), 0.5 * (1 + torch.cos(math.pi * r / R)))
    t, p = r / R, 5
    torch.testing.assert_close(PolynomialCutoff(R)(r), 1 - (p + 1) * (p + 2) / 2 * t**p + p * (p + 2) * t ** (p + 1)
                               - p * (p + 1) / 2 * t ** (p + 2))


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("envelope", CUTOFFS)
def test_what_reaches_the_network_vanishes_at_the_cutoff(basis: str, envelope: str) -> None:
    e, phi = BASES[basis](R, 6), CUTOFFS[envelope](R)
    order = 2 if envelope == "polynomial" else 1
    found = derivatives(lambda d: (e(d) * phi(d)[:, None]).sum(), R - 1e-9, order)
    assert found == pytest.approx([0.0] * (order + 1), abs=1e-7)


@pytest.mark.parametrize("basis", BASES)
def test_bases_are_finite_and_smooth_where_atoms_can_be(basis: str) -> None:
    e = BASES[basis](R, 16)
    for dtype in (torch.float32, torch.float64):
        d = torch.linspace(0.05, R, 300, dtype=dtype)
        values = e(d)
        assert values.shape == (300, 16)
        assert values.dtype == dtype
        assert torch.isfinite(values).all()
    h = 1e-5
    d = torch.linspace(0.3, R - 0.1, 50, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(e(d).sum(), d)
    numeric = (e(d.detach() + h) - e(d.detach() - h)).sum(1) / (2 * h)
    torch.testing.assert_close(slope, numeric, rtol=1e-6, atol=1e-6)


def test_bessel_functions_are_orthonormal() -> None:
    """∫ e_n e_m r² dr = δ_nm on [0, r_c]."""
    d = torch.linspace(0, R, 4001, dtype=torch.float64)[1:]
    values = BesselBasis(R, 5)(d) * d[:, None]
    overlap = values.T @ values * (R / 4000)
    torch.testing.assert_close(overlap, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-3)


def test_bernstein_polynomials_sum_to_one() -> None:
    d = torch.linspace(0.1, R, 40, dtype=torch.float64)
    for functions in (2, 7, 32):
        values = BernsteinBasis(R, functions)(d)
        torch.testing.assert_close(values.sum(1), torch.ones(40, dtype=torch.float64))
        assert bool((values >= 0).all())


def test_gaussians_peak_at_their_centres() -> None:
    centres = torch.linspace(0, R, 5, dtype=torch.float64)
    torch.testing.assert_close(GaussianBasis(R, 5)(centres).diagonal(), torch.ones(5, dtype=torch.float64))
    assert GaussianBasis(R, 5)(centres)[0, 1].item() == pytest.approx(math.exp(-0.5))


@pytest.mark.parametrize("basis", BASES)
def test_precision_comes_from_the_distances(basis: str) -> None:
    d = torch.linspace(0.5, 4.0, 20, dtype=torch.float64)
    rounded = BASES[basis](R, 8)(d.float())
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.double(), BASES[basis](R, 8)(d), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [*BASES, *CUTOFFS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_give_what_tensors_give(name: str, dtype: type) -> None:
    d = np.linspace(0.1, R + 0.5, 200, dtype=dtype)
    function = BASES[name](R, 8) if name in BASES else CUTOFFS[name](R)
    found = function(d)
    assert isinstance(found, np.ndarray)
    assert found.dtype == dtype
    bound = 16 * np.finfo(dtype).eps * np.abs(found).max()
    np.testing.assert_allclose(found, function(torch.from_numpy(d)).numpy(), rtol=0, atol=bound)
