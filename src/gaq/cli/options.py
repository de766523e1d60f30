"""Arguments that several commands share, and what they mean."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaq.errors import ConfigError, OutputError, did_you_mean
from gaq.files import destination, output_error
from gaq.optional import extras
from gaq.threads import MOST_THREADS

if TYPE_CHECKING:
    from gaq.data import KeyMap
    from gaq.forcefield import ForceField
    from gaq.recipe import Recipe

SOURCES = "a file with energies and forces (extxyz, npz, ...), or a name such as rmd17:azobenzene:1:test"
LABELS, COMPUTING = "Labels in a file", "Computing"  # headings in the help
STRUCTURE = ("a file (its last frame, or file@0), a frame of a data set, or a name or formula, as ethanol, CH3CH2OH or "
             "water-64")
MOST = 10**18
TRAINED, CHECKPOINT = "model.safetensors", "checkpoint.safetensors"  # in the folder of a run


def whole(least: int = 0, most: int = MOST) -> Callable[[str | int], int]:
    """Return the reader of a whole number in these bounds: 20000, 20_000 and 2e4 are the same."""
    def read(given: str | int) -> int:
        try:
            value = Decimal(str(given))
        except InvalidOperation:
            raise typer.BadParameter(f"{_brief(given)} is no whole number, such as 1000 or 1e3") from None
        if not value.is_finite() or not least <= value <= most or value != value.to_integral_value():
            raise typer.BadParameter(f"{_brief(given)} is no whole number from {least} to {most:.0e}".replace("+", ""))
        return int(value)

    return read


def number(name: str, help: str, *, least: int = 1, most: int = MOST, metavar: str = "N", panel: str | None = None
           ) -> Any:
    """Return an option that takes a whole number."""
    return typer.Option(name, metavar=metavar, parser=whole(least, most), help=help, rich_help_panel=panel)


def one_of(*names: str) -> Callable[[str], str]:
    """Return the reader of a choice, in any case."""
    def choice(given: str) -> str:
        known = {name.lower(): name for name in names}
        if given.lower() not in known:
            raise typer.BadParameter(f"{_brief(given)} must be one of {', '.join(names)}"
                                     f"{did_you_mean(given.lower()[:80], known)}")
        return known[given.lower()]

    return choice


def model_file(given: str | Path) -> Path:
    """Return the path of a model: the file itself, the one in the folder of a run, or one that comes with gaq."""
    path = Path(given)
    try:
        if not path.is_dir():
            from gaq.stored import located

            return located(path)
        if (path / TRAINED).is_file():
            return path / TRAINED
        found = sorted(p for p in path.glob("*.safetensors") if p.name != CHECKPOINT)
    except (OSError, ValueError):  # no path at all; reading it says why
        return path
    if len(found) > 1:
        raise typer.BadParameter(f"{path} holds several models; give one of them: "
                                 f"{', '.join(p.name for p in found[:8])}{' ...' if len(found) > 8 else ''}")
    return found[0] if found else path


def short_name(path: Path) -> str:
    """Return a short name of a model: of its file, or of the folder where that says more."""
    return path.resolve().parent.name if path.name == TRAINED else path.stem


def model(help: str = "Model file (.safetensors), folder of a run, or a name, as ethanol-w4a16.") -> Any:
    """Return an argument that takes a model."""
    return typer.Argument(metavar="MODEL", parser=model_file, help=help)


Model = Annotated[Path, model()]
FloatModel = Annotated[Path, model("Float (FP32) model file (.safetensors), or the folder of a run.")]
Data = Annotated[str, typer.Option("--data", metavar="SRC", help=f"Reference frames: {SOURCES}.")]
Seed = Annotated[int, number("--seed", "Start of the random numbers.", least=0)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist already.")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", parser=str.lower, rich_help_panel=COMPUTING, help=(
    "cpu, cuda or cuda:1."))]
Threads = Annotated[int | None, number("--threads", "CPU threads; PyTorch chooses otherwise.", most=MOST_THREADS,
                                       panel=COMPUTING)]
Backend = Annotated[str, typer.Option("--backend", metavar="NAME", parser=one_of("auto", "engine", "torch"),
                                      rich_help_panel=COMPUTING, help=(
    "engine (native), torch, or auto: the engine where it computes this model."))]
EnergyKey = Annotated[str, typer.Option("--energy-key", rich_help_panel=LABELS, help="Name of the energy, or none.")]
ForcesKey = Annotated[str, typer.Option("--forces-key", rich_help_panel=LABELS, help="Name of the forces, or none.")]
StressKey = Annotated[str, typer.Option("--stress-key", rich_help_panel=LABELS, help=(
    "Name of the stress, or of the virial; used where a frame has it."))]
WeightKey = Annotated[str, typer.Option("--weight-key", rich_help_panel=LABELS, help=(
    "Name of the weight of a frame in training; used where a frame has it."))]
EnergyUnit = Annotated[str, typer.Option("--energy-unit", rich_help_panel=LABELS, help=(
    "eV, kcal/mol, kJ/mol, Ha or meV."))]
LengthUnit = Annotated[str, typer.Option("--length-unit", rich_help_panel=LABELS, help="Ang, Bohr or nm.")]


def key_map(energy: str, forces: str, energy_unit: str, length_unit: str, **others: str) -> "KeyMap":
    """Return the names and units of the labels in a file; "none" is no name."""
    from gaq.data import KeyMap

    return KeyMap(energy, forces, energy_unit, length_unit, **others)


def load_model(path: Path, device: str) -> "ForceField":
    """Return the force field in a file, on a device.

    Raises:
        ConfigError: the device does not exist here.
        ModelFileError: no model in the file.
    """
    from gaq.forcefield import load

    if device == "cpu":
        return load(path)
    check_device(device)
    return load(path).on("torch", device=device)


def chosen_recipe(name: str, changes: list[str] | None, original: "ForceField") -> "Recipe":
    """Return the recipe for a float model, with the changes made.

    Raises:
        ConfigError: an unknown recipe, or a change that means nothing.
    """
    from gaq.models import load_recipe

    found = load_recipe(name, original.config.kind)
    try:
        return found.with_overrides(changes or [], original.stored.schema.roles)
    except ConfigError as error:
        raise ConfigError(f"--set {error}") from error


def check_device(name: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ConfigError: an unknown name, or a device that this machine or this PyTorch does not have.
    """
    with extras():
        import torch
    try:
        torch.zeros(1, dtype=torch.float64, device=name).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = "PyTorch finds no CUDA device" if name.startswith("cuda") else "PyTorch has none for float64"
        raise ConfigError(f"device {name!r} cannot be used: {reason}; `gaq info` lists the devices of this machine"
                          ) from error


