"""A trajectory on disk that a kill, a full disk or Ctrl-C cannot damage, and from which a run goes on exactly.

The file is extended XYZ, as ASE and most viewers read it. One frame is written by one system call, so a killed process
leaves whole frames, or at worst a torn last one, which is cut off before a run goes on. Numbers are written so that
they read back to the same float64. Momenta are in ASE's unit (amu eV)^½, as `ase.Atoms.get_momenta` gives them. At
constant pressure each frame has its own cell, and what the barostat remembers.
"""

import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from gaq.errors import DataError, OutputError
from gaq.files import destination, locked, output_error
from gaq.structure import Structure

COLUMNS = "species:S:1:pos:R:3:momenta:R:3:forces:R:3"
FIELD = re.compile(r'(\w+)=("[^"]*"|\S+)')


@dataclass(frozen=True)
class Sample:
    """Energies in eV at one step, and the volume in Å³.

    What is conserved is the total energy; at constant pressure, that of the barostat is in it. The volume is 0 elsewhere.
    """

    step: int
    potential: float
    kinetic: float
    conserved: float
    volume: float


@dataclass(frozen=True, eq=False)
class Frame:
    """All that a run goes on from: Å, (amu eV)^½ and eV/Å, each of shape (atoms, 3), the cell, and a barostat's memory."""

    sample: Sample
    positions: NDArray[np.float64]
    momenta: NDArray[np.float64]
    forces: NDArray[np.float64]
    cell: NDArray[np.float64]
    barostat: NDArray[np.float64] | None = None


class Trajectory:
    """The open file of a running simulation.

    Args:
        path: the file; one that exists is continued only with `resume`.
        structure: species and cell of every frame.
        settings: what must not change between runs (`ensemble=nve`, `seed=0`); kept in every frame.
        resume: go on after the last whole frame of `path`, or start where there is none.
        flexible: whether the cell changes, so that each frame has its own.

    Attributes:
        samples: energies of the frames found on disk.
        last: the last frame found on disk, or None.

    Raises:
        OutputError: the file exists and `resume` is not set, it cannot be written, or another process writes it.
        DataError: the file is no trajectory of these atoms and settings, or of a version that did not keep them.
    """

    def __init__(self, path: str | Path, structure: Structure, settings: Mapping[str, str], resume: bool,
                 flexible: bool = False) -> None:
        self.path = Path(path)
        self.settings = dict(settings)
        self.symbols = [chemical_symbols[number] for number in structure.species]
        self.flexible = flexible
        self.lattice, self.columns = _lattice(structure), _columns(structure)
        self.tails = _tails(structure)
        self.samples: list[Sample] = []
        self.last: Frame | None = None
        self._target = destination(self.path)
        if self._target.exists() and not resume:
            raise OutputError(f"{self.path} exists already, and a trajectory is never overwritten; go on from it with "
                              "resume=True, or choose another path")
        with ExitStack() as closing:
            closing.enter_context(locked(self._target))
            try:
                self._handle = os.open(self._target, os.O_RDWR | os.O_CREAT | (0 if resume else os.O_EXCL), 0o666)
            except OSError as error:
                raise output_error(self.path, error) from error
            closing.callback(os.close, self._handle)
            self._size = self._read()
            os.ftruncate(self._handle, self._size)
            os.lseek(self._handle, self._size, os.SEEK_SET)
            self._closing = closing.pop_all()

    def __enter__(self) -> "Trajectory":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        with self._closing:
            try:
                if self._size == 0:  # no frame was reached: leave nothing behind
                    self._target.unlink(missing_ok=True)
                os.fsync(self._handle)
            except OSError as failure:
                raise output_error(self.path, failure) from failure

    def append(self, frame: Frame) -> None:
        """Write one frame; after any failure the file ends with the frame before.

        Raises:
            OutputError: the disk is full, or the file cannot be written.
        """
        content = self._text(frame).encode()
        try:
            written = 0
            while written < len(content):
                written += os.write(self._handle, content[written:])
        except BaseException as error:
            os.ftruncate(self._handle, self._size)
            os.lseek(self._handle, self._size, os.SEEK_SET)
            if not isinstance(error, OSError):
                raise
            kept = f"its frames before step {frame.sample.step} are whole: then go on with resume=True"
            raise OutputError(f"{output_error(self.path, error)}; {kept}") from error
        self._size += len(content)

    def _text(self, frame: Frame) -> str:
        sample = frame.sample
        values = {"energy": repr(sample.potential), "kinetic_energy": repr(sample.kinetic), "step": str(sample.step),
                  **self.settings}
        if frame.barostat is not None:
            values["conserved_energy"] = repr(sample.conserved)
            values["barostat"] = _quoted(frame.barostat)
        lattice = f"Lattice={_quoted(frame.cell)} " if self.flexible else self.lattice
        comment = " ".join([lattice + self.columns, *(f"{name}={value}" for name, value in values.items())])
        rows = np.hstack([frame.positions, frame.momenta, frame.forces]).tolist()
        lines = [f"{symbol} {' '.join(map(repr, row))}{tail}"
                 for symbol, row, tail in zip(self.symbols, rows, self.tails, strict=True)]
        return "\n".join([str(len(rows)), comment, *lines, ""])

    def _read(self) -> int:
        """Fill `samples` and `last` from the file, and return where its last whole frame ends."""
        ends: list[tuple[int, int]] = []  # where each frame starts and ends
        with open(self._target, "rb") as source:
            start = 0
            while (end := self._skip(source)) is not None:
                ends.append((start, end))
                start = end
            while ends and self.last is None:
                begin, end = ends[-1]
                source.seek(begin)
                self.last = self._frame(source.read(end - begin), self.samples[-1])
                if self.last is None:
                    ends.pop()
                    self.samples.pop()
            size = os.fstat(self._handle).st_size
        if size and not ends and not self._torn_first_frame():
            raise self._foreign("it holds no frame of this run")
        return ends[-1][1] if ends else 0

    def _skip(self, source: BinaryIO) -> int | None:
        """Read one frame's energies, pass over its rows, and return where it ends; None where it is torn."""
        count, comment = source.readline(), source.readline().decode(errors="replace")
        rows = [source.readline() for _ in self.symbols]
        if not rows[-1].endswith(b"\n"):
            return None
        fields = dict(FIELD.findall(comment))
        try:
            atoms = int(count)
            sample = self._sample(fields)
        except (KeyError, ValueError):
            raise self._foreign(f"its frame {len(self.samples)} has no step and energies") from None
        if atoms != len(self.symbols) or [row.split()[:1] for row in rows] != [[s.encode()] for s in self.symbols]:
            raise self._foreign("it has other atoms, or in another order")
        free = self.flexible and self.samples  # the first frame has the cell of the structure
        lattice = comment[:comment.index("Properties=")] if free and "Properties=" in comment else self.lattice
        if not comment.startswith(lattice + self.columns):
            raise self._foreign("it has another cell, or masses or fixed atoms that the structure has not")
        if [row.split()[10:] for row in rows] != [tail.encode().split() for tail in self.tails]:
            raise self._foreign("it has other masses or fixed atoms")
        self._compare(fields)
        self.samples.append(sample)
        return source.tell()

    def _sample(self, fields: Mapping[str, str]) -> Sample:
        potential, kinetic = float(fields["energy"]), float(fields["kinetic_energy"])
        conserved = float(fields.get("conserved_energy", potential + kinetic))
        volume = float(abs(np.linalg.det(_cell(fields)))) if self.flexible else 0.0
        return Sample(int(fields["step"]), potential, kinetic, conserved, volume)

    def _compare(self, fields: Mapping[str, str]) -> None:
        """Refuse a frame that was made with other settings, or does not say with which.

        Raises:
            DataError: as said; the message names all that differs.
        """
        unknown = [name for name in self.settings if name not in fields]
        if unknown:
            raise DataError(f"{self.path} does not say with which {', '.join(unknown)} it was made, as trajectories of gaq "
                            "0.1.0, and cannot be continued exactly; start a new one with it as the structure, which takes "
                            "its last frame")
        different = [f"{name} = {fields[name]}, not {value}"
                     for name, value in self.settings.items() if fields[name] != value]
        if different:
            raise self._foreign(f"it was made with {'; '.join(different)}")

    def _frame(self, content: bytes, sample: Sample) -> Frame | None:
        """Parse one frame; None where its rows are damaged."""
        _, comment, *lines = content.decode(errors="replace").splitlines()
        fields = dict(FIELD.findall(comment))
        rows = [line.split()[1:10] for line in lines]
        try:
            values = np.array(rows, dtype=np.float64)
            cell, barostat = _cell(fields), _numbers(fields["barostat"]) if self.flexible else None
        except (KeyError, ValueError):
            return None
        if values.shape != (len(self.symbols), 9) or not np.isfinite(values).all():
            return None
        positions, momenta, forces = (values[:, k:k + 3].copy() for k in (0, 3, 6))
        return Frame(sample, positions, momenta, forces, cell, barostat)

    def _torn_first_frame(self) -> bool:
        """A file cut within its first frame begins like one."""
        with open(self._target, "rb") as source:
            content = source.read()
        begin = f"{len(self.symbols)}\n{self.lattice}{self.columns}".encode()
        return content.startswith(begin) or begin.startswith(content)

    def _foreign(self, reason: str) -> DataError:
        return DataError(f"{self.path} is not the trajectory to go on from: {reason}; go on with what it was made "
                         "with, or choose another path for a new run")


