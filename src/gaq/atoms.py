"""`ase.Atoms` as a `Structure` and back: nothing that changes a result is dropped on the way.

| of `ase.Atoms`                                                            | of `Structure`  |
|---------------------------------------------------------------------------|-----------------|
| `info["charge"]` or `["total_charge"]`, or the sum of the initial charges | charge          |
| `info["multiplicity"]`, `["total_spin"]` or `["spin"]`                    | spin            |
| `FixAtoms`, and `FixCartesian` of all three axes                          | fixed           |
| masses, momenta that were set                                             | masses, momenta |

`total_spin` holds S itself, as for SO3LR; the other two 2S + 1, as in OMol25, and `spin` also S where that is half a whole
number. Initial magnetic moments are where a calculation of electrons starts, not what it ends with, and are not read.
"""

from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gaq.errors import StructureError
from gaq.structure import Structure

NEUTRAL = 1e-3  # e for each atom; partial charges from another program rarely sum to a whole number exactly
_CHARGES, _MULTIPLICITY, _TOTAL_SPIN = ("charge", "total_charge"), "multiplicity", "total_spin"
_SPINS = (_MULTIPLICITY, _TOTAL_SPIN, "spin")


def geometry_of(atoms: Atoms) -> Structure:
    """Return what an energy depends on: species, positions, cell, charge and spin.

    Raises:
        StructureError: no atoms, numbers that are not finite or have no meaning, or a spin that the electrons cannot have.
    """
    return Structure(**_geometry(atoms))


def structure_of(atoms: Atoms) -> Structure:
    """Return all that `atoms` says but reference labels: as `geometry_of`, with masses, momenta and fixed atoms.

    Raises:
        StructureError: as there; or a constraint other than fixed atoms.
    """
    return Structure(**_geometry(atoms), masses=atoms.arrays.get("masses"), momenta=atoms.arrays.get("momenta"),
                     fixed=_fixed(atoms))


def charge_and_spin(atoms: Atoms) -> tuple[float, float]:
    """Return the total charge in e and the total spin S that `atoms` carry; 0 where they say nothing.

    Raises:
        StructureError: what they say is no number, or the electrons cannot have the spin.
    """
    if not atoms.info and "initial_charges" not in atoms.arrays:  # most atoms, at each step of dynamics
        return 0.0, 0.0
    charge = _charge(atoms)
    return charge, _spin(atoms, charge)


def atoms_of(structure: Structure) -> Atoms:
    """Return `structure` as `ase.Atoms`, without labels; `structure_of` gives it back."""
    atoms = Atoms(structure.species, positions=structure.positions, cell=structure.cell, pbc=structure.pbc,
                  masses=structure.masses, momenta=structure.momenta)
    if structure.charge:
        atoms.info["charge"] = structure.charge
    if structure.spin:
        atoms.info[_MULTIPLICITY] = 2.0 * structure.spin + 1.0
    if structure.fixed is not None:
        from ase.constraints import FixAtoms

        atoms.set_constraint(FixAtoms(mask=structure.fixed))
    return atoms


def _geometry(atoms: Atoms) -> dict[str, Any]:
    charge, spin = charge_and_spin(atoms)
    return {"species": atoms.numbers, "positions": atoms.positions, "cell": np.asarray(atoms.cell),
            "pbc": tuple(atoms.pbc.tolist()), "charge": charge, "spin": spin}


def _charge(atoms: Atoms) -> float:
    name = next((name for name in _CHARGES if name in atoms.info), None)
    charge = float(atoms.get_initial_charges().sum()) if name is None else _number(atoms.info[name], name)
    whole = np.rint(charge)
    return float(whole) if np.isfinite(charge) and abs(charge - whole) < NEUTRAL * len(atoms) else charge


def _spin(atoms: Atoms, charge: float) -> float:
    """Return S; 0 where it is not given, and where 0 is given instead of 2S + 1."""
    name = next((name for name in _SPINS if name in atoms.info), None)
    if name is None:
        return 0.0
    value = _number(atoms.info[name], name)
    if value == 0:
        return 0.0
    is_spin = name == _TOTAL_SPIN or (name != _MULTIPLICITY and value % 1.0 == 0.5)
    unpaired = 2.0 * value if is_spin else value - 1.0
    electrons = float(atoms.numbers.sum()) - charge
    if not 0 <= unpaired <= electrons or (electrons - unpaired) % 2:
        raise StructureError(f"{name} is {value:g}, which {electrons:g} electrons cannot have; give the charge, and as "
                             f"{_MULTIPLICITY} 2S + 1, the number of unpaired electrons and one")
    return unpaired / 2.0


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise StructureError(f"the {name} of a structure must be one number, not {str(value)[:80]!r}") from None


def _fixed(atoms: Atoms) -> NDArray[np.bool_]:
    fixed = np.zeros(len(atoms), dtype=bool)
    if not atoms.constraints:
        return fixed
    from ase.constraints import FixAtoms, FixCartesian  # brings much of SciPy, a second and 40 MB

    for constraint in atoms.constraints:
        axes = np.asarray(constraint.todict()["kwargs"]["mask"]) if isinstance(constraint, FixCartesian) else None
        if isinstance(constraint, FixAtoms) or (axes is not None and axes.all()):
            fixed[constraint.index] = True
        elif axes is None or axes.any():
            raise StructureError(f"the structure carries the constraint {type(constraint).__name__}, and only fixed atoms "
                                 "are supported (FixAtoms; move_mask in extended XYZ); remove the constraint, or use ASE's "
                                 "own dynamics with the calculator")
    return fixed
