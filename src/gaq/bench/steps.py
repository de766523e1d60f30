"""What is timed: energies and forces of one system, on one backend, at each call."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gaq.backends.native.potential import NativePotential
from gaq.bench.peers import PEERS
from gaq.bench.systems import System
from gaq.compress.swap import network, prepare, stored
from gaq.errors import ConfigError, did_you_mean
from gaq.forcefield import ForceField
from gaq.graph import Graph
from gaq.models.network import Network, edge_vectors
from gaq.nn.tensors import tensors
from gaq.recipe import Recipe

FP32 = "fp32"
ENGINE, COMPILED, EAGER, BFLOAT16 = "engine", "torch-compile", "torch-eager", "torch-bf16"
TORCH = (EAGER, COMPILED, BFLOAT16)
BACKENDS = (*TORCH, ENGINE, *PEERS)


@dataclass(frozen=True, eq=False)
class Step:
    """A backend that is ready to compute.

    Args:
        compute: energy and forces of the system, without finding neighbours unless `finds_neighbours`.
        neighbours: find the neighbours and give them to the backend.
        weight_bytes: weights as the backend holds them, or None where that is not known.
        traffic_bytes: what crosses the memory in a step if no cache keeps anything, or None.
        finds_neighbours: whether `compute` finds them too.
    """

    compute: Callable[[], object]
    neighbours: Callable[[], object] = lambda: None
    weight_bytes: int | None = None
    traffic_bytes: int | None = None
    finds_neighbours: bool = False


def check_backend(name: str) -> None:
    """Raise `ConfigError` for a backend that does not exist."""
    if name not in BACKENDS:
        raise ConfigError(f"backends are {', '.join(BACKENDS)}, not {name!r}{did_you_mean(name, BACKENDS)}")


def step_of(backend: str, system: System, form: ForceField, threads: int) -> Step:
    """Return a backend ready to compute a system.

    Args:
        backend: one of `BACKENDS`.
        system: what is computed.
        form: the system's model in the recipe of the row; peers have their own.
        threads: of the engine; PyTorch takes as many as `torch.set_num_threads` said.

    Raises:
        EngineMissing, NotLowered: the engine is not installed, or does not compute this recipe.
        PeerMissing, PeerFailed: another package is not installed, or fails.
    """
    if backend in PEERS:
        return Step(PEERS[backend].step(system), finds_neighbours=True)
    if backend == ENGINE:
        return _engine(form, system, threads)
    make = {EAGER: _eager, BFLOAT16: _bfloat16, COMPILED: _compiled}[backend]
    weights = sum(form.stored.bytes_by_tensor().values())
    return Step(make(network(form.stored), tensors(system.graph), threads), system.neighbours, weights)


def low_bit(field: ForceField, recipe: Recipe, graph: Graph) -> ForceField:
    """Return the force field in a recipe, calibrated on one graph and not trained."""
    if not recipe.rules:
        return field
    return ForceField(stored(prepare(network(field.stored), recipe, [tensors(graph)]), recipe))


def _engine(form: ForceField, system: System, threads: int) -> Step:
    native = NativePotential(form.stored, threads)
    native.engine.set_graph(system.graph)
    positions = system.graph.positions
    facts = native.engine.facts()
    return Step(lambda: native.engine.compute(positions), lambda: native.engine.set_graph(system.neighbours()),
                facts.weight_bytes, facts.weight_bytes + facts.table_bytes + 2 * facts.workspace_bytes)


def _eager(model: Network, graph: Graph, threads: int) -> Callable[[], object]:
    return lambda: model(graph)


def _bfloat16(model: Network, graph: Graph, threads: int) -> Callable[[], object]:
    def call() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return model(graph)
    return call


def _compiled(model: Network, graph: Graph, threads: int) -> Callable[[], object]:
    """Return energy and forces as one compiled function: make_fx traces the gradient into it."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def step(positions: Tensor) -> tuple[Tensor, Tensor]:
        x = positions.detach().requires_grad_()
        energy = model.node_energies(graph, edge_vectors(graph, x)).sum()
        return energy, torch.autograd.grad(energy, x)[0]

    fast = torch.compile(make_fx(step)(graph.positions), options={"cpp.threads": threads})  # else a cache may know others

    def call() -> object:
        with torch.no_grad():
            return fast(graph.positions)
    return call
