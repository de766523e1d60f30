"""Frames in, checked predictions out: the border that every metric passes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from gaq.errors import ConfigError, GaqError
from gaq.graph import Graph, Prediction, Predictor, build_graph
from gaq.nn.tensors import tensor, tensors
from gaq.structure import Structure

MOST_EDGES = 12_000  # in one prediction: beyond, PyTorch waits for memory, and takes five times as long for each structure

Told = Callable[[float, float, str], None]  # what is done, of how much, of what; counts begin anew with each stage


def untold(done: float, total: float, stage: str) -> None:
    """Leave progress unsaid."""


def adding_up(progress: Told, total: float, stage: str) -> Callable[[int], None]:
    """Return what adds up the parts of a stage as they are done, for `Counted`."""
    done = 0

    def add(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total, stage)

    add(0)
    return add


class Counted:
    """A predictor that tells how many structures it predicts.

    Args:
        predict: what predicts.
        told: is called after every prediction with the number of its structures.
    """

    def __init__(self, predict: Predictor, told: Callable[[int], None]) -> None:
        self.predict, self.told = predict, told

    @property
    def cutoff(self) -> float | None:
        """Å, or None where the predictor has none of its own."""
        return getattr(self.predict, "cutoff", None)

    def __call__(self, graph: Graph) -> Prediction:
        """Return the prediction of a graph."""
        prediction = self.predict(graph)
        self.told(graph.structures)
        return prediction


def single_graphs(
    predict: Predictor, frames: Iterable[Structure | Graph], cutoff: float | None = None
) -> Iterator[Graph]:
    """Yield the frames one by one as graphs of one structure each, with tensors.

    Args:
        predict: the predictor that will see them; a force field knows its cutoff.
        frames: structures, graphs, or graphs that are batches.
        cutoff: Å; needed where frames are structures and `predict` is a plain function.

    Raises:
        ConfigError: no cutoff is known.
        StructureError: two atoms at one place.
    """
    for frame in frames:
        if isinstance(frame, Graph):
            yield from _members(tensors(frame))
        else:
            yield tensors(build_graph(frame, cutoff_of(predict, cutoff)))


def unlabelled(graph: Graph) -> Graph:
    """Return the graph with tensors, and without reference labels."""
    return tensors(replace(graph, energy=None, forces=None, stress=None, weights=None))


def checked_prediction(predict: Predictor, graph: Graph, **options: bool) -> Prediction:
    """Return the detached, finite prediction of `graph` as tensors in float64; `options` go to the predictor.

    Raises:
        GaqError: the prediction has wrong shapes, or values that are not finite.
    """
    prediction = predict(graph, **options).mapped(lambda values: tensor(values).detach().double())
    given = {name: values for name, values in vars(prediction).items() if values is not None}
    if prediction.energy.shape != (graph.structures,) or prediction.forces.shape != graph.positions.shape:
        raise GaqError(
            f"a predictor must return energy of shape ({graph.structures},) and forces of shape "
            f"{tuple(graph.positions.shape)}; this one returned {tuple(prediction.energy.shape)} and "
            f"{tuple(prediction.forces.shape)}")
    for name, values in given.items():
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise GaqError(
                f"the force field predicts {name} that is not finite ({bad} of {values.numel()} values, species "
                f"{sorted(set(graph.species.tolist()))}); the model is damaged or the structure is far from its "
                "training data: try another model file, or look at the frame")
    return prediction


def batches(graphs: Iterable[Graph], size: int) -> Iterator[list[Graph]]:
    """Yield lists of up to `size` graphs, fewer where these are so large that one prediction of all would be slow."""
    if size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {size}")
    pending: list[Graph] = []
    edges = 0
    for graph in graphs:
        if pending and (len(pending) == size or edges + len(graph.centers) > MOST_EDGES):
            yield pending
            pending, edges = [], 0
        pending.append(graph)
        edges += len(graph.centers)
    if pending:
        yield pending


def copies(graph: Graph, size: int) -> int:
    """Return how many copies of a graph go into one prediction, `size` at most."""
    if size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {size}")
    return max(min(size, MOST_EDGES // max(len(graph.centers), 1)), 1)


def cutoff_of(predict: Predictor, cutoff: float | None) -> float:
    """Return the cutoff given, Å, or that of the predictor.

    Raises:
        ConfigError: none is known.
    """
    known = getattr(predict, "cutoff", None) if cutoff is None else cutoff
    if known is None:
        raise ConfigError("cutoff is needed to find the neighbours of structures, and this predictor has none of its "
                          "own; pass cutoff= in Å, or pass graphs")
    return float(known)


def _members(graph: Graph) -> Sequence[Graph]:
    """Take a batch apart."""
    if graph.structures == 1:
        return [graph]
    ends = graph.atoms_per_structure().cumsum(0).tolist()
    members = []
    for index, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        edges = (graph.centers >= start) & (graph.centers < end)
        members.append(Graph(
            species=graph.species[start:end],
            positions=graph.positions[start:end],
            centers=graph.centers[edges] - start,
            neighbours=graph.neighbours[edges] - start,
            shifts=graph.shifts[edges],
            cell=graph.cell[index:index + 1],
            batch=torch.zeros_like(graph.batch[start:end]),
            energy=None if graph.energy is None else graph.energy[index:index + 1],
            forces=None if graph.forces is None else graph.forces[start:end],
            stress=None if graph.stress is None else graph.stress[index:index + 1],
            weights=None if graph.weights is None else graph.weights[index:index + 1],
        ))
    return members
