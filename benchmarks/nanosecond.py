"""`python -m benchmarks.nanosecond MODEL...`: a long NVE simulation by `gaq md`, timed, for the results page.

It takes half an hour for each model, so that `make results` does not repeat it: the page shows what this command left in
docs/results/nanosecond.json, one entry for each model file.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

import gaq
from benchmarks.catalogue import CONSERVATION, LABELS
from gaq.errors import GaqError
from gaq.files import sha256, write_atomically
from gaq.machine import hardware
from gaq.metrics.conservation import SETTLING, energy_drift

FILE = Path("docs/results/nanosecond.json")
MEV, POINTS = 1000.0, 1500  # points kept of the series


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate with each model, and add what came of it to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--picoseconds", type=float, default=1000.0)
    parser.add_argument("--timestep", type=float, default=0.5, help="fs")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--every", type=int, default=200, help="steps between frames")
    parser.add_argument("--work", type=Path, default=Path("runs/nanosecond"), help="folder of the trajectories")
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args(arguments)
    try:
        for model in given.models:
            entry = simulate(model, given)
            known = read(given.out)  # again each time: another process may have written meanwhile
            write_atomically(given.out, json.dumps(known | {model.name: entry}, allow_nan=False))
            print(f"{model.name}: {entry['picoseconds']:g} ps in {entry['wall_seconds'] / 60:.1f} minutes, drift "
                  f"{entry['drift_meV_atom_ps']:+.3g} ± {entry['drift_stderr']:.2g} meV/atom/ps, fluctuation "
                  f"{entry['fluctuation_meV_atom']:.3g} meV/atom", flush=True)
    except GaqError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read(path: Path) -> dict[str, Any]:
    """Return the entries of the file by model, or none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def simulate(model: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run `gaq md` with one model from the first test frame, and return what the page shows."""
    given.work.mkdir(parents=True, exist_ok=True)
    start, trajectory = given.work / "start.extxyz", given.work / f"{model.stem}.extxyz"
    frame = gaq.load_frames(f"rmd17:{CONSERVATION}:1:test")[0]
    ase.io.write(start, ase.Atoms(frame.species, frame.positions), format="extxyz")
    trajectory.unlink(missing_ok=True)
    steps = round(1000.0 * given.picoseconds / given.timestep)
    command = ["gaq", "md", str(model), str(start), "--ensemble", "nve", "--temperature", f"{given.temperature:g}",
               "--timestep", f"{given.timestep:g}", "--steps", str(steps), "--every", str(given.every), "--threads", "1",
               "--out", str(trajectory)]
    begun = time.perf_counter()
    program = [sys.executable, "-m", *command]
    if subprocess.run(program, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False).returncode:
        raise GaqError(f"{shlex.join(command)} failed")
    wall = time.perf_counter() - begun
    return {"command": shlex.join(command), "sha256": sha256(model), "recipe": gaq.load(model).recipe.name,
            "label": LABELS.get(gaq.load(model).recipe.name, model.stem), "picoseconds": given.picoseconds,
            "timestep_fs": given.timestep, "temperature_K": given.temperature, "wall_seconds": wall,
            "hardware": hardware()} | figures(trajectory, given.timestep)


def figures(trajectory: Path, timestep_fs: float) -> dict[str, Any]:
    """Return drift, fluctuation, change of the angular momentum and the series of the energy of a trajectory.

    The angular momentum is compared with Σ_i |x_i| |p_i| at the start, positions about the centre of mass.
    """
    times: list[float] = []
    energies: list[float] = []
    turned: list[float] = []
    first, scale, atoms = np.zeros(3), 0.0, 0
    for frame in ase.io.iread(trajectory, index=":"):
        arms, momenta = frame.positions - frame.get_center_of_mass(), frame.get_momenta()
        angular = np.cross(arms, momenta).sum(0)
        if not times:
            first, atoms = angular, len(frame)
            scale = float((np.linalg.norm(arms, axis=1) * np.linalg.norm(momenta, axis=1)).sum())
        times.append(frame.info["step"] * timestep_fs / 1000.0)
        energies.append(frame.get_potential_energy() + frame.info["kinetic_energy"])
        turned.append(float(np.linalg.norm(angular - first)) / scale)
    time_ps, energy = np.array(times), np.array(energies)
    kept = time_ps >= SETTLING * time_ps[-1]
    drift = energy_drift(time_ps[kept], energy[kept], atoms)
    meV = MEV * (energy - energy[0]) / atoms
    line = np.polyfit(time_ps[kept], meV[kept], 1)
    shown = np.unique(np.linspace(0, len(meV) - 1, min(POINTS, len(meV))).astype(int))
    return {"drift_meV_atom_ps": drift.slope_meV_atom_ps, "drift_stderr": drift.standard_error_meV_atom_ps,
            "fluctuation_meV_atom": float((meV[kept] - np.polyval(line, time_ps[kept])).std()),
            "angular_momentum_relative": max(turned),
            "series": {"time_ps": [float(f"{t:.5g}") for t in time_ps[shown]],
                       "energy_meV_atom": [float(f"{e:.5g}") for e in meV[shown]]}}


if __name__ == "__main__":
    sys.exit(main())
