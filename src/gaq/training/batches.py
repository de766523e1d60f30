"""Batches in an order that depends on the seed and the step alone, so that a resumed run sees the same frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from gaq.errors import DataError
from gaq.graph import Graph, build_graph, collate
from gaq.nn.tensors import tensors
from gaq.rotations import random_rotations
from gaq.structure import Structure
from gaq.training.workers import ALONE, Workers

LABELS = ("energy", "forces", "stress")  # in the order of `Graph.weights`
STRONGEST_BINDING = 30.0  # eV/atom; diamond has 7.4, tungsten 8.9


@dataclass(frozen=True)
class Batch:
    """What a process computes in a step.

    Args:
        graph: its share of the batch.
        structures, atoms: of the whole batch, which the loss is an average over.
        rotation: random R for each structure of the share (B, 3, 3), for the LEE term; or None.
    """

    graph: Graph
    structures: int
    atoms: int
    rotation: Tensor | None = None


class Batches:
    """Training graphs, neighbour lists made once, in a new random order each epoch.

    Args:
        graphs: of all training frames.
        batch_size: structures in a batch, all processes together.
        seed: of the order and of the rotations.
        workers: the processes that share each batch.
        rotated: whether batches come with rotations.
    """

    def __init__(self, graphs: Sequence[Graph], batch_size: int, seed: int, workers: Workers = ALONE,
                 rotated: bool = False) -> None:
        self.graphs, self.seed, self.workers, self.rotated = graphs, seed, workers, rotated
        self.batch_size = min(batch_size, len(graphs))
        self.per_epoch = len(graphs) // self.batch_size

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step."""
        epoch, position = divmod(step, self.per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.graphs))
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        graph = collate([self.graphs[i] for i in self.workers.share(chosen)])
        rotation = None
        if self.rotated:
            every = random_rotations(len(chosen), self.generator(step)).to(graph.positions)
            rotation = every[self.workers.share(range(len(chosen)))]
        return Batch(graph, len(chosen), sum(len(self.graphs[i].species) for i in chosen), rotation)

    def generator(self, step: int) -> torch.Generator:
        """Return the random numbers of a step."""
        return torch.Generator().manual_seed((self.seed << 32) + step)


def labelled_graphs(structures: Sequence[Structure], cutoff: float, device: str) -> list[Graph]:
    """Return one graph for each structure."""
    return [tensors(build_graph(structure, cutoff), device) for structure in structures]


def completed(graphs: Sequence[Graph], stress: bool = False) -> list[Graph]:
    """Return graphs that all have the same labels, for batches of one shape: a label that is missing is 0, with weight 0.

    The weights of each label are scaled to an average of 1 over all graphs (of forces: over all atoms), so that the loss is
    a mean over what is labelled; where every graph has the same labels and the same weight, they are left out.

    Args:
        graphs: of one structure each.
        stress: whether to keep stresses.
    """
    if not stress:
        graphs = [replace(g, stress=None) for g in graphs]
    there = torch.tensor([[getattr(g, label) is not None for label in LABELS] for g in graphs],
                         dtype=torch.float64)
    weights = torch.cat([there[k, None] * (1.0 if g.weights is None else g.weights.cpu()) for k, g in enumerate(graphs)])
    present = there.any(0)
    if bool((weights[:, present] == weights[0].max()).all()):
        return [replace(g, weights=None) for g in graphs]
    sizes = torch.tensor([[1, len(g.species), 1] for g in graphs])
    means = (weights * sizes).sum(0) / sizes.sum(0)
    weights = weights / torch.where(means > 0, means, 1.0)

    def filled(graph: Graph, row: Tensor) -> Graph:
        zeros = {"energy": graph.cell[:, 0, 0], "forces": graph.positions, "stress": graph.cell}
        missing = {label: torch.zeros_like(zeros[label]) for label, some in zip(LABELS, present, strict=True)
                   if some and getattr(graph, label) is None}
        return replace(graph, weights=row[None].to(graph.positions), **missing)

    return [filled(graph, row) for graph, row in zip(graphs, weights, strict=True)]


def fit_offsets(structures: Sequence[Structure], species: tuple[int, ...], given: Mapping[int, float] = MappingProxyType({})
                ) -> torch.Tensor:
    """Return the energy of each element, eV, float64: the least-squares fit of the energies by composition.

    Where compositions do not determine it (one molecule), the solution of least norm shares the energy out. Frames count by
    their weight.

    Args:
        structures: those without an energy are passed over.
        species: atomic numbers.
        given: energies of some elements, by atomic number, which are not fitted.

    Raises:
        DataError: given energies that cannot belong to those of the structures.
    """
    counts, energies, roots = _compositions(structures, species)
    offsets = np.array([given.get(z, 0.0) for z in species])
    free = np.array([z not in given for z in species])
    if free.any():
        left = roots * (energies - counts @ offsets)
        offsets[free] = np.linalg.lstsq(roots[:, None] * counts[:, free], left, rcond=None)[0]
    bound = (energies - counts @ offsets) / counts.sum(axis=1)
    if given and np.abs(bound).max() > STRONGEST_BINDING:
        raise DataError(f"the atomic energies leave {bound[np.abs(bound).argmax()]:.4g} eV per atom for bonds, more than "
                        f"{STRONGEST_BINDING:g}, which no matter has; they must come from the energies' own method, in eV")
    return torch.from_numpy(offsets)


def force_scale(structures: Sequence[Structure]) -> float:
    """Return the RMS of the force components, eV/Å; without forces, the standard deviation of energies per atom.

    Energies are counted from those of their composition. Frames count by their weight.
    """
    labelled = [s for s in structures if s.forces is not None]
    if labelled:
        squares = np.concatenate([s.forces for s in labelled if s.forces is not None]) ** 2
        weights = np.concatenate([np.full((len(s), 3), s.weight) for s in labelled])
        scale = float(np.sqrt(np.average(squares, weights=weights)))
    else:
        species = tuple(sorted({int(z) for s in structures for z in s.species}))
        counts, energies, roots = _compositions(structures, species)
        rest = (energies - counts @ fit_offsets(structures, species).numpy()) / counts.sum(axis=1)
        scale = float(np.sqrt(np.average((rest - np.average(rest, weights=roots**2)) ** 2, weights=roots**2)))
    return scale if scale > 1e-6 else 1.0


def _compositions(structures: Sequence[Structure], species: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how often each element is in each structure with an energy, the energies, and the roots of the weights."""
    labelled = [s for s in structures if s.energy is not None]
    counts = np.array([[np.count_nonzero(s.species == z) for z in species] for s in labelled], dtype=np.float64)
    return counts, np.array([s.energy for s in labelled]), np.sqrt([s.weight for s in labelled])
