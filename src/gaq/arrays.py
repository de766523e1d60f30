"""Formulas that are written once for numpy arrays and PyTorch tensors."""

import sys
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray where structures come in and results go out; torch.Tensor within models and their training


def namespace(values: Array) -> Any:
    """Return the module whose functions compute with these values: numpy, or torch, which is there if a tensor is."""
    return np if isinstance(values, (np.ndarray, np.generic)) else sys.modules["torch"]
