"""Do the forces give work for nothing? Conservative forces do none around a closed path."""

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from gaq.errors import ConfigError
from gaq.graph import Predictor, build_graph, collate
from gaq.metrics.batches import batches, checked_prediction
from gaq.nn.tensors import tensors
from gaq.structure import Structure

RADIUS = 0.05  # Å
POINTS = 48


def loop_work(
    predict: Predictor, structure: Structure, cutoff: float, plane: NDArray[np.float64], *, radius: float = RADIUS,
    points: int = POINTS, batch_size: int = 32,
) -> tuple[float, float]:
    """Return the work ∮ F · dx around one small circle of configuration space, and ∮ |F · dx|, both in eV.

    x(θ) = x₀ + ρ (u cos θ + v sin θ),   ∮ F · dx ≈ Σ_k F(x(θ_k)) · x'(θ_k) 2π/n

    The trapezoidal rule converges exponentially on a circle. Neighbours are found anew at every point.

    Args:
        predict: force field, or any function of a graph.
        structure: the centre x₀.
        cutoff: of the neighbours, Å.
        plane: orthonormal u and v, shape (2, N, 3).
        radius: ρ in Å.
        points: n.
        batch_size: points in one call of `predict`.

    Raises:
        ConfigError: a radius that is not positive, or fewer than 3 points.
        GaqError: a prediction that is not finite.
    """
    if not 0 < radius < math.inf or points < 3:
        raise ConfigError(f"a loop needs a positive radius in Å and at least 3 points; given {radius} and {points}")
    angles = 2 * math.pi * np.arange(points) / points
    u, v = plane
    cosines, sines = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    places = structure.positions + radius * (cosines * u + sines * v)
    tangents = radius * (cosines * v - sines * u)
    bare = replace(structure, energy=None, forces=None)
    graphs = (tensors(build_graph(replace(bare, positions=place), cutoff)) for place in places)
    forces = torch.cat([checked_prediction(predict, collate(members)).forces.cpu()
                        for members in batches(graphs, batch_size)]).numpy().reshape(tangents.shape)
    work = (forces * tangents).sum((1, 2)) * (2 * math.pi / points)
    return float(work.sum()), float(np.abs(work).sum())


def relative_loop_work(
    predict: Predictor, structure: Structure, cutoff: float, *, loops: int = 4, seed: int = 0, batch_size: int = 32,
) -> NDArray[np.float64]:
    """Return |∮ F · dx| / ∮ |F · dx| around circles in random planes of configuration space, shape (loops,).

    Args:
        predict, structure, cutoff, batch_size: as for `loop_work`.
        loops: number of planes.
        seed: of the planes.
    """
    if loops < 1:
        raise ConfigError(f"loops must be at least 1, not {loops}")
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(loops):
        work, scale = loop_work(predict, structure, cutoff, random_plane(len(structure), rng), batch_size=batch_size)
        ratios.append(abs(work) / scale if scale > 0 else 0.0)
    return np.array(ratios)


def random_plane(atoms: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return two orthonormal directions of configuration space, shape (2, atoms, 3)."""
    basis, _ = np.linalg.qr(rng.standard_normal((3 * atoms, 2)))
    return np.ascontiguousarray(basis.T).reshape(2, atoms, 3)
