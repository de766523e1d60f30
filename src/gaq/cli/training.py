"""`gaq train` and `gaq quantize`: a float model from data, and a low-bit model from a float one."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaq.cli import options
from gaq.cli.terminal import STEPS, Meter, duration, first_process, meter, say, show, size
from gaq.errors import ConfigError, OutputError
from gaq.files import locked

if TYPE_CHECKING:
    from gaq.forcefield import ForceField
    from gaq.training.checkpoint import Progress
    from gaq.training.config import Optimization


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Data, model and training settings.")],
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=(
        "Change one setting, e.g. --set optimization.steps=2000; may be repeated."))] = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Train a float (FP32) model.

    The configuration names the reference data and the folder of the run, which gets model.safetensors, log.csv and a
    checkpoint. A run can be stopped with Ctrl-C or SIGTERM at any time, and goes on with --resume; a finished one is
    extended by --resume with more optimization.steps.
    """
    from gaq.training import load_config
    from gaq.training import train as fit

    settings = load_config(config, changes or [])
    folder = Path(settings.out)
    options.check_device(settings.device)
    _check_start(folder, folder / "model.safetensors", resume, overwrite, [config, settings.start])
    options.use_threads(settings.threads)
    with meter("training", STEPS, "reading data") as told:
        log = _Log(told)
        forcefield = fit(settings, resume, log)
    _summary(forcefield, folder / "model.safetensors", log.last, resume)


def quantize(
    model: options.FloatModel,
    data: options.Data,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The low-bit model to write (.safetensors).")],
    recipe: Annotated[str, typer.Option("--recipe", help=(
        "w4a8, w8a8, w4a16, w4, for comparison int8-naive, svq-kmeans, degree-quant, or a file of `gaq sensitivity --out`."
    ))] = "w4a8",
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="ROLE.FIELD=VALUE", help=(
        "Change the recipe, e.g. --set scalar.input=12 or --set schedule.lee_weight=0.1; may be repeated."))] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Time for the training, instead of --steps.")] = None,
    steps: Annotated[int | None, options.number("--steps", "Length of the training; 6000 if not given.")] = None,
    no_train: Annotated[bool, typer.Option("--no-train", help="Only calibrate: quick, less exact.")] = False,
    learning_rate: Annotated[float | None, typer.Option("--lr", help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, options.number("--batch-size", "Structures in one step.")] = None,
    seed: Annotated[int | None, options.number("--seed", "Start of the random numbers.", least=0)] = None,
    frames: Annotated[int | None, options.number("--frames", "Take so many frames of the data.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", metavar="RUN_FOLDER", help=(
        "Where checkpoints and logs go; needed to be able to stop and go on."))] = None,
    resume: options.Resume = False,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    energy_key: options.EnergyKey = "REF_energy",
    forces_key: options.ForcesKey = "REF_forces",
    weight_key: options.WeightKey = "weight",
    energy_unit: options.EnergyUnit = "eV",
    length_unit: options.LengthUnit = "Ang",
    overwrite: options.Overwrite = False,
) -> None:
    """Compress a float model to a few bits.

    Trains with the rounding in place. The recipe w4a8 stores weights in 4 bits and activations in 8, and rounds vector
    features in local frames, which keeps the symmetry under rotations.
    """
    from gaq.data import check_training_size, load_frames
    from gaq.training import quantize as compress

    settings = _settings(no_train, {"minutes": minutes, "steps": steps, "learning_rate": learning_rate,
                                    "batch_size": batch_size, "seed": seed})
    if folder is None and resume:
        raise ConfigError("--resume needs the --folder that the interrupted run was started with")
    _check_start(folder, out, resume, overwrite, [model, data, recipe])
    options.use_threads(threads)
    original = options.load_model(model, device)
    chosen = options.chosen_recipe(recipe, changes, original)
    labelled = load_frames(data, options.key_map(energy_key, forces_key, energy_unit, length_unit, weight=weight_key))
    if frames is not None:
        labelled = labelled.take(frames, settings.seed if settings else 0)
    if settings is not None:
        check_training_size(labelled, allow_more=False)
    with meter(f"quantizing to {chosen.name}", STEPS, "calibrating") as told:
        log = _Log(told)
        forcefield = compress(original, chosen, labelled, settings, folder=folder, resume=resume, watch=log)
    if first_process():
        forcefield.save(out)
    _summary(forcefield, out, log.last, resume and settings is not None)


