"""QM9: 130,831 small molecules at their minima, with B3LYP/6-31G(2df,p) energies and no forces.

Source: Ramakrishnan, Dral, Rupp, von Lilienfeld, Sci. Data 1, 140022 (2014).
"""

import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from gaq.data.frames import Frames
from gaq.data.npz import read_arrays, require_numbers
from gaq.data.units import ENERGY_UNITS
from gaq.errors import DataError, StructureError, did_you_mean
from gaq.structure import Structure

ENERGIES = ("U0", "U", "H", "G", "homo", "lumo", "gap", "zpve")
COMPACT, ARCHIVE, FOLDER = "qm9_130831_compact.npz", "dsgdb9nsd.xyz.tar.bz2", "dsgdb9nsd.xyz"
EXCLUDED = "uncharacterized.txt"
GRAMMAR = "qm9[:<energy>][:train, valid or test][:<count>]"
_MOLECULES, _TRAIN, _VALID = 130_831, 110_000, 10_000
_PARTS = ("train", "valid", "test")
# The second line of an official file: "gdb", index, then these.
_COLUMNS = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")


@dataclass(frozen=True)
class Qm9Request:
    """What a name as qm9:U0:train:1000 asks for."""

    energy: str = "U0"
    part: str | None = None
    count: int | None = None

    @classmethod
    def parse(cls, name: str) -> "Qm9Request":
        """Read a name.

        Raises:
            DataError: the name does not follow the grammar.
        """
        found: dict[str, str | int] = {}
        for word in name.split(":")[1:]:
            count = re.fullmatch("[0-9]{1,9}", word)
            kind = "energy" if word in ENERGIES else "part" if word in _PARTS else "count" if count else None
            if kind is None or kind in found:
                raise DataError(f"{name!r} must be {GRAMMAR}, with an energy of {', '.join(ENERGIES)}; {word!r} does "
                                f"not fit{did_you_mean(word, ENERGIES + _PARTS)}")
            found[kind] = int(word) if kind == "count" else word
        if found.get("count") == 0:
            raise DataError(f"{name!r} asks for no molecules; the count must be at least 1")
        return cls(**found)  # type: ignore[arg-type]  # each kind has its type

    def choose(self, total: int) -> NDArray[np.int64]:
        """Return places in the table; the order is drawn once, as the table is sorted by size."""
        if self.part is None and self.count is None:
            return np.arange(total)
        train, valid = (round(total * part / _MOLECULES) for part in (_TRAIN, _VALID))
        start, stop = {None: (0, total), "train": (0, train), "valid": (train, train + valid),
                       "test": (train + valid, total)}[self.part]
        if self.count is not None and self.count > stop - start:
            raise DataError(f"cannot take {self.count} molecules of QM9; there are {stop - start} to choose from")
        order = np.random.default_rng(0).permutation(total)
        return order[start:stop][: self.count]


class _Table(Protocol):
    """The molecules in one of the forms that QM9 comes in."""

    def structures(self, energy: str, choose: Callable[[int], NDArray[np.int64]]) -> list[Structure]: ...


def load(name: str, folders: Sequence[Path]) -> Frames:
    """Return the molecules that `name` asks for, from the first folder that has them.

    Raises:
        DataError: a bad name, no data in any folder, or damaged data.
    """
    request = Qm9Request.parse(name)
    for folder in (base / below for base in folders for below in ("qm9", "")):
        for path in (folder / COMPACT, folder / FOLDER, folder / ARCHIVE):
            if path.exists():
                return read(path, name, request)
    places = " and ".join(str(folder) for folder in folders)
    raise DataError(f"{name}: no such data in {places}; run: gaq data get qm9, or let the environment variable "
                    "GAQ_DATA name the folder that holds qm9/")


def is_official(path: Path) -> bool:
    """Say whether `path` is an archive, a folder or one file of the official form."""
    return path.name.startswith("dsgdb9nsd") or (path.is_dir() and any(path.glob("dsgdb9nsd_*.xyz")))


def read(path: Path, source: str, request: Qm9Request | None = None) -> Frames:
    """Return the molecules of a compact npz file, or of an official archive, folder or file, in eV and Å.

    Raises:
        DataError: damaged or foreign data.
    """
    request = request or Qm9Request()
    table: _Table = _Compact(path) if path.suffix == ".npz" else _Official(path)
    return Frames(tuple(table.structures(request.energy, request.choose)), source, "qm9")


