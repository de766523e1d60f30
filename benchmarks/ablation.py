"""Trains the models of the ablation table: GAQ W4A8 on ethanol, each time with one part taken away, or one added.

    python benchmarks/ablation.py [--steps 1500] [--only ROW ...]

Every row starts from the same FP32 model and sees the same frames in the same order; only the attention row needs a float
model of its own, which this script trains as the configuration of the other was.
"""

import argparse
import time
from pathlib import Path

import torch

import gaq
from gaq.models.transformer.recipes import RECIPES
from gaq.quant.vector_formats import MDDQ, ComponentDirection, Components, LinearMagnitude
from gaq.recipe import Change, Recipe
from gaq.training import load_config, train

DATA = "rmd17:ethanol:1:train"
FLOAT = Path("models/ethanol-fp32.safetensors")
FOLDER = Path("models/ablation")
PLAIN_ATTENTION = "no-attention-normalization"


def mddq(**changes: object) -> MDDQ:
    """Return the vector format of W4A8, changed."""
    plain = MDDQ(magnitude=LinearMagnitude(bits=8), direction=ComponentDirection(bits=8), aligned=True)
    return plain.model_copy(update=changes)


def with_vectors(fmt: MDDQ | Components) -> Recipe:
    """Return W4A8 with another format of vector features."""
    return _changed(changes=(Change(match="feature", field="vectors", value=fmt),))


def scheduled(recipe: Recipe = RECIPES["w4a8"], **changes: float) -> Recipe:
    """Return the recipe with another schedule."""
    return recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update=changes)})


def _changed(**changes: object) -> Recipe:
    return RECIPES["w4a8"].model_copy(update=changes)


ROWS: dict[str, Recipe] = {
    "gaq": RECIPES["w4a8"],
    "no-mddq": with_vectors(Components(bits=8)),
    "no-alignment": with_vectors(mddq(aligned=False)),
    "no-alignment-lee-term": scheduled(with_vectors(mddq(aligned=False)), lee_weight=0.1),
    "lee-term": scheduled(lee_weight=0.1),
    "no-geometric-ste": with_vectors(mddq(gradient="plain")),
    "no-branch-schedule": scheduled(scalars_only=0.0),
    "distillation": scheduled(distillation=0.5, displaced=1),
    PLAIN_ATTENTION: RECIPES["w4a8"],
}


def main() -> None:
    """Train the rows that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    frames = gaq.load_frames(DATA)
    for row in given.only:
        begun = time.perf_counter()
        start = _plain_attention() if row == PLAIN_ATTENTION else FLOAT
        settings = gaq.Optimization(steps=given.steps, batch_size=5, learning_rate=7e-4, energy_weight=0.2,
                                    warmup_steps=100, validate_every=250, seed=1, compile="never")
        low = gaq.quantize(gaq.load(start), ROWS[row], frames, settings)
        low.save(FOLDER / f"ethanol-{row}.safetensors")
        print(f"{row}: {given.steps} steps in {time.perf_counter() - begun:.0f} s", flush=True)


def _plain_attention() -> Path:
    path = FOLDER / "ethanol-so3krates-fp32.safetensors"
    if not path.exists():
        made = train(load_config("configs/rmd17.yaml", [
            f"data.train={DATA}", "optimization.steps=20000", "model.attention=so3krates", "out=runs/ablation"]))
        made.save(path)
    return path


if __name__ == "__main__":
    main()
