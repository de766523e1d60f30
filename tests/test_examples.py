"""The tutorials run from start to end, and show what they promise."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
             request: pytest.FixtureRequest) -> str:
    """What a script prints, run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{request.param}.py"), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.parametrize("tutorial", ["01-equivariance"], indirect=True)
def test_rounding_in_local_frames_keeps_rotations(tutorial: str) -> None:
    mean = {line.split()[0]: float(line.split()[3].strip(",")) for line in tutorial.splitlines() if "LEE mean" in line}
    assert mean["fp32"] < 0.01
    assert mean["int8-naive"] > 1
    assert mean["w4a8"] < mean["int8-naive"] / 30


@pytest.mark.parametrize("tutorial", ["02-dynamics"], indirect=True)
def test_dynamics_conserves_energy(tutorial: str) -> None:
    found = re.findall(r"(\w+) +total energy, standard deviation: ([\d.]+)", tutorial)
    wander = {name: float(value) for name, value in found}
    assert wander["w4a16"] < 1.5 * wander["fp32"] < 0.1
    assert wander["w4a8"] < 1.0
    assert Path("total-energy.svg").read_text().startswith("<?xml")


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", ["03-your-molecule"], indirect=True)
def test_a_molecule_of_ones_own_gets_a_small_model(tutorial: str) -> None:
    rows = {name: (float(error), float(lee), float(size)) for name, error, lee, size in re.findall(
        r"(\w+): force MAE ([\d.]+) meV/Å, LEE ([\d.]+) meV/Å, ([\d.]+) kB", tutorial)}
    assert rows["fp32"][0] < 60
    assert rows["w4a8"][0] < 1.2 * rows["fp32"][0]
    assert rows["w4a8"][1] < 0.1 * rows["w4a8"][0]
    assert rows["w4a8"][2] < 0.4 * rows["fp32"][2]
