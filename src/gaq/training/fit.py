"""The two things people train: a float model from data, and a low-bit model from a float one."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from gaq.arrays import Array
from gaq.compress.calibrate import calibration_batches
from gaq.compress.swap import network, prepare, stored
from gaq.data import Frames, check_frames
from gaq.errors import ConfigError, DataError
from gaq.forcefield import ForceField, load
from gaq.graph import Graph, Prediction, build_graph, check_graph, collate
from gaq.models import load_recipe, network_of
from gaq.models.network import Network
from gaq.nn.tensors import tensor, tensors
from gaq.recipe import FLOAT, Recipe, Schedule
from gaq.structure import Structure
from gaq.training.batches import LABELS, fit_offsets, force_scale, labelled_graphs
from gaq.training.checkpoint import Progress
from gaq.training.config import Optimization, TrainConfig
from gaq.training.loop import Loop, Watch
from gaq.training.selection import Selection, check_labels, select, split, usable
from gaq.training.workers import Workers

RANGE_STRUCTURES = 200  # from which the range of outputs is taken, well inside of its bounds


def train(config: TrainConfig, resume: bool = False, watch: Watch = lambda progress: None) -> ForceField:
    """Train a float force field, from scratch or on from another, and write it to `config.out`/model.safetensors.

    Without `resume`, files of an earlier run in the folder are replaced (the command line asks first). A finished run is
    extended by `resume` with more `steps` or `minutes`: it goes on at the rate that the cosine of the new length has there.

    Raises:
        DataError, ConfigError: bad sources or settings, before any work is done.
        Interrupted: Ctrl-C or SIGTERM; `resume=True` goes on exactly where it stopped.
        OutputError: another process trains in the folder.
    """
    data = select(config)
    torch.manual_seed(config.optimization.seed)
    model = _started(config.start) if config.start is not None else _fresh(config, data)
    for frames in (data.training, data.validation):
        check_frames(frames, model.config.species)
    model.to(config.device)
    folder, cutoff = Path(config.out), model.config.cutoff
    training = labelled_graphs(data.training, cutoff, config.device)
    model.start_training(training)
    known = {chemical_symbols[z]: energy for z, energy in data.atomic_energies.items()} if config.start is None else {}
    if known:  # what the network says of bonds at first is wrong by their energy, which the offsets do not hold
        centre_energies(model, training, offsets=False)
    loop = Loop(model, training, labelled_graphs(data.validation, cutoff, config.device),
                config.optimization, Schedule(scalars_only=0.0), folder,
                _identity(config.model_dump(exclude={"out", "device", "threads", "optimization"}),
                          config.optimization.identity(), data.frames, known), watch,
                Workers.from_environment(config.device))
    progress = loop.run(resume)
    centre_energies(model, training, offsets=not known)
    model.finish_training(batched(training))
    made = {"training_frames": len(data.training), "labels": _labels(data.training), "atomic_energies": known}
    provenance = _provenance(config.model_dump(), data.frames, progress, config.device) | made
    forcefield = ForceField(stored(model, FLOAT, provenance))
    if loop.workers.writes:
        forcefield.save(folder / "model.safetensors")
    return forcefield


def _fresh(config: TrainConfig, data: Selection) -> Network:
    """Return a model of random weights, whose energies and forces have the size of the training data's."""
    model: Network = network_of(config.model.kind)(config.model.with_species(data.species))
    model.energy_offsets.copy_(fit_offsets(data.training, data.species, data.atomic_energies))
    model.energy_scale.fill_(force_scale(data.training))
    return model


