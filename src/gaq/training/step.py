"""One training step up to the gradients: operation by operation, or traced whole and compiled."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch._inductor
from torch import Tensor
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from gaq.errors import ConfigError
from gaq.graph import Graph, Prediction
from gaq.models.network import Network
from gaq.training.batches import LABELS, Batch
from gaq.training.loss import loss

ROUND = 128  # edges are padded to a multiple of this: splits of one molecule often share a compiled function
TENSORS = ("species", "positions", "centers", "neighbours", "shifts", "cell", "batch", *LABELS, "weights")


class EagerStep:
    """Loss and gradients by running the model operation by operation.

    Args:
        model: its parameters get the gradients.
        weights: of the terms of the loss.
    """

    def __init__(self, model: Network, weights: Tensor) -> None:
        self.model, self.weights = model, weights

    def __call__(self, batch: Batch) -> Tensor:
        """Set the gradients of the parameters, and return the loss."""
        value = loss(self.model, batch, self.weights)
        value.backward()
        return value.detach()


class CompiledStep:
    """The same as one compiled function of fixed shape: energies, forces, loss and gradients traced as a single graph.

    torch.compile alone cannot differentiate twice, which a loss on forces needs; so the derivatives are traced first
    (`make_fx`), and the result, free of autograd, is compiled. Edges are padded to one number with edges at the cutoff,
    where the envelope is zero with its slope: they add nothing, to the last bit.

    Args:
        model: its parameters and buffers are inputs of the compiled function, so they may change between steps.
        weights: of the terms of the loss; an input too.
        graphs: the training graphs; all of them of the same number of atoms.
        batch_size: graphs in a batch, or in this process' share of it.
        backend: "inductor", or "eager" for the traced function as it is.

    Raises:
        ConfigError: graphs of different sizes.
    """

    def __init__(self, model: Network, weights: Tensor, graphs: Sequence[Graph], batch_size: int,
                 backend: str = "inductor") -> None:
        if not fits(graphs):
            raise ConfigError("a compiled step needs frames of one number of atoms, with the same labels; "
                              "set optimization.compile to never")
        self.model, self.weights, self.backend = model, weights, backend
        largest = sorted(len(g.centers) for g in graphs)[-batch_size:]
        self.edges = -(-sum(largest) // ROUND) * ROUND
        self.given = [name for name in TENSORS if getattr(graphs[0], name) is not None]
        self._compiled: Callable[..., tuple[Tensor, ...]] | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Set the gradients of the parameters, and return the loss."""
        parameters = list(self.model.parameters())
        whole = padded(batch.graph, self.edges, self.model.config.cutoff)
        tensors = [self.weights, *(getattr(whole, name) for name in self.given)]
        tensors += [] if batch.rotation is None else [batch.rotation]
        kept = [*(p.detach() for p in parameters), *self.model.buffers()]
        inputs = [*kept, *tensors]
        if self._compiled is None:
            self._compiled = self._compile(batch, inputs, len(parameters))
            if self.weights.is_cuda:
                self._compiled = Recorded(self._compiled, inputs, len(kept))
        with torch.no_grad():
            value, *gradients = self._compiled(*inputs)
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient
        return value

    def _compile(self, batch: Batch, inputs: list[Tensor], count: int) -> Callable[..., tuple[Tensor, ...]]:
        given = len(inputs) - count - len(list(self.model.buffers()))

        def gradients(*inputs: Tensor) -> tuple[Tensor, ...]:
            return self._gradients(batch, inputs[:count], inputs[count:-given], inputs[-given:])

        example = [p.clone().requires_grad_() for p in inputs[:count]] + inputs[count:]
        traced = make_fx(gradients, _allow_non_fake_inputs=True)(*example)
        traced.graph.eliminate_dead_code()
        traced.recompile()
        if self.backend == "eager":
            return traced
        return torch._inductor.compile(traced, [*inputs])  # not torch.compile, which would trace it all again, for minutes

    def _gradients(self, batch: Batch, parameters: Sequence[Tensor], buffers: Sequence[Tensor],
                   tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        state = dict(zip((name for name, _ in self.model.named_parameters()), parameters, strict=True))
        state |= dict(zip((name for name, _ in self.model.named_buffers()), buffers, strict=True))
        weights, values, rotation = tensors[0], tensors[1 : 1 + len(self.given)], tensors[1 + len(self.given) :]
        batch = replace(batch, graph=Graph(**dict(zip(self.given, values, strict=True))),
                        rotation=rotation[0] if rotation else None)

        def model(graph: Graph, **options: bool) -> Prediction:
            return functional_call(self.model, state, (graph,), options)

        with torch.enable_grad():
            value = loss(model, batch, weights)
            found = torch.autograd.grad(value, parameters, materialize_grads=True)
        return (value.detach(), *found)


class Recorded:
    """A function of fixed shapes recorded as one CUDA graph, which is launched as a whole: hundreds of small kernels cost
    the processor a microsecond or two each, and a step on small molecules is made of nothing else.

    Args:
        function: of CUDA tensors.
        inputs: of one call.
        kept: the first so many inputs stay where they are from call to call (weights); the others are copied.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], kept: int) -> None:
        self.inputs = [*inputs[:kept], *(t.clone() for t in inputs[kept:])]
        self.kept = kept
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside), torch.no_grad():  # kernels are chosen and loaded before anything is recorded
            for _ in range(3):
                function(*self.inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph), torch.no_grad():
            self.outputs = function(*self.inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, which the next call overwrites."""
        for here, given in zip(self.inputs[self.kept :], inputs[self.kept :], strict=True):
            here.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.outputs


def fits(graphs: Sequence[Graph]) -> bool:
    """Return whether a step on these graphs can have one shape."""
    return len({(len(g.species), *(getattr(g, name) is None for name in (*LABELS, "weights"))) for g in graphs}) == 1


def padded(graph: Graph, edges: int, cutoff: float) -> Graph:
    """Return the graph with edges from the first atom to itself, at the distance of the cutoff, up to a fixed number."""
    missing = edges - len(graph.centers)
    cell, zeros = graph.cell.clone(), graph.centers.new_zeros(missing)
    if not bool(cell[0].any()):  # a molecule: its cell is free to choose, for all its shifts are zero
        cell[0] = torch.eye(3, dtype=cell.dtype, device=cell.device)
    lengths = cell[0].norm(dim=1)
    axis = int(lengths.argmax())  # periodic, for the others are zero
    along = torch.zeros_like(lengths)
    along[axis] = cutoff / lengths[axis]
    return replace(graph, centers=torch.cat([graph.centers, zeros]), neighbours=torch.cat([graph.neighbours, zeros]),
                   shifts=torch.cat([graph.shifts, along.expand(missing, 3)]), cell=cell)


def seconds_per_step(step: EagerStep | CompiledStep, batches: Sequence[Batch]) -> float:
    """Return the median time of a step, s; no gradients are left behind."""
    times = []
    for batch in batches:
        begun = time.perf_counter()
        step(batch)
        times.append(time.perf_counter() - begun)
        step.model.zero_grad(set_to_none=True)
    return sorted(times)[len(times) // 2]
