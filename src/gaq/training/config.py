"""Training configuration: a YAML file checked by a strict schema, with overrides from the command line."""

import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from ase.data import chemical_symbols
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from gaq.data import KeyMap
from gaq.errors import ConfigError, did_you_mean
from gaq.models import USUAL, model_kind
from gaq.models.contract import Shape
from gaq.reading import parse_yaml, read_text
from gaq.threads import MOST_THREADS

MOST = 10**12  # of anything that is counted


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _by_symbol(given: Any) -> Any:
    """Return energies by symbol, where elements may be given by number.

    Raises:
        ValueError: not a mapping, an element that does not exist, or one that is given twice.
    """
    if not isinstance(given, dict):
        raise ValueError("must be a mapping of elements to energies in eV, such as {H: -13.6, O: -2043.2}")
    energies: dict[str, Any] = {}
    for element, energy in given.items():
        symbol = element
        if isinstance(element, bool):
            raise ValueError(f"the element {element} is what YAML makes of No; write 'No' in quotes")
        if str(element).isdecimal() and 1 <= int(element) < len(chemical_symbols):
            symbol = chemical_symbols[int(element)]
        if symbol not in chemical_symbols[1:]:
            near = did_you_mean(str(element), chemical_symbols[1:])
            raise ValueError(f"{element!r} is no element{near}; give symbols such as H, or atomic numbers")
        if symbol in energies:
            raise ValueError(f"{symbol} is given twice")
        energies[symbol] = energy
    return energies


