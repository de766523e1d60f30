"""Vector features: symmetry, the bound on the equivariance error, and the gradients."""

import math

import pytest
import torch
from groups import icosahedral_rotations, signed_permutations
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch.fx.experimental.proxy_tensor import make_fx

from gaq.errors import ConfigError
from gaq.quant.direction import direction_coder
from gaq.quant.magnitude import magnitude_quantizer
from gaq.quant.vector_formats import (
    MDDQ,
    ComponentDirection,
    Components,
    FibonacciCodebook,
    FloatDirection,
    FloatMagnitude,
    IcosahedralCodebook,
    KMeansCodebook,
    LinearMagnitude,
    LogMagnitude,
    OctahedralCodebook,
    OctahedralMap,
    VectorFormat,
)
from gaq.quant.vectors import quantizer_of

repeatable = settings(derandomize=True, deadline=None, max_examples=25)
seeds = st.integers(0, 2**31)

CODERS = [ComponentDirection(bits=8), ComponentDirection(bits=3), FibonacciCodebook(points=256),
          OctahedralCodebook(level=7), IcosahedralCodebook(level=5), KMeansCodebook(points=200), OctahedralMap(bits=8),
          OctahedralMap(bits=4), FloatDirection()]
MAGNITUDES = [LinearMagnitude(), LogMagnitude(), FloatMagnitude()]
FORMATS = [Components(bits=8), *(MDDQ(direction=coder) for coder in CODERS),
           *(MDDQ(magnitude=magnitude) for magnitude in MAGNITUDES)]


