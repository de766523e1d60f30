"""The definition of every model, on PyTorch, as a potential."""

from collections.abc import Collection, Iterable, Iterator

import torch

import gaq.threads  # noqa: F401 - PyTorch in a forked child must not wait for threads that stayed behind
from gaq.backends.contract import OfStored
from gaq.compress import probe
from gaq.compress.swap import network
from gaq.errors import ConfigError, did_you_mean
from gaq.graph import Graph, Prediction, check_finite, check_graph, volumes
from gaq.models.network import Network
from gaq.nn.overflow import overflow_told
from gaq.nn.tensors import arrays, tensors
from gaq.stored import StoredModel

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


class TorchPotential(OfStored):
    """A stored model on PyTorch.

    Args:
        stored: what it computes.
        device: where.
        dtype: of activations and float weights.
        active: leaves whose activation quantizers round; None for all.
    """

    def __init__(self, stored: StoredModel, device: str = "cpu", dtype: str = "float32",
                 active: Collection[str] | None = None) -> None:
        super().__init__(stored)
        if dtype not in DTYPES:
            raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}{did_you_mean(dtype, DTYPES)}")
        self.network: Network = network(stored, device, DTYPES[dtype])
        probe.activate(self.network, active)

    @property
    def backend(self) -> str:
        """How it computes."""
        return "torch"

    @property
    def engine(self) -> None:
        """None: steps of dynamics are taken in Python."""
        return None

    def predict(self, graph: Graph, stress: bool = False) -> Prediction:
        """Return energy (eV), forces (eV/Å) and, on request, stress (eV/Å³) of a graph, float64.

        Raises:
            SpeciesError: an element the model was not trained on.
            StructureError: positions that are not finite; stress asked for without a periodic cell.
            GaqError: the model itself gives a result that is not finite.
        """
        check_graph(graph, self.species)
        if stress:
            volumes(graph)
        with overflow_told(self.network):
            prediction = self.network(tensors(graph, self.network.energy_scale.device), stress=stress)
        return check_finite(arrays(prediction))

    __call__ = predict

    def saturation(self, graphs: Iterable[Graph]) -> list[tuple[str, float]]:
        """Return, for each activation quantizer, the share of values beyond its range."""
        return probe.saturation(self.network, [tensors(graph, self.network.energy_scale.device) for graph in graphs])


def potential(stored: StoredModel, threads: int | None = None, device: str | None = None,
              dtype: str | None = None) -> TorchPotential:
    """Return a stored model on PyTorch, which has threads of its own; see `gaq.backends.contract.Backend`."""
    return TorchPotential(stored, device or "cpu", dtype or "float32")


def variants(stored: StoredModel, threads: int | None = None, device: str | None = None,
             dtype: str | None = None) -> Iterator[tuple[str, TorchPotential]]:
    """Yield, for each activation quantizer by the name of its leaf, a potential in which it alone rounds."""
    for name in stored.schema.quantizers(stored.recipe):
        yield name, TorchPotential(stored, device or "cpu", dtype or "float32", active=(name,))
