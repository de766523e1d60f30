"""The engine computes what the PyTorch definition computes: every recipe that it knows, every instruction set."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from engines import LOWERED, SETS, force_gap, native, on_engine
from tiny import CUTOFF, SHAPES, calibration, cluster, crystal, deployed, float_model, forcefield, said

from gaq.backends.native.potential import NativePotential
from gaq.compress.swap import prepare
from gaq.data import load_frames
from gaq.data.structures import SPACING, WATER, structure_from, waters
from gaq.forcefield import load
from gaq.graph import Graph, build_graph, collate
from gaq.lowering.blob import NotLowered
from gaq.models.transformer.recipes import RECIPES
from gaq.nn.tensors import tensors
from gaq.quant.vector_formats import MDDQ, Components
from gaq.structure import Structure

MEDIAN, RARE = 2e-5, 5e-3  # eV/Å: 0.02 meV/Å, and 5 meV/Å where a value falls to the other side of a rounding edge
LARGEST = 0.05  # eV/Å, of any single component where several values fall so
TIPPED, GATED = 3e-3, 2e-2  # eV/Å, where a code tips in a trained model, and where that carries a magnitude over its range
MODELS = Path(__file__).parents[3] / "models"


def frames(count: int = 12) -> Graph:
    return collate([build_graph(cluster(6 + k % 4, seed=20 + k), CUTOFF) for k in range(count)])


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("recipe", LOWERED)
@pytest.mark.parametrize("shape", SHAPES)
def test_energies_forces_and_stress(shape: str, recipe: str, isa: str) -> None:
    field, engine = forcefield(shape, recipe), native(shape, recipe, isa)
    graph = frames()
    expected, found = said(field, graph), said(engine, graph)
    gap, size = force_gap(expected, found), float(expected.forces.abs().max())
    if recipe in ("fp32", "w4"):
        assert gap.max() < 1e-5 * size
        torch.testing.assert_close(found.energy, expected.energy, rtol=0, atol=1e-5 * size)
    else:  # activations are rounded: a value that falls to the other side of an edge moves a force by some meV/Å
        assert gap.max() <= LARGEST * size
        assert gap.median() <= MEDIAN
        assert gap.flatten().quantile(0.999) <= RARE * size
        assert (found.energy - expected.energy).abs().median() < 1e-4
    torch.testing.assert_close(found.atom_energies.sum(), found.energy.sum())
    solid = field.graph(crystal())
    stress = said(field, solid, stress=True).stress
    assert stress is not None
    torch.testing.assert_close(said(engine, solid, stress=True).stress, stress, rtol=1e-4, atol=1e-6 * size)


@pytest.mark.parametrize("recipe", LOWERED)
@pytest.mark.parametrize("isa", SETS)
def test_a_trained_model_on_real_frames(isa: str, recipe: str, shared_data: Path) -> None:
    field = load(MODELS / "azobenzene-fp32.safetensors", "torch")
    structures = load_frames(shared_data / "rmd17" / "rmd17_azobenzene_test_01.npz")[:40:2]
    graph = collate([field.graph(s) for s in structures])
    if recipe != "fp32":
        field = deployed(prepare(field.potential.network, RECIPES[recipe], [tensors(graph)]), RECIPES[recipe])
    expected = said(field, graph)
    gap = force_gap(expected, said(on_engine(field, isa), graph))
    if recipe in ("fp32", "w4"):
        assert gap.max() < 1e-4 * expected.forces.abs().max()
    else:  # activations are rounded: a value that falls to the other side of an edge moves a force by some meV/Å
        assert gap.max() <= LARGEST
        assert gap.median() <= MEDIAN
        assert gap.flatten().quantile(0.999) <= RARE


@pytest.mark.parametrize("isa", SETS)
def test_largest_difference_of_committed_models_on_real_frames(isa: str, shared_data: Path) -> None:
    for name in ("azobenzene", "ethanol"):
        field = load(MODELS / f"{name}-w4a8.safetensors", "torch")
        frames = load_frames(shared_data / "rmd17" / f"rmd17_{name}_test_01.npz").spread(15)
        graph = collate([field.graph(frame) for frame in frames])
        assert force_gap(said(field, graph), said(on_engine(field, isa), graph)).max() <= TIPPED


def water_crystal(side: int = 4) -> Structure:
    """Identical waters on a grid, turned alike: all that is noise in one tips in many."""
    corners = SPACING * np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    return Structure(species=np.tile(WATER, side**3), positions=(corners + molecule("H2O").positions).reshape(-1, 3),
                     cell=SPACING * side * np.eye(3), pbc=(True,) * 3)


@pytest.mark.parametrize("isa", SETS)
def test_largest_difference_on_water_and_symmetric_molecules(isa: str) -> None:
    field = load(MODELS / "ethanol-w4a8.safetensors", "torch")
    engine = on_engine(field, isa)
    bounds = [(waters(64), GATED), (water_crystal(), TIPPED),
              *[(structure_from(name), TIPPED) for name in ("CH4", "C6H6", "C2H6", "CO2")]]
    for structure, bound in bounds:
        graph = field.graph(structure)
        assert force_gap(said(field, graph), said(engine, graph)).max() <= bound


@pytest.mark.parametrize("change", [
    "scalar.input=12", "scalar.input=24", "update.input=16", "contraction.input=16", "contraction.input=24",
    "attention.0.query.input=4", "scalar.weight=8", "vector.weight=2", "radial.weight=8", "scalar.weight=12",
    "first.weight=none", "scalar.weight=none", "last.input=none", "contraction.weight=none", "scalar.granularity=tensor",
    "feature.granularity=tensor", "vector.weight=none"])
def test_every_mixture_of_bits(change: str) -> None:
    recipe = RECIPES["w4a8"].with_overrides([change])
    field = deployed(prepare(float_model("robust"), recipe, [calibration()]), recipe)
    graph = frames(6)
    gap = force_gap(said(field, graph), said(on_engine(field), graph))
    assert gap.max() <= LARGEST
    assert gap.median() <= MEDIAN
    assert gap.flatten().quantile(0.99) <= RARE


@pytest.mark.parametrize("vectors", [
    Components(bits=8), Components(bits=16, aligned=True), MDDQ(gradient="plain", aligned=True), MDDQ(gradient="none")])
def test_every_vector_format_it_knows(vectors: Components | MDDQ) -> None:
    rules = (*RECIPES["w4a8"].rules[:-1], RECIPES["w4a8"].rules[-1].model_copy(update={"vectors": vectors}))
    recipe = RECIPES["w4a8"].model_copy(update={"rules": rules})
    field = deployed(prepare(float_model("robust"), recipe, [calibration()]), recipe)
    graph = frames(6)
    gap = force_gap(said(field, graph), said(on_engine(field), graph))
    assert gap.max() <= LARGEST
    assert gap.median() <= MEDIAN
    assert gap.flatten().quantile(0.99) <= RARE


@pytest.mark.parametrize("recipe", ["int8-naive", "svq-kmeans", "degree-quant"])
def test_what_it_does_not_compute_is_refused_with_the_way_out(recipe: str) -> None:
    with pytest.raises(NotLowered, match='backend="torch"'):
        NativePotential(forcefield("robust", recipe).stored)


def test_other_types_of_numbers_are_left_to_the_definition() -> None:
    double = forcefield("robust", "fp32", "float64")
    assert double.backend == "torch"
    assert double.potential.network.dtype == torch.float64
    assert double.on().backend.startswith("engine")  # what is stored is float32, whatever was asked for
    assert double.sha256 == forcefield("robust", "fp32").sha256


def test_tables_are_exact_to_float_rounding() -> None:
    for shape in SHAPES:
        assert native(shape, "fp32").table_error <= 3e-7


def test_saturation_is_counted() -> None:
    field = native("robust", "w4a8")
    said(field, field.graph(cluster(9, seed=4)))  # earlier predictions do not count
    shares = dict(field.saturation([field.graph(cluster(8, seed=3))]))
    assert shares == dict(field.saturation([field.graph(cluster(8, seed=3))]))
    assert "attention.0.query" in shares
    assert "interaction.1.feature.l2" in shares
    assert all(0 <= share < 0.2 for share in shares.values())


@pytest.mark.parametrize("recipe", ["w4", "w4a16", "w4a8"])
def test_single_quantizers_are_lowered_too(recipe: str) -> None:
    """Released inputs and vectors are computed in float, with the step that was folded into their weights out again."""
    graph = frames(4)
    field = forcefield("l1", recipe)
    variants, engines = field.quantizers_alone(), field.on("engine", 1).quantizers_alone()
    assert variants.keys() == engines.keys() == set(field.stored.schema.quantizers(field.recipe))
    for name, variant in variants.items():
        engine = engines[name]
        assert isinstance(engine, NativePotential)
        expected, found = said(variant, graph), said(engine, graph)
        gap = force_gap(expected, found)
        assert gap.max() <= RARE * expected.forces.abs().max(), name
        assert gap.median() <= MEDIAN, name
        assert {quantizer.split(".l")[0] for quantizer in engine.quantizers} == {name}
