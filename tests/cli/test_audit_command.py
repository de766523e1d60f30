"""The audit from the command line."""

import json

import pytest
import tiny
from invocation import invoke, one_error

from gaq import load
from gaq.data import write_frames

SHORT = ("--quick", "--replicas", 2, "--picoseconds", 0.004, "--frames", 1)
FACTORIES = "from ase.calculators.emt import EMT\n\ndef make():\n    return EMT()\n\ndef wrong():\n    return 1\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model of each grade, frames without labels, and a module with a calculator."""
    for recipe in ("w4", "w4a8"):
        tiny.forcefield("l1", recipe).save(tmp_path / f"{recipe}.safetensors")
    write_frames(tmp_path / "frames.extxyz", [tiny.cluster()])
    (tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_verdict_is_shown_written_and_stored(place):
    audit = ("audit", "w4a8.safetensors", "--data", "frames.extxyz", *SHORT)
    before = load("w4a8.safetensors")
    done = invoke(*audit, "--reference", "w4.safetensors", "--timesteps", "0.5,0.25", "--json", "audit.json", "--write")
    assert done.exit_code == 0, done.output
    assert "w4a8.safetensors: screening-grade" in done.stdout
    assert "- the forces are the gradient of no energy" in done.stdout
    assert "at 0.25 fs" in done.stdout
    assert "…" not in done.stdout
    assert "\x1b" not in done.output
    result = json.loads((place / "audit.json").read_text())
    assert result["grade"] == "screening-grade"
    assert {"lambda_antisymmetry", "loop_work_relative", "force_fd_meV_A", "nve_drift_meV_atom_ps"} <= set(result)
    after = load("w4a8.safetensors")
    assert after.provenance["audit"] == result
    assert after.sha256 == before.sha256


def test_a_model_that_is_replaced_meanwhile_gets_no_audit_of_another(place, monkeypatch):
    import shutil

    import gaq.assess.audit

    def measure(*arguments, **settings):
        shutil.copy("w4a8.safetensors", "w4.safetensors")
        return {"grade": "MD-grade", "reasons": [], "checks": [], "nve": []}

    monkeypatch.setattr(gaq.assess.audit, "audit", measure)
    line = one_error(invoke("audit", "w4.safetensors", "--data", "frames.extxyz", *SHORT, "--write"))
    assert "has changed while it was audited" in line
    assert "audit" not in load("w4.safetensors").provenance


def test_nve_with_a_model_of_screening_grade_warns(place):
    assert invoke("audit", "w4a8.safetensors", "--data", "frames.extxyz", *SHORT, "--write").exit_code == 0
    for model, ensemble, warns in (("w4a8", "nve", True), ("w4a8", "nvt", False), ("w4", "nve", False)):
        done = invoke("md", f"{model}.safetensors", "frames.extxyz", "--ensemble", ensemble, "--steps", 1, "--timestep",
                      0.1, "--out", f"{model}-{ensemble}.extxyz")
        assert done.exit_code == 0, done.output
        assert done.stderr.count("warning: ") == int(warns)
        assert ("w4a16" in done.stderr) is warns


def test_a_calculator_is_audited(place):
    from gaq.structure import Structure

    write_frames(place / "copper.extxyz", [Structure(species=[29, 29], positions=[[0, 0, 0], [0, 0, 2.4]])])
    done = invoke("audit", "--calculator", "factories:make", "--data", "copper.extxyz", *SHORT)
    assert done.exit_code == 0, done.output
    assert "factories:make: " in done.stdout


def test_wrong_arguments(place):
    audit = ("audit", "--data", "frames.extxyz", *SHORT)
    assert "either a MODEL" in one_error(invoke(*audit))
    assert "either a MODEL" in one_error(invoke(*audit, "w4.safetensors", "--calculator", "factories:make"))
    assert "--json" in one_error(invoke(*audit, "--calculator", "factories:make", "--write"))
    assert "module:factory" in one_error(invoke(*audit, "--calculator", "factories"))
    assert "cannot be imported" in one_error(invoke(*audit, "--calculator", "no_such_module:make"))
    assert "has no 'made'" in one_error(invoke(*audit, "--calculator", "factories:made"))
    assert "not int" in one_error(invoke(*audit, "--calculator", "factories:wrong"))
    assert "--timesteps" in one_error(invoke(*audit, "w4.safetensors", "--timesteps", "half"))
    assert "'--replicas'" in one_error(invoke(*audit, "w4.safetensors", "--replicas", 0), 2)
    assert "folder" in one_error(invoke(*audit, "w4.safetensors", "--json", place))
    assert "no model file" in one_error(invoke(*audit, "w5.safetensors"))
    assert "Example: gaq audit" in invoke("audit", "--help").stdout
