"""Units and names of reference values in files, and guards against values in other units than they were said to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import units
from ase.data import covalent_radii

from gaq.errors import ConfigError, DataError, StructureError, did_you_mean
from gaq.neighbours import find_neighbours
from gaq.structure import Structure

ENERGY_UNITS = {"eV": 1.0, "kcal/mol": units.kcal / units.mol, "kJ/mol": units.kJ / units.mol, "Ha": units.Hartree,
                "meV": 1e-3}
LABELS = ("energy", "forces", "stress", "weight")  # what a file may say of a frame
LENGTH_UNITS = {"Ang": 1.0, "Bohr": units.Bohr, "nm": 10.0}

_SAMPLE = 32  # frames that the guards look at
_REACH = 6.0  # Å; how far they look for neighbours
_LARGEST_FORCE = 15.0  # eV/Å, r.m.s.; molecules at 1000 K have 2, the same numbers in kcal/mol have 40
_NEAREST, _FARTHEST = 0.65, 1.5  # of the sum of covalent radii; Å taken for Bohr gives 0.53, Bohr taken for Å 1.9
_GIVE_ENERGY = f"give energy_unit ({', '.join(ENERGY_UNITS)})"
_GIVE_LENGTH = f"give length_unit ({', '.join(LENGTH_UNITS)})"
_NOBLE_GASES = (2, 10, 18, 36, 54, 86)


@dataclass(frozen=True)
class KeyMap:
    """The names and units of reference values in a file; forces are in `energy_unit`/`length_unit`.

    Args:
        energy: key of the energy of a frame, or None where it is not wanted.
        forces: key of the forces on atoms, or None where there are none.
        energy_unit: eV, kcal/mol, kJ/mol, Ha or meV.
        length_unit: Ang, Bohr or nm.
        stress: key of the stress (1/V) dE/dε of a periodic frame, in `energy_unit`/`length_unit`³ and tension positive, or,
            where the name contains "virial", of the virial -V σ in `energy_unit`; None where it is not wanted.
        weight: key of the weight of a frame in training, or None where all count alike.

    "none" as a name is None. The usual names of stress and weight may be absent; the others must be in the file.

    Raises:
        ConfigError: an unknown unit.
    """

    energy: str | None = "REF_energy"
    forces: str | None = "REF_forces"
    energy_unit: str = "eV"
    length_unit: str = "Ang"
    stress: str | None = "REF_stress"
    weight: str | None = "weight"

    def __post_init__(self) -> None:
        for name in LABELS:
            if str(getattr(self, name)).lower() == "none":
                object.__setattr__(self, name, None)
        for name, known in (("energy_unit", ENERGY_UNITS), ("length_unit", LENGTH_UNITS)):
            given = getattr(self, name)
            if given not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, not {given!r}"
                                  f"{did_you_mean(given, known)}")

    @property
    def to_ev(self) -> float:
        """Energy in eV of one energy unit."""
        return ENERGY_UNITS[self.energy_unit]

    @property
    def to_angstrom(self) -> float:
        """Length in Å of one length unit."""
        return LENGTH_UNITS[self.length_unit]


def all_electron_energy(species: np.ndarray) -> float:
    """Estimate the total energy of neutral atoms within 10 %, E = -Σ Z^2.4 / 2 hartree, in eV.

    Source: Foldy, Phys. Rev. 83, 397 (1951).
    """
    return -0.5 * units.Hartree * float((np.asarray(species, dtype=float) ** 2.4).sum())


def check_units(structures: Sequence[Structure], source: str) -> None:
    """Refuse frames whose numbers cannot be in eV and Å.

    Raises:
        DataError: bonds far too short or long, forces far too large, or energies below those of all electrons.
    """
    chosen = np.unique(np.linspace(0, len(structures) - 1, _SAMPLE).astype(int))
    sample = [structures[i] for i in chosen]
    _check_lengths(dict(zip(chosen.tolist(), sample, strict=True)), source)
    forces = [float(np.sqrt((s.forces**2).sum(axis=1).mean())) for s in sample if s.forces is not None]
    if forces and np.median(forces) > _LARGEST_FORCE:
        raise DataError(f"{source}: the r.m.s. force is {np.median(forces):.3g} eV/Å, more than molecules survive, so "
                        f"the file is in another unit than said; {_GIVE_ENERGY}")
    deep = [s.energy / all_electron_energy(s.species) for s in sample if s.energy is not None]
    if deep and np.median(deep) > 3:
        ratio = float(np.median(deep))
        likely = min(ENERGY_UNITS, key=lambda name: abs(np.log(ratio * ENERGY_UNITS[name])))
        raise DataError(f"{source}: the energies are {ratio:.3g} times those of all electrons of the atoms, so they "
                        f"are not in eV but perhaps in {likely}; {_GIVE_ENERGY}")


def _check_lengths(sample: Mapping[int, Structure], source: str) -> None:
    nearest, typical = [], []
    for frame, structure in sample.items():
        if len(structure) < 3 or np.isin(structure.species, _NOBLE_GASES).any():
            continue
        try:
            found = find_neighbours(structure, _REACH)
        except StructureError as error:
            raise DataError(f"{source}, frame {frame}: {error}; {_GIVE_LENGTH}") from error
        i, j = found.centers, found.neighbours
        radii = covalent_radii[structure.species]
        ratios = np.full(len(structure), np.inf)
        np.minimum.at(ratios, i, found.distances / (radii[i] + radii[j]))
        nearest.append(ratios.min())
        typical.append(np.median(ratios))
    if nearest and min(nearest) > _FARTHEST:
        gap = f"{min(nearest):.2g} bond lengths" if np.isfinite(min(nearest)) else f"{_REACH} Å"
        raise DataError(f"{source}: no two atoms come nearer than {gap} in any frame, so the positions are in "
                        f"another unit than said; {_GIVE_LENGTH}")
    if typical and max(typical) < _NEAREST:
        raise DataError(f"{source}: in every frame atoms are as near as {max(typical):.2g} bond lengths, so the "
                        f"positions are in another unit than said; {_GIVE_LENGTH}")
