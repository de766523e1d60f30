"""What the workers do: one job in, plain JSON out.

A job never sees another one, so that its result depends on its model, its options and the program alone.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import gaq
from benchmarks.coders import CODERS
from gaq.assess.audit import AuditPlan, derivatives, simulation_figures
from gaq.data import Frames
from gaq.dynamics.replicas import simulate_replicas
from gaq.forcefield import ForceField, load
from gaq.graph import Graph, Prediction, Predictor
from gaq.leaves import VectorQuantizerLeaf
from gaq.metrics.accuracy import accuracy
from gaq.metrics.equivariance import LEE, local_equivariance_error

BINS = np.geomspace(1e-6, 1e3, 91)  # meV/Å, ten for each decade
SERIES = 1500  # points kept of the energy along a simulation
MEV = 1000.0

Tell = Callable[[int], None]


@dataclass(frozen=True)
class Inference:
    """A predictor with the face of a force field, and what the page calls the code behind it."""

    predict: Predictor
    name: str


def predictor(forcefield: ForceField) -> Inference:
    """Return what computes accuracy, rotations, loops and simulations."""
    return Inference(forcefield, "PyTorch, eager, float32" if forcefield.backend == "torch" else "native engine")


class Counted:
    """A predictor that tells how many structures it has seen."""

    def __init__(self, predict: Predictor, cutoff: float, tell: Tell, seen: int = 0) -> None:
        self.predict, self.cutoff, self.tell, self.seen = predict, cutoff, tell, seen

    def __call__(self, graph: Graph) -> Prediction:
        self.seen += graph.structures
        self.tell(self.seen)
        return self.predict(graph)


def measure_accuracy(path: Path, options: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Errors on test frames, equivariance error on some of them, bytes."""
    forcefield = load(path)
    if options["recipe"]:
        forcefield = gaq.quantize(forcefield, options["recipe"], _frames(options["training"]))
    inference = predictor(forcefield)
    predict = Counted(inference.predict, forcefield.cutoff, tell)
    frames = _frames(options["source"])[: options["frames"]]
    errors = accuracy(predict, frames, batch_size=options["batch_size"])
    lee = local_equivariance_error(predict, _spread(frames, options["lee_frames"]), rotations=options["rotations"],
                                   seed=options["seed"], batch_size=options["batch_size"])
    return {
        "inference": inference.name, "frames": len(frames), "fingerprint": frames.fingerprint,
        "energy_mae_meV": errors.energy_mae_meV, "energy_offset_meV": errors.energy_offset_meV,
        "forces_mae_meV_A": errors.forces_mae_meV_A, "lee_forces_meV_A": asdict(lee.forces_meV_A),
        "lee_histogram": _histogram(lee), "stored_bytes": sum(forcefield.stored.bytes_by_tensor().values()),
        "fp32_bytes": forcefield.stored.bytes_in_float32(),
    }


def measure_derivatives(path: Path, options: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Forces against differences of the energy and of each other, and work around loops, as `gaq audit` has them."""
    forcefield = load(path)
    inference = predictor(forcefield)
    frames = _spread(_frames(options["source"]), options["frames"])
    precise = Counted(forcefield.on("torch", dtype="float64"), forcefield.cutoff, tell)
    plan = AuditPlan(**{name: options[name] for name in ("frames", "loops", "batch_size", "seed")})
    loops = Counted(inference.predict, forcefield.cutoff, lambda seen: tell(precise.seen + seen))
    return derivatives(precise, loops, frames, forcefield.cutoff, plan) | {"inference": inference.name}


def measure_nve(path: Path, options: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Simulations of several replicas at constant energy."""
    forcefield = load(path)
    inference = predictor(forcefield)
    start = replace(_frames(options["source"])[0], energy=None, forces=None)
    each = 1000 * options["replicas"] / options["timestep_fs"]  # predictions for a picosecond
    done = simulate_replicas(
        inference.predict, start, forcefield.cutoff, replicas=options["replicas"], picoseconds=options["picoseconds"],
        timestep_fs=options["timestep_fs"], temperature_K=options["temperature_K"], seed=options["seed"],
        progress=lambda reached: tell(round(each * reached)))
    kept = np.unique(np.linspace(0, len(done.time_ps) - 1, min(SERIES, len(done.time_ps))).astype(int))
    energy = MEV * (done.energy[0] - done.energy[0, 0]) / len(start)
    return simulation_figures(done, start) | {
        "inference": inference.name, "picoseconds": options["picoseconds"], "replicas": options["replicas"],
        "series": {"time_ps": _rounded(done.time_ps[kept]), "energy_meV_atom": _rounded(energy[kept])}}


def measure_coder(path: Path, options: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Only the vector features rounded, in one format: force error, and equivariance error in both precisions."""
    full = load(path)
    coder = CODERS[options["coder"]]
    coded = gaq.quantize(full, coder.recipe(), _frames(options["training"]))
    frames = _frames(options["source"])[: options["frames"]]
    seen, forces = 0, []
    for forcefield in (full, coded):
        predict = Counted(forcefield.on("torch"), full.cutoff, tell, seen)
        forces.append(accuracy(predict, frames, batch_size=options["batch_size"]).forces_mae_meV_A)
        seen = predict.seen
    lee = {}
    for dtype in ("float32", "float64"):
        predict = Counted(coded.on("torch", dtype=dtype), full.cutoff, tell, seen)
        lee[dtype] = asdict(local_equivariance_error(
            predict, _spread(frames, options["lee_frames"]), rotations=options["rotations"], seed=options["seed"],
            batch_size=options["batch_size"]).forces_meV_A)
        seen = predict.seen
    coded_leaves = [leaf for leaf in full.stored.schema.leaves.values() if isinstance(leaf, VectorQuantizerLeaf)]
    degrees = range(1, max(leaf.max_degree for leaf in coded_leaves) + 1)
    rule = coder.recipe().rules[0]
    formats = [coder.vectors if coder.vectors.supports(degree) else rule.higher for degree in degrees]
    return {
        "coder": coder.name, "family": coder.family, "aligned": coder.vectors.aligned,
        "only_first_degree": coder.only_first_degree,
        "bits_per_vector": [fmt.bits_per_vector(degree) for degree, fmt in zip(degrees, formats, strict=True) if fmt],
        "forces_mae_meV_A": {"float": forces[0], "coded": forces[1]}, "lee_forces_meV_A": lee,
        "frames": len(frames),
    }


MEASUREMENTS: dict[str, Callable[[Path, dict[str, Any], Tell], dict[str, Any]]] = {
    "accuracy": measure_accuracy, "derivatives": measure_derivatives, "nve": measure_nve, "coder": measure_coder}


@cache
def _frames(source: str) -> Frames:
    return gaq.load_frames(source)


def _spread(frames: Frames, count: int) -> Frames:
    """Take up to `count` frames, evenly spread: neighbours in a trajectory tell the same."""
    return frames.subset(np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)))


def _histogram(lee: LEE) -> list[int]:
    values = np.clip(lee.forces_by_rotation.ravel(), BINS[0], BINS[-1])
    return np.histogram(values, BINS)[0].tolist()


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
