"""Arguments that several commands share, and what they mean."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaq.errors import ConfigError, OutputError
from gaq.files import output_error

if TYPE_CHECKING:
    from gaq.data import KeyMap
    from gaq.forcefield import ForceField

SOURCES = "a file with energies and forces (extxyz, npz, ...), or a name such as rmd17:azobenzene:1:test"
LABELS, COMPUTING = "Labels in a file", "Computing"  # headings in the help

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file (.safetensors).")]
Data = Annotated[str, typer.Option("--data", metavar="SRC", help=f"Reference frames: {SOURCES}.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Start of the random numbers.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1.", rich_help_panel=COMPUTING)]
Threads = Annotated[int | None, typer.Option("--threads", min=1, rich_help_panel=COMPUTING, help=(
    "CPU threads; PyTorch chooses otherwise."))]
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
