"""Local equivariance error (LEE): how far rotating the input is from rotating the output.

| symbol     | variable          | meaning                                            |
|------------|-------------------|----------------------------------------------------|
| G          | graph             | one frame                                          |
| R          | rotations         | proper rotations, shape (rotations, 3, 3)          |
| E(G), F(G) | energy, forces    | prediction, eV and eV/Å                            |
| ΔF_i       | turned            | F_i(R G) - R F_i(G), eV/Å, shape (rotations, N, 3) |

The norm reported for forces is the mean over atoms of the length of each atom's error vector,
LEE_F(G, R) = 1/N Σ_i |F_i(R G) - R F_i(G)|₂ in meV/Å; it does not grow with the size of the molecule. The norm over the
whole frame, (Σ_i |ΔF_i|₂²)^½, is kept beside it. For energies, LEE_E(G, R) = |E(R G) - E(G)| in meV.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaq.errors import ConfigError, DataError
from gaq.graph import Graph, Predictor, collate
from gaq.metrics.batches import checked_prediction, copies, single_graphs, unlabelled
from gaq.rotations import axis_rotation, random_rotations
from gaq.structure import Structure

MEV = 1000.0  # meV per eV
RESAMPLES = 2000  # of the bootstrap


@dataclass(frozen=True)
class Statistics:
    """Distribution of an error over frames and rotations; `ci95` is the 95 % bootstrap interval of the mean."""

    mean: float
    median: float
    p99: float
    max: float
    ci95: tuple[float, float]
    rotations: int
    frames: int


@dataclass(frozen=True, eq=False)
class LEE:
    """Local equivariance errors of one predictor.

    Args:
        forces_meV_A: mean over atoms of |ΔF_i|, meV/Å.
        energy_meV: |ΔE|, meV.
        frame_forces_meV_A: norm of ΔF over the whole frame, meV/Å.
        forces_by_rotation: the values behind `forces_meV_A`, meV/Å, shape (frames, rotations).
        energy_by_rotation: the values behind `energy_meV`, meV, shape (frames, rotations).
    """

    forces_meV_A: Statistics
    energy_meV: Statistics
    frame_forces_meV_A: Statistics
    forces_by_rotation: NDArray[np.float64]
    energy_by_rotation: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EquivarianceMap:
    """Mean force LEE for rotations by one angle about each of many axes.

    Args:
        axes: unit vectors, shape (axes, 3).
        lee_forces_meV_A: mean over atoms and frames, meV/Å, shape (axes,).
        angle_deg: angle of every rotation, degree.
    """

    axes: NDArray[np.float64]
    lee_forces_meV_A: NDArray[np.float64]
    angle_deg: float


@dataclass(frozen=True)
class QuantizerLEE:
    """Mean force LEE in meV/Å with one quantizer switched on and all others off."""

    quantizer: str
    lee_forces_meV_A: float


def local_equivariance_error(
    predict: Predictor,
    frames: Iterable[Structure | Graph],
    *,
    rotations: int = 64,
    seed: int = 0,
    cutoff: float | None = None,
    batch_size: int = 32,
) -> LEE:
    """Measure LEE over `rotations` uniformly random rotations of every frame.

    LEE_F(G, R) = 1/N Σ_i |F_i(R G) - R F_i(G)|₂ and LEE_E(G, R) = |E(R G) - E(G)|

    Edges and cell shifts are kept; positions and cells turn. Each frame gets rotations of its own, drawn one frame
    after another from `seed`, so that frames are independent and results do not depend on `batch_size`. The interval
    of the mean resamples whole frames, since the rotations of one frame are correlated; with a single frame it
    resamples rotations.

    Args:
        predict: force field, or any function of a graph.
        frames: structures or graphs; labels are ignored.
        rotations: rotations of each frame.
        seed: of the rotations and of the bootstrap.
        cutoff: Å; needed for structures where `predict` has no cutoff of its own.
        batch_size: rotated copies in one call of `predict`.

    Raises:
        ConfigError: no cutoff is known, or `rotations` or `batch_size` is below 1.
        DataError: no frames.
        GaqError: a prediction that is not finite.

    Source: arXiv 2603.05343 (definition of LEE; the mean over atoms is ours).
    """
    if rotations < 1:
        raise ConfigError(f"rotations must be at least 1, not {rotations}")
    generator = torch.Generator().manual_seed(seed)
    errors = [_errors(predict, graph, random_rotations(rotations, generator), batch_size)
              for graph in single_graphs(predict, frames, cutoff)]
    if not errors:
        raise DataError("the local equivariance error needs at least one frame; none was given")
    per_atom, whole, energy = (MEV * torch.stack(values).numpy() for values in zip(*errors, strict=True))
    return LEE(
        forces_meV_A=_statistics(per_atom, seed), energy_meV=_statistics(energy, seed),
        frame_forces_meV_A=_statistics(whole, seed), forces_by_rotation=per_atom, energy_by_rotation=energy)


def equivariance_map(
    predict: Predictor,
    frames: Iterable[Structure | Graph],
    *,
    axes: int = 192,
    angle_deg: float = 90.0,
    cutoff: float | None = None,
    batch_size: int = 32,
) -> EquivarianceMap:
    """Measure the mean force LEE of rotations by `angle_deg` about `axes` directions spread over the sphere.

    A quantizer of vector components shows the symmetry of its grid here: at 90° the error vanishes about x, y and z.

    Args:
        predict: force field, or any function of a graph.
        frames: structures or graphs; the map is their mean.
        axes: number of points of the Fibonacci sphere.
        angle_deg: angle of the rotations, degree.
        cutoff, batch_size: as for `local_equivariance_error`.

    Raises:
        ConfigError: no cutoff is known, or `axes` is below 1.
        DataError: no frames.
        GaqError: a prediction that is not finite.
    """
    if axes < 1:
        raise ConfigError(f"axes must be at least 1, not {axes}")
    directions = fibonacci_sphere(axes)
    rotations = axis_rotation(directions, math.radians(angle_deg))
    maps = [_errors(predict, graph, rotations, batch_size)[0] for graph in single_graphs(predict, frames, cutoff)]
    if not maps:
        raise DataError("the equivariance map needs at least one frame; none was given")
    return EquivarianceMap(directions.numpy(), MEV * torch.stack(maps).mean(0).numpy(), float(angle_deg))


def lee_by_quantizer(
    variants: Mapping[str, Predictor],
    frames: Iterable[Structure | Graph],
    *,
    rotations: int = 16,
    seed: int = 0,
    cutoff: float | None = None,
    batch_size: int = 32,
) -> list[QuantizerLEE]:
    """Measure which quantizer breaks the symmetry: the mean force LEE of each variant, on the same rotations.

    Args:
        variants: quantizer name -> the model with that quantizer alone switched on.
        frames, rotations, seed, cutoff, batch_size: as for `local_equivariance_error`.

    Returns:
        One row for each variant, in the order given.
    """
    kept = list(frames)
    rows = []
    for name, predict in variants.items():
        lee = local_equivariance_error(
            predict, kept, rotations=rotations, seed=seed, cutoff=cutoff, batch_size=batch_size)
        rows.append(QuantizerLEE(name, lee.forces_meV_A.mean))
    return rows


def fibonacci_sphere(count: int) -> Tensor:
    """Return nearly even points on the unit sphere, z_k = 1 - (2k+1)/n, φ_k = k π (3 - √5), shape (count, 3).

    Source: R. Swinbank and R. J. Purser, Q. J. R. Meteorol. Soc. 132, 1769 (2006).
    """
    k = torch.arange(count, dtype=torch.float64)
    z = 1 - (2 * k + 1) / count
    phi = k * math.pi * (3 - math.sqrt(5))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * phi.cos(), radius * phi.sin(), z], -1)


def _errors(predict: Predictor, graph: Graph, rotations: Tensor, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean atomic norm and the whole norm of ΔF (eV/Å), and |ΔE| (eV), each of shape (rotations,)."""
    graph = unlabelled(graph)
    reference = checked_prediction(predict, graph)
    per_atom, whole, energy = [], [], []
    for matrices in rotations.to(graph.positions).split(copies(graph, batch_size)):
        prediction = checked_prediction(predict, collate([graph] * len(matrices)).rotated(matrices))
        turned = prediction.forces.reshape(len(matrices), -1, 3)
        turned = turned - torch.einsum("rab,nb->rna", matrices.to(turned), reference.forces)
        lengths = turned.norm(dim=-1)
        per_atom.append(lengths.mean(-1))
        whole.append(lengths.norm(dim=-1))
        energy.append((prediction.energy - reference.energy).abs())
    return torch.cat(per_atom).cpu(), torch.cat(whole).cpu(), torch.cat(energy).cpu()


def _statistics(values: NDArray[np.float64], seed: int) -> Statistics:
    """Summarize errors of shape (frames, rotations)."""
    frames, rotations = values.shape
    clusters = values.mean(axis=1) if frames > 1 else values[0]
    rng = np.random.default_rng(seed)
    means = clusters[rng.integers(len(clusters), size=(RESAMPLES, len(clusters)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Statistics(
        mean=float(values.mean()), median=float(np.median(values)), p99=float(np.quantile(values, 0.99)),
        max=float(values.max()), ci95=(float(low), float(high)), rotations=rotations, frames=frames)
