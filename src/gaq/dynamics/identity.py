"""What a simulation has to have in common with the run that it goes on from."""

import hashlib
import json
from typing import Any

from ase.calculators.calculator import Calculator

from gaq.adapters.ase import GaqCalculator


def run_identity(calculator: Calculator, *, ensemble: str, temperature_K: float, friction_per_ps: float,
                 timestep_fs: float, seed: int) -> dict[str, str]:
    """Return the settings that every frame of a trajectory names, and without which it is not continued.

    The backend is none of them: engine and PyTorch compute the same model.
    """
    numbers = {"temperature_K": temperature_K, "friction_per_ps": friction_per_ps, "timestep_fs": timestep_fs}
    return {"model": model_identity(calculator), "ensemble": ensemble,
            **{name: repr(float(number)) for name, number in numbers.items()}, "seed": str(int(seed))}


def model_identity(calculator: Calculator) -> str:
    """Return the SHA-256 of a model of ours; of other calculators the class, and a digest of the parameters ASE knows."""
    if not isinstance(calculator, GaqCalculator):
        return _named(calculator, getattr(calculator, "parameters", {}))
    field = getattr(calculator.forcefield, "forcefield", calculator.forcefield)  # what an engine computes
    digest: str | None = getattr(field, "sha256", None)
    return digest or _named(field, {})


def _named(thing: object, parameters: Any) -> str:
    kind = type(thing)
    text = json.dumps(dict(parameters), sort_keys=True, default=_plain)
    digest = f":{hashlib.sha256(text.encode()).hexdigest()[:16]}" if parameters else ""
    return f"{kind.__module__}.{kind.__qualname__}{digest}".replace(" ", "").replace('"', "")


def _plain(value: Any) -> Any:
    """Return arrays as lists, and of other things their class: an address would be another one next time."""
    return value.tolist() if hasattr(value, "tolist") else type(value).__name__
