"""No command replaces a file that it was not told to replace, and none begins work that would end so."""

import os
import shutil

import numpy as np
import pytest
from invocation import invoke, one_error

import gaq.data.label
from gaq import load, load_frames
from gaq.files import locked


def writers(model, frames, folder):
    """Every command that writes a file at the end of its work, with all of its outputs."""
    out = folder / "out"
    return {
        "quantize": ("quantize", model, "--data", frames, "--no-train", "--out", out),
        "evaluate": ("evaluate", model, "--data", frames, "--json", out),
        "report": ("report", folder / "results.json", "--out", out),
        "audit": ("audit", model, "--data", frames, "--quick", "--json", out),
        "sensitivity json": ("sensitivity", model, "--data", frames, "--json", out),
        "sensitivity plot": ("sensitivity", model, "--data", frames, "--plot", out),
        "bench json": ("bench", model, "--json", out), "label": ("data", "label", "water", "--out", out),
        "relabel": ("data", "label", "--relabel", frames, "--out", out), "md": ("md", model, frames, "--out", out)}


def test_no_command_replaces_a_file_silently(model, frames, tmp_path, monkeypatch):
    monkeypatch.setattr(gaq.data.label, "label", lambda *a, **k: pytest.fail("work began"))
    for name, command in writers(model, frames, tmp_path).items():
        (tmp_path / "out").write_text("precious")
        line = one_error(invoke(*command))
        assert "exists already" in line, name
        assert ("--overwrite" in line) != (name == "md"), name
        assert (tmp_path / "out").read_text() == "precious"


def test_every_command_refuses_what_is_no_file(model, frames, tmp_path):
    (tmp_path / "nowhere").symlink_to("gone")
    for name, command in writers(model, frames, tmp_path).items():
        for target in ("/dev/null", tmp_path, tmp_path / "nowhere", tmp_path / ("x" * 300), ""):
            line = one_error(invoke(*command[:-1], target, *([] if name == "md" else ["--overwrite"])))
            assert "cannot write" in line, (name, target)
            assert len(line) < 700
    assert os.path.exists("/dev/null")
    assert not os.path.isfile("/dev/null")
    assert "give the path of a file" in one_error(invoke("evaluate", model, "--data", frames, "--json", "-"))


def test_outputs_that_are_inputs_or_each_other(model, frames, tmp_path):
    mine = tmp_path / "m.safetensors"
    shutil.copy(model, mine)
    link = tmp_path / "link.safetensors"
    link.symlink_to(mine.name)
    for out in (mine, link):
        line = one_error(invoke("quantize", mine, "--data", frames, "--no-train", "--out", out))
        assert "is what this command reads; replace it with --overwrite" in line
    assert mine.read_bytes() == model.read_bytes()
    data = tmp_path / "frames.extxyz"
    shutil.copy(frames, data)
    assert "what this command reads" in one_error(invoke("data", "label", "--relabel", data, "--out", data))
    assert "what this command reads" in one_error(invoke("evaluate", model, "--data", data, "--json", data))
    same = ("--json", tmp_path / "x.svg", "--plot", tmp_path / "x.svg")
    assert "are one file" in one_error(invoke("bench", model, *same))
    assert "are one file" in one_error(invoke("sensitivity", model, "--data", frames, *same))
    md = ("md", model, frames, "--steps", 2, "--timestep", 0.1, "--temperature", 50)
    assert "would replace the trajectory" in one_error(invoke(*md, "--out", tmp_path / "t", "--json", tmp_path / "t"))
    outputs = ("--out", tmp_path / "t.extxyz", "--json", tmp_path / "t.json")
    assert invoke(*md, *outputs).exit_code == 0
    assert invoke(*md, *outputs, "--resume").exit_code == 0  # the run that goes on replaces what it wrote itself
    assert "t.json exists already" in one_error(invoke(*md, "--out", tmp_path / "new.extxyz", *outputs[2:]))


def test_a_model_is_replaced_by_its_low_bit_form_where_that_is_said(model, frames, tmp_path):
    mine = tmp_path / "m.safetensors"
    shutil.copy(model, mine)
    mine.chmod(0o640)
    link = tmp_path / "link.safetensors"
    link.symlink_to(mine.name)
    result = invoke("quantize", mine, "--data", frames, "--no-train", "--frames", 8, "--out", link, "--overwrite")
    assert result.exit_code == 0, result.output
    assert link.is_symlink()
    assert load(mine).recipe.name == "w4a8"
    assert mine.stat().st_mode & 0o777 == 0o640


