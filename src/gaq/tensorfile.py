"""Safetensors files with a JSON header, read with limits: nothing is executed, and what is wrong is one typed error.

What header and tensors mean is the matter of others; a model is such a file.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gaq.errors import ModelFileError, did_you_mean
from gaq.files import write_atomically

LONGEST_HEADER = 4 * 2**20  # characters; models keep thinned histories of their training
DEEPEST_HEADER = 64  # levels of objects and lists


def write(path: str | Path, entry: str, header: dict[str, Any], state: Mapping[str, NDArray]) -> None:
    """Write tensors and a header, atomically.

    Args:
        entry: name of the header among the file's metadata.

    Raises:
        ModelFileError: a header that `read` would refuse.
        OutputError: the disk is full or the folder cannot be written; an old file stays as it was.
    """
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    _checked(text, f"the header of {path}")
    write_atomically(path, save({name: np.asarray(t, order="C") for name, t in state.items()}, metadata={entry: text}))


def read(path: str | Path, entry: str, what: str) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return header and tensors of a file; the tensors are copies, whatever becomes of the file.

    Args:
        entry: name of the header among the file's metadata.
        what: what the file should be, for messages.

    Raises:
        ModelFileError: no such file, or not a whole file of this kind.
    """
    path = Path(path)
    try:
        found = path.is_file()
        near = [p.name for p in path.parent.glob("*.safetensors")] if not found and path.parent.is_dir() else []
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror})") from error
    if not found:
        raise ModelFileError(f"there is no {what} file at {path}{did_you_mean(path.name, near)}")
    try:
        with safe_open(path, framework="np") as source:
            metadata = source.metadata() or {}
            state = {name: np.array(source.get_tensor(name)) for name in source.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, AttributeError, TypeError) as error:  # the last two: a dtype numpy lacks
        raise ModelFileError(f"{path} is {_foreign(path, error)}; save models with ForceField.save") from error
    if entry not in metadata:
        raise ModelFileError(f"{path} is a safetensors file, but not a gaq {what}: its header has no {entry!r} entry")
    return _checked(metadata[entry], str(path)), state


def digest(header: dict[str, Any], state: Mapping[str, NDArray]) -> str:
    """Return the SHA-256 of the header (JSON, keys sorted) and of every tensor by name: name, dtype, shape, bytes."""
    found = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(state):
        t = state[name]
        found.update(f"\n{name} torch.{t.dtype.name} {t.shape}\n".encode())
        found.update(t.tobytes())
    return found.hexdigest()


def _checked(text: str, where: str) -> dict[str, Any]:
    """Return the header that a text holds.

    Raises:
        ModelFileError: it is not a JSON object, or out of all proportion.
    """
    if len(text) > LONGEST_HEADER:
        raise ModelFileError(f"{where}: the header has {len(text)} characters, and {LONGEST_HEADER} is the bound")
    try:
        header = json.loads(text)
        json.dumps(header, ensure_ascii=False).encode()  # text that cannot be written must not come in
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{where}: the header is damaged ({error}); get the file again") from error
    if not isinstance(header, dict):
        raise ModelFileError(f"{where}: the header is damaged (it is no JSON object); get the file again")
    level, depth = [header], 0
    while level:
        depth += 1
        level = [inner for outer in level if isinstance(outer, (dict, list))
                 for inner in (outer.values() if isinstance(outer, dict) else outer)]
    if depth > DEEPEST_HEADER:
        raise ModelFileError(f"{where}: the header is nested {depth} levels deep, and {DEEPEST_HEADER} is the bound")
    return header


def _foreign(path: Path, error: Exception) -> str:
    try:
        with open(path, "rb") as file:
            pickled = file.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")
    except OSError:
        pickled = False
    return "a pickle or zip archive, which gaq never opens" if pickled else f"not a whole safetensors file ({error})"
