"""A calculator tells once where a structure leaves the training data of its model, and counts; a minimizer survives it."""

import copy
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from tiny import CLOSEST, at, cluster, deployed, dimers, float_model, forcefield
from toys import Springs, molecule

from gaq.adapters.ase import GaqCalculator
from gaq.atoms import atoms_of
from gaq.errors import ExtrapolationWarning
from gaq.forcefield import load
from gaq.simulation import run_md

FOLDER = Path(__file__).parents[2] / "models"


def near(distance: float) -> Atoms:
    return atoms_of(dimers(6, 8, [distance])[0])


@pytest.mark.parametrize("backend", ["torch", "engine"])
def test_the_first_structure_is_told_and_all_are_counted(backend: str) -> None:
    calculator = forcefield("robust", "fp32").on(backend).calculator()
    for distance, expected in ((1.2, 0), (0.96, 0), (0.9, 1), (0.8, 2), (1.2, 2), (0.85, 3)):
        atoms = near(distance)
        atoms.calc = calculator
        if expected == 1:
            said = "(O-C) are 0.90 Å apart, and the model knows such pairs from 0.95 Å on"
            with pytest.warns(ExtrapolationWarning, match=re.escape(said)):
                atoms.get_forces()
        else:
            atoms.get_forces()
            atoms.get_potential_energy()
        assert calculator.extrapolation.beyond == expected
    assert calculator.extrapolation.structures == 6
    assert calculator.extrapolation.shortest == {(6, 8): pytest.approx(0.8)}


def test_a_pair_that_training_never_saw_is_told_wherever_it_is_in_reach() -> None:
    model = copy.deepcopy(float_model("robust"))
    model.closest[1, 3] = model.closest[3, 1] = model.config.cutoff
    field = deployed(model)
    atoms = near(3.0)
    atoms.calc = field.on("torch").calculator()
    with pytest.warns(ExtrapolationWarning, match="from 3.80 Å on"):
        atoms.get_forces()
    atoms = near(3.9)
    atoms.calc = field.on("torch").calculator()
    atoms.get_forces()


def test_images_are_seen() -> None:
    atoms = Atoms("C", cell=np.diag([0.9, 9.0, 9.0]), pbc=True)
    atoms.calc = forcefield("robust", "fp32").on("torch").calculator()
    with pytest.warns(ExtrapolationWarning, match="C-C"):
        atoms.get_forces()


def test_a_predictor_without_training_data_has_no_range() -> None:
    atoms = atoms_of(molecule())
    atoms.calc = GaqCalculator(Springs())
    atoms.get_forces()
    assert atoms.calc.extrapolation.beyond == 0


def test_codes_that_clip_much_are_told_once() -> None:
    field, drop = forcefield("robust", "w4a8"), cluster(12, seed=3, spacing=1.0)
    calculator = field.on("engine").calculator()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            atoms = atoms_of(at(drop, 0.6 * drop.positions))
            atoms.calc = calculator
            atoms.get_forces()
    said = [str(w.message) for w in told if issubclass(w.category, ExtrapolationWarning)]
    assert sum("clips" in line for line in said) == 1
    assert sum("apart" in line for line in said) == 1


@pytest.mark.parametrize("name", ["ethanol-fp32", "ethanol-w4a16", "ethanol-w4a8", "azobenzene-w4a8", "aspirin-w4a8"])
def test_test_frames_are_inside(name: str, shared_data: Path) -> None:
    """Warnings are errors here."""
    from gaq.data import load_frames

    frames = load_frames(shared_data / "rmd17" / f"rmd17_{name.split('-')[0]}_test_01.npz")[:1000:20]
    calculator = load(FOLDER / f"{name}.safetensors").calculator()
    for frame in frames:
        atoms = atoms_of(frame)
        atoms.calc = calculator
        atoms.get_forces()
    assert calculator.extrapolation.structures == len(frames)


@pytest.mark.parametrize("backend", ["torch", "engine"])
def test_dynamics_counts_what_it_looked_at(backend: str) -> None:
    drop = cluster(6, seed=1)
    shortest = np.linalg.norm(drop.positions[:, None] - drop.positions, axis=-1)[np.triu_indices(6, 1)].min()
    squeezed = at(drop, 0.9 * CLOSEST / shortest * drop.positions)
    with pytest.warns(ExtrapolationWarning, match="outside of the model's training data"):
        run = run_md(forcefield("robust", "fp32").on(backend), squeezed, steps=4, every=2, timestep_fs=0.1)
    assert run.extrapolation is not None
    assert run.extrapolation.beyond == run.extrapolation.structures >= 3
    assert all(0.5 < distance < 0.95 for distance in run.extrapolation.shortest.values())


def test_the_minimizer_of_openmm_ends_well(shared_data: Path) -> None:
    """It tries geometries with atoms a tenth of an ångström apart."""
    openmm = pytest.importorskip("openmm")
    from openmm import unit

    from gaq.data import load_frames

    frame = load_frames(shared_data / "rmd17" / "rmd17_ethanol_test_01.npz")[0]
    field = load(FOLDER / "ethanol-w4a8.safetensors")
    calculator, tried = field.calculator(), []

    def compute(state: "openmm.State") -> tuple:
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        tried.append(np.linalg.norm(positions[:, None] - positions, axis=-1)[np.triu_indices(len(frame), 1)].min())
        atoms = atoms_of(at(frame, positions))
        atoms.calc = calculator
        per_mole = 96.48533212331  # kJ/mol in an eV
        return (atoms.get_potential_energy() * per_mole * unit.kilojoule_per_mole,
                10 * per_mole * atoms.get_forces() * unit.kilojoule_per_mole / unit.nanometer)

    system = openmm.System()
    for z in frame.species:
        system.addParticle(float(2 * z))
    system.addForce(openmm.PythonForce(compute))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    start = frame.positions.copy()
    start[0] += 0.6 * (start[1] - start[0])  # two atoms far too near
    context.setPositions(0.1 * start)
    with pytest.warns(ExtrapolationWarning):
        openmm.LocalEnergyMinimizer.minimize(context, tolerance=50.0, maxIterations=200)
    final = context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    apart = np.linalg.norm(final[:, None] - final, axis=-1)[np.triu_indices(len(frame), 1)]
    assert min(tried) < 0.7
    assert 0.8 < apart.min() < 1.2
