"""Reference frames made here: dynamics at a level of theory, with energies and forces of that level."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace

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
          chains: int = 4, workers: int = 1, charge: int | None = None,
          multiplicity: int | None = None) -> Labelled:
    """Relax a structure, run Langevin dynamics on it and return frames with energies and forces of the same level.

    Frame k comes from chain k modulo `chains`; the frames depend on everything but `workers`. They are calculated while
    the iterator is read, and carry the charge and the spin that they were calculated with.

    Args:
        structure: the start; its masses count and its fixed atoms stay, its labels and momenta are ignored.
        method: level of theory: gfn2-xtb, gfn1-xtb or pyscf-pbe.
        temperature: K.
        frames: how many to return, from all chains.
        interval_fs: time between two frames of one chain.
        timestep_fs: step of the integrator; 0.5 fs resolves bonds to hydrogen.
        equilibration_fs: time before the first frame of each chain.
        chains: independent trajectories, with independent random numbers.
        workers: processes that share the chains, one thread each.
        charge: of the whole structure, in e; that of `structure` when None.
        multiplicity: 2S + 1; that of `structure` when None, and the lowest possible where it has no spin.

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
    electrons = Electrons.of(structure, charge, multiplicity)
    structure = replace(electrons.given_to(structure), momenta=None)
    job = Job(species=structure.species.tolist(), positions=structure.positions.tolist(), cell=atoms.cell.tolist(),
              pbc=list(structure.pbc), method=method, charge=electrons.charge, multiplicity=electrons.multiplicity,
              masses=None if structure.masses is None else structure.masses.tolist(),
              fixed=None if structure.fixed is None else np.flatnonzero(structure.fixed).tolist(),
              temperature=float(temperature),
              timestep_fs=float(timestep_fs), interval_steps=round(interval_fs / timestep_fs),
              equilibration_steps=round(equilibration_fs / timestep_fs), frames=frames, chains=chains, seed=seed)
    return _gather(job, structure, min(workers, chains))


def relabel(structures: Iterable[Structure], method: str, *, charge: int | None = None,
            multiplicity: int | None = None) -> Labelled:
    """Give energies and forces of another level of theory to given frames, without dynamics.

    They keep all but their labels, and carry the charge and the spin that they were calculated with.

    Args:
        structures: frames whose geometry stays as it is.
        method: level of theory: gfn2-xtb, gfn1-xtb or pyscf-pbe.
        charge: of each structure, in e; its own when None.
        multiplicity: 2S + 1; its own when None, and the lowest possible where it has no spin.

    Raises:
        DataError: the level is unknown or not installed, or fails for a frame.
    """
    level = find_level(method)

    def labelled() -> Labelled:
        calculators: dict[Electrons, Calculator] = {}
        for number, structure in enumerate(structures):
            atoms = _atoms(structure)
            level.available(atoms)
            try:
                electrons = Electrons.of(structure, charge, multiplicity)
            except DataError as error:
                raise DataError(f"frame {number}: {error}") from error
            if electrons not in calculators:
                calculators[electrons] = level.calculator(electrons.charge, electrons.multiplicity)
            atoms.calc = calculators[electrons]
            try:
                row = flatten(atoms)
            except CalculatorError as error:
                reason = " ".join(str(error).split())
                raise DataError(f"{method} failed for frame {number}: {reason}; check the geometry, the charge and the "
                                "multiplicity") from error
            yield _labelled(electrons.given_to(structure), row)

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


@dataclass(frozen=True)
class Electrons:
    """What a level of theory is told about the electrons: the charge in e, and 2S + 1; `said`, or the lowest possible."""

    charge: int
    multiplicity: int
    said: bool

    @classmethod
    def of(cls, structure: Structure, charge: int | None, multiplicity: int | None) -> "Electrons":
        """Take those of `structure` where none are given, and the lowest multiplicity where it has no spin.

        Raises:
            DataError: a charge that is no whole number, or electrons that cannot have the multiplicity.
        """
        given = structure.charge if charge is None else charge
        if given != round(given):
            raise DataError(f"the charge of the structure is {given:g} e, and a level of theory needs a whole number; give "
                            "the charge")
        electrons = int(structure.species.sum()) - round(given)
        lowest = 1 + electrons % 2
        if electrons < 0:
            raise DataError(f"charge is {given:g}, but the structure has {structure.species.sum()} electrons at most")
        chosen = 2.0 * structure.spin + 1.0 if multiplicity is None and structure.spin else multiplicity or lowest
        if chosen < 1 or (chosen - lowest) % 2 or chosen > electrons + 1:
            raise DataError(f"multiplicity must be {lowest}, {lowest + 2} ... for {electrons} electrons, not {chosen:g}; "
                            "check the charge")
        return cls(round(given), round(chosen), said=multiplicity is not None or structure.spin > 0)

    def given_to(self, structure: Structure) -> Structure:
        """Return the structure with this charge, and the spin if it was said, and without stress."""
        spin = (self.multiplicity - 1) / 2.0 if self.said else 0.0
        return replace(structure, charge=float(self.charge), spin=spin, stress=None)
