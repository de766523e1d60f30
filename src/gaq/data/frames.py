"""Frames: an ordered set of structures that remembers where it came from."""

import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, overload

import numpy as np

from gaq.errors import DataError
from gaq.structure import Structure

RMD17_LIMIT = 1000

Origin = Literal["rmd17", "qm9", "file"]


@dataclass(frozen=True, eq=False)
class Frames(Sequence[Structure]):
    """A sequence of structures from one source.

    Args:
        structures: the frames.
        source: what `load_frames` was given, for reports.
        origin: whose data they are; it decides which rules of their authors hold.
    """

    structures: tuple[Structure, ...]
    source: str
    origin: Origin = "file"

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
            return replace(self, structures=self.structures[index])
        return self.structures[index]

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of species, positions, periodic cells, energies and forces, in hexadecimal."""
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
        return digest.hexdigest()

    def subset(self, indices: Iterable[int]) -> "Frames":
        """Return the frames at `indices`, in their order."""
        return replace(self, structures=tuple(self.structures[int(i)] for i in indices))

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


def check_training_size(frames: Frames, allow_more: bool) -> None:
    """Hold to the limit that the authors of rMD17 set for training.

    Raises:
        DataError: more than 1000 frames of rMD17, and the user did not say that this is meant.
    """
    if frames.origin == "rmd17" and len(frames) > RMD17_LIMIT and not allow_more:
        raise DataError(
            f"{len(frames)} training frames from {frames.source}: the authors of rMD17 ask that no model be trained on "
            f"more than {RMD17_LIMIT}, because the frames are a time series, and larger sets hold near copies of the "
            f"test frames; train on {RMD17_LIMIT} or fewer, or allow more on purpose")