def features(seed: int, degree: int = 1, rows: int = 40, channels: int = 6, dtype=torch.float64) -> torch.Tensor:
    """Random features with magnitudes over three decades."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(rows, 2 * degree + 1, channels, generator=generator, dtype=dtype)
    return v * 10 ** (-3 * torch.rand(rows, 1, channels, generator=generator, dtype=dtype))


def random_rotation(seed: int) -> torch.Tensor:
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)


CALIBRATION = features(0, rows=200)
POINTS = {fmt: quantizer_of(fmt).initial_points(CALIBRATION, 1, 0) for fmt in FORMATS}
ANGLES = {fmt: quantizer_of(fmt).worst_angle(1, POINTS[fmt]) for fmt in FORMATS}


def setup(fmt: VectorFormat, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor | None]:
    points = POINTS.get(fmt, quantizer_of(fmt).initial_points(CALIBRATION, 1, 0))
    return quantizer_of(fmt).initial_scale(CALIBRATION, 1).to(dtype), None if points is None else points.to(dtype)


@pytest.mark.parametrize("fmt", [Components(bits=4), Components(bits=8), *(
    MDDQ(direction=coder, magnitude=FloatMagnitude())
    for coder in [ComponentDirection(bits=8), ComponentDirection(bits=2), OctahedralCodebook(level=7),
                  OctahedralMap(bits=8), OctahedralMap(bits=3)])], ids=repr)
@repeatable
@given(seed=seeds)
def test_commutes_with_the_48_signed_permutations_of_the_axes(fmt, seed):
    v, (scale, points) = features(seed, rows=10), setup(fmt)
    group = signed_permutations()
    turned = torch.einsum("gij,njc->gnic", group, v)
    expected = torch.einsum("gij,njc->gnic", group, quantizer_of(fmt).quantize(v, scale, 1, points))
    assert torch.allclose(quantizer_of(fmt).quantize(turned, scale, 1, points), expected, rtol=0, atol=1e-12)


def test_the_icosahedral_codebook_commutes_with_the_60_rotations():
    fmt = MDDQ(magnitude=FloatMagnitude(), direction=IcosahedralCodebook(level=5))
    group, v, (scale, points) = icosahedral_rotations(), features(5, rows=20), setup(fmt)
    turned = torch.einsum("gij,njc->gnic", group, v)
    expected = torch.einsum("gij,njc->gnic", group, quantizer_of(fmt).quantize(v, scale, 1, points))
    assert torch.allclose(quantizer_of(fmt).quantize(turned, scale, 1, points), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("fmt", [f for f in FORMATS if f not in (  # a spiral and learned points have no symmetry
    MDDQ(direction=FibonacciCodebook(points=256)), MDDQ(direction=KMeansCodebook(points=200)))], ids=repr)
@repeatable
@given(seed=seeds)
def test_quantizers_are_odd(fmt, seed):
    v, (scale, points) = features(seed), setup(fmt)
    assert torch.equal(quantizer_of(fmt).quantize(-v, scale, 1, points), -quantizer_of(fmt).quantize(v, scale, 1, points))


@pytest.mark.parametrize("coder", CODERS, ids=repr)
@repeatable
@given(seed=seeds)
def test_equivariance_error_is_within_the_covering_angle(coder, seed):
    fmt, rotation = MDDQ(magnitude=FloatMagnitude(), direction=coder), random_rotation(seed)
    delta = ANGLES[MDDQ(direction=coder)]
    points = POINTS[MDDQ(direction=coder)]
    v, scale = features(seed), quantizer_of(fmt).initial_scale(CALIBRATION, 1)
    size, coded = v.norm(dim=1), quantizer_of(fmt).quantize(v, scale, 1, points)
    error = (quantizer_of(fmt).quantize(rotation @ v, scale, 1, points) - rotation @ coded).norm(dim=1)
    assert torch.all(error <= 2 * size * math.sin(delta) + 1e-12)
    cosine = (coded * v).sum(1) / size**2
    assert torch.all(cosine >= math.cos(delta) - 1e-12)


@pytest.mark.parametrize("degree", [2, 3])
def test_the_bound_of_components_holds_at_every_degree(degree):
    fmt = MDDQ(magnitude=FloatMagnitude(), direction=ComponentDirection(bits=6))
    v = features(1, degree, rows=4000)
    q = quantizer_of(fmt).quantize(v, v.norm(dim=1).max(), degree)
    cosine = torch.cosine_similarity(q, v, dim=1).clamp(max=1.0)
    delta = quantizer_of(fmt).worst_angle(degree)
    assert 0.5 * delta < torch.arccos(cosine).max() <= delta


@pytest.mark.parametrize("coder", [c for c in CODERS if not isinstance(c, FloatDirection)], ids=repr)
def test_the_covering_angle_is_not_far_above_what_is_met(coder):
    fmt = MDDQ(magnitude=FloatMagnitude(), direction=coder)
    points, v = POINTS[MDDQ(direction=coder)], features(7, rows=2000)
    cosine = torch.cosine_similarity(quantizer_of(fmt).quantize(v, v.norm(dim=1).max(), 1, points), v, dim=1)
    assert torch.arccos(cosine.clamp(max=1.0)).max() > 0.8 * ANGLES[MDDQ(direction=coder)]


@pytest.mark.parametrize("magnitude", MAGNITUDES, ids=repr)
@repeatable
@given(seed=seeds)
def test_quantized_magnitudes_are_invariant_and_close(magnitude, seed):
    fmt, v = MDDQ(magnitude=magnitude), features(seed)
    scale = quantizer_of(fmt).initial_scale(CALIBRATION, 1)
    size = v.norm(dim=1).clamp(max=CALIBRATION.norm(dim=1).max())
    quantized = quantizer_of(fmt).quantize(v, scale, 1).norm(dim=1)
    assert torch.allclose(quantizer_of(fmt).quantize(random_rotation(seed) @ v, scale, 1).norm(dim=1), quantized, rtol=1e-9)
    bound = {"linear": scale / 2, "float": 1e-12,
             "log": torch.maximum(size * (2 ** (8 / 254 / 2) - 1), scale / 2**9)}[magnitude.kind]
    within = v.norm(dim=1) <= (255 * scale if magnitude.kind == "linear" else scale)
    assert torch.all(((quantized - size).abs() <= bound * (1 + 1e-9))[within])


@pytest.mark.parametrize("fmt", [
    Components(bits=8), Components(bits=3),
    *(MDDQ(direction=coder, magnitude=magnitude) for magnitude in (LinearMagnitude(bits=6), LogMagnitude())
      for coder in CODERS if not isinstance(coder, ComponentDirection | FloatDirection))], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quantizing_twice_changes_nothing(fmt, dtype):
    v, (scale, points) = features(3, dtype=dtype), setup(fmt, dtype)
    once = quantizer_of(fmt).quantize(v, scale, 1, points)
    assert once.dtype == dtype
    assert torch.allclose(quantizer_of(fmt).quantize(once, scale, 1, points), once, rtol=4 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize(("gradient", "radial", "tangent"),
                         [("geometric", 0.0, 1.0), ("plain", 1.0, 1.0), ("none", 0.0, 0.0)])
def test_gradients_are_the_stated_ones(gradient, radial, tangent):
    fmt = MDDQ(direction=IcosahedralCodebook(), gradient=gradient)
    v, (scale, points) = features(11).requires_grad_(), setup(fmt)
    scale.requires_grad_()
    g = features(12)
    q = quantizer_of(fmt).quantize(v, scale, 1, points)
    to_v, to_scale = torch.autograd.grad(q, [v, scale], g)
    v, s = v.detach(), scale.detach()
    m = v.norm(dim=1, keepdim=True)
    u, code = v / m, (m / s).round().clamp(max=255)
    d = q.detach() / (code * s).clamp(min=1e-300)
    along = (g * d).sum(1, keepdim=True)
    clipped = m / s > 255.5
    spin = radial * u * (u * g).sum(1, keepdim=True) + tangent * (g - u * (u * g).sum(1, keepdim=True))
    expected = torch.where(clipped, 0.0, along * u) + code * s / m * spin
    assert torch.allclose(to_v, torch.where(code == 0, g, expected))
    expected = torch.where(clipped, code, code - m / s) * along
    assert torch.allclose(to_scale, torch.where(code == 0, -(g * v).sum(1, keepdim=True) / s, expected).sum())


def test_the_gradient_of_the_direction_has_no_radial_part():
    fmt = MDDQ(magnitude=FloatMagnitude(), direction=IcosahedralCodebook(level=2))
    v = features(1).requires_grad_()
    q = quantizer_of(fmt).quantize(v, torch.tensor(1.0, dtype=torch.float64), 1)
    (to_v,) = torch.autograd.grad(q, v, features(2))
    along = (to_v * v).sum(1) / v.norm(dim=1)
    expected = (features(2) * q).sum(1) / q.norm(dim=1)  # what the magnitude alone passes on
    assert torch.allclose(along, expected)


def test_second_derivatives_are_those_of_the_surrogate():
    fmt = MDDQ(magnitude=LinearMagnitude(bits=4), direction=IcosahedralCodebook(level=2))
    v, w, scale = features(4, rows=2, channels=2), features(5, rows=2, channels=2), torch.tensor(0.1).double()
    v = v + 0.1 * v.sign()  # none so short that it becomes zero, none clipped
    m = v.norm(dim=1, keepdim=True)
    assert (m / scale).max() < 15
    off_size = (m / scale).round() - m / scale
    off_turn = direction_coder(fmt.direction).code(v / m, None) - v / m

    def surrogate(v):
        m = v.square().sum(1, keepdim=True).sqrt()
        return (m / scale + off_size) * scale * (v / m + off_turn)

    def hessian(quantize):
        return torch.func.jacrev(torch.func.jacrev(lambda v: (w * quantize(v).sin()).sum()))(v)

    assert torch.allclose(quantizer_of(fmt).quantize(v, scale, 1), surrogate(v))
    assert torch.allclose(hessian(lambda v: quantizer_of(fmt).quantize(v, scale, 1)), hessian(surrogate))


def test_an_unquantized_vector_gets_no_false_curvature():
    fmt = MDDQ(magnitude=FloatMagnitude(), direction=FloatDirection())
    v = features(4, rows=3, channels=2)
    w, scale = features(5, rows=3, channels=2), torch.tensor(1.0, dtype=torch.float64)
    assert torch.allclose(quantizer_of(fmt).quantize(v, scale, 1), v)
    hessian = torch.func.jacrev(torch.func.jacrev(lambda v: (w * quantizer_of(fmt).quantize(v, scale, 1)).sum()))(v)
    assert hessian.abs().max() < 1e-9


@pytest.mark.parametrize("gradient", ["geometric", "plain", "none"])
@pytest.mark.parametrize("fmt", FORMATS, ids=repr)
def test_derivatives_are_finite_at_and_near_zero(fmt, gradient):
    fmt = fmt if isinstance(fmt, Components) else fmt.model_copy(update={"gradient": gradient})
    quantizer = quantizer_of(fmt)
    scale, points = quantizer.initial_scale(CALIBRATION, 1).float(), quantizer.initial_points(CALIBRATION.float(), 1, 0)
    v = features(1, dtype=torch.float32)
    v *= torch.tensor([1.0, 0.0, 1e-6, 1e-18, 1e-25, 1e-44])
    v.requires_grad_()
    scale.requires_grad_()
    loss = (quantizer_of(fmt).quantize(v, scale, 1, points) + v).sin().square().sum()
    first = torch.autograd.grad(loss, [v, scale], create_graph=True, materialize_grads=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), [v, scale], materialize_grads=True)
    for g in (*first, *second):
        assert g.isfinite().all()
    assert first[0].abs().max() < 20
    assert second[0][..., 1:].abs().max() < 100  # what rounds to zero adds no curvature of its own


@pytest.mark.parametrize("fmt", FORMATS, ids=repr)
def test_zero_stays_zero_and_nothing_stays_nothing(fmt):
    scale, points = setup(fmt)
    v = features(1)
    v[3], v[:, :, 2] = 0.0, 0.0
    q = quantizer_of(fmt).quantize(v, scale, 1, points)
    assert torch.all(q[3] == 0)
    assert torch.all(q[:, :, 2] == 0)
    assert quantizer_of(fmt).quantize(v[:0], scale, 1, points).shape == (0, 3, 6)


@pytest.mark.parametrize("fmt", FORMATS, ids=repr)
def test_calibration_gives_a_positive_scalar_and_clips_little(fmt):
    quantizer = quantizer_of(fmt)
    scale = quantizer.initial_scale(CALIBRATION, 1)
    assert scale.shape == ()
    assert quantizer.initial_scale(torch.zeros(4, 3, 2), 1) > 0
    assert quantizer.clipped(CALIBRATION, scale) < 0.02
    assert quantizer.clipped(100 * CALIBRATION, scale) > (0.0 if "Float" not in repr(getattr(fmt, "magnitude", "")) else -1)


def test_logarithmic_magnitudes_move_with_their_scale_only_where_clipped():
    magnitude, scale = LogMagnitude(bits=4, octaves=7), torch.tensor(2.0, requires_grad=True)
    for m, expected in [(0.3, 0.0), (2.0, 0.0), (9.0, 1.0)]:
        (gradient,) = torch.autograd.grad(magnitude_quantizer(magnitude).quantize(torch.tensor(m), scale), scale)
        assert gradient.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("fmt", "degree", "bits"), [
    (Components(bits=8), 1, 24), (Components(bits=8), 2, 40),
    (MDDQ(), 1, 8 + 24), (MDDQ(), 2, 8 + 40),
    (MDDQ(direction=OctahedralMap(bits=8)), 1, 8 + 16),
    (MDDQ(direction=FibonacciCodebook(points=256)), 1, 8 + 8),
    (MDDQ(direction=FibonacciCodebook(points=257)), 1, 8 + 9),
    (MDDQ(direction=IcosahedralCodebook(level=5)), 1, 8 + 8),
    (MDDQ(direction=OctahedralCodebook(level=31)), 1, 8 + 12),
    (MDDQ(direction=KMeansCodebook(points=4096), magnitude=LogMagnitude(bits=4)), 3, 4 + 12),
    (MDDQ(magnitude=FloatMagnitude(), direction=FloatDirection()), 1, 96)], ids=repr)
def test_bits_per_vector(fmt, degree, bits):
    assert fmt.bits_per_vector(degree) == bits


@pytest.mark.parametrize("fmt", FORMATS, ids=repr)
def test_formats_survive_serialization(fmt):
    adapter = TypeAdapter(VectorFormat)
    assert adapter.validate_json(adapter.dump_json(fmt)) == fmt


@pytest.mark.parametrize("level", [1, 2, 5, 7, 20])
def test_codebooks_have_as_many_points_as_their_formulas_say(level):
    for fmt in (OctahedralCodebook(level=level), IcosahedralCodebook(level=level), FibonacciCodebook(points=level + 3)):
        points = direction_coder(fmt).initial_points(torch.zeros(1, 3, 1), 1, 0)
        assert points is not None
        assert tuple(points.shape) == fmt.points_shape(1)


def test_unknown_kinds_and_fields_are_refused():
    adapter = TypeAdapter(VectorFormat)
    for bad in ({"kind": "mdq"}, {"kind": "components", "bit": 8}, {"kind": "mddq", "direction": {"kind": "spiral"}}):
        with pytest.raises(ValidationError):
            adapter.validate_python(bad)


@pytest.mark.parametrize("coder", [FibonacciCodebook(), OctahedralMap(), IcosahedralCodebook(), OctahedralCodebook(),
                                   ComponentDirection(bits=2)], ids=repr)
def test_degrees_that_a_coder_cannot_do_are_refused(coder):
    fmt = MDDQ(direction=coder)
    assert fmt.supports(1)
    assert not fmt.supports(2)
    with pytest.raises(ConfigError, match="degree 2"):
        quantizer_of(fmt).quantize(torch.zeros(4, 5, 2), torch.tensor(1.0), 2)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"shape \(..., 3, channels\)"):
        quantizer_of(Components()).quantize(torch.zeros(4, 5, 2), torch.tensor(1.0), 1)
    learned = MDDQ(direction=KMeansCodebook(points=8))
    with pytest.raises(ConfigError, match="needs its points"):
        quantizer_of(learned).quantize(torch.ones(4, 3, 2), torch.tensor(1.0), 1)
    with pytest.raises(ConfigError, match=r"shape \(K, 5\)"):
        quantizer_of(learned).quantize(torch.ones(4, 5, 2), torch.tensor(1.0), 2, torch.eye(3))


def test_learned_points_at_degree_two():
    fmt = MDDQ(direction=KMeansCodebook(points=64))
    v = features(0, degree=2, rows=300)
    points = quantizer_of(fmt).initial_points(v, 2, 0)
    assert points.shape == (64, 5)
    assert torch.equal(points, quantizer_of(fmt).initial_points(v, 2, 0))
    assert not torch.equal(points, quantizer_of(fmt).initial_points(v, 2, 1))
    q = quantizer_of(fmt).quantize(v, quantizer_of(fmt).initial_scale(v, 2), 2, points)
    assert (q - v).norm() < 0.6 * v.norm()
    assert quantizer_of(fmt).worst_angle(2, points) > 0.5


@pytest.mark.parametrize("fmt", [Components(), MDDQ(), MDDQ(direction=OctahedralMap()),
                                 MDDQ(direction=IcosahedralCodebook(), magnitude=LogMagnitude())], ids=repr)
def test_a_trace_of_the_gradient_gives_the_same_numbers(fmt):
    scale, points = setup(fmt, torch.float32)
    gradient = torch.func.grad(lambda v: quantizer_of(fmt).quantize(v, scale, 1, points).square().sum())
    v = features(2, dtype=torch.float32)
    assert torch.equal(make_fx(gradient)(torch.ones_like(v))(v), gradient(v))