@dataclass(frozen=True)
class _Compact:
    """One npz file, molecules stored flat."""

    path: Path

    def structures(self, energy: str, choose: Callable[[int], NDArray[np.int64]]) -> list[Structure]:
        key = f"{energy}_Ha"
        arrays = read_arrays(self.path, ("n_atoms", "z", "pos_A", key))
        missing = [name for name in ("n_atoms", "z", "pos_A", key) if name not in arrays]
        if missing:
            raise DataError(f"{self.path} has no array {missing[0]!r}; it is not the compact form of QM9")
        sizes, species, positions, energies = (arrays[name] for name in ("n_atoms", "z", "pos_A", key))
        for name, whole in (("n_atoms", True), ("z", True), ("pos_A", False), (key, False)):
            require_numbers(self.path, name, arrays[name], whole)
        sizes = np.atleast_1d(sizes).astype(np.int64)
        ends = np.cumsum(sizes)
        atoms = int(ends[-1]) if len(ends) and sizes.min() > 0 else 0
        if atoms == 0 or species.shape != (atoms,) or positions.shape != (atoms, 3) or energies.shape != sizes.shape:
            raise DataError(f"{self.path}: the arrays do not fit together: {atoms} atoms in all, z {species.shape}, "
                            f"pos_A {positions.shape}, n_atoms {sizes.shape}, {key} {energies.shape}")
        scaled = energies * ENERGY_UNITS["Ha"]
        found = []
        for k in choose(len(sizes)):
            atoms_of = slice(ends[k] - sizes[k], ends[k])
            try:
                found.append(Structure(species=species[atoms_of], positions=positions[atoms_of], energy=float(scaled[k])))
            except StructureError as error:
                raise DataError(f"{self.path}, molecule {k}: {error}") from error
        return found


@dataclass(frozen=True)
class _Official:
    """One text file for each molecule, in an archive, in a folder, or alone."""

    path: Path

    def structures(self, energy: str, choose: Callable[[int], NDArray[np.int64]]) -> list[Structure]:
        excluded = _excluded(self.path.parent / EXCLUDED)
        texts = sorted((number, text) for number, text in self._texts() if number not in excluded)
        if not texts:
            raise DataError(f"{self.path} holds no files dsgdb9nsd_*.xyz; give the official archive or its folder")
        return [parse_molecule(texts[k][1], energy, f"{self.path}, molecule {texts[k][0]}") for k in choose(len(texts))]

    def _texts(self) -> Iterator[tuple[int, str]]:
        if self.path.is_dir():
            for file in self.path.glob("dsgdb9nsd_*.xyz"):
                yield _number(file.name), file.read_text(errors="replace")
        elif ".tar" in self.path.suffixes:
            yield from self._archived()
        elif self.path.is_file():
            yield _number(self.path.name), self.path.read_text(errors="replace")

    def _archived(self) -> Iterator[tuple[int, str]]:
        try:
            with tarfile.open(self.path, "r|*") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isfile() else None
                    if content is not None and Path(member.name).name.startswith("dsgdb9nsd_"):
                        yield _number(member.name), content.read().decode(errors="replace")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{self.path} is damaged or cut short ({error}); copy or download it again") from error


def parse_molecule(text: str, energy: str, source: str) -> Structure:
    """Return the molecule in one official file; Fortran wrote some exponents as 1.2*^-6.

    Raises:
        DataError: the text does not have the official form.
    """
    lines = text.replace("*^", "e").splitlines()
    try:
        count = int(lines[0])
        properties = lines[1].split()
        value = float(properties[2 + _COLUMNS.index(energy)])
        rows = [line.split() for line in lines[2 : 2 + count]]
        species = np.array([atomic_numbers[row[0]] for row in rows])
        positions = np.array([[float(x) for x in row[1:4]] for row in rows])
        if properties[0] != "gdb" or len(properties) != 2 + len(_COLUMNS) or len(rows) != count:
            raise DataError(f"{source}: the second line or the number of atoms is not as in the files of QM9")
        return Structure(species=species, positions=positions, energy=value * ENERGY_UNITS["Ha"])
    except (ValueError, IndexError, KeyError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source}: not an official file of QM9 ({error})") from error


def _number(name: str) -> int:
    match = re.search(r"dsgdb9nsd_(\d+)\.xyz$", name)
    if match is None:
        raise DataError(f"{name} is not called dsgdb9nsd_<number>.xyz as the files of QM9")
    return int(match[1])


def _excluded(path: Path) -> set[int]:
    """Return the molecules that failed the authors' consistency check; none where their list is not at hand."""
    if not path.is_file():
        return set()
    rows = [line.split() for line in path.read_text(errors="replace").splitlines()]
    return {int(row[0]) for row in rows if len(row) > 2 and re.fullmatch("[0-9]{1,9}", row[0])}
