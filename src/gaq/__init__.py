"""gaq: geometry-aware quantization of SO(3)-equivariant graph neural network force fields.

Units are eV, Å and eV/Å. Names are imported when they are first used, so that the command line answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaq.backends.choice import on_backend
    from gaq.data import Frames, KeyMap, load_frames
    from gaq.errors import GaqError
    from gaq.forcefield import ForceField, load
    from gaq.graph import Graph, Prediction
    from gaq.metrics.equivariance import local_equivariance_error
    from gaq.recipe import Recipe, Rule
    from gaq.structure import Structure
    from gaq.training import Optimization, quantize, train

__all__ = ["ForceField", "Frames", "GaqError", "Graph", "KeyMap", "Optimization", "Prediction", "Recipe", "Rule",
           "Structure", "load", "load_frames", "local_equivariance_error", "on_backend", "quantize",
           "train"]

_HOMES = {"gaq.data": ("Frames", "KeyMap", "load_frames"), "gaq.backends.choice": ("on_backend",),
          "gaq.errors": ("GaqError",), "gaq.forcefield": ("ForceField", "load"), "gaq.graph": ("Graph", "Prediction"),
          "gaq.structure": ("Structure",), "gaq.metrics.equivariance": ("local_equivariance_error",),
          "gaq.recipe": ("Recipe", "Rule"), "gaq.training.fit": ("quantize", "train"),
          "gaq.training.config": ("Optimization",)}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'gaq' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
