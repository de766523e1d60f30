"""A force field: model, recipe and provenance, with one file format. See docs/format.md."""

import copy
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gaq.errors import DataError, GaqError, ModelFileError, SpeciesError, StructureError, did_you_mean
from gaq.files import write_atomically
from gaq.graph import Graph, Prediction, Predictor, build_graph, collate
from gaq.nn.extrapolation import check_training_range, nearest_known
from gaq.nn.model import ModelConfig, Transformer
from gaq.recipe import Recipe
from gaq.structure import Structure
from gaq.transform import build, freeze, saturation, single_quantizers

if TYPE_CHECKING:
    from gaq.md.calculator import GaqCalculator

FORMAT_VERSION = 2
ENERGIES, BATCH = 200, 16  # structures from which the range of outputs is taken, well inside of its bounds; at a time


@dataclass(eq=False)
class ForceField:
    """A model that is ready to predict.

    Args:
        model: float, or frozen by `gaq.transform.freeze`.
        recipe: how the model is quantized.
        provenance: how it was made: training configuration, data fingerprint, curves; plain JSON.
    """

    model: Transformer
    recipe: Recipe
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    @property
    def config(self) -> ModelConfig:
        """Shape of the model."""
        return self.model.config

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers the model knows."""
        return self.config.species

    @property
    def cutoff(self) -> float:
        """Å."""
        return self.config.cutoff

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.energy_scale.device

    @property
    def nearest(self) -> NDArray[np.float64]:
        """How near training saw two atoms by their atomic numbers, Å, less 5 %; nearer, the model holds back."""
        return nearest_known(self.model.closest, self.species, self.cutoff)

    def graph(self, structure: Structure) -> Graph:
        """Return the graph of a structure at the model's cutoff."""
        return build_graph(structure, self.cutoff)

    def predict(self, graph: Graph, stress: bool = False) -> Prediction:
        """Return energy (eV), forces (eV/Å) and, on request, stress (eV/Å³) of a graph, float64, on the CPU.

        Raises:
            SpeciesError: an element the model was not trained on.
            StructureError: positions that are not finite; stress asked for without a periodic cell.
            GaqError: the model itself gives a result that is not finite.
        """
        check_graph(graph, self.species)
        if stress and not bool((torch.linalg.det(graph.cell).abs() > 0).all()):
            raise StructureError("stress needs a cell that is periodic in three directions")
        prediction = self.model(graph.to(self.device), stress=stress)
        if not bool(torch.isfinite(prediction.forces).all() & torch.isfinite(prediction.energy).all()):
            raise GaqError("the model gives an energy or force that is not finite; the geometry is far outside of what it "
                           "was trained on (atoms too close?), or the model is damaged")
        return prediction.mapped(Tensor.cpu)

    __call__ = predict

    def calculator(self, backend: str = "auto") -> "GaqCalculator":
        """Return an ASE calculator: energy, free_energy, energies, forces, stress.

        Args:
            backend: "engine" for the native engine, "torch" for its definition, "auto" for the engine where there is one.

        Raises:
            ConfigError: an unknown backend.
            EngineError: the engine was asked for, and is not installed or does not compute this model.
        """
        from gaq.engine.backend import on_backend
        from gaq.md.calculator import GaqCalculator
        return GaqCalculator(on_backend(self, backend))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "ForceField":
        """Return a copy on another device or computing in another floating-point precision."""
        model = copy.deepcopy(self.model).to(device=device, dtype=dtype)
        for name in ("energy_scale", "energy_offsets", "closest", "energy_range"):  # total energies of 1e4 eV need float64
            setattr(model, name, getattr(self.model, name).clone().to(model.energy_scale.device))
        return ForceField(model, self.recipe, self.provenance)

    def with_training_range(self, structures: Iterable[Structure]) -> "ForceField":
        """Return a copy that knows what these structures show it: the training data of an older file, say.

        Kept are the shortest distance of each two species, and the range of the network's outputs in up to 200 structures,
        evenly spread; beyond them the model holds back (`gaq.nn.extrapolation`). Predictions within do not change.

        Raises:
            DataError: no structures.
            SpeciesError: an element the model was not trained on.
        """
        graphs = [self.graph(structure) for structure in structures]
        if not graphs:
            raise DataError("a training range needs at least one structure")
        for graph in graphs:
            check_graph(graph, self.species)
        model = copy.deepcopy(self.model)
        model.learn_distances(graphs)
        some = graphs[:: -(-len(graphs) // ENERGIES)]
        model.learn_energies(collate(some[k : k + BATCH]).to(self.device) for k in range(0, len(some), BATCH))
        return ForceField(model, self.recipe, self.provenance)

    def stored_bytes(self) -> dict[str, int]:
        """Return the bytes that each tensor takes in the model file."""
        return {name: t.numel() * t.element_size() for name, t in self.model.state_dict().items()}

    def fp32_bytes(self) -> int:
        """Return the bytes that the same model takes when no leaf is quantized."""
        plain = Transformer(self.config).state_dict()
        return sum(t.numel() * t.element_size() for t in plain.values())

    def saturation(self, graphs: list[Graph]) -> list[tuple[str, float]]:
        """Return the share of clipped activations of each quantizer."""
        return saturation(self.model, graphs)

    def single_quantizer_variants(self) -> dict[str, Predictor]:
        """Return, for each activation quantizer, a force field in which only it is active."""
        return {name: ForceField(model, self.recipe, self.provenance)
                for name, model in single_quantizers(self.model).items()}

    def save(self, path: str | Path) -> None:
        """Write the force field as one safetensors file, atomically.

        Raises:
            OutputError: the disk is full or the folder cannot be written; an old file stays as it was.
        """
        state = {name: t.detach().cpu().contiguous() for name, t in self.model.state_dict().items()}
        header = {
            "format_version": FORMAT_VERSION, "gaq_version": version("gaq"),
            "model": self.config.model_dump(mode="json"), "recipe": self.recipe.model_dump(mode="json"),
            "units": {"energy": "eV", "length": "Ang", "forces": "eV/Ang"}, "provenance": _plain(self.provenance),
        }
        sealed = json.dumps(header | {"sha256": _digest(header, state)}, sort_keys=True, allow_nan=False)
        write_atomically(path, save(state, metadata={"gaq": sealed}))


def load(path: str | Path) -> ForceField:
    """Read a force field; nothing in the file is executed.

    Raises:
        ModelFileError: no such file, not a gaq model (a pickle, say), truncated, damaged, or newer than this program.
    """
    path = Path(path)
    text, state = _read(path)
    header = _header(path, text)
    if header.pop("sha256", None) != _digest(header, state):
        raise ModelFileError(f"{path}: the checksum does not match, the file is damaged or was edited; get it again")
    try:
        config, recipe = ModelConfig.model_validate(header["model"]), Recipe.model_validate(header["recipe"])
        model = build(config, recipe, frozen=True)
        if header["format_version"] == 1:
            state |= {"closest": model.closest.clone(), "energy_range": model.energy_range.clone()}  # not known
        model.load_state_dict(state)
        check_training_range(model.closest, model.energy_range, config.cutoff)
    except (KeyError, TypeError, ValueError, RuntimeError, GaqError) as error:  # a header may hold anything
        raise ModelFileError(f"{path}: header and tensors do not make a model: {str(error).splitlines()[0]}") from error
    return ForceField(model, recipe, header.get("provenance", {}))


def frozen(model: Transformer, recipe: Recipe, provenance: dict[str, Any]) -> ForceField:
    """Return the deployable force field of a float or prepared model."""
    return ForceField(freeze(model), recipe, provenance)


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.safetensors")] if path.parent.is_dir() else []
        raise ModelFileError(f"there is no model file at {path}{did_you_mean(path.name, near)}")
    try:
        with safe_open(path, framework="pt") as source:
            metadata = source.metadata() or {}
            state = {name: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        with open(path, "rb") as file:
            pickled = file.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")
        what = "a pickle or zip archive, which gaq never opens" if pickled else f"not a whole safetensors file ({error})"
        raise ModelFileError(f"{path} is {what}; save models with ForceField.save") from error
    if "gaq" not in metadata:
        raise ModelFileError(f"{path} is a safetensors file, but not a gaq model: its header has no 'gaq' entry")
    return metadata["gaq"], state


def _header(path: Path, text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
        found = int(header["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: the header is damaged ({error}); get the file again") from error
    if found > FORMAT_VERSION:
        raise ModelFileError(f"{path} has format version {found}, newer than this program reads ({FORMAT_VERSION}); "
                             "upgrade gaq")
    return header


def _digest(header: dict[str, Any], state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the header (JSON, keys sorted) and of every tensor by name: name, dtype, shape, bytes."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(state):
        t = state[name].contiguous()
        digest.update(f"\n{name} {t.dtype} {tuple(t.shape)}\n".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b"")
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Return JSON data with NaN and infinities as null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def check_graph(graph: Graph, known: tuple[int, ...]) -> None:
    """Refuse a graph without atoms, with coordinates that are not finite, or with elements that are not known.

    Raises:
        StructureError, SpeciesError: as said.
    """
    if len(graph.species) == 0:
        raise StructureError("a graph needs at least one atom")
    if not bool(torch.isfinite(graph.positions).all() & torch.isfinite(graph.cell).all()):
        raise StructureError("positions and cell must be finite numbers in Å")
    unknown = sorted(set(graph.species.unique().tolist()) - set(known))
    if unknown:
        names = ", ".join(chemical_symbols[z] for z in unknown)
        raise SpeciesError(f"the model does not know {names}; it was trained on "
                           f"{', '.join(chemical_symbols[z] for z in known)}. Use or train another model")
