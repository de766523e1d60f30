"""Packages that only a part of gaq needs: the base installation leaves them out, and an extra brings them."""

from collections.abc import Iterator
from contextlib import contextmanager

from gaq.errors import PackageMissing

NEEDED = {  # package: what needs it, and the extra that brings it
    "torch": ("training, quantizing and computing with PyTorch need", "train"),
    "matplotlib": ("plots need", "train"),
    "pooch": ("downloads need", "train"),
    "requests": ("downloads need", "train"),
    "tblite": ("labels of GFN1-xTB and GFN2-xTB need", "train"),
    "pyscf": ("labels of PBE need", "pyscf"),
}


@contextmanager
def extras() -> Iterator[None]:
    """Let imports fail by name: `with extras(): import torch`.

    Raises:
        PackageMissing: one of the packages in `NEEDED` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in NEEDED:
            raise
        what, extra = NEEDED[package]
        advice = f"pip install 'gaq[{extra}]'"
        raise PackageMissing(f"{what} the package {package}, which is not installed; run: {advice}") from error
