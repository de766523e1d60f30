"""The linear quantizer: exact whole numbers, odd symmetry, and the gradients of LSQ."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from gaq.errors import ConfigError
from gaq.quant.affine import (
    clipped_fraction,
    codes,
    fake_quantize,
    scale_from_max,
    scale_from_mse,
)
from gaq.quant.formats import IntFormat, UnsignedFormat

BITS = [2, 3, 4, 5, 6, 7, 8, 12, 16]
SIGNED = [*BITS, 24]  # the widest: all of its codes are float32 numbers
repeatable = settings(derandomize=True, deadline=None, max_examples=60)
formats = st.builds(IntFormat, bits=st.sampled_from(SIGNED)) | st.builds(UnsignedFormat, bits=st.sampled_from(BITS))
values = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20).map(torch.tensor)
steps = st.floats(2**-12, 64, width=32).map(torch.tensor)


@repeatable
@given(x=values, scale=steps, fmt=formats)
def test_codes_are_exactly_the_whole_numbers(x, scale, fmt):
    expected = np.clip(np.rint(x.numpy() / scale.numpy()), fmt.qmin, fmt.qmax)
    assert torch.equal(codes(x, scale, fmt), torch.from_numpy(expected))


@repeatable
@given(x=values, scale=steps, bits=st.sampled_from(SIGNED))
def test_rounding_is_odd(x, scale, bits):
    fmt = IntFormat(bits=bits)
    assert torch.equal(codes(-x, scale, fmt), -codes(x, scale, fmt))


def test_halves_go_to_the_even_neighbour():
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert codes(x, torch.tensor(1.0), IntFormat(bits=4)).tolist() == [-2, -2, 0, 0, 2, 2]


@repeatable
@given(x=values, scale=steps, fmt=formats)
def test_quantizing_twice_changes_nothing(x, scale, fmt):
    once = fake_quantize(x, scale, fmt)
    assert torch.equal(fake_quantize(once, scale, fmt), once)


def test_gradients_are_those_of_lsq():
    fmt, scale = IntFormat(bits=4), torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([-9.0, -7.4, -3.2, 0.0, 0.3, 2.8, 7.49, 7.51, 20.0], dtype=torch.float64)
    x, g = (0.5 * t).requires_grad_(), torch.arange(1.0, 10.0, dtype=torch.float64)
    to_x, to_scale = torch.autograd.grad(fake_quantize(x, scale, fmt), [x, scale], g)
    inside = t.abs() <= 7.5
    code = t.round().clamp(-7, 7)
    assert torch.equal(to_x, torch.where(inside, g, 0.0))
    assert torch.allclose(to_scale, (g * torch.where(inside, code - t, code)).sum())


def test_second_derivatives_are_those_of_the_surrogate():
    fmt, scale = IntFormat(bits=4), torch.tensor(0.3, dtype=torch.float64)
    x = torch.linspace(-3, 3, 23, dtype=torch.float64)
    code = codes(x, scale, fmt)
    rest = code - (x / scale).clamp(-7.5, 7.5)

    def loss(quantize):
        return lambda x, scale: torch.sin(quantize(x, scale)).sum()

    def hessian(quantize):
        return torch.func.jacrev(torch.func.jacrev(loss(quantize), (0, 1)), (0, 1))(x, scale)

    ours = hessian(lambda x, s: fake_quantize(x, s, fmt))
    expected = hessian(lambda x, s: ((x / s).clamp(-7.5, 7.5) + rest) * s)
    for i, j in [(0, 0), (0, 1), (1, 1)]:
        assert torch.allclose(ours[i][j], expected[i][j])


def test_a_trace_gives_the_same_numbers():
    fmt, scale = IntFormat(bits=8), torch.tensor(0.02)
    gradient = torch.func.grad(lambda x, s: fake_quantize(x, s, fmt).square().sum())
    traced = make_fx(gradient)(torch.zeros(50), scale)
    x = torch.linspace(-4, 4, 50)
    assert torch.equal(traced(x, scale), gradient(x, scale))


@pytest.mark.parametrize("search", [scale_from_max, scale_from_mse])
def test_channels_are_scaled_one_by_one(search):
    x = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 2, 6)[:, None]
    scales = search(x, IntFormat(bits=4), channel_axis=1)
    assert scales.shape == (1, 6, 1)
    for channel in range(6):
        assert torch.allclose(scales[0, channel, 0], search(x[:, channel], IntFormat(bits=4)))
    assert torch.equal(search(x, IntFormat(bits=4), channel_axis=-2), scales)


@pytest.mark.parametrize("search", [scale_from_max, scale_from_mse])
def test_silent_channels_get_a_positive_scale(search):
    x = torch.tensor([[0.0, 0.0], [1e-44, 0.0], [1.0, -3.0]])
    scales = search(x, IntFormat(bits=8), channel_axis=0)
    assert torch.all(scales > 0)
    assert torch.all(fake_quantize(x, scales, IntFormat(bits=8)).isfinite())
    assert search(torch.zeros(4, 4), IntFormat(bits=8)) > 0


@pytest.mark.parametrize("search", [scale_from_max, scale_from_mse])
def test_a_scale_needs_values(search):
    with pytest.raises(ConfigError, match="calibration"):
        search(torch.zeros(0, 3), IntFormat(bits=8))


def test_max_clips_nothing_and_mse_clips_outliers():
    fmt = IntFormat(bits=4)
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    widest, best = scale_from_max(x, fmt), scale_from_mse(x, fmt)
    assert clipped_fraction(x, widest, fmt) == 0.0
    assert 0.0 < clipped_fraction(x, best, fmt) < 0.05
    error = [(fake_quantize(x, s, fmt) - x).square().mean().sqrt() for s in (widest, best)]
    assert error[1] < 0.9 * error[0]
    assert best.item() == pytest.approx(0.335, rel=0.1)  # the optimal uniform step of a normal variable, 15 levels


def test_clipped_fraction_counts_what_is_beyond_half_a_step():
    x = torch.tensor([-7.6, -7.4, 0.0, 7.4, 7.6])
    assert clipped_fraction(x, torch.tensor(1.0), IntFormat(bits=4)) == pytest.approx(0.4)
    assert clipped_fraction(torch.zeros(0), torch.tensor(1.0), IntFormat(bits=4)) == 0.0
