"""Reference frames made here: dynamics at a level of theory, with energies and forces of that level."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError

from gaq.data.chains import Job, flatten, read_frame, write_job
from gaq.data.levels import find_level
from gaq.errors import DataError
from gaq.structure import Structure

Labelled = Generator[Structure, None, None]  # closing it ends the processes that work for it


def label(structure: Structure, *, method: str = "gfn2-xtb", temperature: float = 500.0, frames: int = 2000,
          interval_fs: float = 20.0, timestep_fs: float = 0.5, equilibration_fs: float = 500.0, seed: int = 0,
          chains: int = 4, workers: int = 1, charge: int = 0, multiplicity: int | None = None) -> Labelled:
    """Relax a structure, run Langevin dynamics on it and return frames with energies and forces of the same level.

    Frame k comes from chain k modulo `chains`; the frames depend on everything but `workers`. They are calculated while
    the iterator is read.

    Args:
        structure: the start; its labels are ignored.
        method: level of theory: gfn2-xtb, gfn1-xtb or pyscf-pbe.
        temperature: K.
        frames: how many to return, from all chains.
        interval_fs: time between two frames of one chain.
        timestep_fs: step of the integrator; 0.5 fs resolves bonds to hydrogen.
        equilibration_fs: time before the first frame of each chain.
        chains: independent trajectories, with independent random numbers.
        workers: processes that share the chains, one thread each.
        charge: of the whole structure, in e.
        multiplicity: 2S + 1; the lowest possible when None.

    Raises:
        DataError: an argument out of its range, a structure that cannot be relaxed, or one that reacts or falls apart.
    """
    for name, value in (("temperature", temperature), ("interval_fs", interval_fs), ("timestep_fs", timestep_fs)):
        if not (np.isfinite(value) and value > 0):
            raise DataError(f"{name} must be a positive number, not {value}")
    for name, count in (("frames", frames), ("chains", chains), ("workers", workers)):
        if count < 1:
            raise DataError(f"{name} must be at least 1, not {count}")
    if not (np.isfinite(equilibration_fs) and equilibration_fs >= 0):
        raise DataError(f"equilibration_fs must be zero or more, not {equilibration_fs}")
    if interval_fs < timestep_fs:
        raise DataError(f"interval_fs must be at least timestep_fs ({timestep_fs}), not {interval_fs}")
    if seed < 0:
        raise DataError(f"seed must be zero or more, not {seed}")
    atoms = _atoms(structure)
    find_level(method).available(atoms)
    if len(atoms) < 2:
        raise DataError("dynamics needs at least two atoms; the structure has one")
    chains = min(chains, frames)
    job = Job(species=structure.species.tolist(), positions=structure.positions.tolist(), cell=atoms.cell.tolist(),
              pbc=list(structure.pbc), method=method, charge=charge,
              multiplicity=_multiplicity(structure, charge, multiplicity), temperature=float(temperature),
              timestep_fs=float(timestep_fs), interval_steps=round(interval_fs / timestep_fs),
              equilibration_steps=round(equilibration_fs / timestep_fs), frames=frames, chains=chains, seed=seed)
    return _gather(job, structure, min(workers, chains))


def relabel(structures: Iterable[Structure], method: str, *, charge: int = 0,
            multiplicity: int | None = None) -> Labelled:
    """Give energies and forces of another level of theory to given frames, without dynamics.

    Args:
        structures: frames whose geometry stays as it is.
        method: level of theory: gfn2-xtb, gfn1-xtb or pyscf-pbe.
        charge: of each structure, in e.
        multiplicity: 2S + 1; the lowest possible when None.

    Raises:
        DataError: the level is unknown or not installed, or fails for a frame.
    """
    level = find_level(method)

    def labelled() -> Labelled:
        calculators: dict[int, Calculator] = {}
        for number, structure in enumerate(structures):
            atoms = _atoms(structure)
            level.available(atoms)
            spin = _multiplicity(structure, charge, multiplicity)
            atoms.calc = calculators.setdefault(spin, level.calculator(charge, spin))
            try:
                row = flatten(atoms)
            except CalculatorError as error:
                reason = " ".join(str(error).split())
                raise DataError(f"{method} failed for frame {number}: {reason}; check the geometry, the charge and the "
                                "multiplicity") from error
            yield _labelled(structure, row)

    return labelled()


def _gather(job: Job, structure: Structure, workers: int) -> Labelled:
    """Start the workers and read their frames in the order of the chains."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    command = [sys.executable, "-P", "-c", "from gaq.data.chains import main; main()"]
    with tempfile.TemporaryFile() as words:
        started: list[subprocess.Popen[bytes]] = []
        try:
            for worker in range(workers):
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words,
                                           env=environment)
                started.append(process)
                assert process.stdin is not None
                with contextlib.suppress(BrokenPipeError), process.stdin:  # a worker that ended tells why below
                    process.stdin.write(write_job(job, list(range(worker, job.chains, workers))))
            for k in range(job.frames):
                process = started[k % job.chains % workers]
                assert process.stdout is not None
                row = read_frame(process.stdout, len(structure))  # type: ignore[arg-type]
                if row is None:
                    words.seek(0)
                    said = words.read().decode(errors="replace").strip().splitlines()
                    raise DataError(f"the worker that labels frames ended at frame {k} (exit status {process.wait()}): "
                                    f"{said[-1] if said else 'it said nothing; was it out of memory?'}")
                yield _labelled(structure, row)
        finally:
            for process in started:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()


def _atoms(structure: Structure) -> Atoms:
    return Atoms(numbers=structure.species, positions=structure.positions, cell=structure.cell, pbc=structure.pbc)


def _labelled(structure: Structure, row: np.ndarray) -> Structure:
    positions, forces = row[1:].reshape(2, len(structure), 3)
    return replace(structure, positions=positions, energy=float(row[0]), forces=forces)


def _multiplicity(structure: Structure, charge: int, multiplicity: int | None) -> int:
    electrons = int(structure.species.sum()) - charge
    lowest = 1 + electrons % 2
    if electrons < 0:
        raise DataError(f"charge is {charge}, but the structure has {structure.species.sum()} electrons at most")
    if multiplicity is None:
        return lowest
    if multiplicity < 1 or (multiplicity - lowest) % 2 or multiplicity > electrons + 1:
        raise DataError(f"multiplicity must be {lowest}, {lowest + 2} ... for {electrons} electrons, not "
                        f"{multiplicity}; check the charge")
    return multiplicity
