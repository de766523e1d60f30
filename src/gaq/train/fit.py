"""The two things people train: a float model from data, and a low-bit model from a float one."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaq.data import Frames, check_training_size, load_frames
from gaq.engine.backend import on_backend
from gaq.errors import ConfigError, DataError
from gaq.forcefield import ForceField, frozen, load
from gaq.graph import Graph, Prediction, build_graph, collate
from gaq.nn.model import Transformer
from gaq.recipe import RECIPES, Recipe, Schedule, load_recipe
from gaq.structure import Structure
from gaq.train.batches import fit_offsets, force_scale, labelled_graphs
from gaq.train.checkpoint import Progress
from gaq.train.config import Optimization, TrainConfig
from gaq.train.loop import Loop, Watch
from gaq.train.workers import Workers
from gaq.transform import prepare

CALIBRATION_FRAMES = 64


def train(config: TrainConfig, resume: bool = False, watch: Watch = lambda progress: None) -> ForceField:
    """Train a float force field, from scratch or on from another, and write it to `config.out`/model.safetensors.

    Without `resume`, files of an earlier run in the folder are replaced (the command line asks first). A finished run is
    extended by `resume` with more `steps` or `minutes`: it goes on at the rate that the cosine of the new length has there.

    Raises:
        DataError, ConfigError: bad sources or settings, before any work is done.
        Interrupted: Ctrl-C or SIGTERM; `resume=True` goes on exactly where it stopped.
        OutputError: another process trains in the folder.
    """
    frames = load_frames(config.data.train, config.data.keys)
    if config.data.frames is not None:
        frames = frames.take(config.data.frames, config.optimization.seed)
    check_training_size(frames, config.data.allow_more_than_1000)
    training: Sequence[Structure] = frames
    validation: Sequence[Structure]
    if config.data.validation is not None:
        other = load_frames(config.data.validation, config.data.keys)
        validation = other.take(min(config.data.validation_frames, len(other)), config.optimization.seed)
    else:
        training, validation = split(frames, config.data.validation_frames, config.optimization.seed)
    species = tuple(sorted({int(z) for s in frames for z in np.unique(s.species)}))
    torch.manual_seed(config.optimization.seed)
    if config.start is None:
        model = Transformer(config.model.with_species(species))
        model.energy_offsets.copy_(fit_offsets(training, species))
        model.energy_scale.fill_(force_scale(training))
    else:
        model = _started(config.start, species)
    model.to(config.device)
    folder = Path(config.out)
    cutoff = model.config.cutoff
    loop = Loop(model, labelled_graphs(training, cutoff, frames.source, config.device),
                labelled_graphs(validation, cutoff, frames.source, config.device),
                config.optimization, Schedule(scalars_only=0.0), folder,
                _identity(config.model_dump(exclude={"out", "device", "threads", "optimization"}),
                          config.optimization.identity(), frames), watch,
                Workers.from_environment(config.device))
    progress = loop.run(resume)
    centre_energies(model, loop.train)
    provenance = _provenance(config.model_dump(), frames, progress, config.device) | {"training_frames": len(training)}
    forcefield = frozen(model, RECIPES["fp32"], provenance)
    if loop.workers.writes:
        forcefield.save(folder / "model.safetensors")
    return forcefield


def _started(path: str, species: tuple[int, ...]) -> Transformer:
    """Return the float model that training goes on from.

    Raises:
        ConfigError: it is quantized, or does not know an element of the data.
    """
    forcefield = load(path)
    if forcefield.recipe.rules:
        raise ConfigError(f"start: {path} is quantized ({forcefield.recipe.name}); training goes on from a float model")
    unknown = set(species) - set(forcefield.species)
    if unknown:
        raise ConfigError(f"start: {path} was not made for the elements {sorted(unknown)} of the data")
    return forcefield.model.requires_grad_(True)


def quantize(forcefield: ForceField, recipe: str | Recipe, frames: Sequence[Structure] | Frames,
             settings: Optimization | None = None, *, folder: str | Path | None = None, resume: bool = False,
             validation_frames: int = 50, watch: Watch = lambda progress: None) -> ForceField:
    """Return a low-bit force field made from a float one.

    Calibrates the recipe's steps on frames and, where the recipe is a trained one and `settings` are given, trains with
    the rounding in place: scalars first, vector features later.

    Args:
        forcefield: float.
        recipe: a name or a `Recipe`.
        frames: structures; labels are needed for training only.
        settings: None quantizes after training (calibration alone).
        folder: where checkpoints and logs go.
        watch: called after every step.

    Raises:
        ConfigError: the force field is quantized already, or the recipe is not known.
    """
    recipe = load_recipe(recipe)
    if forcefield.recipe.rules:
        raise ConfigError(f"the force field is quantized already ({forcefield.recipe.name}); start from its float original")
    if not len(frames):
        raise DataError("quantization needs at least one frame to calibrate on")
    teacher, device = forcefield.model, str(forcefield.device)
    settings = settings if recipe.schedule.train and recipe.rules else None
    training, validation = split(frames, validation_frames, settings.seed) if settings else (frames, frames[:0])
    model = prepare(teacher, recipe, calibration_batches(forcefield, training)).requires_grad_(True)
    progress = None
    if settings:
        source = frames.source if isinstance(frames, Frames) else "frames"
        labelled = labelled_graphs(training, forcefield.cutoff, source, device)
        loop = Loop(model, lessons(training, labelled, forcefield, recipe.schedule, settings.seed),
                    labelled_graphs(validation, forcefield.cutoff, source, device), settings, recipe.schedule,
                    Path(folder) if folder else None,
                    _identity(recipe, settings.identity(), frames, forcefield.sha256), watch,
                    Workers.from_environment(device))
        progress = loop.run(resume)
        centre_energies(model, labelled)
    used = {"recipe": recipe.name, "optimization": settings.model_dump() if settings else None}
    provenance = _provenance(used, frames, progress, device) | {"float": forcefield.provenance}
    return frozen(model, recipe, provenance)


def calibration_batches(forcefield: ForceField, frames: Sequence[Structure]) -> list[Graph]:
    """Return the batches that steps are calibrated on: up to 64 frames, evenly spread."""
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, min(CALIBRATION_FRAMES, len(frames))).astype(int)]
    return [collate([forcefield.graph(s) for s in chosen[k : k + 16]]).to(forcefield.device)
            for k in range(0, len(chosen), 16)]


def split(frames: Sequence[Structure], held_out: int, seed: int) -> tuple[list[Structure], list[Structure]]:
    """Return training and validation frames, drawn at random without overlap.

    Raises:
        DataError: too few frames.
    """
    held_out = min(held_out, max(len(frames) // 5, 1))
    if len(frames) < 2:
        raise DataError(f"training needs at least 2 frames, one of them for validation; there are {len(frames)}")
    order = np.random.default_rng(seed).permutation(len(frames))
    return [frames[i] for i in sorted(order[held_out:])], [frames[i] for i in sorted(order[:held_out])]


def lessons(frames: Sequence[Structure], labelled: Sequence[Graph], teacher: ForceField, schedule: Schedule,
            seed: int) -> list[Graph]:
    """Return what a low-bit model learns from: frames with a share of the teacher's labels, and displaced copies of them.

    Labels are (1 - s) reference + s teacher, which leads to the sum of both squared errors up to a constant. Copies have
    the teacher's labels alone: they show the function that is to be kept where no reference was computed.
    """
    share = schedule.distillation
    if not share and not schedule.displaced:
        return list(labelled)
    predict, random = on_backend(teacher), np.random.default_rng(seed)
    known = [taught(graph, predict(graph), share) for graph in labelled]
    copies = []
    for _ in range(schedule.displaced):
        for frame, graph in zip(frames, labelled, strict=True):
            positions = frame.positions + schedule.displacement * random.normal(size=frame.positions.shape)
            copy = build_graph(replace(frame, positions=positions), teacher.cutoff).to(graph.positions.device)
            copies.append(taught(replace(copy, energy=graph.energy, forces=graph.forces), predict(copy), 1.0))
    return known + copies


def taught(graph: Graph, said: Prediction, share: float) -> Graph:
    """Return the graph with a share of the teacher's labels."""
    def mixed(reference: Tensor | None, teacher: Tensor) -> Tensor:
        teacher = teacher.to(graph.positions)
        return teacher if reference is None else torch.lerp(reference, teacher, share)
    return replace(graph, energy=mixed(graph.energy, said.energy), forces=mixed(graph.forces, said.forces))


