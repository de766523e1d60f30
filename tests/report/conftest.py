"""Synthetic results that look like real ones: an azobenzene, three recipes, and patterns that rounding really makes."""

import copy
from typing import Any

import numpy as np
import pytest

RECIPES = (  # name, recipe, noise of energy (meV) and forces (meV/Å), size in bytes, vector bits
    ("FP32", "fp32", 8.7, 20.9, 1_482_240, None),
    ("INT8 naive", "int8-naive", 61.0, 52.4, 391_680, 5),
    ("W4A8 (GAQ)", "w4a8", 9.3, 22.6, 263_424, 12),
)


def azobenzene() -> dict[str, Any]:
    """Planar trans-azobenzene from bond lengths and angles."""
    direction = np.array([np.cos(np.deg2rad(66.0)), np.sin(np.deg2rad(66.0)), 0.0])
    nitrogen = np.array([0.625, 0.0, 0.0])
    center = nitrogen + (1.42 + 1.39) * direction
    half = [(7, nitrogen)]
    for k in range(6):
        angle = np.deg2rad(60.0 * k)
        c, s = np.cos(angle), np.sin(angle)
        outward = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ -direction
        half.append((6, center + 1.39 * outward))
        if k:
            half.append((1, center + 2.48 * outward))
    atoms = half + [(z, -r) for z, r in half]
    return {"species": [z for z, _ in atoms], "positions": [[float(x) for x in r] for _, r in atoms]}


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def lee_map(bits: int | None, rng: np.random.Generator, count: int = 192) -> dict[str, Any]:
    """Equivariance error of vectors rounded on a grid, for turns by 45 degrees around axes of a Fibonacci lattice."""
    k = np.arange(count) + 0.5
    z, lon = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    axes = np.stack([np.sqrt(1 - z**2) * np.cos(lon), np.sqrt(1 - z**2) * np.sin(lon), z], axis=1)
    molecule = np.asarray(azobenzene()["positions"])
    vectors = (molecule[:, None] - molecule[None])[np.triu_indices(len(molecule), 1)]
    vectors = vectors[np.linalg.norm(vectors, axis=1) < 1.6]
    step = 4.0 / 2 ** (bits or 20)
    rounded = lambda v: step * np.round(v / step)  # noqa: E731
    errors = []
    for axis in axes:
        turn = rotation(axis, np.pi / 4)
        errors.append(50 * float(np.linalg.norm(rounded(vectors @ turn.T) - rounded(vectors) @ turn.T, axis=1).mean()))
    return {"axes": axes.tolist(), "lee_forces_meV_A": errors, "angle_deg": 45.0}


def statistics(values: np.ndarray) -> dict[str, Any]:
    half = 1.96 * values.std() / len(values) ** 0.5
    return {"mean": float(values.mean()), "median": float(np.median(values)), "p99": float(np.quantile(values, 0.99)),
            "max": float(values.max()), "ci95": [float(values.mean() - half), float(values.mean() + half)],
            "rotations": 32, "frames": 20}


def curves(rng: np.random.Generator, quantized: bool) -> dict[str, Any]:
    step = np.arange(0, 8001, 100)
    wobble = np.exp(rng.normal(scale=0.05, size=len(step)))
    if not quantized:
        forces = (20.9 + 400 * np.exp(-step / 900)) * wobble
        phase = ["float"] * len(step)
    else:
        forces = (21.5 + 10 * np.exp(-step / 500) + (step >= 2000) * 25 * np.exp(-(step - 2000) / 700)) * wobble
        phase = ["scalars"] * 20 + ["scalars and vectors"] * (len(step) - 20)
    return {"step": step.tolist(), "train_loss": (forces**2 / 4e5).tolist(), "forces_mae_meV_A": forces.tolist(),
            "energy_mae_meV": (forces * 0.42).tolist(), "phase": phase}


