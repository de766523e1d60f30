"""What leaves are given, and what their quantizers do, while a model runs."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gaq.graph import Graph
from gaq.models.network import Network, edge_vectors
from gaq.nn.geometry import Geometry
from gaq.nn.leaves import LEAVES, Linear, VectorQuantizer
from gaq.nn.quantized import QUANTIZED, InputCodes, ProtectedInputCodes, QuantizedLinear, QuantizedVectors
from gaq.quant.affine import clipped_fraction
from gaq.quant.vector_formats import VectorFormat
from gaq.quant.vectors import quantizer_of
from gaq.so3 import degree_slices

SAMPLE_ROWS = 4096  # activations kept for each leaf and batch


@dataclass
class Observations:
    """What calibration saw: inputs of linear leaves, and vector features with the geometry they came with."""

    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    vectors: dict[str, list[tuple[Tensor, Geometry]]] = field(default_factory=dict)


def leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the name of every leaf, float or quantized, with the leaf, in the order of the forward pass."""
    for name, module in model.named_modules():
        if isinstance(module, LEAVES + QUANTIZED):
            yield name, module


def observe(model: Network, graphs: Iterable[Graph]) -> Observations:
    """Run the model on calibration graphs and keep what its leaves were given."""
    seen = Observations()

    def hook(name: str) -> Callable[[nn.Module, tuple], None]:
        def keep(leaf: nn.Module, arguments: tuple) -> None:
            if isinstance(leaf, (VectorQuantizer, QuantizedVectors)):
                seen.vectors.setdefault(name, []).append(arguments)
            elif isinstance(leaf, (Linear, QuantizedLinear)):
                rows = arguments[0]
                stride = -(-len(rows) // SAMPLE_ROWS) or 1
                seen.inputs.setdefault(name, []).append(rows[::stride])
        return keep

    _watch(model, hook, graphs)
    return seen


def saturation(model: Network, graphs: Iterable[Graph]) -> list[tuple[str, float]]:
    """Return, for each activation quantizer, the share of values beyond its range."""
    seen = observe(model, graphs)
    rows: list[tuple[str, float]] = []
    for name, leaf in leaves(model):
        if isinstance(leaf, QuantizedLinear) and leaf.inputs is not None:
            rows.append((name, clipped_fraction(torch.cat(seen.inputs[name]), leaf.inputs.scale(), leaf.inputs.fmt)))
        elif isinstance(leaf, QuantizedVectors):
            for degree, fmt in enumerate(leaf.formats, start=1):
                v = local_vectors(seen.vectors[name], degree, fmt)
                rows.append((f"{name}.l{degree}", quantizer_of(fmt).clipped(v, leaf.scales[degree - 1]())))
    return rows


def release_vectors(model: nn.Module, active: bool) -> None:
    """Let vector features be rounded, or keep them in float (the first phase of training)."""
    for _, leaf in leaves(model):
        if isinstance(leaf, QuantizedVectors):
            leaf.active = active


def activate(model: nn.Module, active: Collection[str] | None) -> None:
    """Let only some activation quantizers round, by the names of their leaves; None for all."""
    for name, module in leaves(model):
        quantizer = module.inputs if isinstance(module, QuantizedLinear) else module
        if isinstance(quantizer, (InputCodes, QuantizedVectors)):
            quantizer.active = active is None or name in active


def protect(model: nn.Module, graph: Graph, largest: float, generator: torch.Generator) -> None:
    """Draw the atoms that Degree-Quant keeps in float this step: p_i = largest · rank of the number of neighbours.

    Source: Tailor et al., Degree-Quant, ICLR 2021.
    """
    neighbours = torch.bincount(graph.centers, minlength=len(graph.species)).double()
    rank = neighbours.argsort().argsort().double() / max(len(neighbours) - 1, 1)
    chosen = torch.rand(len(rank), generator=generator, dtype=torch.float64) < (largest * rank).cpu()
    for module in model.modules():
        if isinstance(module, ProtectedInputCodes):
            module.atoms, module.centers = chosen.to(graph.centers.device), graph.centers


def _watch(model: Network, hook: Callable[[str], Callable[[nn.Module, tuple], None]], graphs: Iterable[Graph]) -> None:
    """Run the model on graphs, with a hook on each leaf."""
    handles = [leaf.register_forward_pre_hook(hook(name)) for name, leaf in leaves(model)]
    try:
        with torch.no_grad():
            for graph in graphs:
                model.node_energies(graph, edge_vectors(graph, graph.positions))
    finally:
        for handle in handles:
            handle.remove()


def local_vectors(samples: list[tuple[Tensor, Geometry]], degree: int, fmt: VectorFormat) -> Tensor:
    """Return the calibration features of one degree, in local frames where the format is aligned, (atoms, 2l+1, C)."""
    part = degree_slices(degree)[-1]
    return torch.cat([g.wigner(degree).mT @ v[:, part] if fmt.aligned else v[:, part] for v, g in samples])
