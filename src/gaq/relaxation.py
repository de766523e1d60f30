"""Relaxation: the nearest minimum of the energy, of positions alone or with the cell."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError

from gaq.adapters.ase import GaqCalculator
from gaq.atoms import atoms_of, structure_of
from gaq.data.extxyz import write_frames
from gaq.dynamics.conditions import check_settings
from gaq.errors import ConfigError, Interrupted, OutputError, StructureError, did_you_mean
from gaq.files import destination
from gaq.simulation import start_of, subject_of
from gaq.structure import Structure

OPTIMIZERS = {"fire": "FIRE", "bfgs": "BFGS", "lbfgs": "LBFGS"}  # by their names in ase.optimize


@dataclass(frozen=True, eq=False)
class Relaxation:
    """How far a relaxation came.

    Args:
        structure: the last geometry, with its energy in eV, forces in eV/Å and, where the cell moved, stress in eV/Å³.
        converged: whether the largest force is at most what was asked for.
        largest_force: eV/Å, of the atoms that move, and of the cell where it moves.
        steps: steps taken.
        energies: eV, at the start and after each step.
        backend: what computed: "engine (avx512)", "torch", or the name of an ASE calculator.
    """

    structure: Structure
    converged: bool
    largest_force: float
    steps: int
    energies: tuple[float, ...]
    backend: str


def relax(
    model: Any,
    structure: Structure | Atoms | str | Path,
    *,
    fmax: float = 0.02,
    steps: int = 500,
    cell: bool = False,
    pressure_bar: float = 0.0,
    optimizer: str = "fire",
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[float, float, str], None] | None = None,
) -> Relaxation:
    """Move the atoms, and on request the cell, to the nearest minimum of the energy (of the enthalpy, under a pressure).

    FIRE follows the forces alone and never compares energies, which suits models of a few bits: where activations have 8
    bits the energy is a staircase, and a line search stalls on a step of it. BFGS and LBFGS without a line search build a
    model of the curvature from differences of forces, and need fewer steps where these are smooth. Forces of a model of 8
    bits have steps, too: an `fmax` that is smaller than them is never reached, however many steps are taken.

    Args:
        model: force field, path of a model file, any other `Potential`, or any ASE calculator.
        structure: start, as for `run_md`; fixed atoms stay.
        fmax: eV/Å; the relaxation ends when no atom feels a larger force.
        steps: the most steps that are taken.
        cell: whether the cell relaxes too, all six components of its strain; for structures with three periodic directions.
        pressure_bar: bar, on the cell.
        optimizer: "fire", "bfgs" or "lbfgs", those of ASE without a line search.
        out: extended XYZ that the last geometry is written to, whole or not at all; or None.
        overwrite: whether a file at `out` may be replaced.
        progress: called after each step with steps done, the most, and the largest force in words.

    Returns:
        The last geometry, and whether it is converged: look at that.

    Raises:
        ConfigError: a setting without meaning.
        StructureError, SpeciesError: a structure that the model cannot take, or without a cell to relax.
        OutputError: `out` exists already, or cannot be written.
        Interrupted: Ctrl-C or SIGTERM; nothing is written.

    Source: E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), for FIRE.
    """
    _check(fmax, steps, cell, pressure_bar, optimizer)
    if out is not None and destination(out).exists() and not overwrite:
        raise OutputError(f"{out} exists already; replace it with overwrite=True, or choose another path")
    start, subject = start_of(structure), subject_of(model)
    if cell and not all(start.pbc):
        raise StructureError("the cell can relax only with periodicity in all three directions, and pbc is "
                             f"{list(start.pbc)}; give a periodic structure, or relax its positions alone")
    atoms = atoms_of(start)
    atoms.calc = GaqCalculator(subject) if hasattr(subject, "predict") else subject
    found = _descended(atoms, fmax, steps, pressure_bar * units.bar if cell else None, optimizer, progress)
    if out is not None:
        write_frames(out, [found.structure])
    return found


def _check(fmax: float, steps: int, cell: bool, pressure_bar: float, optimizer: str) -> None:
    check_settings(
        ("fmax", fmax, "a positive number of eV/Å, such as 0.02", 0 < fmax < np.inf),
        ("steps", steps, "at least 1", steps >= 1),
        ("pressure_bar", pressure_bar, "a number of bar", bool(np.isfinite(pressure_bar))),
        ("pressure_bar", pressure_bar, "0 unless the cell relaxes (cell=True)", cell or pressure_bar == 0))
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f"optimizer must be {', '.join(map(repr, OPTIMIZERS))}, not {optimizer!r}"
                          f"{did_you_mean(optimizer, OPTIMIZERS)}")


def _descended(atoms: Atoms, fmax: float, steps: int, pressure: float | None, optimizer: str,
               progress: Callable[[float, float, str], None] | None) -> Relaxation:
    """Let ASE move `atoms`; a pressure (eV/Å³) moves the cell too."""
    import ase.optimize  # it takes SciPy, and so half a second and 50 MB

    moving: Any = atoms
    if pressure is not None:
        from ase.filters import FrechetCellFilter
        moving = FrechetCellFilter(atoms, scalar_pressure=pressure)
    energies: list[float] = []
    converged, largest = False, np.inf
    try:
        descent = getattr(ase.optimize, OPTIMIZERS[optimizer])(moving, logfile=None)
        for reached in descent.irun(fmax=fmax, steps=steps):
            converged = bool(reached)
            largest = float(np.linalg.norm(moving.get_forces(), axis=1).max())
            energies.append(float(atoms.get_potential_energy()))
            if progress is not None:
                progress(len(energies) - 1, steps, f"{largest:.3g} eV/Å")
    except KeyboardInterrupt as cause:
        done = max(len(energies) - 1, 0)
        raise Interrupted(cause, f"after step {done} of at most {steps}; nothing was written") from None
    except PropertyNotImplementedError as error:
        raise ConfigError(f"the calculator {type(atoms.calc).__name__} lacks a property ({error}); relaxing needs energies "
                          "and forces, and that of a cell the stress") from error
    last = replace(structure_of(atoms), energy=energies[-1], momenta=None, forces=atoms.get_forces(apply_constraint=False),
                   stress=None if pressure is None else atoms.get_stress(voigt=False, apply_constraint=False))
    backend = getattr(atoms.calc, "backend", type(atoms.calc).__name__)
    return Relaxation(last, converged, largest, len(energies) - 1, tuple(energies), backend)
