"""Errors of predicted stresses against reference labels."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from gaq.graph import Graph, Predictor, collate
from gaq.metrics.batches import batches, checked_prediction, single_graphs, unlabelled
from gaq.structure import Structure

MEV = 1000.0  # meV per eV


@dataclass(frozen=True)
class StressAccuracy:
    """Errors of the nine components of stresses, Δσ.

    Args:
        frames: number of frames with a reference stress.
        mae, rmse: eV/Å³.
        virial_mae: mean of |V Δσ| / N, for N atoms in the volume V, eV.
    """

    frames: int
    mae: float
    rmse: float
    virial_mae: float

    @property
    def mae_meV_A3(self) -> float:
        """Mean absolute error in meV/Å³."""
        return MEV * self.mae

    @property
    def rmse_meV_A3(self) -> float:
        """Root mean square error in meV/Å³."""
        return MEV * self.rmse


def stress_accuracy(predict: Predictor, frames: Iterable[Structure | Graph], *, cutoff: float | None = None,
                    batch_size: int = 16) -> StressAccuracy | None:
    """Compare predicted stresses with the reference stresses of `frames`, where there are any.

    Args:
        predict: force field, or a function of a graph that takes `stress=True`.
        frames, cutoff, batch_size: as for `accuracy`.

    Returns:
        The errors over the frames with a reference stress, or None where no frame has one.

    Raises:
        GaqError: a prediction that is not finite.
    """
    labelled = (frame for frame in frames if frame.stress is not None)
    errors, virials = [], []
    for members in batches(single_graphs(predict, labelled, cutoff), batch_size):
        batch = collate(members)
        said = checked_prediction(predict, unlabelled(batch), stress=True).stress
        assert said is not None  # for mypy: it was asked for
        assert batch.stress is not None
        errors.append(said.cpu() - batch.stress.cpu())
        room = (torch.linalg.det(batch.cell).abs() / batch.atoms_per_structure()).cpu()
        virials.append(room[:, None, None] * errors[-1])
    if not errors:
        return None
    every = torch.cat(errors)
    return StressAccuracy(len(every), float(every.abs().mean()), float(every.square().mean().sqrt()),
                          float(torch.cat(virials).abs().mean()))
