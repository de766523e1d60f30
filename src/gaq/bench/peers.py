"""Other packages on the same structures, through their ASE calculators; none is needed, and nothing is downloaded."""

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from gaq.bench.systems import System
from gaq.errors import GaqError
from gaq.structure import Structure

FOREIGN = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, OSError, RuntimeError,
           TypeError, ValueError)  # what code that is not ours may raise


class PeerMissing(GaqError):
    """A package that is not installed."""


class PeerFailed(GaqError):
    """A package that is installed and fails."""


@dataclass(frozen=True)
class Peer:
    """A package to compare with.

    Args:
        package: its name, which is also that of its rows.
        module: what is imported.
        extra: what `pip install "gaq[...]"` installs it.
        model: what its rows call the model.
        calculator: makes the calculator, on the CPU in float32.
    """

    package: str
    module: str
    extra: str
    model: str
    calculator: Callable[[], Calculator]

    @property
    def installed(self) -> bool:
        """Whether it can be imported."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def missing(self) -> str:
        """What to say where it is not."""
        return f'{self.package} is not installed; `pip install "gaq[{self.extra}]"`'

    def step(self, system: System) -> Callable[[], object]:
        """Return a function that computes energy and forces, neighbours included.

        Raises:
            PeerMissing: it is not installed.
            PeerFailed: it is, and cannot compute this system; a batch, which ASE has none of.
        """
        if not self.installed:
            raise PeerMissing(self.missing)
        if len(system.structures) > 1:
            raise PeerFailed("an ASE calculator computes one structure at a time")
        atoms = _atoms(system.structures[0])
        calculator = self._guarded(self.calculator)

        def step() -> object:
            return self._guarded(lambda: calculator.calculate(atoms, ["energy", "forces"], all_changes))

        step()
        forces = np.asarray(calculator.results.get("forces", np.nan))
        if forces.shape != (len(atoms), 3) or not np.isfinite(forces).all():
            raise PeerFailed(f"{self.package} gives no finite forces for {system.name}")
        return step

    def _guarded(self, act: Callable[[], Any]) -> Any:
        """Run foreign code: its errors become one of ours, its default dtype and warnings stay its own."""
        dtype = torch.get_default_dtype()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return act()
        except FOREIGN as error:
            reason = " ".join(str(error).split())[:300]
            raise PeerFailed(f"{self.package} is installed and fails: {type(error).__name__}: {reason}") from error
        finally:
            torch.set_default_dtype(dtype)


def _atoms(structure: Structure) -> Atoms:
    return Atoms(structure.species, positions=structure.positions, cell=structure.cell, pbc=structure.pbc)


def _mace() -> Calculator:
    """A model of the shape of MACE-OFF23-small, whose weights do not come with the package: speed does not need them."""
    importlib.import_module("mace")  # before e3nn, whose constants it lets PyTorch load
    from e3nn.o3 import Irreps
    from mace.calculators import MACECalculator
    from mace.modules import RealAgnosticInteractionBlock, RealAgnosticResidualInteractionBlock, ScaleShiftMACE

    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    species = [1, 6, 7, 8, 9, 15, 16, 17, 35, 53]
    model = ScaleShiftMACE(
        r_max=4.5, num_bessel=8, num_polynomial_cutoff=5, max_ell=3, num_interactions=2, num_elements=len(species),
        interaction_cls=RealAgnosticResidualInteractionBlock, interaction_cls_first=RealAgnosticInteractionBlock,
        hidden_irreps=Irreps("96x0e"), MLP_irreps=Irreps("16x0e"), atomic_energies=np.zeros(len(species)),
        avg_num_neighbors=15.0, atomic_numbers=species, correlation=3, gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0, atomic_inter_shift=0.0)
    return MACECalculator(models=[model], device="cpu", default_dtype="float32")


def _sevennet() -> Calculator:
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator("7net-0", device="cpu")


def _so3lr() -> Calculator:
    calculators = importlib.import_module("so3krates_torch.calculator.so3")
    return calculators.SO3LRCalculator(device="cpu", default_dtype="float32")


PEERS = {peer.package: peer for peer in (
    Peer("mace-torch", "mace", "peers-mace", "random weights", _mace),
    Peer("sevenn", "sevenn", "peers", "SevenNet-0", _sevennet),
    Peer("so3krates-torch", "so3krates_torch", "peers", "SO3LR", _so3lr))}
