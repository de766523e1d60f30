"""A run is continued only by what it was made with, in one process at a time."""

import copy
import os
import re
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from tiny import deployed, float_model, forcefield, named
from toys import Springs, molecule

from gaq.dynamics.identity import model_identity
from gaq.errors import DataError, OutputError
from gaq.files import locked
from gaq.forcefield import load
from gaq.simulation import run_md

SHORT = {"steps": 4, "every": 2, "temperature_K": 20.0, "timestep_fs": 0.1}


def test_a_model_is_the_same_in_memory_and_from_a_file_whatever_is_said_of_it(tmp_path: Path) -> None:
    for recipe in ("fp32", "w4a8"):
        field = forcefield("robust", recipe)
        field.save(tmp_path / "m.safetensors")
        again = load(tmp_path / "m.safetensors")
        again.provenance["audit"] = {"grade": "MD-grade"}
        again.save(tmp_path / "audited.safetensors")
        others = [again, load(tmp_path / "audited.safetensors"), field.on("torch", device="cpu")]
        assert {other.sha256 for other in others} == {field.sha256}
        assert re.fullmatch("[0-9a-f]{64}", field.sha256)
    assert forcefield("robust", "fp32").sha256 != forcefield("robust", "w4a8").sha256
    assert forcefield("robust", "w4a8").sha256 != forcefield("robust", "w8a8").sha256


def test_the_backend_is_no_part_of_it() -> None:
    pytest.importorskip("gaq.backends.native.library").library()
    field = forcefield("robust", "w4a8")
    assert model_identity(field.on("torch").potential) == model_identity(field.on("engine").potential) == field.sha256


def test_other_calculators_are_known_by_class_and_parameters() -> None:
    same = [model_identity(LennardJones(epsilon=0.01, sigma=3.0)) for _ in range(2)]
    assert same[0] == same[1]
    assert same[0].startswith("ase.calculators.lj.LennardJones:")
    assert same[0] != model_identity(LennardJones(epsilon=0.02, sigma=3.0))
    assert model_identity(Springs()) == "toys.Springs"
    odd = LennardJones()
    odd.parameters["x"], odd.parameters["y"] = object(), np.arange(3)
    assert not set(model_identity(odd)) & set(' "=\n')


@pytest.mark.parametrize(("change", "words"), [
    ({"temperature_K": 40.0}, "temperature_K = 20.0, not 40.0"),
    ({"friction_per_ps": 1.0}, "friction_per_ps = 10.0, not 1.0"),
    ({"seed": 1}, "seed = 0, not 1"), ({"timestep_fs": 0.2}, "timestep_fs = 0.1, not 0.2"),
    ({"ensemble": "nve"}, "ensemble = nvt, not nve"),
    ({"seed": 1, "temperature_K": 40.0}, "temperature_K = 20.0, not 40.0; seed = 0, not 1")])
def test_other_settings_are_refused_by_name(tmp_path: Path, change: dict, words: str) -> None:
    out, settings = tmp_path / "a.xyz", {**SHORT, "ensemble": "nvt"}
    run_md(Springs(), molecule(), out=out, **settings)
    content = out.read_bytes()
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        run_md(Springs(), molecule(), out=out, resume=True, **{**settings, "steps": 8, **change})
    assert "go on with what it was made with, or choose another path" in str(caught.value)
    assert out.read_bytes() == content
    run_md(Springs(), molecule(), out=out, resume=True, **{**settings, "steps": 8})


def test_another_model_is_refused_however_close_its_energies(tmp_path: Path) -> None:
    """FP32 and W4A8 of one model can agree within any tolerance of the energy."""
    out, water = tmp_path / "a.xyz", named("H2O")
    first = forcefield("robust", "fp32")
    run_md(first, water, out=out, **SHORT)
    model = copy.deepcopy(float_model("robust"))
    next(model.parameters()).data.view(-1)[0] += 1e-7
    near = deployed(model)
    for other in (near, forcefield("robust", "w4a8")):
        with pytest.raises(DataError, match=f"model = {first.sha256}, not {other.sha256}"):
            run_md(other, water, out=out, resume=True, **{**SHORT, "steps": 8})
    assert run_md(first, water, out=out, resume=True, **{**SHORT, "steps": 8}).steps == 8


def test_a_trajectory_that_does_not_say_what_it_was_made_with_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "a.xyz"
    run_md(Springs(), molecule(), out=out, **SHORT)
    old = re.sub(r" (model|temperature_K|friction_per_ps|seed)=\S+", "", out.read_text())
    out.write_text(old)
    with pytest.raises(DataError, match=r"with which model, temperature_K, friction_per_ps, seed .*as the structure"):
        run_md(Springs(), molecule(), out=out, resume=True, **SHORT)
    assert out.read_text() == old


def test_one_process_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "a.xyz"
    run_md(Springs(), molecule(), out=out, **SHORT)
    content = out.read_bytes()
    link = tmp_path / "link.xyz"
    link.symlink_to(out.name)
    for name in (out, link):
        with locked(out), pytest.raises(OutputError, match=rf"in use by process {os.getpid()} on"):
            run_md(Springs(), molecule(), out=name, resume=True, **{**SHORT, "steps": 8})
    assert out.read_bytes() == content
    run_md(Springs(), molecule(), out=link, resume=True, **{**SHORT, "steps": 8})
    assert link.is_symlink()
    assert out.read_bytes().startswith(content)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.xyz", "link.xyz"]


def test_what_is_no_file_is_never_unlinked(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("gone")
    for out in (Path("/dev/null"), tmp_path / "pipe", tmp_path / "nowhere", "a\0b"):
        for resume in (True, False):
            with pytest.raises(OutputError, match="cannot write"):
                run_md(Springs(), molecule(), out=out, resume=resume, **SHORT)
    assert Path("/dev/null").is_char_device()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nowhere", "pipe"]
