# %% [markdown]
# # Dynamics
#
# From a model file to molecular dynamics: relax a molecule, simulate it at constant energy, and see whether
# the energy stays. It takes seconds. PyTorch is not needed; the picture at the end needs matplotlib.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase.build import molecule
from ase.optimize import FIRE

import gaq

MODELS = Path(__file__).parents[1] / "models"
field = gaq.load(MODELS / "ethanol-w4a16.safetensors")

# %% [markdown]
# ## Relax
#
# A start is a name, a file, `ase.Atoms` or a `Structure`. The optimizer is FIRE, which looks at forces alone;
# line searches stall on an energy of few bits.

# %%
relaxed = gaq.relax(field, "ethanol", fmax=0.01)
print(f"{relaxed.energies[-1]:.4f} eV, {relaxed.largest_force:.4f} eV/Å after {relaxed.steps} steps")

# %% [markdown]
# ## In ASE
#
# The model is an ASE calculator, and ASE does with it what it does with any other.

# %%
atoms = molecule("CH3CH2OH")
atoms.calc = field.calculator()
FIRE(atoms, logfile=None).run(fmax=0.01)
print(f"{atoms.get_potential_energy():.4f} eV, C-C {atoms.get_distance(0, 1):.3f} Å")

# %% [markdown]
# ## Simulate
#
# One picosecond at constant energy (NVE), in steps of 0.5 fs, from velocities of 300 K; from a relaxed start
# about half of that becomes potential energy. `run_md` also has a thermostat (`nvt`) and a barostat (`npt`), and
# can write a trajectory and continue it.

# %%
ethanol = relaxed.structure
run = gaq.run_md(field, ethanol, ensemble="nve", temperature_K=300, steps=2000, every=5)
print(f"{run.temperature.mean():.0f} K on average, computed by {run.backend}")

# %% [markdown]
# ## Does the energy stay?
#
# With 16-bit activations the total energy stays as level as with FP32: what is left is the time step. With 8
# bits the energy is a staircase in the positions, and its total wanders. For sampling with a thermostat that
# does not matter; for long dynamics at constant energy it does.

# %%
plt.figure(figsize=(7, 3), layout="constrained")
for recipe in ("w4a8", "fp32", "w4a16"):
    field = gaq.load(MODELS / f"ethanol-{recipe}.safetensors")
    run = gaq.run_md(field, ethanol, ensemble="nve", temperature_K=300, steps=2000, every=5)
    energy = 1000 * (run.total_energy - run.total_energy.mean()) / len(ethanol)
    plt.plot(run.time_ps, energy, linewidth=1, label=recipe)
    print(f"{recipe:5s} total energy, standard deviation: {np.std(energy):.3f} meV/atom")
plt.xlabel("time (ps)")
plt.ylabel("total energy (meV/atom)")
plt.legend(frameon=False)
plt.savefig("total-energy.svg")

# %% [markdown]
# `gaq md` does the same on the command line ([first simulation](../quickstart.md)), and `gaq audit` tells
# whether a model is fit for long dynamics ([reading an audit](../auditing.md)).
