"""A run that was interrupted, or killed, ends with the very weights of one that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import deployed

import examples
from examples import assert_equal, frames, loop, optimization, stored_weights, weights, write
from gaq.errors import ConfigError, Interrupted, ModelFileError, OutputError
from gaq.files import locked
from gaq.forcefield import load
from gaq.models.transformer.recipes import RECIPES
from gaq.recipe import Schedule
from gaq.training import Optimization, TrainConfig, quantize, train
from gaq.training.checkpoint import Progress
from gaq.training.loop import rate_at
from gaq.training.workers import Workers


def interrupt_at(step: int):
    def watch(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt
    return watch


def without_clock(history: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


@pytest.mark.parametrize("step", [1, 3, 4, 11, 12])
def test_resuming_after_ctrl_c_is_exact(tmp_path: Path, step: int) -> None:
    whole = loop(optimization())
    expected = whole.run(resume=False)
    first = loop(optimization(), tmp_path, interrupt_at(step))
    with pytest.raises(Interrupted, match=rf"step {step} of 12; saved in .*checkpoint.*--resume"):
        first.run(resume=False)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    second = loop(optimization(), tmp_path)
    progress = second.run(resume=True)
    assert_equal(weights(whole.model), weights(second.model))
    assert_equal(whole.state.average, second.state.average)
    assert (progress.step, progress.best, progress.best_step) == (expected.step, expected.best, expected.best_step)
    assert without_clock(progress.history) == without_clock(expected.history)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first = loop(optimization(), tmp_path)
    first.run(resume=False)
    again = loop(optimization(), tmp_path, interrupt_at(13))
    assert again.run(resume=True).step == 12
    assert_equal(weights(first.model), weights(again.model))


@pytest.mark.parametrize("first_stop", [12, 7])
def test_a_run_is_extended_on_the_schedule_of_its_new_length(tmp_path: Path, first_stop: int) -> None:
    """Finished or interrupted, it goes on with its optimizer and average, at the rate of the longer cosine."""
    first = loop(optimization(), tmp_path, interrupt_at(first_stop) if first_stop < 12 else lambda progress: None)
    if first_stop < 12:
        with pytest.raises(Interrupted):
            first.run(resume=False)
    else:
        first.run(resume=False)
    rates: list[float] = []
    second = loop(optimization(steps=20), tmp_path)
    second.watch = lambda progress: rates.append(second.optimizer.param_groups[0]["lr"])
    progress = second.run(resume=True)
    assert (progress.step, progress.steps) == (20, 20)
    settings = optimization(steps=20)
    assert rates == [settings.learning_rate * rate_at(step, 20, settings.warmup_steps, settings.final_rate)
                     for step in range(first_stop, 20)]
    assert [row["step"] for row in progress.history] == [4, 8, 12, 16, 20]
    whole = loop(optimization(steps=20), tmp_path / "cut")  # cut at once after its extension, it ends the same
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "checkpoint.safetensors").write_bytes((tmp_path / "checkpoint.safetensors").read_bytes())
    assert whole.run(resume=True).step == 20
    assert_equal(weights(second.model), weights(whole.model))


def test_an_extension_by_minutes_takes_the_rate_of_the_run_so_far(tmp_path: Path) -> None:
    loop(optimization(steps=8), tmp_path).run(resume=False)
    state = loop(optimization(steps=8), tmp_path)
    progress = state.state.load(state.checkpoint, "same")
    longer = loop(optimization(steps=None, minutes=progress.seconds / 60 * 1.6), tmp_path)
    assert longer.run(resume=True).steps in (12, 13)
    again = loop(optimization(steps=None, minutes=progress.seconds / 60 * 1.6), tmp_path, interrupt_at(20))
    assert again.run(resume=True).step in (12, 13)  # the same budget is the same run


def test_a_run_cannot_become_shorter_than_it_is(tmp_path: Path) -> None:
    loop(optimization(steps=8), tmp_path).run(resume=False)
    with pytest.raises(ConfigError, match=r"has taken 8 steps .*give more than that"):
        loop(optimization(steps=7), tmp_path).run(resume=True)


def test_an_early_stop_is_extended_by_patience_or_steps(tmp_path: Path) -> None:
    settings = {"steps": 40, "patience": 1, "learning_rate": 1e-12, "validate_every": 2}
    stopped = loop(optimization(**settings), tmp_path).run(resume=False)
    assert stopped.step < 40
    assert loop(optimization(**settings), tmp_path).run(resume=True).step == stopped.step
    more = loop(optimization(**{**settings, "patience": 3}), tmp_path).run(resume=True)
    assert more.step > stopped.step
    longer = loop(optimization(**{**settings, "steps": 50}), tmp_path).run(resume=True)
    assert longer.step > more.step


def test_vectors_that_are_rounded_stay_so_in_a_longer_run(tmp_path: Path) -> None:
    schedule = Schedule(scalars_only=0.5)
    loop(optimization(steps=8), tmp_path, schedule=schedule).run(resume=False)
    progress = loop(optimization(steps=24), tmp_path, schedule=schedule).run(resume=True)
    assert [row["phase"] for row in progress.history] == ["all"] * 6


def test_the_logs_of_a_run_that_was_cut_have_every_row_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def fail(progress: Progress) -> None:
        if progress.step == 10:
            raise RuntimeError("power cut")

    settings = {"validate_every": 2, "checkpoint_every": 5}
    with pytest.raises(RuntimeError):
        loop(optimization(**settings), tmp_path, fail).run(resume=False)
    loop(optimization(**settings), tmp_path).run(resume=True)
    assert len(list(tmp_path.glob("events*"))) == 1
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    steps = [2, 4, 6, 8, 10, 12]
    assert [event.step for event in events.Scalars("forces_mae_meV_A")] == steps
    rows = (tmp_path / "log.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == steps


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    first = loop(optimization(), tmp_path)

    def second(progress: Progress) -> None:
        with pytest.raises(OutputError, match=rf"checkpoint.safetensors is in use by process {os.getpid()} on"):
            loop(optimization(), tmp_path).run(resume=True)

    first.watch = second
    first.run(resume=False)
    assert not list(tmp_path.glob(".*"))
    alone = loop(optimization(), tmp_path)
    alone.workers = Workers(1, 2)  # of two processes of torchrun, the first one has the lock
    with locked(tmp_path / "checkpoint.safetensors"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workers, "largest", lambda workers, value: value)
        assert alone.run(resume=True).step == 12


def test_all_processes_stop_at_the_same_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal reached another one of them."""
    calls: list[int] = []

    def largest(workers: Workers, value: int) -> int:
        calls.append(value)
        return signal.SIGTERM if len(calls) == 5 else value

    monkeypatch.setattr(Workers, "largest", largest)
    with pytest.raises(Interrupted, match="stopped by SIGTERM at step 5 of 12") as caught:
        loop(optimization(), tmp_path).run(resume=False)
    assert caught.value.status == 143


