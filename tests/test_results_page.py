"""The results page from end to end, in its quick mode, on tiny models: what stands in it, and what an absence says."""

import json
from pathlib import Path

import pytest
import torch

import gaq
from gaq.compress.swap import stored
from gaq.forcefield import ForceField
from gaq.models.transformer.config import ModelConfig
from gaq.models.transformer.network import Transformer
from gaq.recipe import FLOAT

ROOT = Path(__file__).parents[1]
SHAPE = {"scalars": 8, "vectors": 4, "heads": 2, "layers": 1, "radial_functions": 4, "filter_width": 8, "cutoff": 3.0}


def tiny(species: tuple[int, ...]) -> ForceField:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(species=species, **SHAPE))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return ForceField(stored(model, FLOAT, {"steps": 3}))


@pytest.fixture
def models(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models of azobenzene and an ablation of ethanol, none of them trained."""
    if not (shared_data / "rmd17" / "rmd17_azobenzene_test_01.npz").is_file():
        pytest.skip("the page is about rMD17, which is not in ../shared/data")
    monkeypatch.setenv("GAQ_DATA", str(shared_data))
    monkeypatch.syspath_prepend(str(ROOT))
    folder = tmp_path / "models"
    full = tiny((1, 6, 7))
    full.save(folder / "azobenzene-fp32.safetensors")
    calibration = gaq.load_frames("rmd17:azobenzene:1:train")[:4]
    gaq.quantize(full, "w4a8", calibration).save(folder / "azobenzene-w4a8.safetensors")
    return folder


@pytest.mark.slow
def test_the_page_shows_what_is_there_and_names_what_is_not(models: Path, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.coders import CODERS
    from benchmarks.results import main

    few = tuple(coder for coder in CODERS if coder.name in ("components, 8 bits", "MDDQ, octahedral map 2 × 8 bits"))
    for user in ("plan", "measurements"):
        monkeypatch.setattr(f"benchmarks.{user}.CODERS", few)
    given = ["--quick", "--workers", "1", "--models", str(models), "--out", str(tmp_path), "--cache",
             str(tmp_path / "kept")]
    (models / "azobenzene-w4.safetensors").write_bytes(b"no model")
    assert main(given) == 0
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    (group,) = results["accuracy"]
    assert [row["name"] for row in group["rows"]] == ["fp32", "w4a8", "int8-naive"]
    assert all(row["forces_mae_meV_A"] > 0 and sum(row["lee_histogram"]) for row in group["rows"])
    assert group["naive_over_gaq"]["median"] > 1
    full, low = results["conservation"]["rows"]
    assert [run["nve_fluctuation_ratio"] for run in full["nve"]] == [1.0] * 3
    assert full["lambda_antisymmetry"]["max"] < 1e-3 < low["lambda_antisymmetry"]["max"]
    raw, aligned = (next(row for row in results["coders"] if row["coder"] == "components, 8 bits"
                         and row["aligned"] is place) for place in (False, True))
    assert aligned["lee_forces_meV_A"]["float64"]["median"] < 1e-6 < raw["lee_forces_meV_A"]["float64"]["median"]
    page = (tmp_path / "results.md").read_text()
    assert "smoke run" in page
    assert all(f"results/{name}" in page and (tmp_path / "results" / name).stat().st_size > 5000
               for name in results["pictures"].values())
    assert "azobenzene-fp32-control" in page
    assert "azobenzene-w4.safetensors is not a whole safetensors file" in page
    assert "No models of aspirin" in page
    assert "gaq quantize" in page

    (models / "azobenzene-w4.safetensors").unlink()
    monkeypatch.setattr("benchmarks.results.draw", lambda results, folder: {})
    assert main([*given, "--only", "training"]) == 0  # nothing is measured again
    again = json.loads((tmp_path / "results" / "results.json").read_text())
    assert again["kept"] == again["measurements"] == results["measurements"]
    assert again["accuracy"] == results["accuracy"]


def test_what_cannot_be_done_is_said(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.results import main

    assert main(["--models", str(tmp_path / "nowhere")]) == 1
    assert "no model such as azobenzene-fp32.safetensors" in capsys.readouterr().err
    assert main(["--models", str(models), "--picoseconds", "-1"]) == 1
    assert "--picoseconds must be a positive number" in capsys.readouterr().err


def test_a_long_simulation_is_kept_for_the_page(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.nanosecond import main, read

    out, model = tmp_path / "nanosecond.json", models / "azobenzene-fp32.safetensors"
    short = ["--picoseconds", "0.02", "--every", "2", "--work", str(tmp_path), "--out", str(out)]
    assert main([str(model), *short]) == 0
    run = read(out)[model.name]
    assert run["series"]["time_ps"][-1] == 0.02
    assert run["angular_momentum_relative"] < 1e-6  # forces of a molecule have no torque
    assert abs(run["drift_meV_atom_ps"]) < 10 * run["drift_stderr"] + 1.0
    assert "meV/atom/ps" in capsys.readouterr().out
    assert main([str(tmp_path / "absent.safetensors"), *short]) == 1