@torch.no_grad()
def centre_energies(model: Transformer, graphs: Sequence[Graph]) -> None:
    """Remove the mean energy error per atom over the training frames from the elements' energies."""
    model.eval()
    residual = atoms = 0.0
    for k in range(0, len(graphs), 16):
        batch = collate(graphs[k : k + 16])
        if batch.energy is None:
            return
        residual += float((batch.energy - model(batch).energy).sum())
        atoms += len(batch.species)
    model.energy_offsets.add_(residual / atoms)


def _identity(*parts: Any) -> str:
    def text(part: Any) -> str:
        if isinstance(part, Frames):
            return part.fingerprint
        if hasattr(part, "model_dump_json"):
            return part.model_dump_json()
        if isinstance(part, (dict, str)):
            return json.dumps(part, sort_keys=True, default=str)
        return Frames(tuple(part), "").fingerprint
    return hashlib.sha256("\n".join(text(p) for p in parts).encode()).hexdigest()


def _provenance(config: dict[str, Any], frames: Sequence[Structure], progress: Progress | None,
                device: str) -> dict[str, Any]:
    made = {"version": version("gaq"), "config": config, "training_frames": len(frames), "device": device,
            "torch": torch.__version__, "source": getattr(frames, "source", ""),
            "fingerprint": getattr(frames, "fingerprint", "")}
    if progress is not None:
        made |= {"steps": progress.step, "best_step": progress.best_step, "seconds": round(progress.seconds, 1),
                 "frames_per_second": progress.frames_per_second,
                 "curves": _curves(progress.history)}
    return made


def _curves(history: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return at most 200 validations as one list for each quantity."""
    rows = history[:: -(-len(history) // 200) or 1]
    return {key: [row[key] for row in rows]
            for key in ("step", "train_loss", "forces_mae_meV_A", "energy_mae_meV", "phase")}