def _started(path: str) -> Network:
    """Return the float model that training goes on from.

    Raises:
        ConfigError: it is quantized.
    """
    forcefield = load(path)
    if forcefield.recipe.rules:
        raise ConfigError(f"start: {path} is quantized ({forcefield.recipe.name}); training goes on from a float model")
    return network(forcefield.stored).requires_grad_(True)


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
        SpeciesError, DataError: frames with elements that the force field does not know, or without labels.
    """
    recipe = load_recipe(recipe, forcefield.config.kind)
    if forcefield.recipe.rules:
        raise ConfigError(f"the force field is quantized already ({forcefield.recipe.name}); start from its float original")
    if not len(frames):
        raise DataError("quantization needs at least one frame to calibrate on")
    frames, _ = usable(frames if isinstance(frames, Frames) else Frames(tuple(frames), "the frames"))
    check_frames(frames, forcefield.species)
    device = forcefield.device
    original = network(forcefield.stored, device)
    settings = settings if recipe.schedule.train and recipe.rules else None
    training, validation = split(frames, validation_frames, settings.seed) if settings else (frames, frames[:0])
    if settings:
        check_labels(training, validation, settings)
    model = prepare(original, recipe, calibration_batches(training, forcefield.cutoff, device)).requires_grad_(True)
    progress = None
    if settings:
        model.start_training()
        labelled = labelled_graphs(training, forcefield.cutoff, device)
        loop = Loop(model, distillation_targets(training, labelled, forcefield, recipe.schedule, settings.seed),
                    labelled_graphs(validation, forcefield.cutoff, device), settings, recipe.schedule,
                    Path(folder) if folder else None,
                    _identity(recipe, settings.identity(), frames, forcefield.sha256), watch,
                    Workers.from_environment(device))
        progress = loop.run(resume)
        centre_energies(model, labelled)
        model.finish_training(batched(labelled))
    used = {"recipe": recipe.name, "optimization": settings.model_dump() if settings else None}
    provenance = _provenance(used, frames, progress, device) | {"float": forcefield.provenance}
    return ForceField(stored(model, recipe, provenance))


def with_training_range(forcefield: ForceField, structures: Iterable[Structure]) -> ForceField:
    """Return a copy that knows what these structures show it: the training data of an older file, say.

    Kept is what its kind of model takes from training data beside its weights; of the transformer, the shortest distance of
    each two species, and the range of the network's outputs in up to 200 structures, evenly spread. Beyond them the model
    holds back; predictions within do not change.

    Raises:
        DataError: no structures.
        SpeciesError: an element the model was not trained on.
    """
    graphs = [tensors(forcefield.graph(structure)) for structure in structures]
    if not graphs:
        raise DataError("a training range needs at least one structure")
    for graph in graphs:
        check_graph(graph, forcefield.species)
    model = network(forcefield.stored)
    model.start_training(graphs)
    model.finish_training(batched(graphs[:: -(-len(graphs) // RANGE_STRUCTURES)]))
    return ForceField(stored(model, forcefield.recipe, forcefield.provenance))


def distillation_targets(frames: Sequence[Structure], labelled: Sequence[Graph], teacher: ForceField, schedule: Schedule,
                         seed: int) -> list[Graph]:
    """Return what a low-bit model is trained on: frames with a share of the teacher's labels, and displaced copies of them.

    Labels are (1 - s) reference + s teacher, which leads to the sum of both squared errors up to a constant. Copies have
    the teacher's labels alone: they show the function that is to be kept where no reference was computed.
    """
    share = schedule.distillation
    if not share and not schedule.displaced:
        return list(labelled)
    predict, random = teacher.on().predict, np.random.default_rng(seed)
    known = [distilled(graph, predict(graph.mapped(Tensor.cpu)), share) for graph in labelled]
    copies = []
    for _ in range(schedule.displaced):
        for frame, graph in zip(frames, labelled, strict=True):
            positions = frame.positions + schedule.displacement * random.normal(size=frame.positions.shape)
            copy = build_graph(replace(frame, positions=positions, stress=None), teacher.cutoff)
            labels = tensors(copy, graph.positions.device)
            copies.append(distilled(replace(labels, energy=graph.energy, forces=graph.forces), predict(copy), 1.0))
    return known + copies


def distilled(graph: Graph, said: Prediction, share: float) -> Graph:
    """Return the graph with a share of the teacher's labels."""
    def mixed(reference: Tensor | None, said: Array) -> Tensor:
        teacher = tensor(said).to(graph.positions)
        return teacher if reference is None else torch.lerp(reference, teacher, share)
    return replace(graph, energy=mixed(graph.energy, said.energy), forces=mixed(graph.forces, said.forces))


def batched(graphs: Sequence[Graph]) -> Iterator[Graph]:
    """Return all graphs, 16 at a time."""
    return (collate(graphs[k : k + 16]) for k in range(0, len(graphs), 16))


@torch.no_grad()
def centre_energies(model: Network, graphs: Sequence[Graph], offsets: bool = True) -> None:
    """Remove the mean energy error per atom over the frames that have an energy.

    Args:
        model: changed.
        graphs: of one structure each; they count by their weight.
        offsets: whether the elements' energies take it up, or, where those are of isolated atoms, the last bias.
    """
    model.eval()
    graphs = [graph for graph in graphs if graph.energy is not None]
    if not graphs:
        return
    residual = atoms = 0.0
    for batch in batched(graphs):
        assert batch.energy is not None  # for mypy: all have one
        weights = torch.ones_like(batch.energy) if batch.weights is None else batch.weights[:, 0]
        residual += float((weights * (batch.energy - model(batch).energy)).sum())
        atoms += float((weights * batch.atoms_per_structure()).sum())
    if offsets:
        model.energy_offsets.add_(residual / atoms)
    else:
        model.shift_energies(residual / atoms)


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


def _labels(frames: Frames) -> dict[str, int]:
    """Return how many frames have each label."""
    return {label: sum(getattr(frame, label) is not None for frame in frames) for label in LABELS}


def _provenance(config: dict[str, Any], frames: Frames, progress: Progress | None,
                device: str) -> dict[str, Any]:
    made = {"version": version("gaq"), "config": config, "training_frames": len(frames), "device": device,
            "torch": torch.__version__, "source": frames.source,
            "fingerprint": frames.fingerprint}
    if progress is not None:
        made |= {"steps": progress.step, "best_step": progress.best_step, "seconds": round(progress.seconds, 1),
                 "frames_per_second": progress.frames_per_second,
                 "curves": _curves(progress.history)}
    return made


def _curves(history: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return at most 200 validations as one list for each quantity."""
    rows = history[:: -(-len(history) // 200) or 1]
    stress = ["stress_mae_meV_A3"] if rows and "stress_mae_meV_A3" in rows[0] else []
    return {key: [row[key] for row in rows]
            for key in ("step", "train_loss", "forces_mae_meV_A", "energy_mae_meV", "phase", *stress)}
