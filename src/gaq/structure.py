"""What a file says of one arrangement of atoms, as numpy arrays. Units are eV, Å, eV/Å and amu."""

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses as standard_masses
from ase.data import chemical_symbols
from ase.formula import Formula
from numpy.typing import ArrayLike, NDArray

from gaq.errors import StructureError
from gaq.lattice import LARGEST, check_lattice

HUGE = 1e15  # in eV, Å and amu: beyond it squares and sums of what a structure is labelled with mean nothing


@dataclass(frozen=True, eq=False)
class Structure:
    """One arrangement of atoms: what is simulated, and reference labels where they are known.

    Args:
        species: atomic numbers, shape (atoms,).
        positions: coordinates in Å, shape (atoms, 3).
        cell: lattice vectors as rows in Å, shape (3, 3); zero where there is no periodicity.
        pbc: periodicity along each lattice vector.
        energy: reference energy in eV, or None.
        forces: reference forces in eV/Å, shape (atoms, 3), or None.
        stress: reference stress (1/V) dE/dε in eV/Å³, shape (3, 3), tension positive, or None.
        charge: total charge in e.
        spin: total spin S, half the number of unpaired electrons.
        masses: amu, shape (atoms,), or None for the standard ones.
        momenta: of a simulation, in (amu eV)^½, shape (atoms, 3), or None where none were given.
        fixed: which atoms a simulation must not move, booleans of shape (atoms,), or None for none of them.
        weight: of the frame in training, relative to others.

    Raises:
        StructureError: no atoms, arrays of the wrong length, values that are not finite, positions beyond a millimetre, an
            unknown atomic number, or periodic lattice vectors that are missing or linearly dependent.
    """

    species: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64] | None = None
    pbc: tuple[bool, bool, bool] = (False, False, False)
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    charge: float = 0.0
    spin: float = 0.0
    masses: NDArray[np.float64] | None = None
    momenta: NDArray[np.float64] | None = None
    fixed: NDArray[np.bool_] | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        species = np.asarray(self.species)
        if species.ndim != 1 or len(species) == 0:
            raise StructureError(f"a structure needs at least one atom; species has shape {species.shape}")
        if not np.issubdtype(species.dtype, np.integer) or species.min() < 1 or species.max() >= len(chemical_symbols):
            raise StructureError("species must be atomic numbers from 1 to 118 (integers); "
                                 f"given {np.unique(species)[:5]} of type {species.dtype}")
        count = len(species)
        positions = _array("positions", self.positions, (count, 3), "Å")
        cell = _array("cell", np.zeros((3, 3)) if self.cell is None else self.cell, (3, 3), "Å")
        if np.abs(positions).max() > LARGEST:
            atom, axis = np.unravel_index(np.abs(positions).argmax(), positions.shape)
            raise StructureError(f"atom {atom} is at {positions[atom, axis]:.3g} Å, and at most {LARGEST:g} Å from the "
                                 "origin have a meaning; are the positions in Å?")
        pbc = tuple(bool(p) for p in self.pbc)
        if len(pbc) != 3:
            raise StructureError(f"pbc needs one value for each lattice vector (3), not {len(pbc)}")
        check_lattice(cell, pbc)
        masses = _optional("masses", self.masses, (count,), "amu")
        if masses is not None and not (masses > 0).all():
            raise StructureError(f"masses must be positive numbers in amu; the least is {masses.min():g}")
        for name in ("charge", "spin", "weight"):
            value = getattr(self, name)
            if not np.isreal(value) or not np.isfinite(value) or (name != "charge" and value < 0):
                raise StructureError(f"{name} must be a finite number{'' if name == 'charge' else ' from 0'}, not {value}")
        if self.energy is not None and not abs(self.energy) < HUGE:
            raise StructureError(f"the reference energy is {self.energy}; remove the frame or repair its label")
        for name, array in (
            ("species", species.astype(np.int64)), ("positions", positions), ("cell", cell), ("pbc", pbc),
            ("masses", masses),
            ("forces", _optional("forces", self.forces, (count, 3), "eV/Å")),
            ("stress", _optional("stress", self.stress, (3, 3), "eV/Å³")),
            ("momenta", _optional("momenta", self.momenta, (count, 3), "(amu eV)^½")), ("fixed", _mask(self.fixed, count)),
        ):
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.species)

    @property
    def atomic_masses(self) -> NDArray[np.float64]:
        """Masses in amu, shape (atoms,): those given, or the standard ones."""
        return standard_masses[self.species] if self.masses is None else self.masses

    @property
    def formula(self) -> str:
        """Chemical formula in Hill order."""
        return Formula.from_list([chemical_symbols[z] for z in self.species]).format("hill")


def _array(name: str, values: ArrayLike, shape: tuple[int, ...], unit: str) -> NDArray[np.float64]:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise StructureError(f"{name} must be numbers in {unit}, not {str(values)[:80]}") from None
    if array.shape != shape:
        raise StructureError(f"{name} must have shape {shape}, not {array.shape}")
    bad = ~np.isfinite(array)
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        raise StructureError(f"{name} must be finite numbers in {unit}; row {row} is {array[row]}")
    return array


def _optional(name: str, values: ArrayLike | None, shape: tuple[int, ...], unit: str) -> NDArray[np.float64] | None:
    array = None if values is None else _array(name, values, shape, unit)
    if array is not None and np.abs(array).max() >= HUGE:
        raise StructureError(f"{name} must be numbers in {unit} below {HUGE:g}; the largest is {np.abs(array).max():g}")
    return array


def _mask(fixed: NDArray[np.bool_] | None, count: int) -> NDArray[np.bool_] | None:
    if fixed is None:
        return None
    mask = np.array(fixed)
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise StructureError(f"fixed must be {count} booleans, not an array of shape {mask.shape} and type {mask.dtype}")
    return mask if mask.any() else None
