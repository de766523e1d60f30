"""Force fields and reference frames in, the content of `results.json` out."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from gaq.data import Frames, check_frames
from gaq.errors import ConfigError, DataError
from gaq.files import sha256
from gaq.forcefield import ForceField
from gaq.machine import hardware
from gaq.metrics.accuracy import MEV, Accuracy, accuracy
from gaq.metrics.batches import Counted, Told, single_graphs, unlabelled, untold
from gaq.metrics.equivariance import equivariance_map, lee_by_quantizer, local_equivariance_error
from gaq.metrics.stresses import StressAccuracy, stress_accuracy

FORMAT = "gaq-results"
FORMAT_VERSION = 1
MAP_AXES = 192
DECIMALS = 5  # of parity points, eV and eV/Å; a plot shows no more, and the file stays small

Entry = tuple[str, ForceField, str | Path]


def evaluate(
    models: Sequence[Entry],
    frames: Frames,
    *,
    rotations: int = 64,
    lee_frames: int = 32,
    batch_size: int = 16,
    seed: int = 0,
    title: str = "Force fields compared",
    backend: str | None = None,
    progress: Told = untold,
) -> dict[str, Any]:
    """Measure accuracy, equivariance and size of force fields on the same frames.

    Args:
        models: name for the report, force field, and the file it was loaded from.
        frames: reference frames; accuracy takes all of them.
        rotations: random rotations of each frame for the equivariance error.
        lee_frames: frames for the equivariance error, evenly spread over `frames`; an eighth of them serve for the
            error of single quantizers (with a quarter of the rotations) and for the map over rotation axes.
        batch_size: structures in one prediction.
        seed: of rotations and samples.
        title: heading of the report.
        backend: "engine", "torch", or "auto"; None leaves the choice to each force field. Each entry says what computed.
        progress: called with the structures predicted so far for one model, their number, and what is measured.

    Returns:
        The content of `results.json`, format `gaq-results` 1: plain lists, numbers, strings, and None where a quantity
        does not exist.

    Raises:
        ConfigError: no models, names that repeat, a count below 1, or an unknown backend.
        EngineError: the engine was asked for, and is not installed or does not compute a model.
        DataError: no frames, or none with a label.
        SpeciesError: frames with an element that a model was not made for.
        GaqError: a prediction that is not finite.
    """
    _check([name for name, _, _ in models], frames,
           {"rotations": rotations, "lee_frames": lee_frames, "batch_size": batch_size})
    frames, notes = _molecules(frames)
    for _, forcefield, _ in models:
        check_frames(frames, forcefield.species)
    entries = [
        _identity(name, forcefield, Path(path), frames)
        | _Measuring(name, forcefield, frames, rotations, lee_frames, batch_size, seed, backend, progress).run()
        for name, forcefield, path in models]
    return {
        "format": FORMAT, "format_version": FORMAT_VERSION, "version": version("gaq"), "title": title,
        "hardware": hardware(), "source": frames.source, "source_fingerprint": frames.fingerprint,
        "frames": len(frames),
        "structure": {"species": frames[0].species.tolist(), "positions": frames[0].positions.tolist()},
        "models": entries, "nve": [], "notes": notes,
    }


def _check(names: list[str], frames: Frames, counts: dict[str, int]) -> None:
    if not names:
        raise ConfigError("models needs at least one force field to evaluate; none was given")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"models need different names for the report; given more than once: {', '.join(repeated)}")
    if not len(frames):
        raise DataError(f"{frames.source} holds no frames to evaluate on; give a source with a labelled frame")
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} must be at least 1, not {count}")


def _molecules(frames: Frames) -> tuple[Frames, list[str]]:
    """Return the frames without isolated atoms, where there are others, and what a reader must know of them."""
    kept, atoms = frames.apart()
    if not len(kept) or not len(atoms):
        kept, atoms = frames, frames[:0]
    notes = [f"{len(atoms)} isolated atoms of {frames.source} are left out."] if len(atoms) else []
    for label in ("energy", "forces"):
        there = sum(getattr(frame, label) is not None for frame in kept)
        if there < len(kept):
            name = {"energy": "energies"}.get(label, label)
            notes.append(f"{there} of {len(kept)} frames of {frames.source} have reference {name}; errors are over "
                         "those." if there else f"The frames of {frames.source} have no reference {name}.")
    return kept, notes


def _identity(name: str, forcefield: ForceField, path: Path, frames: Frames) -> dict[str, Any]:
    sizes = forcefield.stored.bytes_by_tensor()
    entry = {
        "name": name, "recipe": forcefield.recipe.name, "path": str(path),
        "model_sha256": sha256(path) if path.is_file() else "",
        "version": str(forcefield.provenance.get("version", "")), "frames": len(frames), "source": frames.source,
        "stored_bytes": sum(sizes.values()), "fp32_bytes": forcefield.stored.bytes_in_float32(), "stored_by_tensor": sizes,
    }
    curves = forcefield.provenance.get("curves")
    return entry | ({"curves": curves} if curves else {})


class _Measuring:
    """One model on one backend, with the sum of all that it has to predict."""

    def __init__(self, name: str, forcefield: ForceField, frames: Frames, rotations: int, lee_frames: int,
                 batch_size: int, seed: int, backend: str | None, progress: Told) -> None:
        self.name, self.frames = name, frames
        self.forcefield = forcefield if backend is None else forcefield.on(backend)
        self.turned, self.rotations = frames.spread(lee_frames), rotations
        self.few, self.fewer = frames.spread(max(lee_frames // 8, 1)), max(rotations // 4, 1)
        self.batch_size, self.seed, self.progress = batch_size, seed, progress
        self.variants = self.forcefield.quantizers_alone()
        self.total = (len(frames) + len(self.turned) * (2 + rotations)
                      + len(self.few) * (len(self.variants) * (1 + self.fewer) + 1 + MAP_AXES))
        self.done, self.stage = 0, ""

    def run(self) -> dict[str, Any]:
        """Return what the report shows of this model."""
        predict = Counted(self.forcefield, self._tell)
        self._begin("range")
        entry: dict[str, Any] = {"backend": self.forcefield.backend, "saturation": self._saturation()}
        self._begin("accuracy")
        entry |= _accuracy_part(accuracy(predict, self.frames, batch_size=self.batch_size, seed=self.seed))
        entry |= _stress_part(stress_accuracy(self.forcefield, self.frames, batch_size=self.batch_size))
        self._begin("equivariance")
        lee = local_equivariance_error(predict, self.turned, rotations=self.rotations, seed=self.seed,
                                       batch_size=self.batch_size)
        entry |= {"lee_forces_meV_A": asdict(lee.forces_meV_A), "lee_energy_meV": asdict(lee.energy_meV)}
        self._begin("equivariance of single quantizers")
        rows = [row for name, variant in self.variants.items() for row in lee_by_quantizer(
            {name: Counted(variant, self._tell)}, self.few, rotations=self.fewer,
            seed=self.seed, cutoff=self.forcefield.cutoff, batch_size=self.batch_size)]
        self._begin("equivariance over rotation axes")
        sphere = equivariance_map(predict, self.few, axes=MAP_AXES, batch_size=self.batch_size)
        return entry | {
            "lee_by_layer": [asdict(row) for row in rows],
            "lee_map": {"axes": sphere.axes.tolist(), "lee_forces_meV_A": sphere.lee_forces_meV_A.tolist(),
                        "angle_deg": sphere.angle_deg}}

    def _saturation(self) -> list[dict[str, Any]]:
        """Return the share of clipped values of each quantizer; the counters of an engine begin at 0 with it."""
        graphs = [unlabelled(graph) for graph in single_graphs(self.forcefield, self.turned)]
        rows = self.forcefield.saturation(graphs)
        self._tell(len(graphs))
        return [{"quantizer": quantizer, "clipped": float(fraction)} for quantizer, fraction in rows]

    def _begin(self, stage: str) -> None:
        self.stage = f"{self.name}: {stage}"
        self._tell(0)

    def _tell(self, more: int) -> None:
        self.done += more
        self.progress(self.done, self.total, self.stage)


def _accuracy_part(errors: Accuracy) -> dict[str, Any]:
    energy, forces = errors.energy_parity, errors.forces_parity
    if energy.size:
        energy = energy - energy[0].mean()
    return {
        "energy_mae_meV": errors.energy_mae_meV, "energy_rmse_meV": errors.energy_rmse_meV,
        "energy_offset_meV": errors.energy_offset_meV,
        "energy_mae_meV_atom": errors.energy_mae_meV_atom, "energy_rmse_meV_atom": errors.energy_rmse_meV_atom,
        "forces_mae_meV_A": errors.forces_mae_meV_A, "forces_rmse_meV_A": errors.forces_rmse_meV_A,
        "forces_by_element": {chemical_symbols[z]: {"mae_meV_A": MEV * mae, "rmse_meV_A": MEV * rmse}
                              for z, (mae, rmse) in errors.forces_by_species.items()},
        "parity": {"forces_ref": _rounded(forces[0]), "forces_pred": _rounded(forces[1]),
                   "energy_ref": _rounded(energy[0]), "energy_pred": _rounded(energy[1])},
    }


def _stress_part(errors: StressAccuracy | None) -> dict[str, Any]:
    return {} if errors is None else {"stress_mae_meV_A3": errors.mae_meV_A3, "stress_rmse_meV_A3": errors.rmse_meV_A3}


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(value, DECIMALS) for value in values.tolist()]
