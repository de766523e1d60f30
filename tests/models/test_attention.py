"""Attention weights: bounded, smooth, and blind to what is no neighbour."""

import pytest
import torch

from gaq.models.transformer.attention import ATTENTIONS, MAX_TEMPERATURE, RobustAttention, So3kratesAttention

N, F, H = 5, 8, 2


def inputs(scale: float = 1.0, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.arange(N).repeat_interleave(3)
    neighbours = (centers + torch.tensor([1, 2, 3]).repeat(N)) % N
    return {"query": scale * torch.randn(N, F, generator=generator, dtype=torch.float64),
            "key": scale * torch.randn(N, F, generator=generator, dtype=torch.float64),
            "envelope": torch.rand(3 * N, generator=generator, dtype=torch.float64) + 0.1,
            "centers": centers, "neighbours": neighbours}


def robust(filters: float = 1.0) -> tuple[RobustAttention, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    values = inputs() | {"filters": filters * torch.randn(3 * N, H, generator=generator, dtype=torch.float64)}
    return RobustAttention(F, H).double(), values


def test_robust_weights_are_positive_and_sum_to_less_than_one() -> None:
    attention, values = robust()
    weights = attention(**values)
    assert weights.shape == (3 * N, H)
    assert bool((weights > 0).all())
    totals = torch.zeros(N, H, dtype=torch.float64).index_add(0, values["centers"], weights)
    assert bool((totals < 1).all())


def test_robust_weights_are_their_formula() -> None:
    attention, values = robust()
    q, k = (torch.nn.functional.normalize(values[name].unflatten(-1, (H, -1)), dim=-1) for name in ("query", "key"))
    temperature = MAX_TEMPERATURE * torch.sigmoid(attention.temperature_logit)
    i, j = values["centers"], values["neighbours"]
    logits = temperature * (q[i] * k[j]).sum(-1) + torch.tanh(values["filters"])
    weights = values["envelope"][:, None] * logits.exp()
    sums = torch.stack([weights[i == atom].sum(0) for atom in range(N)])
    torch.testing.assert_close(attention(**values), weights / (1 + sums[i]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8, 1e15])
def test_no_query_or_key_blows_the_weights_up(scale: float) -> None:
    for dtype in (torch.float32, torch.float64):
        attention, _ = robust()
        values = {name: t.to(dtype) if t.is_floating_point() else t for name, t in inputs(scale).items()}
        attention.to(dtype).temperature_logit.data.fill_(50.0)
        weights = attention(**values, filters=scale * torch.ones(3 * N, H, dtype=dtype))
        assert torch.isfinite(weights).all()
        assert bool((weights <= 1).all())


def test_without_features_the_gradient_is_finite() -> None:
    attention, values = robust()
    values = values | {"query": torch.zeros(N, F, dtype=torch.float64, requires_grad=True)}
    (gradient,) = torch.autograd.grad(attention(**values).square().sum(), values["query"])
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_neighbour_whose_envelope_is_zero_is_none(name: str) -> None:
    attention = ATTENTIONS[name](F, H).double()
    values = inputs()
    filters = torch.randn(3 * N, attention.filter_width, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    values["envelope"][4] = 0.0
    kept = torch.arange(3 * N) != 4
    less = {n: (t if n in ("query", "key") else t[kept]) for n, t in values.items()}
    weights = attention(**values, filters=filters)
    assert weights[4].abs().max() == 0
    torch.testing.assert_close(weights[kept], attention(**less, filters=filters[kept]))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_weights_go_smoothly_to_zero_with_the_envelope(name: str) -> None:
    attention = ATTENTIONS[name](F, H).double()
    values = inputs()
    filters = torch.ones(3 * N, attention.filter_width, dtype=torch.float64)
    sizes = []
    for envelope in (1e-4, 1e-6, 1e-8):
        values["envelope"][:3] = envelope  # all neighbours of atom 0 leave at once
        sizes.append(float(attention(**values, filters=filters)[:3].abs().max().detach()))
    assert sizes[1] == pytest.approx(sizes[0] / 100, rel=0.2)
    assert sizes[2] == pytest.approx(sizes[1] / 100, rel=0.2)


def test_so3krates_weights_are_their_formula() -> None:
    attention = So3kratesAttention(F, H)
    values = inputs()
    filters = torch.randn(3 * N, F, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    i, j = values["centers"], values["neighbours"]
    by_head = (values["query"][i] * filters * values["key"][j]).reshape(3 * N, H, F // H).sum(-1) / (F / H) ** 0.5
    torch.testing.assert_close(attention(**values, filters=filters), by_head * values["envelope"][:, None])
