# %% [markdown]
# # Rotations and rounding
#
# Turn a molecule, and the forces on its atoms must turn with it. A network that is equivariant does this by
# its make. Rounding its numbers to a few bits can break it: a vector along x falls on other codes than the
# same vector along a diagonal. This tutorial measures by how much, for naive rounding and for rounding in
# local frames. It runs in seconds.

# %%
from pathlib import Path

import numpy as np
from ase.build import molecule

import gaq

MODELS = Path(__file__).parents[1] / "models"
fp32 = gaq.load(MODELS / "ethanol-gfn2-fp32.safetensors")
ethanol = molecule("CH3CH2OH")

# %% [markdown]
# ## By hand: one rotation
#
# `predict` takes a graph (a structure with its neighbours) and returns energy and forces in eV and eV/Å. We
# turn ethanol by 30° about the z axis, turn the forces back, and compare them with those of the molecule as
# it lay.

# %%
cos, sin = np.cos(np.radians(30)), np.sin(np.radians(30))
rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def forces(field, positions):
    """Return the forces of ethanol with these positions, eV/Å."""
    structure = gaq.Structure(ethanol.numbers, positions)
    return field.predict(field.graph(structure)).forces


def error(field):
    """Return |F(R·G) − R·F(G)|, averaged over atoms, in meV/Å."""
    turned = forces(field, ethanol.positions @ rotation.T)
    difference = turned - forces(field, ethanol.positions) @ rotation.T
    return 1000 * np.linalg.norm(difference, axis=1).mean()


print(f"fp32: {error(fp32):.5f} meV/Å")

# %% [markdown]
# That is the noise of single precision. This average over atoms is the **local equivariance error, LEE**: 0
# is ideal, and a value far below the error that the model has anyway is harmless.
#
# ## Two ways to round
#
# `int8-naive` rounds the x, y and z components of vector features to 8 bits. `w4a8` has fewer bits, weights
# of 4, and rounds magnitude and direction of each vector in a frame that turns with the atom's neighbours.
# Both are only calibrated here, on 32 rattled geometries, not trained: this is about symmetry, not accuracy.

# %%
rng = np.random.default_rng(0)
rattled = ethanol.positions + rng.normal(0, 0.05, (32, *ethanol.positions.shape))
frames = [gaq.Structure(ethanol.numbers, positions) for positions in rattled]
naive = gaq.quantize(fp32, "int8-naive", frames)
aligned = gaq.quantize(fp32, "w4a8", frames)
print(f"int8-naive: {error(naive):.5f} meV/Å")
print(f"w4a8:       {error(aligned):.5f} meV/Å")

# %% [markdown]
# ## Many rotations
#
# One rotation can be lucky. `local_equivariance_error` takes random ones of several frames.

# %%
for name, field in (("fp32", fp32), ("int8-naive", naive), ("w4a8", aligned)):
    lee = gaq.local_equivariance_error(field, frames[:8], rotations=16).forces_meV_A
    print(f"{name:11s} LEE mean {lee.mean:9.5f}, largest {lee.max:9.5f} meV/Å")

# %% [markdown]
# The mean of `w4a8` lies above its typical value: in a few rotations the noise of single precision tips a
# number over the edge between two codes. [How it works](../method.md) tells why it is not more, and [choosing
# a recipe](../recipes.md) what to take.
