"""Formulas for numpy arrays and PyTorch tensors alike: the functions and the type of numbers that their arguments ask for.

PyTorch knows numpy's names for what formulas need (where, exp, clip, stack, arange, ...), and it has been imported where
there is a tensor. So a formula is written once, and computes where PyTorch is not installed.
"""

import sys
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any  # a numpy array or a tensor; what a formula returns is of the kind of its arguments


def namespace(values: Array) -> Any:
    """Return the module whose functions take these values: numpy for its arrays, else PyTorch."""
    return np if isinstance(values, np.ndarray) else sys.modules["torch"]


def power(base: Array, exponent: float) -> Array:
    """Return base^exponent; for arrays by way of extended precision: numpy's last bit depends on the processor."""
    if isinstance(base, np.ndarray):
        return (base.astype(np.longdouble) ** exponent).astype(base.dtype)
    return base**exponent


def kind(values: Array) -> dict[str, Any]:
    """Return the keywords by which that module makes other values of the same type of numbers, in the same place."""
    return {"dtype": values.dtype} if isinstance(values, np.ndarray) else {"dtype": values.dtype, "device": values.device}
