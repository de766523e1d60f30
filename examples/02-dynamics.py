"""Dynamics through ASE: a weights-only 4-bit model as a calculator, and its total energy along NVE."""

from pathlib import Path

import numpy as np
from ase import units
from ase.md.verlet import VelocityVerlet

import gaq
from gaq.atoms import atoms_of
from gaq.data.structures import structure_from

MODEL = Path(__file__).parents[1] / "models" / "ethanol-gfn2-fp32.safetensors"


def main() -> None:
    """Run 100 fs and print how much the total energy moved."""
    ethanol = structure_from("ethanol")
    low_bit = gaq.quantize(gaq.load(MODEL), "w4", [ethanol])
    atoms = atoms_of(ethanol)
    atoms.calc = low_bit.calculator()
    spreads = np.sqrt(units.kB * 300 * atoms.get_masses())  # Maxwell-Boltzmann at 300 K
    atoms.set_momenta(np.random.default_rng(1).normal(size=(len(atoms), 3)) * spreads[:, None])
    dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
    energies = []
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()), interval=1)
    dynamics.run(200)
    spread = 1e3 * np.std(energies) / len(atoms)
    print(f"total energy over {len(energies)} steps: standard deviation {spread:.3f} meV/atom")


if __name__ == "__main__":
    main()
