"""Levels of theory: found by name, absent with advice, right where they can be compared."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from gaq.data.label import relabel
from gaq.data.levels import LEVELS, find_level
from gaq.data.rmd17 import load
from gaq.data.structures import structure_from
from gaq.errors import DataError, PackageMissing

needs_pyscf = pytest.mark.skipif(importlib.util.find_spec("pyscf") is None, reason="pyscf is an optional extra")


def test_names() -> None:
    assert set(LEVELS) == {"gfn2-xtb", "gfn1-xtb", "pyscf-pbe"}
    with pytest.raises(DataError, match="did you mean 'pyscf-pbe'"):
        find_level("pyscf_pbe")


@pytest.mark.parametrize(("method", "module", "advice"), [
    ("pyscf-pbe", "pyscf", r"PBE need the package pyscf.*pip install 'gaq\[pyscf\]'"),
    ("gfn2-xtb", "tblite.ase", r"GFN2-xTB need the package tblite.*pip install 'gaq\[train\]'")])
def test_a_program_not_installed(monkeypatch: pytest.MonkeyPatch, method: str, module: str, advice: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PackageMissing, match=advice):
        find_level(method).available(molecule("H2O"))


@needs_pyscf
def test_pyscf_is_for_molecules() -> None:
    with pytest.raises(DataError, match="periodic"):
        find_level("pyscf-pbe").available(Atoms("H", cell=[5, 5, 5], pbc=True))


@needs_pyscf
def test_pbe_of_a_radical() -> None:
    (radical,) = relabel([structure_from("CH3")], "pyscf-pbe")
    assert np.abs(radical.forces.sum(axis=0)).max() < 0.01


@needs_pyscf
@pytest.mark.slow
def test_pbe_gives_the_labels_of_rmd17(shared_data: Path) -> None:
    """rMD17 is PBE/def2-SVP from another program with tight grids; density fitting shifts the energy by 1 meV."""
    frame = load("rmd17:ethanol:1:train", [shared_data])[0]
    (again,) = relabel([frame], "pyscf-pbe")
    assert again.energy == pytest.approx(frame.energy, abs=0.003)
    np.testing.assert_allclose(again.forces, frame.forces, atol=0.005)
