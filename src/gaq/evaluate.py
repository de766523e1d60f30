"""Force fields and reference frames in, the content of `results.json` out."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gaq.data import Frames
from gaq.errors import ConfigError, DataError
from gaq.files import sha256
from gaq.forcefield import check_frames
from gaq.metrics.accuracy import Accuracy, accuracy
from gaq.metrics.equivariance import equivariance_map, lee_by_quantizer, local_equivariance_error
from gaq.metrics.stresses import StressAccuracy, stress_accuracy

if TYPE_CHECKING:
    from gaq.forcefield import ForceField

FORMAT = "gaq-results"
FORMAT_VERSION = 1
DECIMALS = 5  # of parity points, eV and eV/Å; a plot shows no more, and the file stays small

Entry = tuple[str, "ForceField", str | Path]


def evaluate(
    models: Sequence[Entry],
    frames: Frames,
    *,
    rotations: int = 64,
    lee_frames: int = 32,
    batch_size: int = 16,
    seed: int = 0,
    title: str = "Force fields compared",
    progress: Callable[[str], None] | None = None,
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
        progress: called with one line before each measurement.

    Returns:
        The content of `results.json`, format `gaq-results` 1: plain lists, numbers, strings, and None where a quantity
        does not exist.

    Raises:
        ConfigError: no models, names that repeat, or a count below 1.
        DataError: no frames, or none with a label.
        SpeciesError: frames with an element that a model was not made for.
        GaqError: a prediction that is not finite.
    """
    _check([name for name, _, _ in models], frames,
           {"rotations": rotations, "lee_frames": lee_frames, "batch_size": batch_size})
    frames, notes = _molecules(frames)
    for _, forcefield, _ in models:
        check_frames(frames, forcefield.species)
    say = progress or (lambda line: None)
    entries = []
    for name, forcefield, path in models:
        say(f"{name}: accuracy on {len(frames)} frames")
        entry = _identity(name, forcefield, Path(path), frames)
        entry |= _accuracy_part(accuracy(forcefield, frames, batch_size=batch_size, seed=seed))
        entry |= _stress_part(stress_accuracy(forcefield, frames, batch_size=batch_size))
        say(f"{name}: equivariance under {rotations} rotations of {min(lee_frames, len(frames))} frames")
        entry |= _equivariance_part(forcefield, frames.spread(lee_frames), rotations, batch_size, seed)
        say(f"{name}: equivariance of single quantizers, and over rotation axes")
        entry |= _anatomy_part(forcefield, frames.spread(max(lee_frames // 8, 1)), max(rotations // 4, 1), batch_size,
                               seed)
        entries.append(entry)
    return {
        "format": FORMAT, "format_version": FORMAT_VERSION, "version": version("gaq"), "title": title,
        "hardware": hardware(), "source": frames.source, "source_fingerprint": frames.fingerprint,
        "frames": len(frames),
        "structure": {"species": frames[0].species.tolist(), "positions": frames[0].positions.tolist()},
        "models": entries, "nve": [], "notes": notes,
    }


def hardware() -> dict[str, Any]:
    """Return processor, threads and torch version, as `results.json` names them."""
    return {"cpu": _cpu_name(), "threads": torch.get_num_threads(), "torch": str(torch.__version__), "device": "cpu"}


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


def _identity(name: str, forcefield: "ForceField", path: Path, frames: Frames) -> dict[str, Any]:
    stored = forcefield.stored_bytes()
    entry = {
        "name": name, "recipe": forcefield.recipe.name, "path": str(path),
        "model_sha256": sha256(path) if path.is_file() else "",
        "version": str(forcefield.provenance.get("version", "")), "frames": len(frames), "source": frames.source,
        "stored_bytes": sum(stored.values()), "fp32_bytes": forcefield.fp32_bytes(), "stored_by_tensor": dict(stored),
    }
    curves = forcefield.provenance.get("curves")
    return entry | ({"curves": curves} if curves else {})


def _accuracy_part(errors: Accuracy) -> dict[str, Any]:
    energy, forces = errors.energy_parity, errors.forces_parity
    if energy.size:
        energy = energy - energy[0].mean()
    return {
        "energy_mae_meV": errors.energy_mae_meV, "energy_rmse_meV": errors.energy_rmse_meV,
        "energy_offset_meV": errors.energy_offset_meV,
        "forces_mae_meV_A": errors.forces_mae_meV_A, "forces_rmse_meV_A": errors.forces_rmse_meV_A,
        "parity": {"forces_ref": _rounded(forces[0]), "forces_pred": _rounded(forces[1]),
                   "energy_ref": _rounded(energy[0]), "energy_pred": _rounded(energy[1])},
    }


def _stress_part(errors: StressAccuracy | None) -> dict[str, Any]:
    return {} if errors is None else {"stress_mae_meV_A3": errors.mae_meV_A3, "stress_rmse_meV_A3": errors.rmse_meV_A3}


def _equivariance_part(forcefield: "ForceField", frames: Frames, rotations: int, batch_size: int,
                       seed: int) -> dict[str, Any]:
    lee = local_equivariance_error(forcefield, frames, rotations=rotations, seed=seed, batch_size=batch_size)
    clipped = forcefield.saturation([forcefield.graph(frame) for frame in frames])
    return {
        "lee_forces_meV_A": asdict(lee.forces_meV_A), "lee_energy_meV": asdict(lee.energy_meV),
        "saturation": [{"quantizer": quantizer, "clipped": float(fraction)} for quantizer, fraction in clipped],
    }


def _anatomy_part(forcefield: "ForceField", frames: Frames, rotations: int, batch_size: int,
                  seed: int) -> dict[str, Any]:
    rows = lee_by_quantizer(forcefield.single_quantizer_variants(), frames, rotations=rotations, seed=seed,
                            cutoff=forcefield.cutoff, batch_size=batch_size)
    sphere = equivariance_map(forcefield, frames, batch_size=batch_size)
    return {
        "lee_by_layer": [asdict(row) for row in rows],
        "lee_map": {"axes": sphere.axes.tolist(), "lee_forces_meV_A": sphere.lee_forces_meV_A.tolist(),
                    "angle_deg": sphere.angle_deg},
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(value, DECIMALS) for value in values.tolist()]


def _cpu_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
