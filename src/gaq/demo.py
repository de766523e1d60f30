"""The main job, end to end, on labels made on the spot: label, train or load, quantize, evaluate, simulate, report."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gaq.assess.evaluate import evaluate
from gaq.data import Frames, write_frames
from gaq.data.label import label
from gaq.data.structures import structure_from
from gaq.files import write_atomically
from gaq.forcefield import ForceField, load
from gaq.models import USUAL, model_kind
from gaq.report.page import write_page
from gaq.simulation import run_md
from gaq.structure import Structure
from gaq.training import DataConfig, Optimization, TrainConfig, quantize, train
from gaq.training.checkpoint import Progress
from gaq.training.config import LOW_BIT

SHIPPED = "ethanol-gfn2-fp32"
SEED = 2026  # not the seed of the shipped model's training frames
TEMPERATURE = 500.0  # K, of the labels


class Advance(Protocol):
    """Says how far a stage is."""

    def __call__(self, done: float, total: float, note: str = "") -> None: ...


Stage = Callable[[str], AbstractContextManager[Advance]]


@dataclass(frozen=True)
class DemoBudget:
    """How much of each thing the demo does.

    Args:
        training_frames, test_frames: labels; the test frames come from trajectories of their own.
        float_minutes: training of the FP32 model, where none is shipped.
        low_bit_minutes: quantization-aware training.
        nve_steps: of 0.5 fs, with the low-bit model and with FP32.
        rotations, lee_frames: of the local equivariance error.
    """

    training_frames: int = 800
    test_frames: int = 200
    float_minutes: float = 10.0
    low_bit_minutes: float = 3.5
    nve_steps: int = 2000
    rotations: int = 64
    lee_frames: int = 16


def run_demo(structure: str | None, out: Path, stage: Stage, budget: DemoBudget = DemoBudget()) -> dict[str, Any]:
    """Run the demo and leave everything it made in `out`.

    Args:
        structure: a structure file or molecule name; None for ethanol with the model that ships with the package.
        out: folder for frames, models, trajectory, results.json and page.html.
        stage: opens a progress display for a named stage.
        budget: how much to do.

    Returns:
        The content of results.json.

    Raises:
        GaqError: whatever goes wrong, with what to do about it.
    """
    out.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    start = structure_from(structure or "ethanol")
    training = _labels(start, budget.training_frames, SEED, out / "frames-train.extxyz", stage)
    test = _labels(start, budget.test_frames, SEED + 1, out / "frames-test.extxyz", stage)
    full = load(SHIPPED) if structure is None else _trained(training, out, budget, stage)
    full.save(out / "fp32.safetensors")
    naive = quantize(full, "int8-naive", training)
    naive.save(out / "int8-naive.safetensors")
    with stage("quantization-aware training, W4A8") as advance:
        low = quantize(full, "w4a8", training, qat_settings(budget.low_bit_minutes), folder=out / "run-w4a8",
                       watch=lambda p: advance(p.step, p.steps, _note(p)))
    low.save(out / "w4a8.safetensors")
    models = [("FP32", full, out / "fp32.safetensors"), ("naive INT8", naive, out / "int8-naive.safetensors"),
              ("GAQ W4A8", low, out / "w4a8.safetensors")]
    with stage("evaluating") as advance:
        results = evaluate(models, test, rotations=budget.rotations, lee_frames=budget.lee_frames,
                           title=f"gaq demo: {start.formula} at {TEMPERATURE:.0f} K, GFN2-xTB",
                           progress=advance)
    results["nve"] = [_nve(name, model, test[0], out, budget.nve_steps, stage) for name, model, _ in
                      (models[0], models[2])]
    results["notes"] = _notes(training, test, structure, time.perf_counter() - begun)
    write_atomically(out / "results.json", json.dumps(results, allow_nan=False))
    write_page([results], out / "page.html")
    return results


def qat_settings(minutes: float) -> Optimization:
    """Return how the demo trains a low-bit model within a time budget."""
    return LOW_BIT.model_copy(update={"steps": None, "minutes": minutes, "batch_size": 10, "seed": SEED})


def _labels(start: Structure, count: int, seed: int, path: Path, stage: Stage) -> Frames:
    frames = []
    with stage(f"{count} GFN2-xTB frames at {TEMPERATURE:.0f} K") as advance:
        for frame in label(start, temperature=TEMPERATURE, frames=count, seed=seed, workers=2):
            frames.append(frame)
            advance(len(frames), count)
    write_frames(path, frames)
    return Frames(tuple(frames), str(path))


def _trained(frames: Frames, out: Path, budget: DemoBudget, stage: Stage) -> ForceField:
    shape = model_kind(USUAL).shape.model_validate({"vectors": 16, "layers": 2})
    config = TrainConfig(
        data=DataConfig(train=[frames.source]), model=shape, out=str(out / "run-fp32"),
        optimization=Optimization(minutes=budget.float_minutes, batch_size=10, seed=SEED))
    with stage(f"training the FP32 model for {budget.float_minutes:g} minutes") as advance:
        return train(config, watch=lambda p: advance(p.step, p.steps, _note(p)))


def _nve(name: str, model: ForceField, start: Structure, out: Path, steps: int, stage: Stage) -> dict[str, Any]:
    path = out / f"nve-{model.recipe.name}.extxyz"
    path.unlink(missing_ok=True)  # of an earlier demo in this folder
    with stage(f"NVE with {name}, {steps * 0.5e-3:g} ps") as advance:
        result = run_md(model, start, ensemble="nve", temperature_K=300.0, timestep_fs=0.5, steps=steps, every=10,
                        out=path, seed=SEED, progress=advance)
    return result.to_results(name, model.recipe.name)


def _note(progress: Progress) -> str:
    if not progress.history:
        return ""
    last = progress.history[-1]
    forces = last["forces_mae_meV_A"]
    return f"validation E {last['energy_mae_meV']:.1f} meV" + (f", F {forces:.1f} meV/Å" if forces is not None else "")


def _notes(training: Frames, test: Frames, structure: str | None, seconds: float) -> list[str]:
    origin = "ships with the package" if structure is None else "was trained here"
    return [f"Labels: GFN2-xTB Langevin dynamics at {TEMPERATURE:.0f} K, {len(training)} frames for training and "
            f"{len(test)} fresh ones for testing, from separate trajectories.",
            f"The FP32 model {origin}. The W4A8 model was made from it with a short quantization-aware training; "
            "naive INT8 was calibrated only.",
            "NVE: velocity Verlet, 0.5 fs, started at 300 K. Activations of 8 bits make the energy a staircase, so its "
            "total energy wanders more than that of FP32: for long NVE use w4, or w4a16 where an audit passes it.",
            f"All of it took {seconds / 60:.1f} minutes on this machine."]
