"""Force fields as people hold them: a stored model and what computes it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gaq.adapters.ase import GaqCalculator
from gaq.backends import compute, variants
from gaq.backends.contract import Computed, OfStored
from gaq.backends.native.potential import emitter
from gaq.errors import OutputError
from gaq.files import write_atomically
from gaq.graph import Graph, Prediction
from gaq.models.contract import Config
from gaq.recipe import Recipe
from gaq.stored import StoredModel, read_model


class ForceField(OfStored):
    """A model that is ready to predict. What computes is made when it is first needed.

    Args:
        stored: shape, recipe, tensors, provenance.
        backend: "engine" for the native engine, "torch" for the definition on PyTorch, "auto" for the engine where it can.
        threads: of the engine; None for as many as PyTorch would use. Results do not depend on them.
        device, dtype: of the definition on PyTorch, which computes if one of them is given: "cuda", "float64".
    """

    def __init__(self, stored: StoredModel, backend: str = "auto", threads: int | None = None, device: str | None = None,
                 dtype: str | None = None) -> None:
        super().__init__(stored)
        self._asked = backend, threads, device, dtype
        self._potential: Computed | None = None

    @property
    def potential(self) -> Computed:
        """What computes.

        Raises:
            ConfigError: an unknown backend.
            EngineError: the engine was asked for, and is not installed or does not compute this model.
            PackageMissing: PyTorch is needed, and not installed.
        """
        if self._potential is None:
            self._potential = compute(self.stored, *self._asked)
        return self._potential

    def on(self, backend: str = "auto", threads: int | None = None, device: str | None = None,
           dtype: str | None = None) -> "ForceField":
        """Return the same model on another backend; arguments as of the class."""
        return ForceField(self.stored, backend, threads, device, dtype)

    @property
    def config(self) -> Config:
        """Shape of the model."""
        return self.stored.config

    @property
    def recipe(self) -> Recipe:
        """How the model is quantized."""
        return self.stored.recipe

    @property
    def provenance(self) -> dict[str, Any]:
        """How it was made; plain JSON."""
        return self.stored.provenance

    @property
    def backend(self) -> str:
        """What computes: "engine" with its instruction set, or "torch"."""
        return self.potential.backend

    @property
    def device(self) -> str:
        """Where the definition on PyTorch computes."""
        return self._asked[2] or "cpu"

    def predict(self, graph: Graph, stress: bool = False) -> Prediction:
        """Return energy (eV), forces (eV/Å) and, on request, stress (eV/Å³) of a graph, as numpy arrays in float64.

        Raises:
            SpeciesError: an element the model was not trained on.
            StructureError: positions that are not finite; stress asked for without a periodic cell.
            GaqError: the model itself gives a result that is not finite.
        """
        return self.potential.predict(graph, stress)

    __call__ = predict

    def saturation(self, graphs: Iterable[Graph]) -> list[tuple[str, float]]:
        """Return, for each activation quantizer, the share of values beyond its range when these graphs are predicted."""
        return self.potential.saturation(graphs)

    def calculator(self, backend: str | None = None) -> GaqCalculator:
        """Return an ASE calculator: energy, free_energy, energies, forces, stress.

        Args:
            backend: as of the class; None for that of this force field.

        Raises:
            as `potential`.
        """
        return GaqCalculator((self if backend is None else self.on(backend, self._asked[1])).potential)

    def quantizers_alone(self) -> dict[str, Computed]:
        """Return, for each activation quantizer by the name of its leaf, a potential in which it alone rounds."""
        return variants(self.stored, *self._asked)

    def export(self, path: str | Path) -> None:
        """Write what the native engine reads, for programs in C and C++, atomically; see docs/format.md. An old file goes.

        Raises:
            NotLowered: the engine does not compute this model.
            OutputError: the disk is full or the folder cannot be written; an old file stays as it was.
        """
        write_atomically(path, emitter(self.stored).blob().data)

    def save(self, path: str | Path) -> None:
        """Write the force field as one safetensors file, atomically; an old file is replaced.

        Raises:
            OutputError: the disk is full or the folder cannot be written; an old file stays as it was.
        """
        self.stored.save(path)


def load(path: str | Path, backend: str = "auto", threads: int | None = None) -> ForceField:
    """Read a force field; nothing in the file is executed, and no memory is taken but for what the file holds.

    Args:
        path: model file; or the name of a model that comes with gaq, as ethanol-w4a16.
        backend, threads: what computes it; see `ForceField`.

    Raises:
        ModelFileError: no such file, not a gaq model (a pickle, say), truncated, damaged, or newer than this program.
    """
    return ForceField(read_model(path), backend, threads)


def export(model: ForceField | str | Path, out: str | Path, overwrite: bool = False) -> None:
    """Write a force field as the one file that the native engine reads, for programs in C and C++: see docs/format.md.

    Args:
        model: a force field, or its file.
        out: the file to write, by custom `*.gaqblob`.
        overwrite: whether a file that is there may go.

    Raises:
        ModelFileError: no model in the file.
        NotLowered: the engine does not compute this model.
        OutputError: `out` exists already, or cannot be written.
    """
    field = load(model) if isinstance(model, (str, Path)) else model
    if Path(out).exists() and not overwrite:
        raise OutputError(f"{out} exists already; replace it with overwrite=True, or choose another path")
    field.export(out)
