"""The examples run, and say what they promise; so do the code blocks and commands of the README."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ase.build import molecule

import gaq
from gaq.data import write_frames

ROOT = Path(__file__).parents[1]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_equivariance_example_shows_the_point(capsys: pytest.CaptureFixture[str]) -> None:
    example("01-equivariance").main()
    mean = {line.split()[0]: float(line.split()[3]) for line in capsys.readouterr().out.splitlines()}
    assert mean["fp32"] < 0.01
    assert mean["int8-naive"] > 1
    assert mean["w4a8"] < mean["int8-naive"] / 30


def test_dynamics_example_conserves(capsys: pytest.CaptureFixture[str]) -> None:
    example("02-dynamics").main()
    spread = float(re.findall(r"deviation ([\d.]+)", capsys.readouterr().out)[0])
    assert spread < 1.0


def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    block = block.replace("minutes=5", "steps=2").replace("rotations=64", "rotations=2")
    block = block.replace('"models/', f'"{ROOT}/models/')
    ethanol = molecule("CH3CH2OH")
    forcefield = gaq.load(ROOT / "models" / "ethanol-gfn2-fp32.safetensors")
    frames = []
    for seed in range(20):
        moved = ethanol.positions + np.random.default_rng(seed).normal(0, 0.03, (9, 3))
        said = forcefield(forcefield.graph(gaq.Structure(ethanol.numbers, moved)))
        frames.append(gaq.Structure(ethanol.numbers, moved, energy=float(said.energy[0]), forces=said.forces))
    write_frames(tmp_path / "frames.extxyz", frames)
    monkeypatch.chdir(tmp_path)
    names = {"atoms": ethanol}
    exec(compile(block, "README.md", "exec"), names)
    assert np.isfinite(ethanol.get_potential_energy())


def test_readme_names_only_commands_that_exist() -> None:
    from gaq.cli.app import app, data
    known = {c.name or c.callback.__name__ for c in app.registered_commands} | {"data"}  # type: ignore[union-attr]
    of_data = {c.name or c.callback.__name__ for c in data.registered_commands}  # type: ignore[union-attr]
    used = re.findall(r"`(?:\.venv/bin/)?(gaq [^`]+)`", (ROOT / "README.md").read_text())
    assert len(used) >= 10
    for line in used:
        words = shlex.split(line.replace("[", " ").replace("]", " "))
        assert words[1] in known
        if words[1] == "data":
            assert words[2] in of_data
