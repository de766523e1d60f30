"""One door to all data: names of data sets and paths of files become `Frames` in eV and Å."""

import os
import reprlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gaq.data import extxyz, qm9, rmd17
from gaq.data.folders import data_folders
from gaq.data.frames import Frames, joined
from gaq.data.npz import array_names
from gaq.data.units import KeyMap, check_units
from gaq.errors import DataError, did_you_mean
from gaq.reading import require_file

_DATASETS = {"rmd17": rmd17.load, "qm9": qm9.load}


def is_data_set(name: str) -> bool:
    """Return whether a name is that of a data set, rather than of a file."""
    return name.split(":")[0] in _DATASETS


def load_frames(source: str | Path | Sequence[str | Path], keys: KeyMap = KeyMap()) -> Frames:
    """Return the frames of a data set or a file, or of several of them.

    Args:
        source: `rmd17:<molecule>:<split>:<train or test>`, `qm9[:<energy>][:<part>][:<count>]`, an npz file in the
            layout of rMD17 or MD17, an official file, folder or archive of QM9, or any file that ASE reads; or a list.
        keys: names and units of the reference values in a file that ASE reads; data sets and npz files have their own, but
            what is not wanted is left out of them, too.

    Raises:
        DataError: nothing found, a damaged file, missing reference values, or numbers in other units than said.
    """
    if not isinstance(source, str | Path):
        if not source or len({str(one) for one in source}) < len(source):
            raise DataError("sources of frames must be a list of different names, not "
                            f"{reprlib.repr([str(one) for one in source])}")
        return joined([load_frames(one, keys) for one in source])
    name = str(source)
    if isinstance(source, str) and is_data_set(name):
        frames = _DATASETS[name.split(":")[0]](name, data_folders())
    else:
        frames = _from_path(name, keys)
    check_units(frames.structures, name)
    return _wanted(frames, keys)


def _wanted(frames: Frames, keys: KeyMap) -> Frames:
    """Return the frames without the labels that the user does not want."""
    unwanted: dict[str, Any] = {label: None for label in ("energy", "forces", "stress") if getattr(keys, label) is None}
    if not any(getattr(frame, label) is not None for frame in frames for label in unwanted):
        return frames
    return replace(frames, structures=tuple(replace(frame, **unwanted) for frame in frames))


def _from_path(name: str, keys: KeyMap) -> Frames:
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise DataError(f"cannot read {name}: {error}; give the path of a file") from error
    if not os.path.isdir(path):
        known = ", ".join((rmd17.GRAMMAR, qm9.GRAMMAR))
        require_file(path, DataError, f"give the path of a file, or {known}{did_you_mean(name.split(':')[0], _DATASETS)}")
    if qm9.is_official(path):
        return qm9.read(path, name)
    if path.is_dir():
        raise DataError(f"{name} is a folder; give a file in it, or set GAQ_DATA to it and name a data set")
    if path.suffix == ".npz":
        return qm9.read(path, name) if "pos_A" in array_names(path) else rmd17.read(path, name)
    return Frames(tuple(extxyz.read_frames(path, keys)), name)