def test_an_audit_is_not_replaced_silently(model, frames, tmp_path):
    audited = load(model)
    audited.provenance["audit"] = {"grade": "MD-grade"}
    audited.save(tmp_path / "m.safetensors")
    line = one_error(invoke("audit", tmp_path / "m.safetensors", "--data", frames, "--quick", "--write"))
    assert "holds an earlier audit; replace it with --overwrite" in line
    assert load(tmp_path / "m.safetensors").provenance["audit"] == {"grade": "MD-grade"}


def test_the_folder_of_a_demo_is_not_replaced_silently(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    assert "is not empty; replace" in one_error(invoke("demo", "--out", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def forces(path, frames):
    forcefield = load(path)
    return forcefield.predict(forcefield.graph(load_frames(str(frames))[0])).forces


def test_a_finished_run_is_said_to_be_finished_and_can_be_extended(config, model, frames, tmp_path):
    here = ("train", config, "--set", f"out={tmp_path}")
    assert invoke(*here).exit_code == 0
    before = (tmp_path / "model.safetensors").read_bytes()
    line = one_error(invoke(*here))
    assert "holds a finished run of 20 steps" in line
    assert "--overwrite" in line
    again = invoke(*here, "--resume")
    assert "finished already" in again.stdout
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert "has taken 20 steps" in one_error(invoke(*here, "--resume", "--set", "optimization.steps=10"))
    longer = invoke(*here, "--resume", "--set", "optimization.steps=30")
    assert longer.exit_code == 0, longer.output
    assert "30 steps in" in longer.stdout
    assert load(tmp_path / "model.safetensors").provenance["steps"] == 30
    assert (tmp_path / "log.csv").read_text().count("\n") == 4
    assert "other data" in one_error(invoke(*here, "--resume", "--set", "optimization.learning_rate=0.1"))
    fresh = invoke(*here, "--overwrite")
    assert fresh.exit_code == 0, fresh.output
    assert np.array_equal(forces(tmp_path / "model.safetensors", frames), forces(model, frames))


@pytest.mark.parametrize("age", [-1000, 1000])
def test_an_interrupted_run_beside_a_model_is_kept_whatever_the_clock_says(config, model, tmp_path, monkeypatch, age):
    from test_training_commands import interrupted_at
    shutil.copy(model, tmp_path / "model.safetensors")
    here = ("train", config, "--set", f"out={tmp_path}")
    assert "exists already" in one_error(invoke(*here))
    assert "exists already" in one_error(invoke(*here, "--resume"))  # there is nothing to go on from
    with monkeypatch.context() as patch:
        interrupted_at(patch, 12)
        one_error(invoke(*here, "--overwrite"), 130)
    checkpoint = tmp_path / "checkpoint.safetensors"
    then = (tmp_path / "model.safetensors").stat().st_mtime + age
    os.utime(checkpoint, (then, then))
    before = checkpoint.read_bytes()
    line = one_error(invoke(*here))
    assert "interrupted at step 12 of 20; go on with --resume, start again with --overwrite" in line
    assert checkpoint.read_bytes() == before
    assert invoke(*here, "--resume").exit_code == 0


def test_a_quantization_in_a_folder(model, frames, tmp_path):
    here = ("quantize", model, "--data", frames, "--batch-size", 4, "--lr", "1e-3", "--folder", tmp_path / "run")
    first = tmp_path / "q.safetensors"
    assert invoke(*here, "--steps", 4, "--out", first).exit_code == 0
    assert "holds a finished run of 4 steps" in one_error(
        invoke(*here, "--steps", 4, "--out", tmp_path / "other.safetensors"))
    assert "finished already" in invoke(*here, "--steps", 4, "--out", first, "--resume").stdout
    longer = invoke(*here, "--steps", 6, "--out", first, "--resume")
    assert longer.exit_code == 0, longer.output
    assert load(first).provenance["steps"] == 6
    mine = tmp_path / "m.safetensors"
    shutil.copy(model, mine)
    assert "what this command reads" in one_error(
        invoke("quantize", mine, *here[2:], "--steps", 6, "--out", mine, "--resume"))


def test_a_second_process_is_told_at_once(config, model, frames, tmp_path):
    (tmp_path / "run").mkdir()
    for path, command in (
            (tmp_path / "run" / "checkpoint.safetensors", ("train", config, "--set", f"out={tmp_path / 'run'}")),
            (tmp_path / "run" / "checkpoint.safetensors",
             ("quantize", model, "--data", frames, "--folder", tmp_path / "run", "--out", tmp_path / "q")),
            (tmp_path / "q", ("quantize", model, "--data", frames, "--out", tmp_path / "q")),
            (tmp_path / "t.extxyz", ("md", model, frames, "--out", tmp_path / "t.extxyz")),
            (tmp_path / "f.extxyz", ("data", "label", "water", "--out", tmp_path / "f.extxyz"))):
        with locked(path):
            assert f"is in use by process {os.getpid()} on" in one_error(invoke(*command)), command
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
