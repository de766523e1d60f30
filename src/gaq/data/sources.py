"""One door to all data: names of data sets and paths of files become `Frames` in eV and Å."""

from pathlib import Path

from gaq.data import extxyz, qm9, rmd17
from gaq.data.download import data_folders
from gaq.data.frames import Frames
from gaq.data.npz import array_names
from gaq.data.units import KeyMap, check_units
from gaq.errors import DataError, did_you_mean

_DATASETS = {"rmd17": rmd17.load, "qm9": qm9.load}


def is_data_set(name: str) -> bool:
    """Return whether a name is that of a data set, rather than of a file."""
    return name.split(":")[0] in _DATASETS


def load_frames(source: str | Path, keys: KeyMap = KeyMap()) -> Frames:
    """Return the frames of a data set or a file.

    Args:
        source: `rmd17:<molecule>:<split>:<train or test>`, `qm9[:<energy>][:<part>][:<count>]`, an npz file in the
            layout of rMD17 or MD17, an official file, folder or archive of QM9, or any file that ASE reads.
        keys: names and units of the reference values in a file that ASE reads; data sets and npz files have their own.

    Raises:
        DataError: nothing found, a damaged file, missing reference values, or numbers in other units than said.
    """
    name = str(source)
    if isinstance(source, str) and is_data_set(name):
        frames = _DATASETS[name.split(":")[0]](name, data_folders())
    else:
        frames = _from_path(Path(name).expanduser(), name, keys)
    check_units(frames.structures, name)
    return frames


def _from_path(path: Path, name: str, keys: KeyMap) -> Frames:
    if not path.exists():
        known = ", ".join((rmd17.GRAMMAR, qm9.GRAMMAR))
        raise DataError(f"no file at {name}; give the path of a file, or {known}"
                        f"{did_you_mean(name.split(':')[0], _DATASETS)}")
    if qm9.is_official(path):
        return qm9.read(path, name)
    if path.is_dir():
        raise DataError(f"{name} is a folder; give a file in it, or set GAQ_DATA to it and name a data set")
    if path.suffix == ".npz":
        return qm9.read(path, name) if "pos_A" in array_names(path) else rmd17.read(path, name)
    return Frames(tuple(extxyz.read_frames(path, keys)), name)
