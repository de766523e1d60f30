# %% [markdown]
# # Dynamics
#
# From a model file to molecular dynamics: relax a molecule, simulate it at constant energy, and see whether the energy stays.
# Needs no PyTorch, and takes seconds.

# %%
from pathlib import Path

import numpy as np
from ase import units
from ase.build import molecule
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE

import gaq

MODELS = Path(__file__).parents[1] / "models"
field = gaq.load(MODELS / "ethanol-w4a16.safetensors")

# %% [markdown]
# ## Relax
#
# The model is an ASE calculator. FIRE looks at forces alone; optimizers with line searches stall on an energy of few bits.

# %%
atoms = molecule("CH3CH2OH")
atoms.calc = field.calculator()
FIRE(atoms, logfile=None).run(fmax=0.01)
bond = atoms.get_distance(0, 1)
print(f"{atoms.get_potential_energy():.3f} eV, C-C {bond:.3f} Å")

# %% [markdown]
# ## Simulate
#
# Velocities of 300 K, steps of 0.5 fs, half a picosecond at constant energy.

# %%
rng = np.random.default_rng(1)
MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=rng)
Stationary(atoms)
dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
energies = []
dynamics.attach(lambda: energies.append(atoms.get_total_energy()))
dynamics.run(1000)
wander = 1000 * np.std(energies) / len(atoms)
print(f"total energy, standard deviation: {wander:.3f} meV/atom")

# %% [markdown]
# ## The same with 8-bit activations
#
# With `w4a8` the energy is a staircase in the positions, and its total wanders more. For sampling with a thermostat that does
# not matter; for long dynamics at constant energy it does.

# %%
atoms.calc = gaq.load(MODELS / "ethanol-w4a8.safetensors").calculator()
energies.clear()
dynamics.run(1000)
wander = 1000 * np.std(energies) / len(atoms)
print(f"total energy, standard deviation: {wander:.3f} meV/atom")

# %% [markdown]
# `gaq md` does the same faster and restartable ([first simulation](../quickstart.md)), and `gaq audit` tells whether a model is
# fit for it ([reading an audit](../auditing.md)).
