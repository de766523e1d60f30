"""Molecular dynamics from the command line."""

import ase.io
import numpy as np
import pytest
from invocation import invoke, one_error

from gaq.dynamics import driver


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_a_run_is_written_and_goes_on(model, frames, tmp_path, ensemble):
    run = ("md", model, frames, "--ensemble", ensemble, "--temperature", 100, "--timestep", 0.25, "--every", 1,
           "--seed", 3)
    first = invoke(*run, "--steps", 3, "--out", tmp_path / "t.extxyz")
    assert first.exit_code == 0, first.output
    assert "ns/day" in first.stdout
    assert ("drift" in first.stdout) == (ensemble == "nve")
    assert "\x1b" not in first.output
    assert "exists already" in one_error(invoke(*run, "--steps", 5, "--out", tmp_path / "t.extxyz"))
    assert invoke(*run, "--steps", 5, "--out", tmp_path / "t.extxyz", "--resume").exit_code == 0
    assert invoke(*run, "--steps", 5, "--out", tmp_path / "whole.extxyz").exit_code == 0
    pieces, whole = ase.io.read(tmp_path / "t.extxyz", ":"), ase.io.read(tmp_path / "whole.extxyz", ":")
    assert len(pieces) == len(whole) == 6
    assert np.array_equal(pieces[-1].positions, whole[-1].positions)


def test_ctrl_c_says_how_to_go_on(model, frames, tmp_path, monkeypatch):
    record, out = driver._Run._record, tmp_path / "t.extxyz"

    def pressed(run):
        record(run)
        if run.state.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(driver._Run, "_record", pressed)
    line = one_error(invoke("md", model, frames, "--steps", 50, "--every", 1, "--timestep", 0.1, "--out", out), 130)
    assert "step 2 of 50" in line
    assert "--resume" in line


def test_wrong_arguments(model, frames, tmp_path):
    md = ("md", model, frames, "--out", tmp_path / "t.extxyz")
    assert "did you mean 'nve'" in one_error(invoke(*md, "--ensemble", "nvee"), 2)
    assert "--timestep must be" in one_error(invoke(*md, "--timestep", -1))
    assert "ethanol" in one_error(invoke("md", model, "ethanoll", *md[3:]))
    assert "does not know Cl" in one_error(invoke("md", model, "CH3Cl", *md[3:]))
    (tmp_path / "nan.xyz").write_text("2\n\nH 0 0 0\nH 0 0 nan\n")
    assert "finite" in one_error(invoke("md", model, tmp_path / "nan.xyz", *md[3:]))
    assert not (tmp_path / "t.extxyz").exists()


def test_a_start_outside_of_the_training_data_is_told_and_counted(model, frames, tmp_path):
    crowded = ase.io.read(frames, index=-1)
    crowded.set_positions(0.85 * crowded.positions)
    crowded.info.clear()
    crowded.calc = None
    ase.io.write(tmp_path / "crowded.xyz", crowded, format="xyz")
    run = invoke("md", model, tmp_path / "crowded.xyz", "--steps", 2, "--every", 1, "--timestep", 0.01, "--temperature", 1,
                 "--out", tmp_path / "t.extxyz")
    assert run.exit_code == 0, run.output
    assert run.stderr.count("warning: the structure is outside of the model's training data") == 1
    assert "outside of the training data: 3 of" in run.stdout or "outside of the training data: 4 of" in run.stdout


def test_a_structure_is_relaxed_and_what_is_not_converged_fails(model, frames, tmp_path):
    out = tmp_path / "r.extxyz"
    relax = ("relax", model, frames, "--out", out)
    done = invoke(*relax, "--fmax", 5, "--steps", 300)
    assert done.exit_code == 0, done.output
    assert "largest force" in done.stdout
    assert np.isfinite(ase.io.read(out).positions).all()
    assert "--overwrite" in one_error(invoke(*relax))
    line = one_error(invoke(*relax, "--overwrite", "--fmax", 1e-9, "--steps", 2))
    assert "not converged" in line
    assert "--steps" in line
    assert "did you mean 'fire'" in one_error(invoke(*relax, "--overwrite", "--optimizer", "fir"), 2)
    assert "--fmax must be" in one_error(invoke(*relax, "--overwrite", "--fmax", 0))
    assert "unless the cell relaxes (--cell)" in one_error(invoke(*relax, "--overwrite", "--pressure", 1))
    assert "periodicity in all three directions" in one_error(invoke(*relax, "--overwrite", "--cell"))


def test_npt_needs_a_cell(model, frames, tmp_path):
    line = one_error(invoke("md", model, frames, "--ensemble", "npt", "--out", tmp_path / "t.extxyz"))
    assert "periodicity in all three directions" in line
    assert not (tmp_path / "t.extxyz").exists()
