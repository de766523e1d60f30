# %% [markdown]
# # Your own molecule
#
# From a name to a low-bit model: label frames, train an FP32 model, quantize it, and compare. Everything is
# made here, small enough for a minute on one core; the models are as good as a minute allows. Put your
# molecule in place of methanol.

# %%
from pathlib import Path

import numpy as np

import gaq
from gaq.data import write_frames
from gaq.data.label import label
from gaq.data.structures import structure_from

# %% [markdown]
# ## Frames
#
# GFN2-xTB dynamics at 400 K gives geometries with energies and forces. For a model that you use, take some
# 1,000 frames that lie further apart (`gaq data label methanol --frames 1000 --out frames.extxyz`), or frames
# of a better level of theory.

# %%
methanol = structure_from("methanol")
labelled = list(label(methanol, frames=240, temperature=400, interval_fs=5, seed=1))
write_frames("train.extxyz", labelled[:200])
test = labelled[200:]
print(len(labelled), "frames; RMS force",
      round(np.sqrt(np.mean([f.forces**2 for f in test])), 2), "eV/Å")

# %% [markdown]
# ## An FP32 model
#
# A configuration is a YAML file; [configuration](../configuration.md) has all keys. This network is far
# smaller than the usual one, and 600 steps are few: 20,000 are usual.

# %%
Path("methanol.yaml").write_text("""
data: {train: train.extxyz, validation_frames: 40}
model: {scalars: 32, vectors: 16, layers: 1, max_degree: 1, cutoff: 4.0}
optimization: {steps: 600, learning_rate: 5.0e-3, warmup_steps: 50, ema: 0.99}
out: runs/methanol
""")
fp32 = gaq.train(gaq.load_config("methanol.yaml"))

# %% [markdown]
# ## A low-bit model
#
# Quantization-aware training goes on from the FP32 model with the rounding in place. An average over many
# steps (`ema`) is no good here: weights that jump between two codes have an average at the edge between them.

# %%
settings = gaq.Optimization(steps=200, learning_rate=7e-4, energy_weight=0.2, ema=0.9)
w4a8 = gaq.quantize(fp32, "w4a8", gaq.load_frames("train.extxyz"), settings)
w4a8.save("methanol-w4a8.safetensors")

# %% [markdown]
# ## Compare
#
# On frames that neither model saw: error of the forces, equivariance error, size.

# %%
for name, field in (("fp32", fp32), ("w4a8", w4a8)):
    errors = [field.predict(field.graph(f)).forces - f.forces for f in test]
    lee = gaq.local_equivariance_error(field, test[:4], rotations=8).forces_meV_A
    size = sum(field.stored.bytes_by_tensor().values()) / 1000
    print(f"{name}: force MAE {1000 * np.abs(errors).mean():.1f} meV/Å, "
          f"LEE {lee.mean:.4f} meV/Å, {size:.1f} kB")

# %% [markdown]
# From here on, longer: [training on your data](../training.md), [quantizing your model](../quantizing.md).
