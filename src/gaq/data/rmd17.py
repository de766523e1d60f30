"""rMD17: dynamics of ten small molecules at 500 K, recalculated with PBE/def2-SVP.

Source: Christensen, von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020); figshare article 12672038, CC0.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gaq.data.frames import RMD17_LIMIT, Frames, Origin
from gaq.data.npz import read_arrays, require_numbers
from gaq.data.units import ENERGY_UNITS, all_electron_energy
from gaq.errors import DataError, StructureError, did_you_mean
from gaq.structure import Structure

MOLECULES = ("aspirin", "azobenzene", "benzene", "ethanol", "malonaldehyde", "naphthalene", "paracetamol", "salicylic",
             "toluene", "uracil")
OFFICIAL_SPLITS = range(1, 6)
Rows = Callable[[int], NDArray[np.int64]]
_KCAL_MOL = ENERGY_UNITS["kcal/mol"]
GRAMMAR = "rmd17:<molecule>:<split 1 to 5, or seed<N>>:<train or test>"


@dataclass(frozen=True)
class _Layout:
    """The names of species, positions, energies and forces in an npz file; energies are kcal/mol, lengths Å."""

    names: tuple[str, str, str, str]
    origin: Origin


_LAYOUTS = (_Layout(("nuclear_charges", "coords", "energies", "forces"), "rmd17"),
            _Layout(("z", "R", "E", "F"), "file"))  # MD17, MD22 and sGDML files


@dataclass(frozen=True)
class Rmd17Request:
    """What a name as rmd17:azobenzene:1:train asks for."""

    molecule: str
    split: str
    part: Literal["train", "test"]

    @classmethod
    def parse(cls, name: str) -> "Rmd17Request":
        """Read a name.

        Raises:
            DataError: the name does not follow the grammar.
        """
        words = name.split(":")
        if len(words) != 4:
            raise DataError(f"{name!r} must be {GRAMMAR}, as rmd17:azobenzene:1:train")
        _, molecule, split, part = words
        if molecule not in MOLECULES:
            raise DataError(f"{name!r}: the molecules of rMD17 are {', '.join(MOLECULES)}, not {molecule!r}"
                            f"{did_you_mean(molecule, MOLECULES)}")
        if not re.fullmatch(r"seed\d{1,9}", split) and split not in map(str, OFFICIAL_SPLITS):
            raise DataError(f"{name!r}: the split must be 1 to 5 (official) or seed0, seed1 ..., not {split!r}")
        if part not in ("train", "test"):
            raise DataError(f"{name!r} must end in train or test, not {part!r}{did_you_mean(part, ('train', 'test'))}")
        return cls(molecule, split, "train" if part == "train" else "test")


def load(name: str, folders: Sequence[Path]) -> Frames:
    """Return the frames that `name` asks for, from the first folder that has them.

    A folder may hold files that are split already (rmd17_azobenzene_train_01.npz), or the official layout
    (npz_data/rmd17_azobenzene.npz and splits/index_train_01.csv), itself or in its sub-folder rmd17.

    Raises:
        DataError: a bad name, no data in any folder, or damaged data.
    """
    request = Rmd17Request.parse(name)
    whole: Path | None = None
    for folder in (base / below for base in folders for below in ("", "rmd17", "rmd17/rmd17")):
        candidates = (folder / "npz_data" / f"rmd17_{request.molecule}.npz", folder / f"rmd17_{request.molecule}.npz")
        found = next((path for path in candidates if path.is_file()), None)
        if request.split.startswith("seed"):
            if found is not None:
                return read(found, name, partial(_seeded_rows, int(request.split[4:]), request.part))
            continue
        numbered = f"{request.part}_{int(request.split):02d}"
        ready = folder / f"rmd17_{request.molecule}_{numbered}.npz"
        index = folder / "splits" / f"index_{numbered}.csv"
        if ready.is_file():
            return read(ready, name)
        if found is not None and index.is_file():
            return read(found, name, partial(_official_rows, index))
        whole = whole or found
    if whole is not None:
        raise DataError(f"{name}: {whole} holds the frames, but the official split indices are missing; they come only "
                        "with the whole archive (gaq data get rmd17 all), or choose a split by a seed: "
                        f"rmd17:{request.molecule}:seed1:{request.part}")
    places = " and ".join(str(folder) for folder in folders)
    raise DataError(f"{name}: no such data in {places}; run: gaq data get rmd17 {request.molecule}, or let the "
                    "environment variable GAQ_DATA name the folder that holds rmd17/")


def read(path: Path, source: str, rows: Rows | None = None) -> Frames:
    """Return the frames of one npz file in the layout of rMD17 or of MD17, in eV and Å.

    Args:
        path: the file.
        source: the name for reports.
        rows: chooses frames, given how many the file holds; all of them when None.

    Raises:
        DataError: a damaged file, arrays missing or of the wrong length, or energies that are not in kcal/mol.
    """
    arrays = read_arrays(path)
    for layout in _LAYOUTS:
        if all(name in arrays for name in layout.names):
            for k, name in enumerate(layout.names):
                require_numbers(path, name, arrays[name], whole=k == 0)
            found = _structures([arrays[name] for name in layout.names], rows, path)
            return Frames(found, source, layout.origin)
    expected = " or ".join(", ".join(layout.names) for layout in _LAYOUTS)
    raise DataError(f"{path} must hold the arrays {expected} (kcal/mol, Å); it has {', '.join(arrays) or 'none'}. "
                    "Write frames of your own as extended XYZ")


def _structures(arrays: list[NDArray], rows: Rows | None, path: Path) -> tuple[Structure, ...]:
    species, positions, energies, forces = arrays
    energies = energies.reshape(-1)
    count, atoms = len(energies), species.size
    if species.ndim != 1 or count == 0:
        raise DataError(f"{path} must hold one row of atomic numbers and at least one energy; their shapes are "
                        f"{species.shape} and {energies.shape}")
    for name, array in (("positions", positions), ("forces", forces)):
        if array.shape != (count, atoms, 3):
            raise DataError(f"{path}: the {name} must have shape {(count, atoms, 3)} for {count} energies and {atoms} "
                            f"atoms, not {array.shape}")
    chosen = np.arange(count) if rows is None else rows(count)
    found = []
    for row in chosen:
        try:
            found.append(Structure(species=species, positions=positions[row], energy=float(energies[row] * _KCAL_MOL),
                                   forces=forces[row] * _KCAL_MOL))
        except StructureError as error:
            raise DataError(f"{path}, frame {row}: {error}") from error
    share = found[0].energy / all_electron_energy(species)  # type: ignore[operator]  # given above
    if 0.01 < share < 0.1:  # 1/23 where the numbers are eV; not the tiny share of energies relative to atoms
        raise DataError(f"{path}: files in this layout are in kcal/mol, and these energies seem to be in eV; write the "
                        "frames as extended XYZ instead")
    return tuple(found)


def _official_rows(path: Path, total: int) -> NDArray[np.int64]:
    try:
        rows = np.array(path.read_text().split(), dtype=np.int64)
    except ValueError as error:
        raise DataError(f"{path} must hold one whole number on each line ({error})") from error
    if len(rows) == 0 or rows.min() < 0 or rows.max() >= total:
        raise DataError(f"{path} must hold indices of frames from 0 to {total - 1}; is it the split of other data?")
    return rows


def _seeded_rows(seed: int, part: str, total: int) -> NDArray[np.int64]:
    if total < 2 * RMD17_LIMIT:
        raise DataError(f"a split by a seed needs {2 * RMD17_LIMIT} frames, and the file has {total}; is it split "
                        "already?")
    order = np.random.default_rng(seed).permutation(total)
    return order[:RMD17_LIMIT] if part == "train" else order[RMD17_LIMIT : 2 * RMD17_LIMIT]