def test_without_resume_a_run_starts_again(tmp_path: Path) -> None:
    loop(optimization(steps=4), tmp_path).run(resume=False)
    seen: list[int] = []
    loop(optimization(steps=4), tmp_path, lambda progress: seen.append(progress.step)).run(resume=False)
    assert seen == [1, 2, 3, 4]


def test_an_error_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    def fail(progress: Progress) -> None:
        if progress.step == 6:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        loop(optimization(), tmp_path, fail).run(resume=False)
    whole, second = loop(optimization()), loop(optimization(), tmp_path)
    whole.run(resume=False)
    seen: list[int] = []
    second.watch = lambda progress: seen.append(progress.step)
    second.run(resume=True)
    assert seen[0] == 5
    assert_equal(weights(whole.model), weights(second.model))


def test_ctrl_c_waits_for_the_end_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real signal in the middle of a step and of a validation, when half of the state has moved."""
    from gaq.training import loop as module
    whole = loop(optimization())
    whole.run(resume=False)
    real = module.accuracy

    def interrupted_accuracy(*arguments, **keywords):
        os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **keywords)

    first = loop(optimization(), tmp_path)
    step = first.optimizer.step

    def interrupted_step(*arguments, **keywords):
        if first.optimizer.state and len(first.state.parameters):
            os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments, **keywords)

    monkeypatch.setattr(first.optimizer, "step", interrupted_step)
    with pytest.raises(Interrupted, match="step 2 of 12"):
        first.run(resume=False)
    monkeypatch.setattr(module, "accuracy", interrupted_accuracy)
    with pytest.raises(Interrupted, match="step 4 of 12"):
        loop(optimization(), tmp_path).run(resume=True)
    monkeypatch.setattr(module, "accuracy", real)
    second = loop(optimization(), tmp_path)
    second.run(resume=True)
    assert_equal(weights(whole.model), weights(second.model))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_quantization_resumes_exactly(tmp_path: Path) -> None:
    """The vectors are released at step 5 of 10; the run stops before and after."""
    given = frames()
    start = deployed(examples.model(given))
    recipe = RECIPES["w4a8"].with_overrides(["schedule.scalars_only=0.5", "schedule.lee_weight=0.1",
                                             "schedule.protection=0.3"])
    settings = optimization(steps=10)
    whole = quantize(start, recipe, given, settings, validation_frames=4)
    for step in (3, 7):
        with pytest.raises(Interrupted):
            quantize(start, recipe, given, settings, validation_frames=4, folder=tmp_path, resume=True,
                     watch=interrupt_at(step))
    resumed = quantize(start, recipe, given, settings, validation_frames=4, folder=tmp_path, resume=True)
    assert_equal(stored_weights(whole), stored_weights(resumed))


def configuration(folder: Path, **changes: object) -> TrainConfig:
    source = folder / "frames.xyz"
    if not source.exists():
        write(source, frames())
    settings = {"steps": 40, "batch_size": 4, "warmup_steps": 2, "validate_every": 20, "checkpoint_every": 5}
    return TrainConfig.model_validate({"data": {"train": str(source), "validation_frames": 4}, "model": examples.SHAPE,
                                       "optimization": Optimization(**(settings | changes)).model_dump(),
                                       "out": str(folder / "run")})


KILLED = """
import sys, time
from gaq.training import TrainConfig, train
def slow(progress):
    time.sleep(0.05)
