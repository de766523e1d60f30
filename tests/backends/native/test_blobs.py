"""A blob that no force field is lowered to is refused before memory is taken; what is taken computes everywhere."""

import resource
import struct

import numpy as np
import pytest
from engines import SETS
from numpy.typing import NDArray
from sealing import arrays_of, sealed
from tiny import calibration, cluster, copied, deployed, forcefield

from gaq.backends.native.engine import NativeEngine
from gaq.backends.native.errors import BadBlob, NoSuchInstructionSet
from gaq.backends.native.potential import emitter
from gaq.compress.swap import prepare
from gaq.errors import GaqError
from gaq.graph import build_graph
from gaq.lowering.blob import ENTRY, HEADER, NotLowered, written
from gaq.models.transformer.config import ModelConfig
from gaq.models.transformer.network import Transformer
from gaq.recipe import Recipe, Rule

BLOBS = {recipe: emitter(forcefield("robust", recipe).stored).blob().data for recipe in ("fp32", "w4", "w4a8")}
FORMAT, CODES, BITS = "attention.0.feature.1.format", "attention.0.filters.contraction.codes", "attention.0.query.bits"
CONTRACTION, FILTERS = "attention.0.filters.contraction.bits", "attention.0.filters.project.bits"
MIX = "attention.0.mix.bits"


def changed(recipe: str, name: str, place: int, value: float) -> bytes:
    """A blob with one number changed; place -1 is the last."""
    arrays = arrays_of(BLOBS[recipe])
    arrays[name] = arrays[name].copy()
    arrays[name][place] = value
    return written("transformer", arrays)


def computed(blob: bytes) -> NDArray[np.float64]:
    """Forces in every instruction set, which agree."""
    graph = build_graph(cluster(6, seed=1), 4.0)
    forces = []
    for isa in SETS:
        try:
            engine = NativeEngine(blob, isa=isa)
        except NoSuchInstructionSet:
            continue
        engine.set_graph(graph)
        forces.append(engine.compute(graph.positions, virial=True)[1])
    assert np.isfinite(forces).all()
    np.testing.assert_allclose(forces, np.broadcast_to(forces[0], np.shape(forces)), atol=1e-3)
    return forces[0]


@pytest.mark.parametrize(("recipe", "name", "place", "value"), [
    ("fp32", FORMAT, 2, 1),  # aligned, with no format and no frames: a null pointer once
    *(("fp32", FORMAT, place, value) for place, value in ((0, 3), (1, -1), (2, 2))),
    *(("w4a8", FORMAT, place, value) for place, value in ((0, 0), (3, 77), (3, 1), (4, 17), (4, 1), (5, -1), (5, 10**6))),
    *(("w4a8", name, 0, bits) for name in (CONTRACTION, MIX, FILTERS, BITS) for bits in (77, 1, 9, -4, 2**31 - 1)),
    *(("w4a8", name, 1, bits) for name in (CONTRACTION, BITS) for bits in (77, 1, 17, 25, -8)),
    *(("w4", name, 1, bits) for name in (MIX, FILTERS) for bits in (8, 16, 24)),  # a null pointer once, too
    *(("w4a8", name, 2, counter) for name in (CONTRACTION, BITS) for counter in (-1, 10**6)),
    ("w4a8", CODES, 0, -128), ("w4a8", "attention.0.query.codes", 0, -8), ("w4a8", "attention.0.query.codes", -1, 8),
    ("w4a8", "attention.0.mix.2.codes", 3, -128),
    *(("w4a8", name, 0, step) for name in (
        "attention.0.query.step", "attention.0.query.scale", "attention.0.filters.contraction.step",
        "attention.0.filters.contraction.scale", "attention.0.mix.1.scale", "attention.0.feature.2.step")
      for step in (0.0, -1e-3, 1e-45, 1e-38, 1e31, np.inf, np.nan)),
    *(("fp32", "attention.0.temperature", 0, t) for t in (0.0, -1.0, 1e-20, 1e20, np.nan)),
    *(("fp32", "constants", 0, cutoff) for cutoff in (0.0, 0.5, 1e300, np.inf, np.nan)),
    *(("fp32", "constants", n, value) for n in (1, 2, 3) for value in (0.0, -1.0, 5e-324, 1e-300, 1e300, np.nan)),
    *(("fp32", "constants", 4, scale) for scale in (0.0, -1.0, 1e31, np.inf)), ("fp32", "constants", 5, -1.0),
    ("fp32", "constants", 5, 1e300), ("fp32", "energy_offsets", 0, 1e308), ("fp32", "energy_offsets", 1, np.nan),
    *(("fp32", "config", n, value) for n in range(13) for value in (-1, 2**31 - 1)),
    ("fp32", "config", 3, 0), ("fp32", "config", 4, 64), ("fp32", "config", 10, 1),
    ("fp32", "species", 0, 0), ("fp32", "species", 0, 119), ("fp32", "species", 0, 6),
    ("w4a8", "wigner.2.directions", 0, 1e300), ("w4a8", "wigner.2.inverse", 0, 1e300),
    *(("fp32", name, 0, np.nan) for name in ("embedding.own", "embedding.table", "attention.0.table", "head.first.bias",
                                             "attention.1.norm.weight", "attention.0.mix.1.weight")),
])
def test_numbers_that_no_blob_has(recipe: str, name: str, place: int, value: float) -> None:
    with pytest.raises(BadBlob, match="blob"):
        NativeEngine(changed(recipe, name, place, value))