class _Log:
    """Turns the state of a run into progress; every validation is a milestone."""

    def __init__(self, told: Meter) -> None:
        self._told, self._validations = told, 0
        self.last: Progress | None = None

    def __call__(self, progress: "Progress") -> None:
        new = self.last is not None and len(progress.history) > self._validations
        self.last, self._validations = progress, len(progress.history)
        self._told(progress.step, progress.steps, _validation(progress.history[-1]) if progress.history else "", new)


def _validation(row: dict[str, Any]) -> str:
    shown = [("E", "energy_mae_meV", "meV"), ("F", "forces_mae_meV_A", "meV/Å"), ("stress", "stress_mae_meV_A3", "meV/Å³")]
    errors = [f"{what} {row[key]:.2f} {unit}" for what, key, unit in shown if row.get(key) is not None]
    phase = "" if row["phase"] == "all" else f", phase: {row['phase']}"
    return f"validation at {row['step']}: MAE {', '.join(errors)}{phase}"


def _settings(no_train: bool, given: dict[str, Any]) -> "Optimization | None":
    """Return the settings of the training: the usual ones, with what the user gave on top; None for calibration alone.

    Raises:
        ConfigError: two budgets, or a value out of its range.
    """
    from pydantic import ValidationError

    from gaq.training.config import LOW_BIT, Optimization

    chosen = {name: value for name, value in given.items() if value is not None}
    budgets = [name for name in ("minutes", "steps") if name in chosen] + ["no-train"] * no_train
    if len(budgets) > 1:
        raise ConfigError(f"give one of --minutes, --steps and --no-train; given --{' and --'.join(budgets)}")
    if no_train:
        return None
    defaults = LOW_BIT.model_dump()
    if "minutes" in chosen:
        defaults["steps"] = None
    try:
        return Optimization.model_validate(defaults | chosen)
    except ValidationError as error:
        first = error.errors()[0]
        name = {"learning_rate": "lr"}.get(str(first["loc"][0]), str(first["loc"][0])).replace("_", "-")
        raise ConfigError(f"--{name}: {first['msg']} (given {first['input']})") from error


def _check_start(folder: Path | None, model: Path, resume: bool, overwrite: bool, inputs: Iterable[Path | str | None]
                 ) -> None:
    """Keep a forgotten --resume, or a second process, from throwing hours of training away.

    Args:
        folder: of the run, if it has one.
        model: what the run writes at its end.
        resume, overwrite: what the user said.
        inputs: what the command reads.

    Raises:
        OutputError: the folder holds the checkpoint of another run, whose model may be older or newer; or `model` exists
            and is not the product of a run that goes on; or another process is at work there.
    """
    checkpoint = None if folder is None else options.check_writable(folder / options.CHECKPOINT)
    begun = checkpoint is not None and checkpoint.exists()
    if resume and not begun:
        say(f"no checkpoint in {folder}: starting from the beginning")
    if begun and checkpoint is not None and not (resume or overwrite):
        raise OutputError(f"{folder} holds {_state_of(checkpoint)}; go on with --resume, start again with --overwrite, or "
                          "choose another folder")
    options.check_outputs([model], overwrite, inputs, own=resume and begun)
    for path in (checkpoint, model):
        if path is not None and first_process():
            with locked(path):
                pass


def _state_of(checkpoint: Path) -> str:
    """Say what kind of run a checkpoint is of."""
    from gaq.training.checkpoint import peek

    progress = peek(checkpoint)
    if progress.step < progress.steps:
        return f"a run that was interrupted at step {progress.step} of {progress.steps}"
    return f"a finished run of {progress.steps} steps, which more steps would extend"


def _summary(forcefield: "ForceField", path: Path, last: "Progress | None", resumed: bool) -> None:
    if last is None and resumed:
        show("the run was finished already; more steps or minutes, with --resume, extend it")
    if last is not None and last.history:
        best = next((row for row in last.history if row["step"] == last.best_step), last.history[-1])
        rates = ", ".join(f"{how} {speed:.3g} frames/s" for how, speed in last.frames_per_second.items())
        if rates:
            show(f"training speed: {rates}")
        show(f"{last.step} steps in {duration(last.seconds)}; best: {_validation(best)}")
    labels = {name: n for name, n in forcefield.provenance.get("labels", {}).items() if n}
    if len(labels) == 1 or len(set(labels.values())) > 1:
        show("trained on " + ", ".join(f"{n} frames with {name}" for name, n in labels.items()))
    stored, full = sum(forcefield.stored.bytes_by_tensor().values()), forcefield.stored.bytes_in_float32()
    share = f", {stored / full:.0%} of FP32" if forcefield.recipe.rules else ""
    show(f"wrote {path} ({forcefield.recipe.name}, {size(stored)}{share})")
