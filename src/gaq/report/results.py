"""What `gaq evaluate` writes, as frozen values. Everything but the names is optional."""

import math
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

FORMAT = "gaq-results"
FORMAT_VERSION = 1


def _printable(text: str) -> str:
    """Replace control characters and lone surrogates, which neither a terminal nor an SVG can show safely."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def _nan_if_missing(value: Any) -> Any:
    return math.nan if value is None else value  # JSON has no NaN; writers put null there


Label = Annotated[str, AfterValidator(_printable)]
Number = Annotated[float, BeforeValidator(_nan_if_missing)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Vector = Annotated[list[float], Field(min_length=3, max_length=3)]


class Part(BaseModel):
    """A part of a results file; keys that this version does not know are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def _same_length(part: BaseModel, *names: str, missing_allowed: bool = False) -> None:
    lengths = {name: len(getattr(part, name)) for name in names}
    if missing_allowed:
        lengths = {name: length for name, length in lengths.items() if length}
    if len(set(lengths.values())) > 1:
        raise ValueError("lists must be of one length, given " + ", ".join(f"{n}: {k}" for n, k in lengths.items()))


class Hardware(Part):
    """Where the numbers were measured."""

    cpu: Label = ""
    threads: Count | None = None
    torch: Label = ""
    device: Label = ""


class Molecule(Part):
    """One molecule for the 3D view: atomic numbers and positions in Å."""

    species: list[Annotated[int, Field(ge=1, le=118)]]
    positions: list[Vector]

    @model_validator(mode="after")
    def _check(self) -> Self:
        _same_length(self, "species", "positions")
        return self


class ErrorStatistics(Part):
    """Statistics of an equivariance error over rotations and frames, in meV/Å (forces) or meV (energy)."""

    mean: Number = math.nan
    median: Number = math.nan
    p99: Number = math.nan
    max: Number = math.nan
    ci95: tuple[Number, Number] = (math.nan, math.nan)
    rotations: Count | None = None
    frames: Count | None = None


class QuantizerError(Part):
    """What one quantizer contributes to the equivariance error of the forces, in meV/Å."""

    quantizer: Label
    lee_forces_meV_A: Number = math.nan


class Saturation(Part):
    """Fraction of the values that one quantizer clips."""

    quantizer: Label
    clipped: Number = math.nan


class AxisMap(Part):
    """Equivariance error of the forces (meV/Å) for turns by one angle (degrees) around many axes (unit vectors)."""

    axes: list[Vector]
    lee_forces_meV_A: list[Number]
    angle_deg: Number = math.nan

    @model_validator(mode="after")
    def _check(self) -> Self:
        _same_length(self, "axes", "lee_forces_meV_A")
        return self


class Parity(Part):
    """Reference and predicted values: force components in eV/Å, energies in eV relative to their mean."""

    forces_ref: list[Number] = []
    forces_pred: list[Number] = []
    energy_ref: list[Number] = []
    energy_pred: list[Number] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        _same_length(self, "forces_ref", "forces_pred")
        _same_length(self, "energy_ref", "energy_pred")
        return self


class Curves(Part):
    """What was logged during training, one entry per logged step."""

    step: list[Count]
    train_loss: list[Number] = []
    forces_mae_meV_A: list[Number] = []
    energy_mae_meV: list[Number] = []
    phase: list[Label] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        _same_length(self, "step", "train_loss", "forces_mae_meV_A", "energy_mae_meV", "phase", missing_allowed=True)
        return self


class ForceErrors(Part):
    """Errors of the forces on the atoms of one element, in meV/Å."""

    mae_meV_A: Number = math.nan
    rmse_meV_A: Number = math.nan


class Model(Part):
    """What was measured of one force field."""

    name: Label
    recipe: Label
    path: Label = ""
    model_sha256: Label = ""
    version: Label = ""
    frames: Count | None = None
    source: Label = ""
    energy_mae_meV: Number = math.nan
    energy_rmse_meV: Number = math.nan
    energy_offset_meV: Number = math.nan
    energy_mae_meV_atom: Number = math.nan
    energy_rmse_meV_atom: Number = math.nan
    forces_mae_meV_A: Number = math.nan
    forces_rmse_meV_A: Number = math.nan
    stress_mae_meV_A3: Number = math.nan
    forces_by_element: dict[Label, ForceErrors] = {}
    backend: Label = ""
    lee_forces_meV_A: ErrorStatistics | None = None
    lee_energy_meV: ErrorStatistics | None = None
    lee_by_layer: list[QuantizerError] = []
    lee_map: AxisMap | None = None
    saturation: list[Saturation] = []
    stored_bytes: Count | None = None
    fp32_bytes: Count | None = None
    stored_by_tensor: dict[Label, Count] = {}
    parity: Parity | None = None
    curves: Curves | None = None


class EnergySeries(Part):
    """Total energy along one run at constant energy, relative to its first value."""

    name: Label
    recipe: Label = ""
    timestep_fs: Number = math.nan
    temperature_K: Number = math.nan
    time_ps: list[Number]
    total_energy_meV_atom: list[Number]
    drift_meV_atom_ps: Number = math.nan
    ms_per_step: Number = math.nan

    @model_validator(mode="after")
    def _check(self) -> Self:
        _same_length(self, "time_ps", "total_energy_meV_atom")
        return self


class Results(Part):
    """One results file."""

    format: str
    format_version: int
    version: Label = ""
    title: Label = "Quantization report"
    hardware: Hardware = Hardware()
    source: Label = ""
    source_fingerprint: Label = ""
    frames: Count | None = None
    structure: Molecule | None = None
    models: Annotated[list[Model], Field(min_length=1)]
    nve: list[EnergySeries] = []
    notes: list[Label] = []