def model(name: str, recipe: str, energy: float, forces: float, size: int, bits: int | None,
          rng: np.random.Generator) -> dict[str, Any]:
    reference = rng.normal(size=3000) * 1.1
    energies = rng.normal(size=200) * 0.32
    bias = 0.0 if bits != 5 else -0.03
    predicted = reference * (1 + bias) + rng.laplace(size=3000) * forces / 1000
    energies_predicted = energies + rng.laplace(size=200) * energy / 1000
    errors = lee_map(bits, rng)
    lee = np.asarray(errors["lee_forces_meV_A"])
    parts = [f"interaction.{i}.{part}" for i in range(3) for part in ("query", "key", "value", "vectors", "update")]
    shares = rng.dirichlet(np.ones(15))
    tensors = {f"{part}.weight": int(size * share) for part, share in zip(parts, shares, strict=True)}
    made: dict[str, Any] = {
        "name": name, "recipe": recipe, "path": f"models/azobenzene-{recipe}.gaq", "model_sha256": "3f" * 32,
        "version": "0.1.0", "frames": 200, "source": "rmd17:azobenzene:test",
        "energy_mae_meV": float(np.abs(energies_predicted - energies).mean() * 1000),
        "energy_rmse_meV": float(((energies_predicted - energies) ** 2).mean() ** 0.5 * 1000),
        "energy_offset_meV": float((energies_predicted - energies).mean() * 1000),
        "forces_mae_meV_A": float(np.abs(predicted - reference).mean() * 1000),
        "forces_rmse_meV_A": float(((predicted - reference) ** 2).mean() ** 0.5 * 1000),
        "lee_forces_meV_A": statistics(lee), "lee_energy_meV": statistics(lee * 0.1), "lee_map": errors,
        "lee_by_layer": [], "saturation": [], "stored_bytes": size, "fp32_bytes": 1_482_240,
        "stored_by_tensor": tensors,
        "parity": {"forces_ref": reference.tolist(), "forces_pred": predicted.tolist(),
                   "energy_ref": energies.tolist(), "energy_pred": energies_predicted.tolist()},
        "curves": curves(rng, bits is not None)}
    if bits:
        scale = float(lee.mean())
        made["lee_by_layer"] = [{"quantizer": part, "lee_forces_meV_A": float(scale * rng.uniform(0.002, 0.08) +
                                 scale * 0.4 * part.endswith("vectors"))} for part in parts]
        made["saturation"] = [{"quantizer": part, "clipped": float(rng.uniform(0, 0.012))} for part in parts]
    if bits == 5:
        del made["curves"]
    return made


def trajectory(name: str, recipe: str, drift: float, noise: float, rng: np.random.Generator) -> dict[str, Any]:
    time = np.linspace(0, 20, 801)
    energy = drift * time + noise * rng.normal(size=801)
    return {"name": name, "recipe": recipe, "timestep_fs": 0.5, "temperature_K": 300.0, "time_ps": time.tolist(),
            "total_energy_meV_atom": (energy - energy[0]).tolist(), "drift_meV_atom_ps": drift, "ms_per_step": 14.2}


def build_results() -> dict[str, Any]:
    rng = np.random.default_rng(7)
    return {
        "format": "gaq-results", "format_version": 1, "version": "0.1.0", "title": "Azobenzene in 4-bit weights",
        "hardware": {"cpu": "AMD EPYC 9B14", "threads": 2, "torch": "2.13.0", "device": "cpu"},
        "source": "rmd17:azobenzene:test", "source_fingerprint": "9c1e" * 16, "frames": 200, "structure": azobenzene(),
        "models": [model(*recipe, rng) for recipe in RECIPES],
        "nve": [trajectory("FP32", "fp32", 0.0007, 0.05, rng), trajectory("INT8 naive", "int8-naive", 6.4, 4.0, rng),
                trajectory("W4A8 (GAQ)", "w4a8", 0.021, 0.4, rng)],
        "notes": ["The reference is PBE/def2-SVP as published with rMD17.", "Forces in NVE runs come from the model."]}


@pytest.fixture(scope="session")
def built() -> dict[str, Any]:
    """A complete results dict that nobody may change."""
    return build_results()


@pytest.fixture
def results(built: dict[str, Any]) -> dict[str, Any]:
    """A complete results dict that a test may change."""
    return copy.deepcopy(built)
