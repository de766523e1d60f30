"""How a model was made, from what its file says: the command that makes it again, its time, its curves."""

import json
import shlex
from pathlib import Path
from typing import Any

from benchmarks.ablation import PLAIN_ATTENTION
from benchmarks.catalogue import Catalogue, Entry
from gaq.demo import qat_settings
from gaq.errors import GaqError
from gaq.forcefield import ForceField
from gaq.models.transformer.config import ModelConfig
from gaq.models.transformer.recipes import RECIPES
from gaq.recipe import Change, Recipe, Schedule
from gaq.training.config import TrainConfig, load_config, validated

CONFIGS = Path(__file__).parents[1] / "configs"
BY_OPTION = {"batch_size": "--batch-size", "learning_rate": "--lr", "seed": "--seed"}  # of `gaq quantize`


def origins(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Return one row for each model file."""
    return [_origin(entry, catalogue) for entry in [*catalogue.entries, *catalogue.ablation] if entry.recipe is None]


def changes(forcefield: ForceField) -> list[str]:
    """Return what distinguishes a model from one of its recipe with the defaults, in the words of `--set`."""
    recipe = forcefield.recipe
    base = RECIPES.get(recipe.name, Recipe(name=recipe.name))
    said = [f"{change.match}.{change.field}={_formatted(change, base)}" for change in recipe.changes]
    said += [f"schedule.{name}={_text(getattr(recipe.schedule, name))}" for name in Schedule.model_fields
             if recipe.rules and getattr(recipe.schedule, name) != getattr(base.schedule, name)]
    usual = ModelConfig(species=(1,))
    attention = getattr(forcefield.config, "attention", usual.attention)
    if attention != usual.attention:
        said.append(f"model.attention={attention}")
    if recipe.rules != base.rules:
        said.append("(rules of an earlier version of the recipe)")
    return said


def _formatted(change: Change, base: Recipe) -> str:
    """Return the new value; of a vector format, only what is new in it."""
    usual = getattr(base.rule_for("", change.match), change.field)
    if not isinstance(change.value, dict) or usual is None:
        return _text(change.value)
    before, after = _flat(usual.model_dump(mode="json")), _flat(change.value)
    return ", ".join(f"{name}: {_text(value)}" for name, value in after.items() if before.get(name) != value)


def _origin(entry: Entry, catalogue: Catalogue) -> dict[str, Any]:
    forcefield = catalogue.forcefields[entry.key]
    made = forcefield.provenance
    row = {name: made.get(name) for name in (
        "steps", "best_step", "seconds", "frames_per_second", "device", "torch", "source", "training_frames", "curves")}
    command = _command(entry, catalogue)
    return row | {"group": entry.group, "name": entry.name, "label": entry.label, "path": str(entry.path),
                  "recipe": forcefield.recipe.name, "changes": changes(forcefield), "command": command}


def _command(entry: Entry, catalogue: Catalogue) -> str | None:
    made = catalogue.forcefields[entry.key]
    if entry.group != "ablation":
        return (_quantize_command if made.recipe.rules else _train_command)(entry, catalogue)
    row = entry.name if made.recipe.rules else PLAIN_ATTENTION  # which trains a float model first
    steps = f" --steps {made.provenance.get('steps')}" if made.recipe.rules else ""
    return f"python benchmarks/ablation.py{steps} --only {row}"


def _train_command(entry: Entry, catalogue: Catalogue) -> str | None:
    """Return `gaq train` with a shipped configuration and what differs from it."""
    made = catalogue.forcefields[entry.key].provenance
    try:
        config = validated(dict(made["config"]), str(entry.path))
    except (KeyError, TypeError, GaqError):
        return None
    path = next(path for path in (CONFIGS / f"{entry.molecule}.yaml", CONFIGS / "rmd17.yaml") if path.is_file())
    wanted, given = _flat(_settled(config, made)), _flat(load_config(path).model_dump(mode="json"))
    words = ["gaq", "train", f"configs/{path.name}"]
    for name, value in wanted.items():
        if value != given.get(name) and name not in ("threads", "optimization.minutes"):
            words += ["--set", f"{name}={_text(value)}" if value is not None else f"{name}=null"]
    return shlex.join(words)


def _settled(config: TrainConfig, made: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with the number of steps that a time budget came to on the machine it ran on."""
    data = config.model_dump(mode="json")
    if data["optimization"]["steps"] is None:
        data["optimization"] |= {"steps": made.get("steps"), "minutes": None}
    return data


def _quantize_command(entry: Entry, catalogue: Catalogue) -> str | None:
    """Return `gaq quantize` with everything that differs from its defaults."""
    forcefield = catalogue.forcefields[entry.key]
    made, base = forcefield.provenance, _base(forcefield, catalogue)
    used = (made.get("config") or {}).get("optimization")
    words = ["gaq", "quantize", str(base.path) if base else "FP32_MODEL", "--recipe", forcefield.recipe.name,
             "--data", str(made.get("source"))]
    if made.get("training_frames") not in (None, 1000):
        words += ["--frames", str(made["training_frames"])]
    for change in changes(forcefield):
        if not change.startswith(("model.", "(")):
            words += ["--set", change]
    if used:
        words += ["--steps", str(made.get("steps"))]
        usual = qat_settings(1.0).model_dump()
        for name, option in BY_OPTION.items():
            if used.get(name) != usual[name]:
                words += [option, _text(used.get(name))]
    else:
        words.append("--no-train")
    if made.get("device", "cpu") != "cpu":
        words += ["--device", str(made["device"])]
    return shlex.join([*words, "--out", str(entry.path)])


def _base(forcefield: ForceField, catalogue: Catalogue) -> Entry | None:
    """Return the float model among the files that a low-bit model says it was made from."""
    said = forcefield.provenance.get("float")
    return next((entry for entry in catalogue.entries if entry.recipe is None
                 and not catalogue.forcefields[entry.key].recipe.rules
                 and catalogue.forcefields[entry.key].provenance == said), None)


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
