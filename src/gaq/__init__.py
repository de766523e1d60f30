"""gaq: geometry-aware quantization of SO(3)-equivariant graph neural network force fields.

Units are eV, Å and eV/Å.
"""

from gaq.data import Frames, KeyMap, load_frames
from gaq.errors import GaqError
from gaq.forcefield import ForceField, load
from gaq.graph import Graph, Prediction, Structure
from gaq.metrics.equivariance import local_equivariance_error
from gaq.recipe import Recipe, Rule
from gaq.train import Optimization, quantize, train

__all__ = ["ForceField", "Frames", "GaqError", "Graph", "KeyMap", "Optimization", "Prediction", "Recipe", "Rule",
           "Structure", "load", "load_frames", "local_equivariance_error", "quantize", "train"]
