"""Formulas that compute without PyTorch."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from gaq.arrays import kind, namespace, power


@pytest.mark.parametrize("module", [
    "gaq.recipe", "gaq.quant.packing", "gaq.so3", "gaq.radial", "gaq.models.transformer.extrapolation", "gaq.stored",
    "gaq.models.transformer.lowering"])
def test_formulas_and_formats_do_not_import_torch(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import sys, {module}; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("module", ["gaq.graph", "gaq.backends.native.potential", "gaq.forcefield"])
def test_what_computes_on_the_engine_needs_no_torch(module: str) -> None:
    """The neighbour search imports PyTorch where it is installed, and works without."""
    subprocess.run([sys.executable, "-c", f"import sys; sys.modules['torch'] = None; import {module}"], check=True)


def test_arguments_choose_the_module_and_the_type_of_numbers() -> None:
    array, tensor = np.zeros(2, np.float32), torch.zeros(2, dtype=torch.float64)
    assert namespace(array) is np
    assert namespace(tensor) is torch
    assert namespace(array).arange(2, **kind(array)).dtype == np.float32
    assert namespace(tensor).arange(2, **kind(tensor)).dtype == torch.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_are_good_to_half_a_unit_in_the_last_place(dtype: type) -> None:
    base = np.random.default_rng(0).uniform(0.1, 9.0, 1000).astype(dtype)
    found = power(base, 5)
    assert found.dtype == dtype
    errors = [abs(Fraction(y) - Fraction(x) ** 5) for x, y in zip(base.tolist(), found.tolist(), strict=True)]
    assert max(float(error) / unit for error, unit in zip(errors, np.spacing(found).tolist(), strict=True)) < 0.501
    assert torch.equal(power(torch.from_numpy(base), 5), torch.from_numpy(base) ** 5)
