"""Frames in files that ASE reads, and the writer of extended XYZ."""

import bz2
import gzip
import io
import lzma
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io import read
from ase.io.formats import UnknownFileTypeError

from gaq.data.units import KeyMap
from gaq.errors import DataError, StructureError, did_you_mean
from gaq.files import write_atomically
from gaq.structure import Structure

# What the readers of ASE raise for damaged or foreign files; OSError covers XYZError and truncated archives.
_UNREADABLE = (UnknownFileTypeError, OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError,
               StopIteration, AssertionError, RuntimeError, ImportError, zlib.error, struct.error, lzma.LZMAError)
_COMPRESSED: dict[str, Callable[..., IO[str]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def read_atoms(path: Path) -> list[Atoms]:
    """Return all frames of a file that ASE reads (extxyz, xyz, traj, cif, ...; also .gz, .bz2 and .xz).

    Raises:
        DataError: the file is missing, damaged, empty or of an unknown format.
    """
    if not path.is_file():
        raise DataError(f"no file at {path}; give the path of a data file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # readers warn of keys that we do not use
            content, form = _unpacked(path)
            frames = read(content, index=":", format=form, do_not_split_by_at_sign=True)
    except _UNREADABLE as error:
        unknown = isinstance(error, UnknownFileTypeError)
        reason = "unknown format" if unknown else " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read {path}: {reason[:200]}; gaq reads npz, extended XYZ and what ASE reads"
                        ) from error
    if not frames:
        raise DataError(f"{path} holds no frames")
    return frames if isinstance(frames, list) else [frames]


def _unpacked(path: Path) -> tuple[Path | io.StringIO, str | None]:
    """Return what ASE shall read and its format; it seeks in XYZ files, which is slow while they are compressed."""
    opener = _COMPRESSED.get(path.suffix)
    if opener is None or Path(path.stem).suffix not in (".xyz", ".extxyz"):
        return path, None
    with opener(path, "rt", encoding="utf-8") as text:
        return io.StringIO(text.read()), "extxyz"


def read_frames(path: Path, keys: KeyMap) -> list[Structure]:
    """Return the frames of a file that ASE reads, with the reference values that `keys` names, in eV and Å.

    Raises:
        DataError: the file cannot be read, or a frame lacks a key.
    """
    return [_labelled(atoms, keys, f"{path}, frame {number}") for number, atoms in enumerate(read_atoms(path))]


def _labelled(atoms: Atoms, keys: KeyMap, source: str) -> Structure:
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    energy = forces = None
    if keys.energy is not None:
        value = _value("energy", keys.energy, {**results, **atoms.info}, atoms, source)
        if value.size != 1:
            raise DataError(f"{source}: the energy {keys.energy!r} must be one number, not an array {value.shape}")
        energy = float(value.reshape(())) * keys.to_ev
    if keys.forces is not None:
        forces = _value("forces", keys.forces, {**results, **atoms.arrays}, atoms, source)
        forces = forces * (keys.to_ev / keys.to_angstrom)
    try:
        return Structure(species=atoms.numbers, positions=atoms.positions * keys.to_angstrom,
                         cell=atoms.cell.array * keys.to_angstrom, pbc=tuple(atoms.pbc.tolist()),
                         energy=energy, forces=forces)
    except StructureError as error:
        raise DataError(f"{source}: {error}") from error


def _value(what: str, key: str, values: dict[str, Any], atoms: Atoms, source: str) -> np.ndarray:
    if key not in values:
        here = dict(atoms.info) if what == "energy" else dict(atoms.arrays)
        results = () if atoms.calc is None else atoms.calc.results
        known = sorted({*here, *results} - {"numbers", "positions"})
        raise DataError(f"{source} has no {what} called {key!r}; it has {', '.join(known) or 'no such values'}"
                        f"{did_you_mean(key, known)}; give the right name as {what}_key")
    try:
        return np.asarray(values[key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: the {what} {key!r} must be numbers, not {values[key]!r}") from error


def write_frames(path: str | Path, structures: Iterable[Structure]) -> None:
    """Write frames as extended XYZ with the keys REF_energy (eV) and REF_forces (eV/Å), whole or not at all.

    Numbers keep all their digits: reading the file gives the same frames. A path that ends in .gz is compressed.

    Raises:
        DataError: there are no frames.
        OutputError: the file cannot be written; an old one is unchanged.
    """
    text = "".join(_frame(structure) for structure in structures)
    if not text:
        raise DataError(f"there are no frames to write to {path}")
    packed = gzip.compress(text.encode(), mtime=0) if str(path).endswith(".gz") else text
    write_atomically(path, packed)


def _frame(structure: Structure) -> str:
    header, columns = [], [structure.positions]
    assert structure.cell is not None
    if structure.cell.any():
        header.append(f'Lattice="{_numbers(structure.cell.ravel())}"')
    properties = "species:S:1:pos:R:3"
    if structure.forces is not None:
        properties += ":REF_forces:R:3"
        columns.append(structure.forces)
    header.append(f"Properties={properties}")
    if structure.energy is not None:
        header.append(f"REF_energy={float(structure.energy)!r}")
    header.append('pbc="{}"'.format(" ".join("FT"[p] for p in structure.pbc)))
    rows = [f"{chemical_symbols[z]} {_numbers(row)}"
            for z, row in zip(structure.species, np.hstack(columns), strict=True)]
    return "\n".join([str(len(structure)), " ".join(header), *rows]) + "\n"


def _numbers(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in values)
