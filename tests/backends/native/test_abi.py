"""The C interface beyond a computation: facts about a model, offsets changed in place, and programs in C."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from engines import native
from sealing import sealed
from tiny import forcefield

from gaq.backends.native.engine import NativeEngine
from gaq.backends.native.errors import BadBlob, EngineError
from gaq.backends.native.library import library
from gaq.backends.native.potential import emitter
from gaq.errors import StructureError
from gaq.graph import Graph
from gaq.so3 import SPREADING
from gaq.structure import Structure

SOURCE = Path(__file__).parents[3] / "csrc"
BLOB = emitter(forcefield("robust", "w4a8").stored).blob().data


def test_an_engine_says_what_model_it_holds() -> None:
    config = forcefield("robust-l3", "w4a16").config
    facts = native("robust-l3", "w4a16").engine.model_facts()
    assert facts.kind == b"transformer"
    assert facts.blob_version == int.from_bytes(BLOB[8:12], "little")
    assert facts.cutoff == config.cutoff
    assert tuple(facts.species[: facts.species_count]) == config.species
    assert (facts.takes_charge, facts.takes_spin) == (0, 0)


@pytest.mark.parametrize("recipe", ["fp32", "w4a8"])
def test_energies_depend_on_atoms_as_far_as_the_facts_say(recipe: str) -> None:
    """Chains in which each atom sees the next one alone; the last atom moves."""
    field = native("robust", recipe)
    facts, farthest = field.engine.model_facts(), -1
    assert facts.hops == field.stored.config.layers + 1  # the first features are sums over neighbours too
    for seed in range(20):
        places = np.random.default_rng(seed).normal(0, 0.04, (14, 3)) * facts.cutoff
        places[:, 0] += 0.65 * facts.cutoff * np.arange(14)
        before, after = (field.predict(field.graph(Structure(species=np.full(14, 6), positions=x)))
                         for x in (places, places + np.eye(14)[-1][:, None] * [0.03, 0.05, -0.04]))
        farthest = max(farthest, 13 - int(np.flatnonzero(before.atom_energies != after.atom_energies)[0]))
    assert farthest <= facts.rounding_hops
    assert facts.rounding_hops == facts.hops + (0 if recipe == "fp32" else SPREADING)
    assert recipe != "fp32" or farthest == facts.hops  # low bits hide the last ones


def test_a_kind_of_model_that_is_not_known_is_refused() -> None:
    blob = bytearray(BLOB)
    blob[32:64] = b"perceptron".ljust(32, b"\0")
    with pytest.raises(BadBlob, match="kind of model is 'perceptron', and this library computes transformer"):
        NativeEngine(sealed(blob))
    blob[32:64] = b"x" * 32
    with pytest.raises(BadBlob, match="its kind has no end"):
        NativeEngine(sealed(blob))


def crystal() -> Graph:
    """Twelve atoms in a cell of which no atom sees its own image."""
    rng = np.random.default_rng(3)
    places = np.array([(a, b, c) for a in range(3) for b in range(2) for c in range(2)]) * 3.1
    structure = Structure(species=np.resize([1, 6, 7, 8], 12), positions=places + rng.normal(0, 0.1, places.shape),
                          cell=np.diag([9.3, 8.2, 8.2]), pbc=(True,) * 3)
    return native("robust", "w4a8").graph(structure)


@pytest.mark.parametrize("stretch", [1.0, 1.03, 0.98])
def test_offsets_changed_have_the_bits_of_a_new_graph(stretch: float) -> None:
    graph = crystal()
    cell = graph.cell * stretch
    changed, anew = NativeEngine(BLOB), NativeEngine(BLOB)
    token = changed.set_graph(graph)
    offsets = np.einsum("ev,va->ea", np.asarray(graph.shifts), np.asarray(cell[0]))
    changed.set_offsets(offsets)
    assert changed.graph is token
    anew.set_graph(graph)
    anew._call("gaq_engine_set_graph", 12, np.asarray(graph.species, np.int64), len(offsets),
               np.asarray(graph.centers, np.int64), np.asarray(graph.neighbours, np.int64), offsets)
    positions = np.asarray(graph.positions) * stretch
    for first, second in zip(changed.compute(positions, virial=True), anew.compute(positions, virial=True), strict=True):
        np.testing.assert_array_equal(first, second)


def test_offsets_of_another_number_of_edges_are_refused() -> None:
    engine = NativeEngine(BLOB)
    with pytest.raises(EngineError, match="set a graph"):
        engine.set_offsets(np.zeros((2, 3)))
    graph = crystal()
    engine.set_graph(graph)
    with pytest.raises(StructureError, match=r"shape \(edges, 3\), not \(2, 2\)"):
        engine.set_offsets(np.zeros((2, 2)))
    with pytest.raises(EngineError, match=f"{len(graph.centers)} edges"):
        engine.set_offsets(np.zeros((2, 3)))
    assert np.isfinite(engine.compute(np.asarray(graph.positions))[1]).all()


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake and a C compiler")
def test_a_c_program_finds_the_installed_engine(tmp_path: Path) -> None:
    def run(*words: object) -> str:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    prefix = library().path.parents[1]
    run("cmake", "-S", SOURCE / "tests/consumer", "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path)
    (tmp_path / "model.gaqblob").write_bytes(BLOB)
    said = run(tmp_path / "consumer", tmp_path / "model.gaqblob").splitlines()
    assert said[0].startswith("transformer: 4 species, cutoff")
    assert len(said) > 3
    assert all(line.endswith("eV/Angstrom") for line in said[1:])
