"""Energies of isolated atoms, E_Z: what energies of molecules are counted from."""

from collections.abc import Mapping

from ase.data import chemical_symbols

from gaq.data.frames import Frames
from gaq.errors import DataError

SAME = 1e-3  # eV; values for one element may differ by so much, as printed digits do


def atomic_energies(atoms: Frames, given: Mapping[int, float]) -> dict[int, float]:
    """Return the energy of each element in eV, by atomic number: given ones, and those of neutral isolated atoms.

    Args:
        atoms: frames of one atom each; those without an energy and ions say nothing.
        given: by atomic number, in eV.

    Raises:
        DataError: two values for one element.
    """
    energies = dict(given)
    places = dict.fromkeys(given, "data.atomic_energies")
    for index, atom in enumerate(atoms):
        element = int(atom.species[0])
        if atom.energy is None or atom.charge:
            continue
        known = energies.setdefault(element, atom.energy)
        place = places.setdefault(element, atoms.place(index))
        if abs(known - atom.energy) > SAME:
            raise DataError(f"an isolated {chemical_symbols[element]} atom has {atom.energy:.6g} eV in "
                            f"{atoms.place(index)}, and {known:.6g} eV in {place}; keep one of the two")
    return energies
