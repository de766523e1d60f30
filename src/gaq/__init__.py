"""gaq: geometry-aware quantization of SO(3)-equivariant graph neural network force fields.

Units are eV, Å and eV/Å. Names are imported when they are first used, so that the command line answers at once, and what
needs PyTorch is only missing where it is not installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gaq.optional import extras

if TYPE_CHECKING:
    from gaq.assess.allocate import Budget, allocate
    from gaq.assess.audit import audit
    from gaq.assess.evaluate import evaluate
    from gaq.assess.sensitivity import sensitivity
    from gaq.bench import compare
    from gaq.data import Frames, KeyMap, load_frames
    from gaq.errors import GaqError
    from gaq.forcefield import ForceField, export, load
    from gaq.graph import Graph, Potential, Prediction
    from gaq.metrics.equivariance import local_equivariance_error
    from gaq.models import load_recipe
    from gaq.recipe import Recipe, Rule, save_recipe
    from gaq.relaxation import relax
    from gaq.simulation import run_md
    from gaq.structure import Structure
    from gaq.training.config import Optimization, TrainConfig, load_config
    from gaq.training.fit import quantize, train, with_training_range

_HOMES = {
    "gaq.assess.allocate": ("Budget", "allocate"), "gaq.assess.audit": ("audit",), "gaq.assess.evaluate": ("evaluate",),
    "gaq.assess.sensitivity": ("sensitivity",), "gaq.bench": ("compare",), "gaq.data": ("Frames", "KeyMap", "load_frames"),
    "gaq.errors": ("GaqError",), "gaq.forcefield": ("ForceField", "export", "load"),
    "gaq.graph": ("Graph", "Potential", "Prediction"),
    "gaq.metrics.equivariance": ("local_equivariance_error",), "gaq.models": ("load_recipe",),
    "gaq.recipe": ("Recipe", "Rule", "save_recipe"), "gaq.relaxation": ("relax",), "gaq.simulation": ("run_md",),
    "gaq.structure": ("Structure",),
    "gaq.training.config": ("Optimization", "TrainConfig", "load_config"),
    "gaq.training.fit": ("quantize", "train", "with_training_range")}

__all__ = ["Budget", "ForceField", "Frames", "GaqError", "Graph", "KeyMap", "Optimization", "Potential", "Prediction",
           "Recipe", "Rule", "Structure", "TrainConfig", "allocate", "audit", "compare", "evaluate", "export", "load",
           "load_config", "load_frames", "load_recipe", "local_equivariance_error", "quantize", "relax", "run_md",
           "save_recipe", "sensitivity", "train", "with_training_range"]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            with extras():
                value = getattr(import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'gaq' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
