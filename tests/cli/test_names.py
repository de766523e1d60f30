"""Models, structures, whole numbers and choices are understood the same way by every command."""

import shutil
from typing import get_args, get_type_hints

import pytest
import typer
from invocation import invoke, one_error

from gaq.cli import options
from gaq.cli.app import app, data


@pytest.mark.parametrize(("given", "number"), [
    ("20000", 20000), ("2e4", 20000), ("2E4", 20000), ("20_000", 20000), ("2.0e4", 20000), ("1e4", 10000), (" 7 ", 7),
    (7, 7), ("1.5e1", 15), ("0", 0), ("1e18", 10**18)])
def test_whole_numbers(given, number):
    assert options.whole()(given) == number


@pytest.mark.parametrize("given", ["1.5", "1e400", "1e999999999", "-1", "-1e4", "nan", "inf", "-inf", "", "many", "0x10",
                                   "1e-3", "1e19", "9" * 1000, "१२.५", "None"])
def test_what_is_no_whole_number_is_said_briefly(given):
    with pytest.raises(typer.BadParameter, match="whole number") as refused:
        options.whole()(given)
    assert len(str(refused.value)) < 160


def test_bounds_of_whole_numbers():
    assert options.whole(-3, 3)("-3") == -3
    for given in ("-4", "4"):
        with pytest.raises(typer.BadParameter, match="from -3 to 3"):
            options.whole(-3, 3)(given)


def test_choices_come_in_any_case():
    choice = options.one_of("auto", "engine", "torch")
    assert [choice(given) for given in ("ENGINE", "Torch", "auto")] == ["engine", "torch", "auto"]
    with pytest.raises(typer.BadParameter, match="did you mean 'engine'"):
        choice("ENGIN")


def test_a_run_in_any_case(model, tmp_path):
    done = invoke("md", model, "ethanol", "--steps", "1e1", "--every", "5_0", "--ensemble", "NVT", "--backend", "ENGINE",
                  "--timestep", 0.01, "--out", tmp_path / "t.extxyz")
    assert done.exit_code == 0, done.output
    assert "computed by engine" in done.stdout
    assert "10 steps" in done.stdout


@pytest.mark.parametrize("arguments", [("--steps", "1e400"), ("--steps", "1.5"), ("--every", "nan"), ("--every", "-1"),
                                       ("--seed", "-1"), ("--seed", "1e30"), ("--threads", "100000"), ("--threads", "0")])
def test_wrong_numbers_are_usage_errors_that_name_the_option(model, tmp_path, arguments):
    line = one_error(invoke("md", model, "water", "--out", tmp_path / "t.extxyz", *arguments), 2)
    assert f"'{arguments[0]}'" in line
    assert f"'{arguments[1]}'" in line
    assert "whole number" in line


def test_recipes_in_any_case(model, frames, tmp_path):
    done = invoke("quantize", model, "--recipe", "W4A8", "--data", frames, "--no-train", "--out", tmp_path / "m.safetensors"
                  )
    assert done.exit_code == 0, done.output
    assert "did you mean 'w4a8'" in one_error(invoke("quantize", model, "--recipe", "W4A9", "--data", frames, "--no-train",
                                                     "--out", tmp_path / "n.safetensors"))


def test_the_folder_of_a_run_stands_for_its_model(model, frames, tmp_path):
    run = model.parent
    assert options.model_file(run) == model
    for command in (("info", run), ("evaluate", run, "--data", frames, "--rotations", 1, "--lee-frames", 1, "--frames", 2),
                    ("md", run, "water", "--steps", 1, "--out", tmp_path / "t.extxyz")):
        done = invoke(*command)
        assert done.exit_code == 0, done.output
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(model, other / "best.safetensors")
    (other / options.CHECKPOINT).write_bytes(b"")
    assert options.model_file(other) == other / "best.safetensors"
    shutil.copy(model, other / "worst.safetensors")
    assert "best.safetensors, worst.safetensors" in one_error(invoke("info", other), 2)


def test_every_command_reads_models_and_whole_numbers_in_the_one_way():
    """No command has a number or a model of its own kind."""
    for function in (info.callback for group in (app, data) for info in group.registered_commands):
        for name, hint in get_type_hints(function, include_extras=True).items():
            for given in getattr(hint, "__metadata__", ()):
                if int in (hint.__origin__, *get_args(hint.__origin__)):
                    assert given.parser.__qualname__.startswith("whole."), (function, name)
                if given.metavar == "MODEL":
                    assert given.parser is options.model_file, (function, name)


def commands(group, prefix=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


def test_help_fits_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name in commands(typer.main.get_command(app)):
        shown = invoke(*name.split(), "--help")
        assert shown.exit_code == 0
        assert max(map(len, shown.stdout.splitlines())) <= 80, name
        assert "…" not in shown.stdout, name
