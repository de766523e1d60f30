"""Arguments that several commands share, and what they mean."""

import tempfile
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaq.errors import ConfigError, OutputError, did_you_mean
from gaq.files import output_error

if TYPE_CHECKING:
    from gaq.data import KeyMap
    from gaq.forcefield import ForceField

SOURCES = "a file with energies and forces (extxyz, npz, ...), or a name such as rmd17:azobenzene:1:test"
LABELS, COMPUTING = "Labels in a file", "Computing"  # headings in the help
STRUCTURE = ("a file (its last frame, or file@0), a frame of a data set, or a name or formula, as ethanol, CH3CH2OH or "
             "water-64")
MOST, MOST_THREADS = 10**18, 1000
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
    """Return the path of a model: the file itself, or the one in the folder of a run."""
    path = Path(given)
    try:
        if not path.is_dir():
            return path
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


def model(help: str = "Model file (.safetensors), or the folder of a run.") -> Any:
    """Return an argument that takes a model."""
    return typer.Argument(metavar="MODEL", parser=model_file, help=help)


Model = Annotated[Path, model()]
FloatModel = Annotated[Path, model("Float (FP32) model file (.safetensors), or the folder of a run.")]
Data = Annotated[str, typer.Option("--data", metavar="SRC", help=f"Reference frames: {SOURCES}.")]
Seed = Annotated[int, number("--seed", "Start of the random numbers.", least=0)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", parser=str.lower, rich_help_panel=COMPUTING, help=(
    "cpu, cuda or cuda:1."))]
Threads = Annotated[int | None, number("--threads", "CPU threads; PyTorch chooses otherwise.", most=MOST_THREADS,
                                       panel=COMPUTING)]
Backend = Annotated[str, typer.Option("--backend", metavar="NAME", parser=one_of("auto", "engine", "torch"),
                                      rich_help_panel=COMPUTING, help=(
    "engine (native), torch, or auto: the engine where it computes this model."))]
EnergyKey = Annotated[str, typer.Option("--energy-key", rich_help_panel=LABELS, help="Name of the energy, or none.")]
ForcesKey = Annotated[str, typer.Option("--forces-key", rich_help_panel=LABELS, help="Name of the forces, or none.")]
EnergyUnit = Annotated[str, typer.Option("--energy-unit", rich_help_panel=LABELS, help=(
    "eV, kcal/mol, kJ/mol, Ha or meV."))]
LengthUnit = Annotated[str, typer.Option("--length-unit", rich_help_panel=LABELS, help="Ang, Bohr or nm.")]


def key_map(energy: str, forces: str, energy_unit: str, length_unit: str) -> "KeyMap":
    """Return the names and units of the labels in a file."""
    from gaq.data import KeyMap

    def name(given: str) -> str | None:
        return None if given.lower() == "none" else given

    return KeyMap(name(energy), name(forces), energy_unit, length_unit)


def load_model(path: Path, device: str) -> "ForceField":
    """Return the force field in a file, on a device.

    Raises:
        ConfigError: the device does not exist here.
        ModelFileError: no model in the file.
    """
    from gaq.forcefield import load

    check_device(device)
    forcefield = load(path)
    return forcefield if device == "cpu" else forcefield.to(device=device)


def check_device(name: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ConfigError: an unknown name, or a device that this machine or this PyTorch does not have.
    """
    import torch

    try:
        torch.zeros(1, dtype=torch.float64, device=name).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = "PyTorch finds no CUDA device" if name.startswith("cuda") else "PyTorch has none for float64"
        raise ConfigError(f"device {name!r} cannot be used: {reason}; `gaq info` lists the devices of this machine"
                          ) from error


def use_threads(count: int | None) -> None:
    """Take this many CPU threads, if a number is given."""
    if count is not None:
        import torch

        torch.set_num_threads(count)


def check_writable(path: Path) -> None:
    """Find out before hours of work that an output cannot be written.

    Raises:
        OutputError: its folder cannot be made or written, or `path` is a folder itself.
    """
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; give the path of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise output_error(path, error) from error


def _brief(given: object) -> str:
    text = repr(str(given))
    return text if len(text) <= 80 else f"{text[:76]}...'"
