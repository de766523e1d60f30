"""What rounding does to rotations: the same model, rounded by component and in local frames, without any training."""

from pathlib import Path

import numpy as np

import gaq
from gaq.data.structures import structure_from

MODEL = Path(__file__).parents[1] / "models" / "ethanol-gfn2-fp32.safetensors"


def main() -> None:
    """Print the local equivariance error of three versions of the demo's model on rattled ethanol."""
    forcefield = gaq.load(MODEL)
    ethanol = structure_from("ethanol")
    rng = np.random.default_rng(0)
    frames = [gaq.Structure(ethanol.species, ethanol.positions + rng.normal(0, 0.05, ethanol.positions.shape))
              for _ in range(32)]
    for recipe in ("fp32", "int8-naive", "w4a8"):
        low_bit = gaq.quantize(forcefield, recipe, frames)  # no settings: calibration alone
        error = gaq.local_equivariance_error(low_bit, frames[:8], rotations=16).forces_meV_A
        print(f"{recipe:12s} LEE mean {error.mean:9.5f}  max {error.max:9.5f} meV/Å")


if __name__ == "__main__":
    main()
