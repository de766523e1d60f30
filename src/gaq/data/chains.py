"""Langevin chains at a level of theory, and the worker process that runs them.

Workers are separate processes with one thread each: a level of theory adds numbers up in the order of its threads, so
that only then the frames are the same on every machine. They are started by command, not forked, and send frames as
plain numbers.
"""

import json
import os
import signal
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculatorError
from ase.constraints import FixAtoms, FixCom
from ase.data import covalent_radii
from ase.geometry import get_distances
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.optimize import BFGS
from numpy.typing import NDArray

from gaq.data.levels import find_level
from gaq.errors import DataError, GaqError

FRICTION = 0.01  # 1/fs; velocities forget in 100 fs, and the vibrations stay underdamped
RELAXED, TOO_ROUGH = 0.05, 1.0  # eV/Å; the aim, and the most that is still a start for dynamics
RELAX_STEPS = 500
BONDED, BROKEN = 1.15, 1.75  # in sums of covalent radii; between them a bond is stretched
LEFT = 5.0  # Å; a fragment with no other atom so near has left
HOT = 10.0  # times the temperature asked for; fluctuations of three atoms stay far below

_FRAME, _ERROR = b"F", b"E"


@dataclass(frozen=True)
class Job:
    """What fixes the frames, apart from which chains run in one worker; lengths in Å, times in fs, temperature in K."""

    species: list[int]
    positions: list[list[float]]
    cell: list[list[float]]
    pbc: list[bool]
    method: str
    charge: int
    multiplicity: int
    temperature: float
    timestep_fs: float
    interval_steps: int
    equilibration_steps: int
    frames: int
    chains: int
    seed: int
    masses: list[float] | None = None
    fixed: list[int] | None = None

    def frames_of(self, chain: int) -> int:
        """Frame k belongs to chain k modulo chains."""
        return len(range(chain, self.frames, self.chains))

    def atoms(self) -> Atoms:
        return Atoms(numbers=self.species, positions=self.positions, cell=self.cell, pbc=self.pbc, masses=self.masses,
                     constraint=FixAtoms(self.fixed) if self.fixed else None)


def relax(atoms: Atoms) -> None:
    """Move the atoms to the nearest minimum of the energy, as near as dynamics needs.

    Raises:
        DataError: forces stay large, or a bond of the input opened.
    """
    start = atoms.positions.copy()
    optimizer = BFGS(atoms, logfile=None)
    optimizer.run(fmax=RELAXED, steps=RELAX_STEPS)
    worst = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
    if not worst < TOO_ROUGH:
        raise DataError(f"the structure could not be relaxed: after {RELAX_STEPS} steps a force is {worst:.2g} eV/Å; "
                        "check its geometry, charge and multiplicity")
    Bonds(atoms, start).check(atoms, "while the structure was relaxed")


class Bonds:
    """The bonds of a molecule at `positions`; none for a periodic structure, where the notion is not defined."""

    def __init__(self, atoms: Atoms, positions: NDArray[np.float64]) -> None:
        self._radii = covalent_radii[atoms.numbers][:, None] + covalent_radii[atoms.numbers]
        self._heavy = (atoms.numbers[:, None] > 1) & (atoms.numbers > 1)  # hydrogen may hop without a reaction
        self._molecular = not atoms.pbc.any()
        distances = _distances(positions)
        self._bonded = np.triu(distances < BONDED * self._radii, 1)
        self._apart = np.triu(distances > 1.5 * self._radii, 1)
        self._whole = len(_first_fragment(distances)) == len(atoms)

    def check(self, atoms: Atoms, when: str) -> None:
        """Raise DataError if a bond opened or formed, or atoms left."""
        if not self._molecular:
            return
        distances = _distances(atoms.positions)
        if self._whole and len(_first_fragment(distances)) < len(atoms):
            raise DataError(f"the molecule fell apart {when}: a fragment is more than {LEFT} Å from the rest; {ADVICE}")
        changes = ((self._bonded & (distances > BROKEN * self._radii), "opened"),
                   (self._apart & self._heavy & (distances < BONDED * self._radii), "formed"))
        for found, verb in changes:
            if found.any():
                i, j = np.argwhere(found)[0]
                names = f"{atoms.symbols[i]}{i}-{atoms.symbols[j]}{j}"
                raise DataError(f"the molecule reacted {when}: the bond {names} {verb} ({distances[i, j]:.2f} Å); "
                                f"{ADVICE}")


ADVICE = "lower the temperature or the time step, or check the charge and multiplicity"