def _listed(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _path(given: str) -> str:
    if not given.strip() or "\0" in given:
        raise ValueError("must be the path of a folder, without the character NUL")
    return given


def _shape(given: Any) -> Any:
    """Return the shape of a model, of the kind it says, or the usual one.

    Raises:
        ValueError: an unknown kind, or a field out of range.
    """
    if not isinstance(given, dict):
        return given
    return model_kind(given.get("kind", USUAL)).shape.model_validate(given)


Sources = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
AtomicEnergies = Annotated[dict[str, Annotated[float, Field(allow_inf_nan=False)]], BeforeValidator(_by_symbol)]


class DataConfig(_Strict):
    """Where the frames come from.

    Args:
        train: source of the training frames: a path, or a name such as rmd17:azobenzene:1:train; or a list of them.
        frames: how many of them to take, at random; None for all.
        validation: other sources for validation; None holds `validation_frames` out of the training frames.
        validation_frames: number of frames the best model is chosen by.
        energy_key, forces_key, stress_key, weight_key, energy_unit, length_unit: how the labels are named and what they are
            in; see `KeyMap`. None, or "none", where there are no such labels. Frames with weight 0 are left out.
        atomic_energies: energies of isolated atoms in eV, by symbol; those of elements that are neither here nor among the
            isolated atoms of the sources are fitted.
        allow_more_than_1000: train on more than 1,000 frames of rMD17, against its authors' advice.
    """

    train: Sources
    frames: int | None = Field(default=None, ge=2)
    validation: Sources | None = None
    validation_frames: int = Field(default=50, ge=1)
    energy_key: str | None = "REF_energy"
    forces_key: str | None = "REF_forces"
    stress_key: str | None = "REF_stress"
    weight_key: str | None = "weight"
    energy_unit: str = "eV"
    length_unit: str = "Ang"
    atomic_energies: AtomicEnergies = {}
    allow_more_than_1000: bool = False

    @property
    def keys(self) -> KeyMap:
        """The names and units of the labels."""
        return KeyMap(energy=self.energy_key, forces=self.forces_key, stress=self.stress_key, weight=self.weight_key,
                      energy_unit=self.energy_unit, length_unit=self.length_unit)


class Optimization(_Strict):
    """How a model is trained; the loss is w_E (ΔE/σ)² + w_F |ΔF/σ|² + w_S |V Δσ/(N σ)|², σ the RMS of the training forces.

    Args:
        steps: optimizer steps; or
        minutes: a time budget: the rate of its first twentieth turns it into a number of steps, kept from then on.
        batch_size: structures in a step.
        learning_rate: peak of AdamW's rate, after `warmup_steps`, decaying by a cosine to `final_rate` of it.
        ema: decay of the moving average of the weights, which is what is evaluated and kept.
        energy_weight, forces_weight: w_E, w_F.
        stress_weight: w_S, of the error of the virial for each atom, V Δσ / N; 0 leaves stresses out.
        clip: largest norm of the gradient.
        validate_every, checkpoint_every: steps.
        patience: validations without a better model before stopping early; None for never.
        seed: of the initial weights, the order of frames and the rotations.
        compile: whether to compile the training step, which takes minutes and makes it about three times faster: "auto" for
            long runs on frames of one number of atoms.
    """

    steps: int | None = Field(default=None, ge=1, le=MOST)
    minutes: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=5, ge=1, le=MOST)
    learning_rate: float = Field(default=2e-3, gt=0, le=10)
    final_rate: float = Field(default=0.01, ge=0, le=1)
    warmup_steps: int = Field(default=200, ge=0, le=MOST)
    weight_decay: float = Field(default=1e-5, ge=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    energy_weight: float = Field(default=0.02, ge=0)
    forces_weight: float = Field(default=1.0, ge=0)
    stress_weight: float = Field(default=0.0, ge=0)
    clip: float = Field(default=10.0, gt=0)
    validate_every: int = Field(default=500, ge=1, le=MOST)
    checkpoint_every: int = Field(default=500, ge=1, le=MOST)
    patience: int | None = Field(default=None, ge=1, le=MOST)
    seed: int = Field(default=0, ge=0, lt=2**32)
    compile: Literal["auto", "always", "never"] = "auto"

    @model_validator(mode="after")
    def _one_budget(self) -> "Optimization":
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")
        return self

    def identity(self) -> dict[str, Any]:
        """Return what a run that goes on must have in common with the one before: all but how long it lasts."""
        return self.model_dump(exclude={"steps", "minutes", "patience", "checkpoint_every"})


LOW_BIT = Optimization(steps=6000, learning_rate=7e-4, energy_weight=0.2, warmup_steps=100, validate_every=200, ema=0.9)
"""How a low-bit model is trained from a float one, where nothing else is said. An average over many steps is no good here:
weights that jump between two codes have an average at the edge between them, which rounds to either."""


class TrainConfig(_Strict):
    """A training run.

    Args:
        data, model, optimization: see there.
        start: a float model file to go on from; its shape, offsets and scale then stand, and `model` is not looked at.
        out: folder of the run: model.safetensors, checkpoint.safetensors, log.csv, TensorBoard events.
        device: "cpu", "cuda", ...
        threads: CPU threads, at most 256; None leaves PyTorch's choice.
    """

    data: DataConfig
    model: Annotated[SerializeAsAny[Shape], BeforeValidator(_shape)] = Field(default={}, validate_default=True)
    optimization: Optimization
    start: str | None = None
    out: Annotated[str, Field(min_length=1), AfterValidator(_path)]
    device: str = "cpu"
    threads: int | None = Field(default=None, ge=1, le=MOST_THREADS)

    @model_validator(mode="after")
    def _one_zero(self) -> "TrainConfig":
        if self.start is not None and self.data.atomic_energies:
            raise ValueError("data.atomic_energies cannot be given with start, whose energies of the elements stand")
        return self


def load_config(path: str | Path, overrides: list[str] | None = None) -> TrainConfig:
    """Read a YAML file and apply `a.b=value` overrides.

    Raises:
        ConfigError: no such file, not YAML, an unknown key (with a suggestion), a value out of range.
    """
    try:
        data = parse_yaml(read_text(path, ConfigError, "give the path of a configuration"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping with the keys {', '.join(TrainConfig.model_fields)}")
    for override in overrides or []:
        _override(data, override)
    return validated(data, str(path))


def validated(data: dict[str, Any], where: str) -> TrainConfig:
    """Return the configuration that `data` describe.

    Raises:
        ConfigError: as for `load_config`.
    """
    try:
        return TrainConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first(error, data)}") from error


def _first(error: ValidationError, data: dict[str, Any]) -> str:
    detail = error.errors()[0]
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        fields: Any = TrainConfig.model_fields
        for part in detail["loc"][:-1]:
            section = fields[str(part)].annotation
            fields = (model_kind(data["model"].get("kind", USUAL)).shape if section is Shape else section).model_fields
        return f"unknown key {place!r}{did_you_mean(str(detail['loc'][-1]), fields)}; keys are {', '.join(fields)}"
    given = "" if detail["type"] == "missing" else f" (given {reprlib.repr(detail['input'])})"
    return f"{place}: {detail['msg']}{given}"


def _override(data: dict[str, Any], override: str) -> None:
    name, sign, text = override.partition("=")
    if not sign:
        raise ConfigError(f"--set {override}: the form is a.b=value, e.g. optimization.steps=1000")
    *parents, last = name.strip().split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {override}: {parent!r} is a value, not a group of keys")
    try:
        data[last] = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML") from error
    if last in ("minutes", "steps"):
        data.pop({"minutes": "steps", "steps": "minutes"}[last], None)  # one budget replaces the other
