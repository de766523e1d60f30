"""Whatever is wrong with a blob or an input is a typed error, never a crash."""

import ctypes
import time

import numpy as np
import pytest
from engines import native
from sealing import sealed
from tiny import cluster, forcefield

from gaq.backends.native import library as loading
from gaq.backends.native.engine import NativeEngine
from gaq.backends.native.errors import BadBlob, EngineError, EngineMissing, NoSuchInstructionSet
from gaq.backends.native.potential import NativePotential, emitter
from gaq.errors import GaqError, SpeciesError, StructureError
from gaq.graph import Graph, build_graph
from gaq.lowering.blob import ENTRY, HEADER
from gaq.structure import Structure

BLOB = emitter(forcefield("l1", "w4a8").stored).blob().data


@pytest.mark.parametrize("blob", [b"", b"GAQBLOB1", b"x" * 4096, BLOB[:100], BLOB[:-1], BLOB + b"\0",
                                  BLOB[:70] + b"\xff" + BLOB[71:]])
def test_damaged_blobs_are_refused(blob: bytes) -> None:
    with pytest.raises(BadBlob):
        NativeEngine(blob)


def test_no_mutation_of_a_blob_crashes() -> None:
    """A small deterministic fuzzer: bytes of the header, the directory and the arrays, with the checksum made good."""
    rng = np.random.default_rng(0)
    graph = build_graph(cluster(6, seed=1), 4.0)
    directory = HEADER + ENTRY * int.from_bytes(BLOB[12:16], "little")
    refused = 0
    for trial in range(400):
        data = bytearray(BLOB)
        region = ((8, 24), (HEADER, directory), (directory, len(BLOB)))[trial % 3]
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(*region))
            data[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)]))
        try:
            engine = NativeEngine(sealed(data))
            engine.set_graph(graph)
            engine.compute(graph.positions)
        except GaqError:
            refused += 1
    assert refused > 50


def test_truncations_at_every_scale() -> None:
    for size in [*range(0, 300, 7), *np.linspace(300, len(BLOB) - 1, 60, dtype=int)]:
        data = bytearray(BLOB[:size])
        if size >= HEADER:
            data[16:24] = int(size).to_bytes(8, "little")
            data = bytearray(sealed(data))
        with pytest.raises(BadBlob):
            NativeEngine(bytes(data))


def test_unaligned_memory_is_read_all_the_same() -> None:
    whole = ctypes.create_string_buffer(b"\0\0\0" + BLOB)
    handle = ctypes.c_void_p()
    functions = loading.library().functions
    functions.gaq_engine_create.argtypes = None
    try:
        status = functions.gaq_engine_create(ctypes.c_void_p(ctypes.addressof(whole) + 3), ctypes.c_size_t(len(BLOB)), None,
                                             1, ctypes.byref(handle), None, ctypes.c_size_t(0))
    finally:
        loading._declare(functions)
    assert status == 0
    functions.gaq_engine_destroy(handle)


def test_bad_inputs() -> None:
    field = native("robust", "fp32")
    graph = field.graph(cluster(6, seed=1))
    cases = [
        (StructureError, {"positions": np.full((6, 3), np.nan)}),
        (StructureError, {"positions": np.zeros((6, 3))}),
        (SpeciesError, {"species": np.full(6, 2)}),
        (SpeciesError, {"species": np.full(6, -7)}),
        (EngineError, {"neighbours": graph.neighbours + 6}),
        (EngineError, {"centers": graph.centers - 1}),
    ]
    from dataclasses import replace
    for error, change in cases:
        with pytest.raises(error):
            field.predict(replace(graph, **change))
    assert np.isfinite(field.predict(graph).forces).all()  # it works on
    with pytest.raises(StructureError, match="shape"):
        field.engine.compute(np.zeros((5, 3)))
    with pytest.raises(StructureError, match="periodic"):
        field.predict(graph, stress=True)


def test_a_single_atom_and_no_graph() -> None:
    engine = NativeEngine(BLOB)
    with pytest.raises(GaqError):
        engine.compute(np.zeros((0, 3)))
    field = native("robust", "w4a8")
    alone = field.predict(field.graph(Structure(species=np.array([8]), positions=np.zeros((1, 3)))))
    assert (alone.forces == 0).all()


def test_instruction_sets_and_threads_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoSuchInstructionSet, match="scalar"):
        NativeEngine(BLOB, isa="sse9")
    with pytest.raises(EngineError, match="threads"):
        NativeEngine(BLOB, threads=0)
    monkeypatch.setenv("GAQ_ISA", "scalar")
    assert NativeEngine(BLOB).facts().isa == b"scalar"
    monkeypatch.setenv("GAQ_ISA", "neon")
    with pytest.raises(NoSuchInstructionSet):
        NativeEngine(BLOB)


def test_a_missing_library_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    loading.library.cache_clear()
    monkeypatch.setattr(loading, "candidates", lambda: [])
    try:
        with pytest.raises(EngineMissing, match="compiler"):
            NativePotential(forcefield("robust", "fp32").stored)
    finally:
        loading.library.cache_clear()


def test_many_images_of_one_pair_are_paired_in_no_time() -> None:
    """200,000 edges between two atoms, in a shuffled order; all but a few beyond the cutoff."""
    rng = np.random.default_rng(0)
    shifts = np.stack(np.meshgrid(*[np.arange(-23, 24)] * 3), -1).reshape(-1, 3).astype(float)[:100_000]
    order, count = rng.permutation(2 * len(shifts)), len(shifts)
    graph = Graph(
        species=np.array([6, 8]), positions=np.array([[0.0, 0, 0], [1.5, 1.9, 1.4]]),
        centers=np.repeat([0, 1], count)[order], neighbours=np.repeat([1, 0], count)[order],
        shifts=np.concatenate([shifts, -shifts])[order], cell=3.3 * np.eye(3)[None], batch=np.zeros(2, dtype=np.int64))
    engine = NativeEngine(BLOB)
    begin = time.process_time()
    engine.set_graph(graph)
    assert time.process_time() - begin < 2.0
    forces = engine.compute(graph.positions)[1]
    np.testing.assert_allclose(forces.sum(0), 0.0, atol=1e-12)
    assert engine.facts().pairs > 0
