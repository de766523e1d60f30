"""A molecule made ready for the 3D view: oriented, with bonds, radii and colours."""

from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from ase.formula import Formula

from gaq.report.results import Molecule
from gaq.report.style import drawable

BOND_TOLERANCE = 1.2  # a bond is shorter than this times the sum of the covalent radii


def scene(molecule: Molecule) -> dict[str, Any]:
    """Return what the viewer draws: the flattest face of the molecule turned to the reader.

    Returns:
        Plain values for JSON: `formula`, `atoms` with symbol, position in Å, drawn radius in Å and colour, and `bonds`
        as pairs of atoms.

    Source:
        Covalent radii of Cordero et al., Dalton Trans. 2008, 2832, and the Jmol colours, both through ASE.
    """
    species = np.asarray(molecule.species, dtype=int)
    positions = _faced(drawable(molecule.positions).reshape(-1, 3))
    atoms = [
        {"symbol": chemical_symbols[z], "position": [round(float(x), 4) for x in position],
         "radius": round(0.22 + 0.28 * float(covalent_radii[z]), 3), "color": _hex(jmol_colors[z])}
        for z, position in zip(species, positions, strict=True)
    ]
    formula = Formula.from_list([str(atom["symbol"]) for atom in atoms]).format("hill")
    return {"formula": formula, "atoms": atoms, "bonds": bonds(species, positions)}


def bonds(species: np.ndarray, positions: np.ndarray) -> list[list[int]]:
    """Return the pairs of atoms nearer than `BOND_TOLERANCE` times the sum of their covalent radii.

    Args:
        species: atomic numbers, shape (atoms,).
        positions: coordinates in Å, shape (atoms, 3).
    """
    radii = covalent_radii[species]
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    near = distance < BOND_TOLERANCE * (radii[:, None] + radii[None])
    first, second = np.nonzero(np.triu(near, k=1))
    return [[int(i), int(j)] for i, j in zip(first, second, strict=True)]


def _faced(positions: np.ndarray) -> np.ndarray:
    """Center a molecule and turn its longest axis to x and its thinnest to z (the reader), by a proper rotation."""
    if not len(positions) or not np.isfinite(positions).all():
        return np.nan_to_num(positions)
    centered = positions - positions.mean(axis=0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1]
    axes = axes * np.where(axes.sum(axis=0) < 0, -1.0, 1.0)  # eigenvectors have no sign: fix it, for equal pages
    axes[:, 2] *= np.linalg.det(axes)
    return centered @ axes


def _hex(color: np.ndarray) -> str:
    return "#" + "".join(f"{round(255 * float(c)):02x}" for c in color)
