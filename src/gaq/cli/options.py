"""Arguments that several commands share, and what they mean."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaq.errors import ConfigError, OutputError
from gaq.files import destination, output_error

if TYPE_CHECKING:
    from gaq.data import KeyMap
    from gaq.forcefield import ForceField

SOURCES = "a file with energies and forces (extxyz, npz, ...), or a name such as rmd17:azobenzene:1:test"
LABELS, COMPUTING = "Labels in a file", "Computing"  # headings in the help

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file (.safetensors).")]
Data = Annotated[str, typer.Option("--data", metavar="SRC", help=f"Reference frames: {SOURCES}.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Start of the random numbers.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist already.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1.", rich_help_panel=COMPUTING)]
Threads = Annotated[int | None, typer.Option("--threads", min=1, rich_help_panel=COMPUTING, help=(
    "CPU threads; PyTorch chooses otherwise."))]
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
