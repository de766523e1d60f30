"""Frames: an ordered set of structures that remembers where it came from."""

import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, overload

import numpy as np
from ase.data import chemical_symbols

from gaq.errors import DataError, SpeciesError, StructureError
from gaq.structure import Structure

RMD17_LIMIT = 1000

Origin = Literal["rmd17", "qm9", "file"]


@dataclass(frozen=True, eq=False)
class Frames(Sequence[Structure]):
    """A sequence of structures from one source, or from several.

    Args:
        structures: the frames.
        source: what `load_frames` was given, for reports.
        origin: whose data they are; it decides which rules of their authors hold.
        numbers: of the frames in their source, which choices of frames keep; None for 0, 1, 2, ...
        parts: where several sources were joined, the frames of each, whole.
    """

    structures: tuple[Structure, ...]
    source: str
    origin: Origin = "file"
    numbers: tuple[int, ...] | None = None
    parts: tuple["Frames", ...] = ()

    def __len__(self) -> int:
        return len(self.structures)

    def __iter__(self) -> Iterator[Structure]:
        return iter(self.structures)

    @overload
    def __getitem__(self, index: int) -> Structure: ...

    @overload
    def __getitem__(self, index: slice) -> "Frames": ...

    def __getitem__(self, index: int | slice) -> "Structure | Frames":
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        return self.structures[index]

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of species, positions, periodic cells, labels and weights, in hexadecimal."""
        digest = hashlib.sha256()
        for frame in self.structures:
            digest.update(np.array([len(frame), *frame.species], dtype="<i8").tobytes())
            digest.update(frame.positions.astype("<f8").tobytes())
            if any(frame.pbc) and frame.cell is not None:
                digest.update(b"cell" + bytes(frame.pbc) + frame.cell.astype("<f8").tobytes())
            if frame.energy is not None:
                digest.update(b"energy" + np.array(frame.energy, dtype="<f8").tobytes())
            if frame.forces is not None:
                digest.update(b"forces" + frame.forces.astype("<f8").tobytes())
            if frame.stress is not None:
                digest.update(b"stress" + frame.stress.astype("<f8").tobytes())
            if frame.weight != 1:
                digest.update(b"weight" + np.array(frame.weight, dtype="<f8").tobytes())
        return digest.hexdigest()

    def subset(self, indices: Iterable[int]) -> "Frames":
        """Return the frames at `indices`, in their order."""
        chosen = [int(i) for i in indices]
        numbers = chosen if self.numbers is None else [self.numbers[i] for i in chosen]
        return replace(self, structures=tuple(self.structures[i] for i in chosen), numbers=tuple(numbers))

    def home(self, index: int) -> tuple["Frames", int]:
        """Return the source that a frame came from, and its number there."""
        number = index if self.numbers is None else self.numbers[index]
        for part in self.parts:
            if number < len(part):
                return part.home(number)
            number -= len(part)
        return self, number

    def place(self, index: int) -> str:
        """Return the name of a frame for messages: its number in its source."""
        part, number = self.home(index)
        return f"frame {number} of {part.source}"

    def apart(self) -> tuple["Frames", "Frames"]:
        """Return the frames, and the isolated atoms among them: single atoms that are not periodic."""
        alone = [len(frame) == 1 and not any(frame.pbc) for frame in self.structures]
        if not any(alone):
            return self, self.subset(())
        return (self.subset(i for i, single in enumerate(alone) if not single),
                self.subset(i for i, single in enumerate(alone) if single))

    def spread(self, n: int) -> "Frames":
        """Return up to `n` frames, evenly spread from first to last: neighbours in a trajectory tell the same."""
        return self.subset(np.unique(np.linspace(0, len(self) - 1, min(n, len(self))).round().astype(int)))

    def take(self, n: int, seed: int) -> "Frames":
        """Return `n` different frames chosen at random.

        Raises:
            DataError: there are fewer than `n` frames.
        """
        if not 1 <= n <= len(self):
            raise DataError(f"cannot take {n} frames of {self.source}; ask for 1 to {len(self)}, which is all it holds")
        return self.subset(np.random.default_rng(seed).permutation(len(self))[:n])


def joined(parts: Sequence[Frames]) -> Frames:
    """Return the frames of several sources, one after the other."""
    if len(parts) == 1:
        return parts[0]
    structures = tuple(frame for part in parts for frame in part)
    return Frames(structures, ", ".join(part.source for part in parts), parts=tuple(parts))


def check_training_size(frames: Frames, allow_more: bool) -> None:
    """Hold to the limit that the authors of rMD17 set for training.

    Raises:
        DataError: more than 1000 frames of rMD17, and the user did not say that this is meant.
    """
    homes = [frames.home(index)[0] for index in range(len(frames))]
    limited = [home.source for home in homes if home.origin == "rmd17"]
    if len(limited) > RMD17_LIMIT and not allow_more:
        raise DataError(
            f"{len(limited)} training frames from {', '.join(dict.fromkeys(limited))}: the authors of rMD17 ask that no "
            f"model be trained on more than {RMD17_LIMIT}, because the frames are a time series, and larger sets hold near "
            f"copies of the test frames; train on {RMD17_LIMIT} or fewer, or allow more on purpose")


def check_frames(frames: Frames, known: tuple[int, ...]) -> None:
    """Refuse frames that a model of these elements cannot compute, before any work is done with them.

    Raises:
        SpeciesError, StructureError: an element that is not known, a charge or unpaired electrons; the frame is named.
    """
    for index, frame in enumerate(frames):
        unknown = sorted(set(frame.species.tolist()) - set(known))
        if unknown:
            names, taught = (", ".join(chemical_symbols[z] for z in each) for each in (unknown, known))
            raise SpeciesError(f"{frames.place(index)}: the model does not know {names}; it is made for {taught}. Leave "
                               "such frames out, or train a model on them")
        if frame.charge or frame.spin:
            raise StructureError(f"{frames.place(index)} has charge {frame.charge:g} and spin {frame.spin:g}, which the "
                                 "model has no terms for; leave such frames out")
