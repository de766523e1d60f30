"""Frames in files that ASE reads, and the writer of extended XYZ."""

import bz2
import gzip
import io
import itertools
import lzma
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from gaq.atoms import structure_of
from gaq.data.labels import is_isolated, read_labels
from gaq.data.units import KeyMap
from gaq.errors import DataError, StructureError
from gaq.files import write_atomically
from gaq.reading import require_file
from gaq.structure import Structure

_COMPRESSED: dict[str, Callable[..., IO[str]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

_LONGEST_LINE = {"extxyz": 10**6, "cif": 10**4}  # characters; a CIF may have 2,048


def read_atoms(path: Path) -> list[Atoms]:
    """Return all frames of a file that ASE reads (extxyz, xyz, traj, cif, ...; also .gz, .bz2 and .xz).

    Raises:
        DataError: the file is missing, damaged, empty or of an unknown format.
    """
    from ase.io import read  # brings SciPy, half a second and 45 MB
    from ase.io.formats import UnknownFileTypeError

    require_file(path, DataError, "give the path of a data file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # readers warn of keys that we do not use
            content, form = _unpacked(path)
            if form in _LONGEST_LINE:
                _check_lines(content, _LONGEST_LINE[form])
            if form == "extxyz":
                _check_counts(content)
            frames = read(content, index=":", format=form, do_not_split_by_at_sign=True)
    except Exception as error:  # the readers of ASE raise anything for damaged or foreign files
        unknown = isinstance(error, UnknownFileTypeError)
        reason = "unknown format" if unknown else " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read {path}: {reason[:200]}; gaq reads npz, extended XYZ and what ASE reads"
                        ) from error
    if not frames:
        raise DataError(f"{path} holds no frames")
    return frames if isinstance(frames, list) else [frames]


def _unpacked(path: Path) -> tuple[Path | io.StringIO, str]:
    """Return what ASE shall read and its format; it seeks in XYZ files, which is slow while they are compressed."""
    from ase.io.formats import filetype

    opener = _COMPRESSED.get(path.suffix)
    if opener is None or Path(path.stem).suffix not in (".xyz", ".extxyz"):
        return path, filetype(str(path))
    with opener(path, "rt", encoding="utf-8") as text:
        return io.StringIO(text.read()), "extxyz"


def _check_lines(content: Path | io.StringIO, longest: int) -> None:
    """Refuse lines so long that ASE takes minutes to split them."""
    with _text(content) as text:
        number, length = max(enumerate(map(len, text)), key=lambda line: line[1], default=(0, 0))
    if length > longest:
        raise ValueError(f"line {number + 1} has {length} characters, and at most {longest} are read")


def _text(content: Path | io.StringIO) -> IO[str]:
    return open(content, encoding="utf-8") if isinstance(content, Path) else io.StringIO(content.getvalue())


def _check_counts(content: Path | io.StringIO) -> None:
    """Refuse frames that announce more atoms than there are lines, on which ASE spins, or that it would not see.

    Raises:
        ValueError: as said.
    """
    with _text(content) as text:
        lines, frame = iter(text), 0
        for line in lines:
            if not line.strip():
                if any(rest.strip() for rest in lines):
                    raise ValueError(f"an empty line after {frame} frames, with more behind it")
            elif not line.lstrip().startswith("VEC"):  # cell vectors behind the atoms
                atoms = int(line)
                present = sum(1 for _ in itertools.islice(lines, min(max(atoms, 0), sys.maxsize - 1) + 1)) - 1
                if present < atoms:
                    raise ValueError(f"frame {frame} announces {atoms} atoms, and {max(present, 0)} lines follow")
                frame += 1


def read_frames(path: Path, keys: KeyMap) -> list[Structure]:
    """Return the frames of a file that ASE reads, with the reference values that `keys` names, in eV and Å.

    Raises:
        DataError: the file cannot be read, no frame has a key that is named, or a value is not what it should be.
    """
    atoms = read_atoms(path)
    return [_labelled(image, found, keys, f"{path}, frame {number}")
            for number, (image, found) in enumerate(zip(atoms, read_labels(atoms, keys, str(path)), strict=True))]


def _labelled(atoms: Atoms, labels: dict[str, Any], keys: KeyMap, source: str) -> Structure:
    bare = unlabelled(atoms, source, keys.to_angstrom)
    try:
        if is_isolated(atoms, source):  # its box is there for the program that computed it
            bare = replace(bare, cell=None, pbc=(False, False, False))
        return replace(bare, **labels)
    except StructureError as error:
        raise DataError(f"{source}: {error}") from error


def unlabelled(atoms: Atoms, source: str, to_angstrom: float = 1.0) -> Structure:
    """Return all but the reference labels, with lengths in units of `to_angstrom` Å.

    Raises:
        DataError: what `gaq.atoms.structure_of` refuses.
    """
    if to_angstrom != 1.0:
        atoms = atoms.copy()
        atoms.cell, atoms.arrays["positions"] = atoms.cell.array * to_angstrom, atoms.positions * to_angstrom
    try:
        return structure_of(atoms)
    except StructureError as error:
        raise DataError(f"{source}: {error}") from error


def write_frames(path: str | Path, structures: Iterable[Structure]) -> None:
    """Write frames as extended XYZ with the keys REF_energy (eV), REF_forces (eV/Å), REF_stress (eV/Å³) and weight.

    The file is written whole or not at all. Numbers keep all their digits: reading the file gives the same frames. A path
    that ends in .gz is compressed.

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
    assert structure.cell is not None
    header = [f'Lattice="{_numbers(structure.cell.ravel())}"'] if structure.cell.any() else []
    properties, columns = "species:S:1:pos:R:3", [[_numbers(row) for row in structure.positions]]
    for name, array in (("REF_forces", structure.forces), ("momenta", structure.momenta), ("masses", structure.masses)):
        if array is not None:
            properties += f":{name}:R:{array[0].size}"
            columns.append([_numbers(np.atleast_1d(row)) for row in array])
    if structure.fixed is not None:
        properties += ":move_mask:L:1"
        columns.append(["F" if fixed else "T" for fixed in structure.fixed])
    header.append(f"Properties={properties}")
    for name, value in (("REF_energy", structure.energy), ("charge", structure.charge or None),
                        ("multiplicity", 2.0 * structure.spin + 1.0 if structure.spin else None),
                        ("weight", structure.weight if structure.weight != 1 else None)):
        if value is not None:
            header.append(f"{name}={float(value)!r}")
    if structure.stress is not None:
        header.append(f'REF_stress="{_numbers(structure.stress.ravel())}"')
    header.append('pbc="{}"'.format(" ".join("FT"[p] for p in structure.pbc)))
    symbols = [chemical_symbols[z] for z in structure.species]
    rows = [" ".join(parts) for parts in zip(symbols, *columns, strict=True)]
    return "\n".join([str(len(structure)), " ".join(header), *rows]) + "\n"


def _numbers(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in values)