class Chain:
    """One Langevin trajectory, dx = p/m dt, dp = (F - γp) dt + sqrt(2mγkT) dW; its centre, or its fixed atoms, rest.

    Source: Vanden-Eijnden, Ciccotti, Chem. Phys. Lett. 429, 310 (2006), as in `ase.md.langevin`.
    """

    def __init__(self, job: Job, relaxed: Atoms, number: int) -> None:
        rng = np.random.default_rng(np.random.SeedSequence(job.seed).spawn(job.chains)[number])
        self._job, self._number = job, number
        self._atoms = relaxed.copy()
        self._atoms.calc = find_level(job.method).calculator(job.charge, job.multiplicity)
        self._bonds = Bonds(relaxed, relaxed.positions)
        spread = np.sqrt(self._atoms.get_masses() * (units.kB * job.temperature))  # Maxwell-Boltzmann
        self._atoms.set_momenta(rng.standard_normal((len(relaxed), 3)) * spread[:, None])
        if not job.fixed:
            Stationary(self._atoms)
            if not self._atoms.pbc.any():
                ZeroRotation(self._atoms)
            self._atoms.set_constraint(FixCom())
        self._dynamics = Langevin(self._atoms, job.timestep_fs * units.fs, temperature_K=job.temperature,
                                  friction=FRICTION / units.fs, fixcm=False, rng=rng)

    def frames(self) -> Iterator[NDArray[np.float64]]:
        """Yield each frame as one row of numbers: energy, positions, forces.

        Raises:
            DataError: the molecule exploded, reacted or fell apart, or the level of theory failed.
        """
        self._advance(self._job.equilibration_steps)
        for _ in range(self._job.frames_of(self._number)):
            self._advance(self._job.interval_steps)
            yield flatten(self._atoms)

    def _advance(self, steps: int) -> None:
        if steps == 0:
            return
        self._dynamics.run(steps)
        time = self._dynamics.get_number_of_steps() * self._job.timestep_fs
        when = f"at {time:.0f} fs of chain {self._number}"
        temperature = self._atoms.get_temperature()
        if not temperature < HOT * self._job.temperature:
            raise DataError(f"the molecule exploded {when}: its temperature is {temperature:.0f} K; {ADVICE}")
        self._bonds.check(self._atoms, when)


def flatten(atoms: Atoms) -> NDArray[np.float64]:
    """Return energy, positions and forces of a frame as one row of 1 + 6 N numbers."""
    forces = atoms.get_forces(apply_constraint=False)
    return np.concatenate([[atoms.get_potential_energy()], atoms.positions.ravel(), forces.ravel()])


def write_job(job: Job, mine: list[int]) -> bytes:
    """Return the message that starts a worker with the chains `mine`."""
    return json.dumps({"job": asdict(job), "mine": mine}).encode()


def run_chains(job: Job, mine: list[int]) -> Iterator[NDArray[np.float64]]:
    """Relax the structure, then yield frames of the chains `mine` by turns."""
    relaxed = job.atoms()
    relaxed.calc = find_level(job.method).calculator(job.charge, job.multiplicity)
    try:
        relax(relaxed)
        chains = [Chain(job, relaxed, number).frames() for number in mine]
        for k in range(max(job.frames_of(number) for number in mine)):
            for number, chain in zip(mine, chains, strict=True):
                if k < job.frames_of(number):
                    yield next(chain)
    except (CalculatorError, np.linalg.LinAlgError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{job.method} failed for this structure: {reason}; {ADVICE}") from error


def read_frame(stream: BinaryIO, atoms: int) -> NDArray[np.float64] | None:
    """Read what `main` wrote: one frame of `atoms` atoms, or None when the worker ended without one.

    Raises:
        DataError: the worker sent an error.
    """
    kind = stream.read(1)
    if kind == _FRAME:
        size = 8 * (1 + 6 * atoms)
        content = stream.read(size)
        return np.frombuffer(content).copy() if len(content) == size else None
    if kind == _ERROR:
        (length,) = struct.unpack("<I", stream.read(4))
        raise DataError(stream.read(length).decode())
    return None


def main() -> None:
    """Be a worker: read a job from standard input, write its frames to standard output."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the parent ends its workers itself
        signal.signal(number, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)  # a level of theory may print; its words must not mix with the frames
        message = json.load(sys.stdin)
        try:
            for frame in run_chains(Job(**message["job"]), message["mine"]):
                output.write(_FRAME + frame.tobytes())
                output.flush()
        except BrokenPipeError:
            os._exit(0)  # nobody listens any more
        except GaqError as error:
            text = str(error).encode()
            output.write(_ERROR + struct.pack("<I", len(text)) + text)


def _distances(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    return get_distances(positions)[1]


def _first_fragment(distances: NDArray[np.float64]) -> set[int]:
    """Return the atoms that atom 0 reaches in steps of at most LEFT."""
    reached, fresh = {0}, {0}
    while fresh:
        fresh = set(np.flatnonzero((distances[sorted(fresh)] < LEFT).any(axis=0)).tolist()) - reached
        reached |= fresh
    return reached
