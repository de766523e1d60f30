"""A model as it is stored: shape, recipe, tensors and provenance, with one file format. See docs/format.md."""

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from gaq import tensorfile
from gaq.errors import GaqError, ModelFileError
from gaq.leaves import Schema
from gaq.models import USUAL, model_kind
from gaq.models.contract import Config, ModelKind
from gaq.recipe import FLOAT, Recipe, first_fault

FORMAT_VERSION = 3
ENTRY = "gaq"  # of the file's metadata: the header


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A deployed model as data; what computes it is a matter of `gaq.backends`.

    Args:
        config: its shape and species, of the kind it says.
        recipe: how it is quantized.
        tensors: by name, as `schema` says.
        provenance: how it was made: training configuration, data fingerprint, curves; plain JSON.

    Raises:
        ModelFileError: tensors that are missing, unknown, of another type or shape, not finite, or out of range.
        ConfigError: a recipe that does not fit the model.
    """

    config: Config
    recipe: Recipe
    tensors: Mapping[str, NDArray]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        needed = self.schema.tensors(self.recipe)
        odd = sorted(needed.keys() ^ self.tensors.keys())
        if odd:
            raise ModelFileError(f"the tensor {odd[0]!r} is {'missing' if odd[0] in needed else 'unknown'}")
        for name, values in self.tensors.items():
            needed[name].check(name, values)
        self.kind.check(self.config, self.tensors)

    @property
    def kind(self) -> ModelKind:
        """What knows models of this kind."""
        return model_kind(self.config.kind)

    @property
    def schema(self) -> Schema:
        """Leaves and other tensors."""
        return self.kind.schema(self.config)

    @property
    def nearest(self) -> NDArray[np.float64] | None:
        """How near training saw two atoms by their atomic numbers, Å; see `gaq.graph.Potential`."""
        return self.kind.nearest(self.config, self.tensors)

    @cached_property
    def sha256(self) -> str:
        """Digest of what computes: shape, recipe and tensors; the same in memory and from a file, audited or not."""
        return tensorfile.digest(self._computes(), self.tensors)

    def bytes_by_tensor(self) -> dict[str, int]:
        """Return the bytes that each tensor takes in the model file."""
        return {name: values.nbytes for name, values in self.tensors.items()}

    def bytes_in_float32(self) -> int:
        """Return the bytes that the same model takes when no leaf is quantized."""
        return sum(kind.bytes for kind in self.schema.tensors(FLOAT).values())

    def save(self, path: str | Path) -> None:
        """Write the model as one safetensors file, atomically; an old file is replaced.

        Raises:
            OutputError: the disk is full or the folder cannot be written; an old file stays as it was.
        """
        header = self._computes() | {
            "format_version": FORMAT_VERSION, "gaq_version": version("gaq"),
            "units": {"energy": "eV", "length": "Ang", "forces": "eV/Ang"}, "provenance": _plain(self.provenance)}
        tensorfile.write(path, ENTRY, header | {"sha256": tensorfile.digest(header, self.tensors)}, self.tensors)

    def _computes(self) -> dict[str, Any]:
        return {"model": self.config.model_dump(mode="json"), "recipe": self.recipe.model_dump(mode="json")}


def read_model(path: str | Path) -> StoredModel:
    """Read a model file; nothing in it is executed, and no memory is taken but for what it holds.

    Args:
        path: of the file; or the name of a model that comes with gaq, see `located`.

    Raises:
        ModelFileError: no such file, not a gaq model (a pickle, say), truncated, damaged, or newer than this program.
    """
    path = located(path)
    header, tensors = tensorfile.read(path, ENTRY, "model")
    _check_version(path, header)
    if header.pop("sha256", None) != tensorfile.digest(header, tensors):
        raise ModelFileError(f"{path}: the checksum does not match, the file is damaged or was edited; get it again")
    try:
        kind = model_kind(header["model"].get("kind", USUAL))
        kind.earlier(header["format_version"], header, tensors)
        config, recipe = kind.config.model_validate(header["model"]), Recipe.model_validate(header["recipe"])
        provenance = header.get("provenance", {})
        if not isinstance(provenance, dict):
            raise ModelFileError("provenance is no JSON object")
        return StoredModel(config, recipe, tensors, provenance)
    except ValidationError as error:
        raise ModelFileError(f"{path}: header and tensors do not make a model: {first_fault(error)}") from error
    except (KeyError, TypeError, AttributeError, ValueError, GaqError) as error:
        raise ModelFileError(f"{path}: header and tensors do not make a model: {error}") from error


def located(model: str | Path) -> Path:
    """Return the file of a model: where a path says, else the one that comes with gaq by that name, as ethanol-w4a16."""
    if os.path.exists(model):
        return Path(model)
    folders = (Path(folder) / "pretrained" for folder in sys.modules["gaq"].__path__)
    names = {file.stem: file for folder in folders for file in folder.glob("*.safetensors")}
    return names.get(str(model), Path(model))


def _check_version(path: str | Path, header: dict[str, Any]) -> None:
    found = header.get("format_version")
    if type(found) is not int or found < 1:  # True is an int to isinstance
        raise ModelFileError(f"{path}: the header is damaged (format_version is {found!r}); get the file again")
    if found > FORMAT_VERSION:
        raise ModelFileError(f"{path} has format version {found}, newer than this program reads ({FORMAT_VERSION}); "
                             "upgrade gaq")


def _plain(value: Any) -> Any:
    """Return JSON data with NaN and infinities as null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
