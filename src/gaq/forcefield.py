"""A force field: model, recipe and provenance, with one file format. See docs/format.md."""

import copy
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
from pydantic import ValidationError
from torch import Tensor

import gaq.threads  # noqa: F401 - PyTorch in a forked child must not wait for threads that stayed behind
from gaq import tensorfile
from gaq.compress.swap import build, freeze, saturation, single_quantizers
from gaq.errors import DataError, GaqError, ModelFileError, SpeciesError, StructureError
from gaq.graph import Graph, Prediction, Predictor, build_graph, collate
from gaq.models.transformer.extrapolation import nearest_known
from gaq.models.transformer.network import ModelConfig, Transformer
from gaq.nn.overflow import overflow_told
from gaq.recipe import Recipe, first_fault
from gaq.structure import Structure

if TYPE_CHECKING:
    from gaq.adapters.ase import GaqCalculator
    from gaq.data import Frames

FORMAT_VERSION = 2
ENTRY = "gaq"  # of the file's metadata: the header
ENERGIES, BATCH = 200, 16  # structures from which the range of outputs is taken, well inside of its bounds; at a time


@dataclass(eq=False)
class ForceField:
    """A model that is ready to predict.

    Args:
        model: float, or frozen by `gaq.compress.swap.freeze`.
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

    @property
    def sha256(self) -> str:
        """Digest of what computes: shape, recipe and tensors; the same in memory and from a file, audited or not."""
        header = {"model": self.config.model_dump(mode="json"), "recipe": self.recipe.model_dump(mode="json")}
        return tensorfile.digest(header, {name: t.detach().cpu() for name, t in self.model.state_dict().items()})

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
        with overflow_told(self.model):
            prediction = self.model(graph.to(self.device), stress=stress)
        return check_finite(prediction.mapped(Tensor.cpu))

    __call__ = predict

    def calculator(self, backend: str = "auto") -> "GaqCalculator":
        """Return an ASE calculator: energy, free_energy, energies, forces, stress.

        Args:
            backend: "engine" for the native engine, "torch" for its definition, "auto" for the engine where there is one.

        Raises:
            ConfigError: an unknown backend.
            EngineError: the engine was asked for, and is not installed or does not compute this model.
        """
        from gaq.adapters.ase import GaqCalculator
        from gaq.backends.choice import on_backend
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
        evenly spread; beyond them the model holds back. Predictions within do not change.

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
        plain = build(self.config, Recipe(name="fp32")).state_dict()
        return sum(t.numel() * t.element_size() for t in plain.values())

    def saturation(self, graphs: list[Graph]) -> list[tuple[str, float]]:
        """Return the share of clipped activations of each quantizer."""
        return saturation(self.model, graphs)

    def single_quantizer_variants(self) -> dict[str, Predictor]:
        """Return, for each activation quantizer, a force field in which only it is active."""
        return {name: ForceField(model, self.recipe, self.provenance)
                for name, model in single_quantizers(self.model).items()}

    def save(self, path: str | Path) -> None:
        """Write the force field as one safetensors file, atomically; an old file is replaced.

        Raises:
            OutputError: the disk is full or the folder cannot be written; an old file stays as it was.
        """
        field = self if self.model.dtype == torch.float32 else self.to(dtype=torch.float32)
        state = {name: t.detach().cpu().contiguous() for name, t in field.model.state_dict().items()}
        header = {
            "format_version": FORMAT_VERSION, "gaq_version": version("gaq"),
            "model": self.config.model_dump(mode="json"), "recipe": self.recipe.model_dump(mode="json"),
            "units": {"energy": "eV", "length": "Ang", "forces": "eV/Ang"}, "provenance": _plain(self.provenance),
        }
        tensorfile.write(path, ENTRY, header | {"sha256": tensorfile.digest(header, state)}, state)


def load(path: str | Path) -> ForceField:
    """Read a force field; nothing in the file is executed, and no memory is taken but for what the file holds.

    Raises:
        ModelFileError: no such file, not a gaq model (a pickle, say), truncated, damaged, or newer than this program.
    """
    header, state = tensorfile.read(path, ENTRY, "model")
    _check_version(path, header)
    if header.pop("sha256", None) != tensorfile.digest(header, state):
        raise ModelFileError(f"{path}: the checksum does not match, the file is damaged or was edited; get it again")
    try:
        config, recipe = ModelConfig.model_validate(header["model"]), Recipe.model_validate(header["recipe"])
        provenance = header.get("provenance", {})
        if not isinstance(provenance, dict):
            raise ModelFileError("provenance is no JSON object")
        model = build(config, recipe)
        if header["format_version"] == 1:  # what training saw is not known
            state |= {name: torch.zeros_like(getattr(model, name), device="cpu") for name in ("closest", "energy_range")}
        _fill(model, state)
    except ValidationError as error:
        raise ModelFileError(f"{path}: header and tensors do not make a model: {first_fault(error)}") from error
    except (KeyError, GaqError) as error:
        raise ModelFileError(f"{path}: header and tensors do not make a model: {error}") from error
    return ForceField(model, recipe, provenance)


def frozen(model: Transformer, recipe: Recipe, provenance: dict[str, Any]) -> ForceField:
    """Return the deployable force field of a float or prepared model."""
    return ForceField(freeze(model), recipe, provenance)


def _check_version(path: str | Path, header: dict[str, Any]) -> None:
    found = header.get("format_version")
    if type(found) is not int or found < 1:  # True is an int to isinstance
        raise ModelFileError(f"{path}: the header is damaged (format_version is {found!r}); get the file again")
    if found > FORMAT_VERSION:
        raise ModelFileError(f"{path} has format version {found}, newer than this program reads ({FORMAT_VERSION}); "
                             "upgrade gaq")


def _fill(model: Transformer, state: dict[str, Tensor]) -> None:
    """Give a model without values the tensors of a file, once they are found to be what it needs.

    Raises:
        ModelFileError: missing or unknown tensors, other types or shapes, values that are not finite or out of range.
    """
    needed = model.state_dict()
    odd = sorted(needed.keys() ^ state.keys())
    if odd:
        raise ModelFileError(f"the tensor {odd[0]!r} is {'missing' if odd[0] in needed else 'unknown'}")
    for name, given in state.items():
        kind, shape = needed[name].dtype, needed[name].shape
        if given.dtype != kind or given.shape != shape:
            raise ModelFileError(f"the tensor {name!r} is {given.dtype} of shape {tuple(given.shape)}, and should be "
                                 f"{kind} of shape {tuple(shape)}")
        if given.is_floating_point() and not bool(torch.isfinite(given).all()):
            raise ModelFileError(f"the tensor {name!r} holds values that are not finite")
    model.load_state_dict(state, assign=True)
    for name, module in model.named_modules():
        if hasattr(module, "check"):
            try:
                module.check()
            except ModelFileError as error:
                raise ModelFileError(f"{name or 'the model'}: {error}") from error


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


def check_frames(frames: "Frames", known: tuple[int, ...]) -> None:
    """Refuse frames that a model of these elements cannot compute, before any work is done with them.

    Raises:
        SpeciesError, StructureError: an element that is not known, a charge or unpaired electrons; the frame is named.
    """
    for index, frame in enumerate(frames):
        unknown = sorted(set(frame.species.tolist()) - set(known))
        if unknown:
            names, taught = (", ".join(chemical_symbols[z] for z in each) for each in (unknown, known))
            raise SpeciesError(f"{frames.place(index)}: the model does not know {names}; it is made for {taught}. Leave "
                               "such frames out, or train a model on them")
        if frame.charge or frame.spin:
            raise StructureError(f"{frames.place(index)} has charge {frame.charge:g} and spin {frame.spin:g}, which the "
                                 "model has no terms for; leave such frames out")


def check_finite(prediction: Prediction) -> Prediction:
    """Return a prediction whose energies, forces and stress are all finite.

    Raises:
        GaqError: one is not.
    """
    for name, values in (("energy", prediction.energy), ("force", prediction.forces), ("stress", prediction.stress)):
        if values is not None and not bool(torch.isfinite(values).all()):
            raise GaqError(f"the model gives a value of {name} that is not finite; the geometry is far outside of what it "
                           "was trained on (atoms too close?), or the model is damaged")
    return prediction
