"""`gaq export`: what it writes is what the engine computes, and nothing is replaced silently."""

from pathlib import Path

import numpy as np
import pytest
from invocation import invoke, one_error
from tiny import cluster, forcefield

import gaq
from gaq.backends.native.engine import NativeEngine
from gaq.errors import ModelFileError, OutputError
from gaq.lowering.blob import NotLowered


def test_what_is_exported_computes_the_same(tmp_path: Path) -> None:
    field, out = forcefield("robust", "w4a8"), tmp_path / "m.gaqblob"
    field.save(tmp_path / "m.safetensors")
    done = invoke("export", tmp_path / "m.safetensors", "--out", out)
    assert done.exit_code == 0, done.output
    assert f"wrote {out}" in done.stdout
    engine, graph = NativeEngine(out.read_bytes()), field.graph(cluster(9))
    engine.set_graph(graph)
    atoms, forces, _ = engine.compute(graph.positions)
    said = field.on("engine", threads=1).predict(graph)
    assert np.array_equal(atoms, said.atom_energies)
    assert np.array_equal(forces, said.forces)
    before = out.read_bytes()
    assert "exists already" in one_error(invoke("export", tmp_path / "m.safetensors", "--out", out))
    with pytest.raises(OutputError, match="overwrite=True"):
        gaq.export(field, out)
    gaq.export(tmp_path / "m.safetensors", out, overwrite=True)
    assert out.read_bytes() == before


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no model file"):
        gaq.export(tmp_path / "none.safetensors", tmp_path / "m.gaqblob")
    with pytest.raises(NotLowered):
        gaq.export(forcefield("robust", "svq-kmeans"), tmp_path / "m.gaqblob")
    assert not list(tmp_path.iterdir())
