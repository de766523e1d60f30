"""A Euclidean transformer of the So3krates family."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaq.errors import ModelFileError
from gaq.models.contract import ModelKind, Tensors
from gaq.models.transformer.config import ModelConfig, ModelShape
from gaq.models.transformer.extrapolation import UNKNOWN, check_training_range, nearest_known
from gaq.models.transformer.recipes import RECIPES
from gaq.models.transformer.schema import schema

MAX_ENERGY = 1e30  # eV; the sum over any number of atoms is finite
MAX_LOGIT = 30.0  # of an attention temperature; training moves it by a few from -1
EARLIER_ROLES = {"junction": "coupling"}  # of recipes in files of format 1 and 2


def check(config: ModelConfig, tensors: Tensors) -> None:
    """Refuse tensors that no training leads to.

    Raises:
        ModelFileError: a unit of energy that is not positive, energies whose sums are no numbers, a training range that is
            none, or an attention temperature of 0 or nothing beside those that training reaches.
    """
    scale, offsets = tensors["energy_scale"], tensors["energy_offsets"]
    if not (scale > 0 and max(float(scale), float(np.abs(offsets).max())) <= MAX_ENERGY):
        raise ModelFileError(f"energy_scale must be positive, and it and energy_offsets at most {MAX_ENERGY:.0e} eV")
    check_training_range(tensors["closest"], tensors["energy_range"], config.cutoff)
    for name, values in tensors.items():
        if name.endswith("temperature_logit") and not (np.abs(values) <= MAX_LOGIT).all():
            raise ModelFileError(f"{name} must be from -{MAX_LOGIT:g} to {MAX_LOGIT:g}")


def earlier(version: int, header: dict[str, Any], tensors: dict[str, NDArray]) -> None:
    """Bring a file of format 1 or 2 up to date: 1 did not know what training saw, and both had another name for a role."""
    if version > 2:
        return
    header["model"] = {"kind": "transformer"} | header["model"]
    for rule in (*header["recipe"].get("rules", ()), *header["recipe"].get("changes", ())):
        rule["match"] = EARLIER_ROLES.get(rule["match"], rule["match"])
    if version == 1:
        count = len(header["model"]["species"])
        tensors |= {"closest": np.full((count, count), UNKNOWN), "energy_range": np.full((count, 2), UNKNOWN)}


def nearest(config: ModelConfig, tensors: Tensors) -> NDArray[np.float64]:
    """Return how near training saw two atoms by their atomic numbers, Å, less 5 %; nearer, the model holds back."""
    return nearest_known(tensors["closest"], config.species, config.cutoff)


KIND = ModelKind(shape=ModelShape, config=ModelConfig, schema=schema, recipes=RECIPES, check=check, nearest=nearest,
                 earlier=earlier)
