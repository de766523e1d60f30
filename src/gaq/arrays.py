"""Formulas for numpy arrays and PyTorch tensors alike: the functions and the kind of numbers that their arguments call for.

PyTorch knows numpy's names for what formulas need (where, exp, clip, stack, arange, ...), and it is imported already where
there is a tensor. So a formula is written once, and computes where PyTorch is not installed.
"""

import sys
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray where structures come in and results go out; torch.Tensor within models and their training


def namespace(values: Any) -> Any:
    """Return the module whose functions take such values: numpy for its arrays, else PyTorch."""
    return np if isinstance(values, np.ndarray) else sys.modules["torch"]


def kind(values: Any) -> dict[str, Any]:
    """Return the keywords by which that module makes new values of the same type of numbers, in the same place."""
    return {"dtype": values.dtype} if isinstance(values, np.ndarray) else {"dtype": values.dtype, "device": values.device}