def _lattice(structure: Structure) -> str:
    assert structure.cell is not None  # filled by Structure.__post_init__
    return f"Lattice={_quoted(structure.cell)} " if any(structure.pbc) else ""


def _columns(structure: Structure) -> str:
    pbc = " ".join("T" if periodic else "F" for periodic in structure.pbc)
    columns = COLUMNS + (":masses:R:1" if structure.masses is not None else "")
    columns += ":move_mask:L:1" if structure.fixed is not None else ""
    return f'Properties={columns} pbc="{pbc}"'


def _quoted(values: NDArray[np.float64]) -> str:
    return f'"{" ".join(map(repr, values.ravel().tolist()))}"'


def _numbers(field: str) -> NDArray[np.float64]:
    return np.array(field.strip('"').split(), dtype=np.float64)


def _cell(fields: Mapping[str, str]) -> NDArray[np.float64]:
    """Return the lattice vectors of a frame, Å, shape (3, 3); zero where it has none."""
    return _numbers(fields["Lattice"]).reshape(3, 3) if "Lattice" in fields else np.zeros((3, 3))


def _tails(structure: Structure) -> list[str]:
    """Return the columns of each atom that do not change: masses and fixed atoms, where there are any."""
    masses = [""] * len(structure) if structure.masses is None else [f" {mass!r}" for mass in structure.masses.tolist()]
    fixed = [""] * len(structure) if structure.fixed is None else [" F" if stays else " T" for stays in structure.fixed]
    return [mass + mask for mass, mask in zip(masses, fixed, strict=True)]
