"""One structure by what people call it: a file, a frame of a data set, a molecule's name or formula, a box of water."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.formula import Formula

from gaq.data.sources import is_data_set, load_frames
from gaq.data.units import KeyMap
from gaq.errors import DataError, did_you_mean
from gaq.structure import Structure

COMMON_NAMES = {
    "acetaldehyde": "CH3CHO", "acetamide": "CH3CONH2", "acetic acid": "CH3COOH", "acetone": "CH3COCH3",
    "acetonitrile": "CH3CN", "acetylene": "C2H2", "ammonia": "NH3", "benzene": "C6H6", "carbon dioxide": "CO2",
    "dimethyl ether": "CH3OCH3", "ethane": "C2H6", "ethanol": "CH3CH2OH", "ethene": "C2H4", "ethylene": "C2H4",
    "formaldehyde": "H2CO", "formic acid": "HCOOH", "furan": "C4H4O", "hydrogen": "H2", "methane": "CH4",
    "methanol": "CH3OH", "nitrogen": "N2", "oxygen": "O2", "propane": "C3H8", "pyridine": "C5H5N", "pyrrole": "C4H4NH",
    "thiophene": "C4H4S", "water": "H2O"}
AZOBENZENE = "azobenzene"
G2 = Path(ase.__file__).parent / "collections" / "g2.json"  # ase.collections.g2; its import brings SciPy, 45 MB
WATER, SPACING = (8, 1, 1), 3.1  # Å between the molecules of a grid, as in the liquid
RING, HYDROGEN, AZO, ANCHOR = 1.39, 1.08, 1.25, 1.42  # Å: C-C, C-H, N=N, C-N


def structure_from(name: str | Path) -> Structure:
    """Return the structure that a name means, without labels.

    Args:
        name: one of

            * a file of structures, as start.xyz: its last frame; or another one, as start.xyz@0 or start.xyz@-2;
            * frames of a data set, as rmd17:azobenzene:1:test or rmd17:azobenzene:1:test@5;
            * a molecule in common words, as ethanol, in any case;
            * a molecule of `ase.build.molecule`, or a formula that only one of them has, as CH3CH2OH, C6H6 or biphenyl;
            * water-64: a periodic box of so many molecules.

    Raises:
        DataError: none of these, no such frame, a file that cannot be read, or a number of waters that is not cubic.
    """
    place, index = _frame_of(str(name))
    if is_data_set(place) or _exists(place):
        frames = load_frames(place, KeyMap(energy=None, forces=None))
        if not -len(frames) <= index < len(frames):
            raise DataError(f"{place} holds {len(frames)} frames, and there is no frame {index}; count from 0, or from -1 "
                            "backwards")
        return replace(frames[index], energy=None, forces=None, stress=None)
    return named(str(name))


def named(name: str) -> Structure:
    """Return azobenzene, a molecule of `ase.build.molecule` by name or formula, or a box of water.

    Raises:
        DataError: no such molecule, a formula of several, or a number of waters that is not cubic.
    """
    plain = name.strip().lower()
    kind, _, count = plain.partition("-")
    if kind == "water" and count.isdecimal():
        return waters(int(count[:9]))
    if plain == AZOBENZENE:
        return azobenzene()
    known = _molecule(name.strip())
    if known is None:
        every = [*COMMON_NAMES, AZOBENZENE, *_g2(), *_others()]
        same = next((other for other in every if other.lower() == plain), None)
        near = did_you_mean(name[:80], every) if same is None else f"; did you mean {same!r}?"
        raise DataError(f"{name[:80]!r} is no file, data set or molecule that is known, such as ethanol, CH3CH2OH, "
                        f"{AZOBENZENE} or water-64{near}")
    atoms = _atoms(known)
    return Structure(species=atoms.numbers, positions=atoms.positions)


def waters(count: int, seed: int = 0) -> Structure:
    """Return a periodic grid of randomly turned water molecules at the density of the liquid."""
    rng, side = np.random.default_rng(seed), round(count ** (1 / 3))
    if side < 1 or side**3 != count:
        raise DataError(f"a box of water takes a cubic number of molecules, such as 64 or 512, not {count}")
    grid = SPACING * np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    places = []
    for corner in grid:
        water = _atoms("H2O")
        water.rotate(float(rng.uniform(0, 360)), rng.normal(size=3))
        places.append(water.positions - water.positions[0] + corner)
    positions = np.concatenate(places) + 0.02 * rng.normal(size=(3 * count, 3))
    return Structure(species=np.tile(WATER, count), positions=positions, cell=SPACING * side * np.eye(3), pbc=(True,) * 3)


def azobenzene() -> Structure:
    """Return planar trans-azobenzene, C12H10N2: regular hexagons, angles of 120°, inversion in the middle of N=N.

    One half is placed with N at (AZO/2, 0) and its ring along the direction of 60°; the other is its image -x.
    """
    along = np.array([np.cos(np.pi / 3), np.sin(np.pi / 3)])
    nitrogen = np.array([AZO / 2, 0.0])
    middle = nitrogen + (ANCHOR + RING) * along
    spokes = [np.array([np.cos(a), np.sin(a)]) for a in np.pi / 3 + np.pi + np.arange(6) * np.pi / 3]  # first: to N
    flat = [nitrogen, *(middle + RING * s for s in spokes), *(middle + (RING + HYDROGEN) * s for s in spokes[1:])]
    half = np.pad(np.array(flat), ((0, 0), (0, 1)))
    return Structure(species=np.array(2 * [7, *6 * [6], *5 * [1]]), positions=np.concatenate([half, -half]))


def _frame_of(name: str) -> tuple[str, int]:
    """Return file or data set, and which of its frames; a file whose own name ends in @5 is that file."""
    place, at, index = name.rpartition("@")
    if not at or _exists(name) or not index.removeprefix("-").isdecimal():
        return name, -1
    return place, int(index[:18])


def _exists(place: str) -> bool:
    try:
        return bool(place.strip()) and Path(place).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long for a path, or no such user
        return False


def _molecule(name: str) -> str | None:
    """Return the name in `ase.build.molecule`; capitals matter only in formulas, where Co is not CO."""
    plain = name.lower()
    if plain in COMMON_NAMES:
        return COMMON_NAMES[plain]
    if name in _g2() or name in _others():
        return name
    try:
        counts = Formula(name).count()
    except ValueError:  # no formula
        return next((known for known in (*_g2(), *_others()) if known.lower() == plain), None)
    same = [known for known in _g2() if _atoms(known).symbols.formula.count() == counts]
    if len(same) > 1:
        raise DataError(f"{name} is the formula of several molecules; take one of {', '.join(same)}")
    return same[0] if same else None


def _atoms(name: str) -> ase.Atoms:
    if name in _g2():
        return ase.Atoms(_g2()[name]["numbers"], _g2()[name]["positions"])
    from ase.build import molecule

    return molecule(name)


@lru_cache(maxsize=1)
def _g2() -> dict[str, Any]:
    rows = json.loads(G2.read_text(encoding="utf-8"))
    return {row["key_value_pairs"]["name"]: row for key, row in rows.items() if key.isdecimal()}


def _others() -> tuple[str, ...]:
    """Return what `ase.build.molecule` knows beside G2."""
    from ase.build.molecule import extra

    return tuple(extra)