@pytest.mark.parametrize("bits", [-1, 0, 32, 77])
def test_bits_of_a_magnitude_that_components_do_not_have_are_not_looked_at(bits: int) -> None:
    arrays = arrays_of(BLOBS["w4a8"])
    for name in [n for n in arrays if n.endswith(".format")]:
        arrays[name] = arrays[name].copy()
        arrays[name][[0, 3]] = 1, bits
    assert np.abs(computed(written("transformer", arrays))).max() > 0


def test_arrays_do_not_share_bytes() -> None:
    """Else a small blob of many layers would take gigabytes of tables."""
    blob = bytearray(BLOBS["fp32"])
    table = [n for n, name in enumerate(arrays_of(BLOBS["fp32"])) if name.endswith(".table")]
    first, second = (HEADER + ENTRY * n for n in table[-2:])
    blob[second + 72 : second + 88] = blob[first + 72 : first + 88]
    with pytest.raises(BadBlob, match="lies within"):
        NativeEngine(sealed(blob))
    blob = bytearray(BLOBS["fp32"])
    blob[second : second + 64] = blob[first : first + 64]
    with pytest.raises(BadBlob, match="is there twice"):
        NativeEngine(sealed(blob))


@pytest.mark.parametrize("place", range(13))
def test_sizes_are_compared_with_the_arrays_before_memory_is_taken(place: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for value in (1, 2, 3, 4, 64, 118, 1024, 4096, 65536):
        try:
            computed(changed("w4a8", "config", place, value))
        except GaqError:
            continue
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_a_directory_of_many_names_is_read_soon() -> None:
    count = 200_000
    entries = b"".join(struct.pack("<64sIIQQ", b"%d" % n, 2, 0, 0, HEADER + ENTRY * count) for n in range(count))
    blob = bytearray(BLOBS["fp32"][:HEADER] + entries)
    blob[12:24] = struct.pack("<IQ", count, len(blob))
    with pytest.raises(BadBlob, match="config is missing"):
        NativeEngine(sealed(blob))


def test_sums_that_may_leave_32_bits_are_left_to_pytorch() -> None:
    """A wide model whose weights are all as large as can be; the engine would refuse its blob."""
    wide = ModelConfig(species=(1, 6, 7, 8), cutoff=4.0, scalars=1024, vectors=2, max_degree=1, heads=2, layers=1,
                       radial_functions=2, filter_width=2)
    recipe = Recipe(name="wide", rules=(Rule(match="coupling", weight=8, input=16),))
    field = deployed(prepare(Transformer(wide), recipe, [calibration()]), recipe)
    assert field.on("auto").backend.startswith("engine")
    field.stored.tensors["interaction.0.update.first.weight.packed"].fill(127)
    with pytest.raises(NotLowered, match="leave the engine's 32 bits"):
        field.on("engine").predict(field.graph(cluster()))
    assert field.on("auto").backend == "torch"


@pytest.mark.parametrize("name", ["embedding.filters", "attention.0.filters.radial.second"])
def test_filters_beyond_float32_are_left_to_pytorch(name: str) -> None:
    field = copied(forcefield("l1", "fp32"))
    field.stored.tensors[f"{name}.weight"].fill(3e38)
    with pytest.raises(NotLowered, match="float32"):
        field.on("engine").predict(field.graph(cluster()))
    assert field.on("auto").backend == "torch"
