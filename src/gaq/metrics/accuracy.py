"""Errors of predicted energies and forces against reference labels."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gaq.errors import DataError
from gaq.graph import Graph, Predictor, collate
from gaq.metrics.batches import batches, checked_prediction, single_graphs, unlabelled
from gaq.structure import Structure

MEV = 1000.0  # meV per eV


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Errors over a set of frames; energies are total energies unless said otherwise, force errors are per component.

    Args:
        frames: number of frames.
        energy_mae, energy_rmse: eV, or None where no frame has a reference energy.
        energy_offset: mean of predicted minus reference energy in eV, or None.
        energy_mae_per_atom, energy_rmse_per_atom: of energies divided by the number of atoms, eV/atom, or None.
        forces_mae, forces_rmse: eV/Å, or None where no frame has reference forces.
        frame_energy_errors: predicted minus reference energy in eV, shape (frames,); NaN without a label.
        frame_forces_mae: eV/Å, shape (frames,); NaN without a label.
        energy_parity: reference and predicted energies in eV, shape (2, samples).
        forces_parity: reference and predicted force components in eV/Å, shape (2, samples).
        forces_by_species: MAE and RMSE of the forces on each element in eV/Å, by atomic number.
    """

    frames: int
    energy_mae: float | None
    energy_rmse: float | None
    energy_offset: float | None
    forces_mae: float | None
    forces_rmse: float | None
    frame_energy_errors: NDArray[np.float64]
    frame_forces_mae: NDArray[np.float64]
    energy_parity: NDArray[np.float64]
    forces_parity: NDArray[np.float64]
    energy_mae_per_atom: float | None = None
    energy_rmse_per_atom: float | None = None
    forces_by_species: dict[int, tuple[float, float]] = field(default_factory=dict)

    @property
    def energy_mae_meV(self) -> float | None:
        """Mean absolute error of total energies in meV."""
        return _in_meV(self.energy_mae)

    @property
    def energy_rmse_meV(self) -> float | None:
        """Root mean square error of total energies in meV."""
        return _in_meV(self.energy_rmse)

    @property
    def energy_offset_meV(self) -> float | None:
        """Mean of predicted minus reference energy in meV."""
        return _in_meV(self.energy_offset)

    @property
    def energy_mae_meV_atom(self) -> float | None:
        """Mean absolute error of energies per atom in meV/atom."""
        return _in_meV(self.energy_mae_per_atom)

    @property
    def energy_rmse_meV_atom(self) -> float | None:
        """Root mean square error of energies per atom in meV/atom."""
        return _in_meV(self.energy_rmse_per_atom)

    @property
    def forces_mae_meV_A(self) -> float | None:
        """Mean absolute error of force components in meV/Å."""
        return _in_meV(self.forces_mae)

    @property
    def forces_rmse_meV_A(self) -> float | None:
        """Root mean square error of force components in meV/Å."""
        return _in_meV(self.forces_rmse)


def accuracy(
    predict: Predictor,
    frames: Iterable[Structure | Graph],
    *,
    cutoff: float | None = None,
    batch_size: int = 16,
    parity_samples: int = 3000,
    seed: int = 0,
) -> Accuracy:
    """Compare predictions with the reference labels of `frames`.

    MAE = mean |ŷ - y| and RMSE = sqrt(mean (ŷ - y)²), over frames for total energies and over all components of all
    atoms for forces. Frames without an energy or without forces count where they have a label.

    Args:
        predict: force field, or any function of a graph.
        frames: structures or graphs with labels.
        cutoff: Å; needed for structures where `predict` has no cutoff of its own.
        batch_size: structures in one call of `predict`.
        parity_samples: most points kept for parity plots, drawn with `seed`.
        seed: of the parity sample.

    Raises:
        DataError: no frame at all, or none with a label.
        GaqError: a prediction that is not finite.
    """
    energies: list[tuple[float, float]] = []
    atoms: list[int] = []  # of the frames with an energy
    forces: list[NDArray[np.float64]] = []
    species: list[NDArray[np.int64]] = []  # of the atoms with forces
    frame_errors: list[tuple[float, float]] = []
    for members in batches(single_graphs(predict, frames, cutoff), batch_size):
        batch = collate([unlabelled(graph) for graph in members])
        prediction = checked_prediction(predict, batch)
        by_frame = prediction.forces.cpu().split([len(graph.species) for graph in members])
        for graph, energy, predicted in zip(members, prediction.energy.tolist(), by_frame, strict=True):
            energy_error = forces_error = np.nan
            if graph.energy is not None:
                energies.append((graph.energy.item(), energy))
                atoms.append(len(graph.species))
                energy_error = energy - graph.energy.item()
            if graph.forces is not None:
                pair = np.stack([graph.forces.cpu().numpy().ravel(), predicted.numpy().ravel()])
                forces.append(pair)
                species.append(graph.species.cpu().numpy())
                forces_error = float(np.abs(pair[1] - pair[0]).mean())
            frame_errors.append((energy_error, forces_error))
    if not energies and not forces:
        raise DataError(f"no reference labels in {len(frame_errors)} frames; accuracy needs energies or forces: "
                        "check the key names of the data source")
    return _accuracy(np.array(energies, dtype=np.float64).reshape(-1, 2).T, np.array(atoms, dtype=np.float64),
                     np.concatenate([np.zeros((2, 0)), *forces], axis=1), species, np.array(frame_errors), parity_samples,
                     np.random.default_rng(seed))


def _accuracy(energy_pairs: NDArray[np.float64], atoms: NDArray[np.float64], force_pairs: NDArray[np.float64],
              species: list[NDArray[np.int64]], per_frame: NDArray[np.float64], parity_samples: int,
              rng: np.random.Generator) -> Accuracy:
    energy_mae, energy_rmse, energy_offset = _errors(energy_pairs)
    forces_mae, forces_rmse, _ = _errors(force_pairs)
    atom_mae, atom_rmse, _ = _errors(energy_pairs / atoms)
    return Accuracy(
        frames=len(per_frame), energy_mae=energy_mae, energy_rmse=energy_rmse, energy_offset=energy_offset,
        forces_mae=forces_mae, forces_rmse=forces_rmse,
        frame_energy_errors=per_frame[:, 0], frame_forces_mae=per_frame[:, 1],
        energy_parity=_sample(energy_pairs, parity_samples, rng),
        forces_parity=_sample(force_pairs, parity_samples, rng),
        energy_mae_per_atom=atom_mae, energy_rmse_per_atom=atom_rmse,
        forces_by_species=_by_species(force_pairs, species))


def _errors(pairs: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """Return MAE, RMSE and mean error of (reference, predicted) rows."""
    if pairs.shape[1] == 0:
        return None, None, None
    error = pairs[1] - pairs[0]
    return float(np.abs(error).mean()), float(np.sqrt(np.square(error).mean())), float(error.mean())


def _by_species(pairs: NDArray[np.float64], species: list[NDArray[np.int64]]) -> dict[int, tuple[float, float]]:
    """Return MAE and RMSE of the forces on the atoms of each element."""
    if not species:
        return {}
    per_component = np.repeat(np.concatenate(species), 3)
    found = {}
    for number in np.unique(per_component):
        mae, rmse, _ = _errors(pairs[:, per_component == number])
        assert mae is not None  # for mypy: the element occurs
        assert rmse is not None
        found[int(number)] = (mae, rmse)
    return found


def _sample(pairs: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    if pairs.shape[1] <= count:
        return pairs
    return pairs[:, np.sort(rng.choice(pairs.shape[1], count, replace=False))]


def _in_meV(value: float | None) -> float | None:
    return None if value is None else value * MEV
