"""`python -m benchmarks.stepping`: what a step of molecular dynamics costs around the forces.

Times one step of ASE's velocity Verlet with `GaqCalculator`, and one step inside the engine (`gaq md`), over one call of
the engine's compute (energy and forces at given positions, pairs within the cutoff known), in turn, on one thread. In: all
that ASE and the calculator do, the search for neighbours when the skin is used up, and the look at the training range. Out:
what writes frames. 24 atoms are azobenzene, 192 eight of them in a periodic box.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import units
from ase.md.verlet import VelocityVerlet

import gaq
from gaq.atoms import atoms_of
from gaq.bench.timing import interleaved
from gaq.data.structures import azobenzene
from gaq.dynamics.state import Bath
from gaq.dynamics.steppers import stepper_for
from gaq.dynamics.surface import PotentialSurface
from gaq.dynamics.velocities import thermal_velocities
from gaq.relaxation import relax
from gaq.structure import Structure

MODELS = Path(__file__).parents[1] / "models"
BOX, COPIES = 16.0, 2  # Å between copies, along each axis
TIMESTEP, TEMPERATURE = 0.5, 300.0  # fs, K


def main() -> None:
    """Print a table of times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, default=[
        MODELS / f"azobenzene-{name}.safetensors" for name in ("w4a8", "w4a16", "fp32")])
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    print(f"{'model':<24} {'atoms':>5} {'compute, ms':>11} {'ASE step':>9} {'ratio':>6} {'gaq md step':>11} {'ratio':>6}")
    for path in given.models:
        field = gaq.load(path, backend="engine", threads=1)
        molecule = replace(relax(field, azobenzene(), fmax=0.1).structure, energy=None, forces=None)
        for structure in (molecule, crowd(molecule)):
            times = measured(path, structure, given.repeats)
            ase, own = times["ase"] / times["compute"], times["own"] / times["compute"]
            compute, step, inside = (np.median(times[name]) for name in ("compute", "ase", "own"))
            print(f"{path.stem:<24} {len(structure):>5} {compute:>11.3f} {step:>9.3f} {np.median(ase):>6.2f} "
                  f"{inside:>11.3f} {np.median(own):>6.2f}", flush=True)


def crowd(molecule: Structure) -> Structure:
    """Return copies of a molecule on a periodic grid."""
    places = BOX * np.stack(np.meshgrid(*[np.arange(COPIES)] * 3), -1).reshape(-1, 3)
    positions = np.concatenate([molecule.positions + place for place in places])
    species = np.tile(molecule.species, len(places))
    return Structure(species, positions, cell=BOX * COPIES * np.eye(3), pbc=(True, True, True))


def measured(path: Path, structure: Structure, repeats: int) -> dict[str, np.ndarray]:
    """Return the times in ms of the engine's compute, a step through ASE and a step inside the engine."""
    fields = [gaq.load(path, backend="engine", threads=1) for _ in range(3)]  # an engine for each: none disturbs another
    velocities = thermal_velocities(structure, TEMPERATURE, np.random.default_rng(0))
    atoms = atoms_of(structure)
    atoms.calc = fields[0].calculator()
    atoms.set_velocities(velocities)
    through = VelocityVerlet(atoms, TIMESTEP * units.fs)
    surface = PotentialSurface(fields[1].potential, structure)
    within = stepper_for(surface, structure.atomic_masses, Bath(TIMESTEP * units.fs))
    state = within.start(structure.positions, velocities)
    engine = fields[2].potential.engine
    assert engine is not None  # for mypy: the engine was asked for
    engine.set_graph(fields[2].graph(structure))
    return interleaved({"compute": lambda: engine.compute(structure.positions), "ase": through.step,
                        "own": lambda: within.run(state, 1)}, repeats)


if __name__ == "__main__":
    main()
