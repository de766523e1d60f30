"""Swapping leaves: what is rounded, where steps come from, and that nothing else changes."""

import pytest
import torch
from tiny import SHAPES, calibration, cluster, float_model, forcefield, prepared

from gaq.compress.probe import activate, leaves, observe, protect, release_vectors, saturation
from gaq.compress.swap import empty, freeze, prepare
from gaq.errors import ConfigError
from gaq.graph import build_graph
from gaq.models.transformer.recipes import RECIPES
from gaq.nn.leaves import LEAVES, Embedding, Linear, VectorLinear, VectorQuantizer
from gaq.nn.quantized import (
    QUANTIZED,
    FixedScale,
    FloatWeight,
    InputCodes,
    LearnedScale,
    MasterWeight,
    PackedWeight,
    ProtectedInputCodes,
    QuantizedLinear,
    QuantizedVectors,
)
from gaq.nn.tensors import tensors
from gaq.quant.vector_formats import MDDQ, Components, FibonacciCodebook
from gaq.recipe import Recipe, Rule


def test_leaves_are_named_in_the_order_of_the_forward_pass() -> None:
    names = [name for name, _ in leaves(float_model("robust"))]
    assert names[0] == "embedding.own"
    assert names[-1] == "head.second"
    assert len(names) == len(set(names))
    assert {type(leaf) for _, leaf in leaves(float_model("robust"))} == set(LEAVES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_leaf_gets_what_its_rule_says(recipe: str) -> None:
    originals = dict(leaves(float_model("robust")))
    for name, leaf in leaves(prepared("robust", recipe)):
        rule = RECIPES[recipe].rule_for(name, leaf.leaf.role)
        original = originals[name]
        if isinstance(original, VectorQuantizer):
            assert isinstance(leaf, QuantizedVectors) == (rule.vectors is not None)
            continue
        if rule.weight is None and (rule.input is None or not isinstance(original, Linear)):
            assert type(leaf) is type(original)
            continue
        assert isinstance(leaf, QUANTIZED)
        assert leaf.weight.fmt.bits == rule.weight
        torch.testing.assert_close(leaf.weight.weight, original.weight, rtol=0, atol=0)
        steps = leaf.weight.scale().numel()
        assert steps == (1 if rule.granularity == "tensor" else original.weight[..., 0].numel())
        if isinstance(leaf, QuantizedLinear):
            assert (leaf.inputs is not None) == (rule.input is not None)
            if leaf.inputs is not None:
                assert leaf.inputs.fmt.bits == rule.input
                assert isinstance(leaf.inputs, ProtectedInputCodes) == (recipe == "degree-quant")


def test_the_float_model_is_not_changed() -> None:
    model = float_model("robust")
    before = {name: t.clone() for name, t in model.state_dict().items()}
    changed = prepare(model, RECIPES["w4a8"], [calibration()])
    with torch.no_grad():
        for p in changed.parameters():
            p.add_(1.0)
    freeze(changed)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(isinstance(leaf, LEAVES) for _, leaf in leaves(model))


def test_a_rule_that_matches_nothing_is_a_mistake() -> None:
    recipe = Recipe(name="typo", rules=(Rule(match="scaler", weight=8),))
    with pytest.raises(ConfigError, match=r"recipe 'typo': the rule for 'scaler' matches no leaf; leaves are embedding"):
        prepare(float_model("robust"), recipe, [calibration()])


def test_a_format_that_cannot_code_a_degree_is_a_mistake() -> None:
    sphere = MDDQ(direction=FibonacciCodebook(points=64))
    with pytest.raises(ConfigError, match=r"cannot code degree 2; set feature.higher"):
        prepare(float_model("robust"), Recipe(name="x", rules=(Rule(match="feature", vectors=sphere),)), [calibration()])
    mixed = Recipe(name="x", rules=(Rule(match="feature", vectors=sphere, higher=Components(bits=8)),))
    leaf = next(m for m in prepare(float_model("robust"), mixed, [calibration()]).modules()
                if isinstance(m, QuantizedVectors))
    assert [type(fmt) for fmt in leaf.formats] == [MDDQ, Components]
    assert leaf.points1.shape == (64, 3)
    assert leaf.points2 is None


def test_a_low_bit_model_is_not_prepared_again() -> None:
    with pytest.raises(TypeError, match="quantized already"):
        prepare(prepared("robust", "w4a8"), RECIPES["w4a8"], [calibration()])


def test_steps_from_the_largest_value_clip_nothing() -> None:
    model = prepared("robust", "int8-naive")
    seen = observe(model, [calibration()])
    assert all(clipped < 0.01 for _, clipped in saturation(model, [calibration()]))  # inputs are rounded themselves
    first = dict(leaves(model))["embedding.filters"]
    inputs = torch.cat(observe(float_model("robust"), [calibration()]).inputs["embedding.filters"])
    assert float(first.inputs.scale().detach()) == pytest.approx(float(inputs.abs().max()) / 127, rel=1e-6)
    folded = first.weight.weight.detach() * first.inputs.scale().detach()
    assert float(first.weight.scale().detach()) == pytest.approx(float(folded.abs().max()) / 127, rel=1e-6)
    assert set(seen.inputs) == {name for name, leaf in leaves(model) if isinstance(leaf, QuantizedLinear)}


def test_steps_of_least_error_beat_those_of_the_largest_value() -> None:
    model = float_model("robust")
    errors = []
    for calibrated in ("mse", "max"):
        recipe = RECIPES["w4a8"].with_overrides([f"update.calibration={calibrated}"])
        leaf = dict(leaves(prepare(model, recipe, [calibration()])))["attention.0.value"]
        step = leaf.inputs.scale()
        whole, scale = leaf.weight(step)
        errors.append(float((whole * scale - leaf.weight.weight * step).square().sum().detach()))
    assert errors[0] < errors[1]


def test_observing_leaves_no_trace() -> None:
    model = float_model("robust")
    before = model(calibration()).energy
    seen = observe(model, [calibration(), calibration()])
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert {len(samples) for samples in seen.inputs.values()} == {2}
    assert {name for name, leaf in leaves(model) if isinstance(leaf, VectorQuantizer)} == set(seen.vectors)
    assert not any(t.requires_grad for samples in seen.inputs.values() for t in samples)
    assert torch.equal(before, model(calibration()).energy)
    with pytest.raises(AttributeError):
        observe(model, [None])
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_calibration_is_repeatable() -> None:
    for recipe in ("w4a8", "svq-kmeans"):
        again = prepare(float_model("robust"), RECIPES[recipe], [calibration()])
        assert all(torch.equal(t, again.state_dict()[name])
                   for name, t in prepared("robust", recipe).state_dict().items())


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r != "fp32"])
def test_a_deployed_model_holds_packed_weights_and_settled_steps(recipe: str) -> None:
    model = freeze(prepared("robust", recipe))
    assert not any(isinstance(m, (LearnedScale, MasterWeight)) for m in model.modules())
    assert not model.training
    packed = [m for m in model.modules() if isinstance(m, PackedWeight)]
    assert packed
    for weight in packed:
        whole, scale = weight()
        assert weight.packed.dtype == torch.uint8
        assert len(weight.packed) == -(-whole.numel() * weight.fmt.bits // 8)
        assert whole.abs().max() <= weight.fmt.qmax
        assert torch.equal(whole, whole.round())
        assert bool((scale > 0).all())
    if RECIPES[recipe].rule_for("", "scalar").input:
        assert any(isinstance(m, FixedScale) for m in model.modules())


def test_inputs_alone_can_be_rounded() -> None:
    recipe = Recipe(name="a8", rules=(Rule(match="scalar", input=8),))
    model = prepare(float_model("robust"), recipe, [calibration()]).eval()
    leaf = dict(leaves(model))["attention.0.query"]
    assert isinstance(leaf.weight, FloatWeight)
    assert torch.equal(model(calibration()).forces, freeze(model)(calibration()).forces)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_empty_model_takes_the_state_of_a_full_one(shape: str, recipe: str) -> None:
    full, drawn = freeze(prepared(shape, recipe)), torch.random.get_rng_state()
    made = empty(SHAPES[shape], RECIPES[recipe])
    assert all(t.is_meta for t in made.state_dict().values())
    assert {name: (t.shape, t.dtype) for name, t in made.state_dict().items()} == {
        name: (t.shape, t.dtype) for name, t in full.state_dict().items()}
    made.load_state_dict(full.state_dict(), assign=True)
    assert torch.equal(made.eval()(calibration()).forces, full(calibration()).forces)
    assert torch.equal(drawn, torch.random.get_rng_state())  # loading a model changes no random numbers drawn after it


def test_vectors_are_released_on_demand() -> None:
    recipe = Recipe(name="vectors", rules=(Rule(match="feature", vectors=Components(bits=3)),))
    model = prepare(float_model("robust"), recipe, [calibration()])
    exact = float_model("robust")(calibration()).energy
    assert not torch.allclose(model(calibration()).energy, exact, rtol=1e-6)
    release_vectors(model, False)
    assert torch.allclose(model(calibration()).energy, exact, rtol=1e-6)  # contractions are in float64 here
    release_vectors(model, True)
    assert not torch.allclose(model(calibration()).energy, exact, rtol=1e-6)
    release_vectors(float_model("robust"), False)  # a float model has nothing to release


def test_protection_prefers_atoms_with_many_neighbours() -> None:
    model = prepared("robust", "degree-quant")
    graph = tensors(build_graph(cluster(12, seed=3, spacing=1.5), 3.0))
    quantizer = next(m for m in model.modules() if isinstance(m, ProtectedInputCodes))
    counts = torch.zeros(12)
    for seed in range(400):
        protect(model, graph, 0.5, torch.Generator().manual_seed(seed))
        counts += quantizer.atoms
    neighbours = torch.bincount(graph.centers, minlength=12)
    few, many = int(neighbours.argmin()), int(neighbours.argmax())
    assert neighbours[few] < neighbours[many]
    assert counts[few] < 40
    assert counts[many] / 400 == pytest.approx(0.5, abs=0.12)
    assert counts.sum() / 400 / 12 == pytest.approx(0.25, abs=0.05)  # ranks are spread evenly from 0 to 1
    for module in model.modules():  # the model is shared by other tests
        if isinstance(module, ProtectedInputCodes):
            module.atoms = module.centers = None


def test_protected_rows_are_not_rounded() -> None:
    codes = ProtectedInputCodes(FixedScale(torch.tensor(0.5)), RECIPES["w4a8"].rules and _eight())
    x = torch.tensor([[0.1, 0.3], [0.7, 0.9], [1.1, 1.3]])
    codes.atoms, codes.centers = torch.tensor([True, False]), torch.tensor([0, 0, 1])
    whole, scale = codes.train()(x)  # three edges of two atoms
    torch.testing.assert_close(whole[:2] * scale, x[:2])
    assert whole[2].tolist() == [2.0, 3.0]
    whole, scale = codes(x[:2])  # two atoms
    torch.testing.assert_close(whole[0] * scale, x[0])
    assert whole[1].tolist() == [1.0, 2.0]
    assert codes.eval()(x)[0].tolist() == [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]


def _eight():
    from gaq.quant.formats import IntFormat
    return IntFormat(bits=8)


def test_one_quantizer_at_a_time() -> None:
    model = freeze(prepared("robust", "w4a8"))
    variants = model.schema.quantizers(RECIPES["w4a8"])
    rounding = [m for m in model.modules() if isinstance(m, (InputCodes, QuantizedVectors))]
    assert len(set(variants)) == len(variants) == len(rounding)
    assert "attention.0.feature" in variants
    assert "attention.0.query" in variants
    for name in variants:
        activate(model, (name,))
        on = [n for n, m in model.named_modules() if isinstance(m, (InputCodes, QuantizedVectors)) and m.active]
        assert [n.removesuffix(".inputs") for n in on] == [name]
    activate(model, None)
    assert all(m.active for m in rounding)
    assert all(m.active for m in prepared("robust", "w4a8").modules() if isinstance(m, (InputCodes, QuantizedVectors)))
    assert float_model("robust").schema.quantizers(RECIPES["fp32"]) == ()
    fields = forcefield("robust", "w4a8").quantizers_alone()
    assert tuple(fields) == variants
    for name, field in fields.items():
        on = [n for n, m in field.network.named_modules() if isinstance(m, (InputCodes, QuantizedVectors)) and m.active]
        assert [n.removesuffix(".inputs") for n in on] == [name]
    assert {v.network.dtype for v in forcefield("robust", "w4a8", "float64").quantizers_alone().values()} == {torch.float64}
    assert forcefield("robust", "fp32").quantizers_alone() == {}


def test_an_inactive_quantizer_passes_values_on() -> None:
    codes = InputCodes(FixedScale(torch.tensor([0.5, 0.25])), _eight())
    x = torch.tensor([[0.3, 0.3], [900.0, -900.0]])
    codes.active = False
    whole, scale = codes(x)
    torch.testing.assert_close(whole * scale, x)
    codes.active = True
    assert codes(x)[0].tolist() == [[1.0, 1.0], [127.0, -127.0]]


def test_saturation_names_every_quantizer() -> None:
    rows = saturation(forcefield("robust", "w4a8").potential.network, [calibration()])
    names = [name for name, _ in rows]
    assert "attention.0.feature.l1" in names
    assert "attention.0.feature.l2" in names
    assert "head.second" in names
    assert all(0.0 <= share < 0.05 for _, share in rows)
    assert saturation(float_model("robust"), [calibration()]) == []


def test_low_bit_leaves_mix_channels_and_never_components() -> None:
    mix = next(leaf for _, leaf in leaves(float_model("robust")) if isinstance(leaf, VectorLinear))
    v = torch.randn(5, 8, 8, generator=torch.Generator().manual_seed(0))
    for component in range(8):
        one = torch.zeros_like(v)
        one[:, component] = v[:, component]
        out = mix(one)
        assert out[:, [c for c in range(8) if c != component]].abs().max() == 0
    embedding = next(leaf for _, leaf in leaves(float_model("robust")) if isinstance(leaf, Embedding))
    assert torch.equal(embedding(torch.tensor([2, 0])), embedding.weight[[2, 0]])
