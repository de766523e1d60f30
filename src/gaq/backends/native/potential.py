"""A stored model on the native engine: graphs in, predictions out."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np

from gaq.backends.contract import OfStored
from gaq.backends.native.engine import NativeEngine
from gaq.graph import Graph, Prediction, check_finite, check_graph, summed, volumes
from gaq.lowering.blob import Blob, NotLowered
from gaq.models import emitter_of
from gaq.stored import StoredModel
from gaq.threads import usual_threads


class NativePotential(OfStored):
    """A stored model whose predictions come from the native engine; threads may share it, and take turns.

    Args:
        stored: what it computes.
        threads, isa: as for `NativeEngine`; None for `usual_threads`.
        active: leaves whose activation quantizers round; None for all.
        blob: the lowered model, where it is known already.

    Raises:
        NotLowered: a model that the engine does not compute.
        EngineMissing: the library was not built.
    """

    def __init__(self, stored: StoredModel, threads: int | None = None, isa: str | None = None,
                 active: Collection[str] | None = None, blob: Blob | None = None) -> None:
        super().__init__(stored)
        lowered = emitter(stored).blob(active) if blob is None else blob
        self.quantizers, self.table_error = lowered.quantizers, lowered.table_error
        self.engine = NativeEngine(lowered.data, usual_threads() if threads is None else threads, isa)

    @property
    def backend(self) -> str:
        """How it computes."""
        return f"engine ({self.engine.facts().isa.decode()})"

    def predict(self, graph: Graph, stress: bool = False) -> Prediction:
        """Return energy (eV), forces (eV/Å) and, on request, stress (eV/Å³) of a graph, float64.

        Raises:
            SpeciesError: an element the model was not trained on.
            StructureError: positions that are not finite; atoms at one place; stress without a cell.
            GaqError: the model itself gives a result that is not finite.
        """
        check_graph(graph, self.species)
        if stress:
            volumes(graph)
        with self.engine.lock:
            self.engine.set_graph(graph)
            atoms, forces, virials = self.engine.compute(np.asarray(graph.positions), virial=stress)
        return check_finite(summed(graph, atoms, forces, virials))

    __call__ = predict

    def saturation(self, graphs: Iterable[Graph]) -> list[tuple[str, float]]:
        """Return, for each activation quantizer, the share of values beyond its range when these graphs are predicted."""
        before = self.engine.saturation()
        for graph in graphs:
            self.predict(graph)
        clipped, seen = (after - earlier for after, earlier in zip(self.engine.saturation(), before, strict=True))
        return [(name, float(c) / max(float(n), 1.0)) for name, c, n in zip(self.quantizers, clipped, seen, strict=True)]


def emitter(stored: StoredModel) -> Any:
    """Return what lowers a model.

    Raises:
        NotLowered: the engine does not compute models of its kind.
    """
    found = emitter_of(stored.config.kind)
    if found is None:
        raise NotLowered(f"the engine does not compute models of kind {stored.config.kind!r}")
    return found(stored.config, stored.recipe, stored.tensors)


def potential(stored: StoredModel, threads: int | None = None, device: str | None = None,
              dtype: str | None = None) -> NativePotential:
    """Return a stored model on the engine, which computes on the CPU in float32; see `gaq.backends.contract.Backend`."""
    return NativePotential(stored, threads)


def variants(stored: StoredModel, threads: int | None = None, device: str | None = None,
             dtype: str | None = None) -> Iterator[tuple[str, NativePotential]]:
    """Yield, for each activation quantizer by the name of its leaf, a potential in which it alone rounds."""
    lowering = emitter(stored)
    for name in stored.schema.quantizers(stored.recipe):
        yield name, NativePotential(stored, threads, blob=lowering.blob((name,)))
