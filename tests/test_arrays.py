"""Formulas that compute without PyTorch."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from gaq.arrays import kind, namespace


@pytest.mark.parametrize("module", ["gaq.recipe", "gaq.quant.packing", "gaq.so3", "gaq.nn.radial", "gaq.nn.extrapolation"])
def test_formulas_and_formats_do_not_import_torch(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import sys, {module}; assert 'torch' not in sys.modules"], check=True)


def test_arguments_choose_the_module_and_the_type_of_numbers() -> None:
    array, tensor = np.zeros(2, np.float32), torch.zeros(2, dtype=torch.float64)
    assert namespace(array) is np
    assert namespace(tensor) is torch
    assert namespace(array).arange(2, **kind(array)).dtype == np.float32
    assert namespace(tensor).arange(2, **kind(tensor)).dtype == torch.float64
