"""What a simulation has to have in common with the run that it goes on from."""

import hashlib
import json
from typing import Any

from gaq.dynamics.conditions import Conditions


def run_identity(subject: object, conditions: Conditions, temperature_K: float) -> dict[str, str]:
    """Return the settings that every frame of a trajectory names, and without which it is not continued.

    The backend is none of them: engine and PyTorch compute the same model.
    """
    numbers = {"temperature_K": temperature_K, "friction_per_ps": conditions.friction_per_ps,
               "timestep_fs": conditions.timestep_fs}
    if conditions.flexible:
        numbers["pressure_bar"] = conditions.pressure_bar
    return {"model": model_identity(subject), "ensemble": conditions.ensemble,
            **{name: repr(float(number)) for name, number in numbers.items()}, "seed": str(int(conditions.seed))}


def model_identity(subject: object) -> str:
    """Return the SHA-256 of a model of ours; of other potentials and calculators the class, and a digest of the parameters
    that ASE knows."""
    digest: str | None = getattr(subject, "sha256", None)
    return digest or _named(subject, getattr(subject, "parameters", {}))


def _named(thing: object, parameters: Any) -> str:
    kind = type(thing)
    text = json.dumps(dict(parameters), sort_keys=True, default=_plain)
    digest = f":{hashlib.sha256(text.encode()).hexdigest()[:16]}" if parameters else ""
    return f"{kind.__module__}.{kind.__qualname__}{digest}".replace(" ", "").replace('"', "")


def _plain(value: Any) -> Any:
    """Return arrays as lists, and of other things their class: an address would be another one next time."""
    return value.tolist() if hasattr(value, "tolist") else type(value).__name__