def use_threads(count: int | None) -> None:
    """Take this many CPU threads, if a number is given: the engine and PyTorch read it from there when they begin."""
    if count is not None:
        os.environ["OMP_NUM_THREADS"] = str(count)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(count)


def check_outputs(outputs: Iterable[Path | None], overwrite: bool, inputs: Iterable[Path | str | None] = (),
                  own: bool = False) -> None:
    """Find out before hours of work that an output cannot be written, or would replace something.

    Args:
        outputs: files that a command writes when its work is done, each as a whole.
        overwrite: whether the user said that what is there may go.
        inputs: what the command reads.
        own: whether what is there, unless it is read, comes from the very run that goes on.

    Raises:
        OutputError: a folder that cannot be made or written, what is no file, or a file that exists already.
        ConfigError: two outputs are one file.
    """
    given = {os.path.realpath(path) for path in map(str, inputs) if os.path.exists(path)}
    found: dict[Path, Path] = {}
    for path in outputs:
        if path is None:
            continue
        target = check_writable(path)
        if target in found:
            raise ConfigError(f"{found[target]} and {path} are one file, and two outputs cannot go there; give two paths")
        found[target] = path
        if target.exists() and not overwrite:
            read = str(target) in given
            if read or not own:
                raise OutputError(f"{path} {'is what this command reads' if read else 'exists already'}; replace it with "
                                  "--overwrite, or choose another path")


def check_writable(path: Path) -> Path:
    """Return the file that writing to `path` reaches.

    Raises:
        OutputError: its folder cannot be made or written, or `path` is no place for a file.
    """
    if str(path) == "-":
        raise OutputError("cannot write to standard output, where the summary goes; give the path of a file")
    target = destination(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise output_error(path, error) from error
    return target


def _brief(given: object) -> str:
    text = repr(str(given))
    return text if len(text) <= 80 else f"{text[:76]}...'"
