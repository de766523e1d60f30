"""Batches in an order that depends on the seed and the step alone, so that a resumed run sees the same frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gaq.errors import DataError
from gaq.graph import Graph, build_graph, collate
from gaq.so3 import random_rotations
from gaq.structure import Structure
from gaq.train.workers import ALONE, Workers


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


def labelled_graphs(structures: Sequence[Structure], cutoff: float, source: str, device: str) -> list[Graph]:
    """Return one graph for each structure.

    Raises:
        DataError: a frame without an energy.
    """
    for index, structure in enumerate(structures):
        if structure.energy is None:
            raise DataError(f"frame {index} of {source} has no reference energy; training needs one for every frame")
    return [build_graph(structure, cutoff).to(device) for structure in structures]


def fit_offsets(structures: Sequence[Structure], species: tuple[int, ...]) -> torch.Tensor:
    """Return the energy of each element, eV, float64: the least-squares fit of the energies by composition.

    Where compositions do not determine it (one molecule), the solution of least norm shares the energy out.
    """
    counts = np.array([[np.count_nonzero(s.species == z) for z in species] for s in structures], dtype=np.float64)
    energies = np.array([s.energy for s in structures], dtype=np.float64)
    return torch.from_numpy(np.linalg.lstsq(counts, energies, rcond=None)[0])


def force_scale(structures: Sequence[Structure]) -> float:
    """Return the RMS of the force components, eV/Å; without forces, the standard deviation of energies per atom."""
    forces = [s.forces for s in structures if s.forces is not None]
    if forces:
        scale = float(np.sqrt(np.mean(np.concatenate(forces) ** 2)))
    else:
        per_atom = np.array([s.energy / len(s) for s in structures if s.energy is not None])
        scale = float(per_atom.std())
    return scale if scale > 1e-6 else 1.0
