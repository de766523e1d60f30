"""Reference values in frames that ASE read: found by name, checked for shape, and brought to eV and Å."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from gaq.data.units import LABELS, KeyMap
from gaq.errors import DataError, did_you_mean

ISOLATED = "isolatedatom"  # as config_type says it: IsolatedAtom, isolated_atom
ASYMMETRY = 0.01  # of the largest component of a stress; printed digits are better than that
SHOWN = 200  # characters of names in a message

_USUAL = KeyMap()


def read_labels(frames: Sequence[Atoms], keys: KeyMap, source: str) -> list[dict[str, Any]]:
    """Return the labels of each frame by field of `Structure`; frames may lack what others have.

    Raises:
        DataError: no frame has a key that is named (the usual names of stress and weight may be absent; a single atom needs
            no forces), or a value has another shape than said.
    """
    found: list[dict[str, Any]] = [{} for _ in frames]
    for label in LABELS:
        key = getattr(keys, label)
        if key is None:
            continue
        for number, (atoms, labels) in enumerate(zip(frames, found, strict=True)):
            places = _places(atoms, label)
            if key in places:
                labels |= _READERS[label](places[key], key, atoms, keys, f"{source}, frame {number}")
        if not any(key in _places(atoms, label) for atoms in frames):
            _complain_of_absence(frames, label, key, source)
    return found


def is_isolated(atoms: Atoms, source: str) -> bool:
    """Return whether the frame says that it is an isolated atom, whose energy is that of its element.

    Raises:
        DataError: it says so, and has several atoms.
    """
    kind = str(atoms.info.get("config_type", "")).lower()
    if "".join(letter for letter in kind if letter.isalnum()) != ISOLATED:
        return False
    if len(atoms) != 1:
        raise DataError(f"{source} has config_type=IsolatedAtom and {len(atoms)} atoms; an isolated atom is one atom: give "
                        "the frame another config_type")
    return True


def _places(atoms: Atoms, label: str) -> dict[str, Any]:
    """Return where a label is looked for; what the file says under a name of its own comes before a calculator's result."""
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    return {**results, **(atoms.arrays if label == "forces" else atoms.info)}


def _complain_of_absence(frames: Sequence[Atoms], label: str, key: str, source: str) -> None:
    if label in ("stress", "weight") and key == getattr(_USUAL, label):
        return
    number = next((k for k, atoms in enumerate(frames) if label != "forces" or len(atoms) > 1), None)
    if number is None:
        return
    known = sorted(_places(frames[number], label).keys() - {"numbers", "positions"})
    raise DataError(f"{source}, frame {number} has no {label} called {key!r}; it has "
                    f"{', '.join(known)[:SHOWN] or 'no such values'}"
                    f"{did_you_mean(key, known)}; give the right name as --{label}-key")


def _numbers(what: str, value: Any, key: str, source: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: the {what} {key!r} must be numbers, not {str(value)[:60]!r}") from error


def _single(what: str, value: Any, key: str, source: str) -> float:
    number = _numbers(what, value, key, source)
    if number.size != 1:
        raise DataError(f"{source}: the {what} {key!r} must be one number, not an array {number.shape}")
    return float(number.reshape(()))


def _energy(value: Any, key: str, atoms: Atoms, keys: KeyMap, source: str) -> dict[str, Any]:
    return {"energy": _single("energy", value, key, source) * keys.to_ev}


def _forces(value: Any, key: str, atoms: Atoms, keys: KeyMap, source: str) -> dict[str, Any]:
    return {"forces": _numbers("forces", value, key, source) * (keys.to_ev / keys.to_angstrom)}


def _weight(value: Any, key: str, atoms: Atoms, keys: KeyMap, source: str) -> dict[str, Any]:
    return {"weight": _single("weight", value, key, source)}


def _stress(value: Any, key: str, atoms: Atoms, keys: KeyMap, source: str) -> dict[str, Any]:
    """Return the stress; frames that are not periodic in three directions have none, whatever their file says."""
    given = _numbers("stress", value, key, source)
    if given.size not in (6, 9):
        raise DataError(f"{source}: the stress {key!r} must be 6 numbers (xx yy zz yz xz xy) or 3 x 3, not an array "
                        f"{given.shape}")
    volume = abs(float(np.linalg.det(atoms.cell.array)))
    if not atoms.pbc.all() or volume == 0:
        return {}
    tensor = voigt_6_to_full_3x3_stress(given.ravel()) if given.size == 6 else given.reshape(3, 3)
    if np.abs(tensor - tensor.T).max() > ASYMMETRY * np.abs(tensor).max():
        raise DataError(f"{source}: the stress {key!r} is not symmetric: {tensor.tolist()}; its order is xx xy xz yx ...")
    if "virial" in key.lower():
        tensor = -tensor / volume
    return {"stress": 0.5 * (tensor + tensor.T) * (keys.to_ev / keys.to_angstrom**3)}


_READERS = {"energy": _energy, "forces": _forces, "stress": _stress, "weight": _weight}
