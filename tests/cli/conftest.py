"""A command line to try out, and the files it works on: all made by the commands themselves."""

from pathlib import Path

import numpy as np
import pytest
from invocation import invoke
from toys import Springs, molecule
from typer.testing import Result

from gaq.data import write_frames

CONFIG = """
data: {{train: {frames}, validation_frames: 4}}
model: {{scalars: 8, vectors: 4, heads: 2, layers: 1, radial_functions: 6, filter_width: 8}}
optimization: {{steps: 20, validate_every: 10, checkpoint_every: 5, batch_size: 4, warmup_steps: 5}}
out: {out}
"""

@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def frames(folder: Path) -> Path:
    """Frames of a molecule whose atoms are held together by springs."""
    toy, rng, made = Springs(), np.random.default_rng(0), []
    for _ in range(24):
        positions = molecule().positions + 0.05 * rng.normal(size=(5, 3))
        prediction = toy(toy.graph(molecule(positions)))
        made.append(molecule(positions, energy=prediction.energy.item(), forces=prediction.forces))
    write_frames(folder / "frames.extxyz", made)
    return folder / "frames.extxyz"


@pytest.fixture(scope="session")
def config(folder: Path, frames: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(frames=frames, out=folder / "run"))
    return path


@pytest.fixture(scope="session")
def trained(config: Path) -> Result:
    """The result of `gaq train`."""
    return invoke("train", config)


@pytest.fixture(scope="session")
def model(folder: Path, trained: Result) -> Path:
    assert trained.exit_code == 0, trained.output
    return folder / "run" / "model.safetensors"


@pytest.fixture(scope="session")
def quantized(folder: Path, frames: Path, model: Path) -> Result:
    """The result of `gaq quantize`."""
    return invoke("quantize", model, "--recipe", "w4a8", "--data", frames, "--steps", 4, "--batch-size", 4, "--lr",
                  "1e-3", "--out", folder / "w4a8.safetensors")


@pytest.fixture(scope="session")
def low_bit(folder: Path, quantized: Result) -> Path:
    assert quantized.exit_code == 0, quantized.output
    return folder / "w4a8.safetensors"
