"""What is not finite inside of a model ends as an error, on every instruction set, never as a plausible number."""

import numpy as np
import pytest
from engines import SETS, on_engine, stepper
from tiny import calibration, cluster, copied, deployed, float_model, forcefield

from gaq.backends.native.errors import EngineError
from gaq.backends.native.potential import NativePotential
from gaq.compress.swap import prepare
from gaq.dynamics.state import Bath
from gaq.errors import GaqError
from gaq.forcefield import ForceField
from gaq.graph import Graph
from gaq.models.transformer.recipes import RECIPES
from gaq.quant.vector_formats import Components


def changed(field: ForceField, name: str, factor: float) -> ForceField:
    """The force field with the values of one tensor times a factor."""
    made = copied(field)
    with np.errstate(over="ignore"):
        made.stored.tensors[name][...] *= np.float32(factor)
    return made


def fails(field: ForceField | NativePotential, graph: Graph) -> bool:
    try:
        prediction = field.predict(graph)
    except GaqError:
        return True
    assert np.isfinite(prediction.forces).all()
    return False


W4A8 = ["attention.0.norm.weight", "attention.1.query.weight.scale", "attention.0.key.weight.scale",
        "attention.1.value.bias",
        "attention.0.output.inputs.scale.value", "attention.1.output.inputs.scale.value",
        "attention.0.mix.weight.scale",
        "attention.0.feature.scales.0.value", "attention.1.filters.radial.second.bias", "interaction.0.update.first.bias",
        "attention.0.filters.contraction.inputs.scale.value", "interaction.0.update.second.weight.scale",
        "interaction.1.feature.scales.1.value", "head.first.bias", "embedding.own.weight.scale"]
FP32 = ["attention.0.norm.bias", "attention.0.query.weight", "attention.1.value.weight", "attention.1.output.weight",
        "interaction.0.update.first.weight", "head.first.weight"]


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize(("recipe", "name"), [*[("w4a8", n) for n in W4A8], *[("fp32", n) for n in FP32]])
def test_overflow_is_refused_by_both_backends_or_by_none(recipe: str, name: str, isa: str) -> None:
    base = forcefield("robust", recipe)
    graph = base.graph(cluster(8, seed=1))
    for factor in (1e20, 1e36):
        field = changed(base, name, factor)
        try:
            engine = on_engine(field, isa)
        except EngineError:  # what the reader does not even take
            continue
        assert fails(engine, graph) == fails(field, graph), factor
        assert fails(engine, graph) == fails(field, graph), "the second time"


@pytest.mark.parametrize("isa", SETS)
def test_no_plausible_numbers_from_an_absurd_step(isa: str) -> None:
    base = forcefield("robust", "w4a8")
    graph = base.graph(cluster(8, seed=1))
    field = changed(base, "attention.0.output.weight.scale", 1e24)
    assert fails(on_engine(field, isa), graph)
    assert fails(field, graph)
    assert not fails(on_engine(base, isa), graph)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("bits", [8, 16])
def test_components_too(isa: str, bits: int) -> None:
    rules = (*RECIPES["w4a8"].rules[:-1], RECIPES["w4a8"].rules[-1].model_copy(update={"vectors": Components(bits=bits)}))
    recipe = RECIPES["w4a8"].model_copy(update={"rules": rules})
    base = deployed(prepare(float_model("robust"), recipe, [calibration()]), recipe)
    field = changed(base, "attention.0.value.bias", 1e36)
    assert fails(on_engine(field, isa), base.graph(cluster(8, seed=1)))


@pytest.mark.parametrize("isa", SETS)
def test_sums_are_checked_not_atoms_alone(isa: str) -> None:
    """By the reader, where it bounds what an atom may have, or else when they are taken."""
    field, structure = copied(forcefield("robust", "fp32")), cluster(8, seed=1)
    field.stored.tensors["energy_offsets"].fill(1e308)
    with pytest.raises(GaqError, match="energy"):
        field.predict(field.graph(structure))
    with pytest.raises(GaqError, match=r"energy|range"):
        on_engine(field, isa).predict(field.graph(structure))
    with pytest.raises(GaqError, match=r"energy|range"):
        stepper(on_engine(field, isa), structure, np.ones(8), Bath(0.01)).start(
            structure.positions, np.zeros((8, 3)))