train(TrainConfig.model_validate_json(sys.argv[1]), watch=slow)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_exactly(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", KILLED, config.model_dump_json()])
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.01)
    time.sleep(0.12)  # in the middle of some later step
    child.kill()
    child.wait()
    assert checkpoint.exists()
    assert not (tmp_path / "run" / "model.safetensors").exists()
    seen: list[int] = []
    resumed = train(config, resume=True, watch=lambda progress: seen.append(progress.step))
    assert 5 < seen[0] < 40
    fresh = train(configuration(tmp_path), watch=lambda progress: None)
    assert_equal(stored_weights(resumed), stored_weights(fresh))
    assert_equal(stored_weights(load(tmp_path / "run" / "model.safetensors")), stored_weights(fresh))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    loop(optimization(steps=4), tmp_path).run(resume=False)
    other = loop(optimization(steps=4), tmp_path)
    other.identity = "another"
    with pytest.raises(ModelFileError, match="belongs to another configuration"):
        other.run(resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    first = loop(optimization(steps=4), tmp_path)
    first.run(resume=False)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="not a whole checkpoint"):
        loop(optimization(steps=4), tmp_path).run(resume=True)
    first.model.requires_grad_(False)
    from safetensors.torch import save_file
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelFileError, match="not a whole checkpoint"):
        loop(optimization(steps=4), tmp_path).run(resume=True)
