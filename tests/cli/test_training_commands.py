"""Training from the command line: what it leaves, what it says, and how it stops and goes on."""

import numpy as np
import torch
from invocation import invoke, one_error

from gaq import load, load_frames
from gaq.training.loop import Loop


def interrupted_at(monkeypatch, step: int) -> None:
    """Press Ctrl-C in the given step."""
    whole = Loop._step

    def pressed(loop, progress):
        if progress.step == step:
            raise KeyboardInterrupt
        whole(loop, progress)

    monkeypatch.setattr(Loop, "_step", pressed)


def forces(path, frames):
    forcefield = load(path)
    return forcefield.predict(forcefield.graph(load_frames(str(frames))[0])).forces


def test_training_leaves_a_model_and_tells_how_it_went(trained, model, frames):
    assert load(model).species == (1, 6, 7, 8)
    assert (model.parent / "log.csv").read_text().count("\n") == 3
    told = trained.stderr.splitlines()
    assert [line.split(",")[0] for line in told] == ["training: reading data", "training: 10/20 steps",
                                                     "training: 20/20 steps"]
    assert "it/s" in told[-1]
    assert "meV/Å" in told[-1]
    assert "20 steps in" in trained.stdout
    assert f"wrote {model} (fp32" in trained.stdout
    assert "\x1b" not in trained.output


def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(config, model, frames, tmp_path, monkeypatch):
    here = ("train", config, "--set", f"out={tmp_path / 'run'}")
    with monkeypatch.context() as patch:
        interrupted_at(patch, 12)
        line = one_error(invoke(*here), 130)
        assert line.startswith("stopped by Ctrl-C at step 12 of 20")
        assert "--resume" in line
    assert "go on with --resume" in one_error(invoke(*here))
    result = invoke(*here, "--resume")
    assert result.exit_code == 0, result.output
    assert np.array_equal(forces(tmp_path / "run" / "model.safetensors", frames), forces(model, frames))
    assert "other data" in one_error(invoke(*here, "--resume", "--set", "optimization.seed=1"))


def test_resume_without_a_checkpoint_starts_from_the_beginning(config, tmp_path):
    result = invoke("train", config, "--set", f"out={tmp_path}", "--set", "optimization.steps=1", "--resume")
    assert result.exit_code == 0, result.output
    assert "starting from the beginning" in result.stderr


def test_threads_of_the_configuration_are_taken(config, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    change = ("--set", f"out={tmp_path}", "--set", "optimization.steps=1")
    assert invoke("train", config, *change).exit_code == 0
    assert taken == []
    assert invoke("train", config, *change, "--set", "threads=3", "--overwrite").exit_code == 0
    assert taken == [3]


def test_quantizing_gives_a_smaller_model(quantized, low_bit, model, frames):
    small, full = load(low_bit), load(model)
    assert small.recipe.name == "w4a8"
    assert sum(small.stored.bytes_by_tensor().values()) < 0.5 * sum(full.stored.bytes_by_tensor().values())
    assert small.provenance["config"]["optimization"]["learning_rate"] == 1e-3
    assert "% of FP32" in quantized.stdout
    assert "4 steps" in quantized.stdout
    assert np.isfinite(forces(low_bit, frames)).all()


def test_recipes_are_changed_and_training_can_be_left_out(model, frames, tmp_path):
    out = tmp_path / "new" / "q.safetensors"
    result = invoke("quantize", model, "--recipe", "int8-naive", "--data", frames, "--out", out, "--no-train",
                    "--set", "scalar.weight=4", "--frames", 8)
    assert result.exit_code == 0, result.output
    small = load(out)
    assert small.recipe.rule_for("x", "scalar").weight == 4
    assert small.recipe.rule_for("x", "last").weight == 8
    assert "steps" not in small.provenance


def test_an_interrupted_quantization_goes_on(model, frames, low_bit, tmp_path, monkeypatch):
    here = ("quantize", model, "--data", frames, "--steps", 4, "--batch-size", 4, "--lr", "1e-3",
            "--out", tmp_path / "q.safetensors", "--folder", tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupted_at(patch, 2)
        assert "--resume" in one_error(invoke(*here), 130)
    assert not (tmp_path / "q.safetensors").exists()
    assert "--resume" in one_error(invoke(*here))
    assert invoke(*here, "--resume").exit_code == 0
    assert np.array_equal(forces(tmp_path / "q.safetensors", frames), forces(low_bit, frames))


def test_wrong_settings_are_refused_before_any_work(config, model, low_bit, frames, tmp_path):
    assert "did you mean 'steps'" in one_error(invoke("train", config, "--set", "optimization.stepps=1"))
    assert "batch_size" in one_error(invoke("train", config, "--set", "optimization.batch_size=0"))
    assert "device 'cuda:99'" in one_error(invoke("train", config, "--set", "device=cuda:99"))
    assert "no file" in one_error(invoke("train", config, "--set", "data.train=nowhere", "--set", f"out={tmp_path}"))
    quantize = ("quantize", model, "--data", frames, "--out", tmp_path / "q.safetensors")
    assert "did you mean 'w4a8'" in one_error(invoke(*quantize, "--recipe", "w4a9"))
    assert "did you mean 'scalar'" in one_error(invoke(*quantize, "--set", "scaler.input=8"))
    assert "--minutes and --steps" in one_error(invoke(*quantize, "--minutes", 1, "--steps", 1))
    assert "--lr" in one_error(invoke(*quantize, "--lr", -1))
    assert "--folder" in one_error(invoke(*quantize, "--resume"))
    assert "quantized already" in one_error(invoke("quantize", low_bit, *quantize[2:], "--steps", 1))
    assert "'meta'" in one_error(invoke(*quantize, "--device", "meta"))
    assert not (tmp_path / "q.safetensors").exists()
