"""Molecular dynamics in one call: a model, a structure, and what is to be simulated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ase import Atoms

from gaq.atoms import structure_of
from gaq.data.structures import structure_from
from gaq.dynamics.conditions import Conditions
from gaq.dynamics.driver import MDResult, simulate
from gaq.forcefield import load
from gaq.structure import Structure


def run_md(
    model: Any,
    structure: Structure | Atoms | str | Path,
    *,
    ensemble: str = "nve",
    temperature_K: float | None = None,
    pressure_bar: float = 1.0,
    timestep_fs: float = 0.5,
    steps: int = 1000,
    every: int = 10,
    out: str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
    friction_per_ps: float = 10.0,
    progress: Callable[[float, float, str], None] | None = None,
) -> MDResult:
    """Simulate a structure and return energies, temperatures, drift and speed.

    Its masses count, and its fixed atoms stay where they are. Momenta are drawn without motion of the centre of mass and,
    for molecules, without rotation. NVE is velocity Verlet; NVT is Langevin dynamics (BAOAB), whose noise depends on `seed`
    and the step alone; NPT is the barostat of Martyna, Tobias and Klein with Nosé-Hoover chains, for periodic structures
    without fixed atoms, whose cell keeps its shape. A run that was cut into pieces equals an uninterrupted one.

    Args:
        model: force field, path of a model file, any other `Potential`, or any ASE calculator.
        structure: start: a `Structure`, `ase.Atoms` (of whose constraints fixed atoms are understood, and others refused),
            or what `gaq md` takes: a file, "ethanol", "water-64".
        ensemble: "nve", "nvt" or "npt".
        temperature_K: K; of the momenta that are drawn for the start, and in NVT and NPT of the bath. None starts from the
            momenta of `structure`, with a bath of 300 K; where it has none, they are drawn at 300 K.
        pressure_bar: bar, in NPT.
        timestep_fs: fs.
        steps: total number of steps, those before a restart included.
        every: steps between frames and calls of `progress`.
        out: trajectory in extended XYZ, or None.
        seed: of the momenta and of the Langevin noise.
        resume: go on from the last frame of `out`, where it exists, with the model and settings it was made with.
        friction_per_ps: Langevin friction in 1/ps; in NPT its inverse is the time of the thermostat, and a tenth of that of
            the barostat.
        progress: called after each frame with steps done, all steps, and the temperature in words.

    Raises:
        ConfigError: a setting without meaning.
        StructureError, SpeciesError: a structure that the force field or the ensemble cannot take.
        UnstableTrajectory: the simulation exploded.
        OutputError: `out` exists already, or cannot be written; whole frames stay.
        DataError: `out` is no trajectory of this structure, these settings and this model.
        Interrupted: Ctrl-C or SIGTERM.

    Source: Swope et al., J. Chem. Phys. 76, 637 (1982); Leimkuhler, Matthews, J. Chem. Phys. 138, 174102 (2013); Martyna,
    Tobias, Klein, J. Chem. Phys. 101, 4177 (1994).
    """
    conditions = Conditions(ensemble, temperature_K, timestep_fs, friction_per_ps, pressure_bar, seed)
    return simulate(subject_of(model), start_of(structure), conditions, steps=steps, every=every, out=out, resume=resume,
                    progress=progress)


def subject_of(model: Any) -> Any:
    """Return the potential of a force field, of the file of one, or of our calculator; other calculators as they are."""
    field = load(model) if isinstance(model, (str, Path)) else model
    return getattr(field, "potential", field)


def start_of(structure: Structure | Atoms | str | Path) -> Structure:
    """Return what is to be simulated.

    Raises:
        DataError, StructureError: no such file or molecule; a constraint other than fixed atoms.
    """
    if isinstance(structure, Atoms):
        return structure_of(structure)
    return structure_from(structure) if isinstance(structure, (str, Path)) else structure
