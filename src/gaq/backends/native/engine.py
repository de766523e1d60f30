"""A force field on the native engine: graphs in, predictions out, as `gaq.forcefield.ForceField` does."""

import ctypes
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gaq.backends.native.errors import BUSY, BY_STATUS, EngineBusy, EngineError
from gaq.backends.native.library import Dynamics, Facts, library
from gaq.errors import StructureError
from gaq.forcefield import ForceField, check_finite, check_graph
from gaq.graph import Graph, Prediction, build_graph
from gaq.lowering.blob import lower
from gaq.structure import Structure
from gaq.threads import MOST_THREADS, Lock

if TYPE_CHECKING:
    from gaq.dynamics.native import State

MESSAGE = 512  # bytes of a reason
ISA = "GAQ_ISA"  # environment variable that forces an instruction set


class NativeEngine:
    """An engine of the library: memory, a graph, and calls whose failures are Python errors.

    Whoever needs the graph of one call in the next holds `lock` meanwhile, or looks whether `graph` is still the token
    that `set_graph` gave. A copy, an unpickled engine and that of a forked child are made anew, and have no graph.

    Args:
        blob: a lowered force field.
        threads: threads that share out the work, 1 to 256; the result does not depend on them.
        isa: "scalar", "avx2" or "avx512"; None for GAQ_ISA of the environment, or the best.

    Raises:
        EngineMissing, BadBlob, NoSuchInstructionSet: as they say.
        EngineError: too many threads, or none.
    """

    def __init__(self, blob: bytes, threads: int = 1, isa: str | None = None) -> None:
        if not 1 <= threads <= MOST_THREADS:
            raise EngineError(f"threads must be from 1 to {MOST_THREADS}, not {threads}")
        self._made_from = (blob, threads, isa or os.environ.get(ISA) or "")
        self._functions = library().functions
        self.lock = Lock()
        self._create()

    def _create(self) -> None:
        self._handle, self._process = ctypes.c_void_p(), os.getpid()
        self.graph: object = None
        self.atoms = 0
        self._given, self._energies, self._forces = _Buffer((0, 3)), _Buffer((0,)), _Buffer((0, 3))
        blob, threads, isa = self._made_from
        reason = ctypes.create_string_buffer(MESSAGE)
        status = self._functions.gaq_engine_create(blob, len(blob), isa.encode() or None, threads,
                                                   ctypes.byref(self._handle), reason, MESSAGE)
        if status:
            raise BY_STATUS.get(status, EngineError)(f"native engine: {reason.value.decode(errors='replace')}")

    def __del__(self) -> None:
        if getattr(self, "_handle", None) and self._process == os.getpid():
            self._functions.gaq_engine_destroy(self._handle)
            self._handle = ctypes.c_void_p()

    def __reduce__(self) -> tuple[type["NativeEngine"], tuple[bytes, int, str]]:
        return NativeEngine, self._made_from

    def facts(self) -> Facts:
        """Return instruction set, threads and memory."""
        facts = Facts()
        self._call("gaq_engine_facts", ctypes.byref(facts))
        return facts

    def set_graph(self, graph: Graph) -> object:
        """Take the species and edges of a graph; edges beyond the cutoff have no effect until they come within it.

        Returns: a token, which `graph` is until another graph is set.
        """
        structure = graph.batch[graph.centers]
        species, centers, neighbours = (_array(t, np.int64) for t in (graph.species, graph.centers, graph.neighbours))
        offsets = (None if not bool(graph.cell.any())
                   else _array(torch.einsum("ev,eva->ea", graph.shifts, graph.cell[structure]), np.float64))
        with self.lock:
            self.graph, self.atoms = None, 0
            self._call("gaq_engine_set_graph", len(species), species, len(centers), centers, neighbours, offsets)
            self.graph, self.atoms = object(), len(species)
            self._given, self._forces = _Buffer((self.atoms, 3)), _Buffer((self.atoms, 3))
            self._energies = _Buffer((self.atoms,))
            return self.graph

    def compute(self, positions: NDArray[np.float64], virial: bool = False
                ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
        """Return energies (N,) in eV, forces (N, 3) in eV/Å and, if asked for, virials (N, 3, 3) in eV."""
        with self.lock:
            if np.shape(positions) != (self.atoms, 3):
                raise StructureError(f"positions must have shape ({self.atoms}, 3) for the graph that was set, not "
                                     f"{np.shape(positions)}")
            self._given.values[...] = positions
            virials = np.empty((self.atoms, 3, 3)) if virial else None
            self._call("gaq_engine_compute", self._given.address, self._energies.address, self._forces.address, virials)
            return self._energies.values.copy(), self._forces.values.copy(), virials

    def advance(self, bath: Dynamics, steps: int, masses: NDArray[np.float64], batch: NDArray[np.int32], structures: int,
                reference: NDArray[np.float64], state: "State") -> None:
        """Go on for up to `steps` steps of molecular dynamics; `gaq_engine_run` of the header."""
        shape = (self.atoms, 3)
        if any(a.shape != shape or a.dtype != np.float64 or not a.flags.c_contiguous for a in (
                reference, state.positions, state.velocities, state.forces)) or len(masses) != self.atoms:
            raise StructureError(f"positions, velocities and forces must be float64 arrays of shape {shape}")
        self._call("gaq_engine_run", ctypes.addressof(bath), steps, masses, batch, structures, reference, state.positions,
                   state.velocities, state.forces, state.potential, state.kinetic)

    def saturation(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return how many values of each quantizer were beyond its range, and how many there were in all."""
        count = self.facts().quantizers
        clipped, seen = np.zeros(max(count, 1), np.uint64), np.zeros(max(count, 1), np.uint64)
        self._call("gaq_engine_saturation", clipped, seen)
        return clipped[:count], seen[:count]

    def _call(self, name: str, *arguments: Any) -> None:
        given = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
        with self.lock:
            if self._process != os.getpid():  # a forked child: what it inherits may be in the middle of a call
                self._create()
            status = getattr(self._functions, name)(self._handle, *given)
            if status == BUSY:
                raise EngineBusy("native engine: another call on it is under way")
            if status:
                reason = self._functions.gaq_engine_message(self._handle).decode(errors="replace")
                raise BY_STATUS.get(status, EngineError)(f"native engine: {reason}")


class _Buffer:
    """An array whose address is asked for only once, which takes a microsecond or two."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.values = np.empty(shape)
        self.address = self.values.ctypes.data


class NativeForceField:
    """A force field whose predictions come from the native engine; threads may share it, and take turns.

    Args:
        forcefield: what it computes.
        threads, isa: as for `NativeEngine`.

    Raises:
        NotLowered: a model that the engine does not compute.
        EngineMissing: the library was not built.
    """

    def __init__(self, forcefield: ForceField, threads: int = 1, isa: str | None = None) -> None:
        self.forcefield = forcefield
        lowered = lower(forcefield.model)
        self.quantizers, self.table_error = lowered.quantizers, lowered.table_error
        self.engine = NativeEngine(lowered.data, threads, isa)
        self.recipe, self.provenance, self.config = forcefield.recipe, forcefield.provenance, forcefield.config

    @property
    def backend(self) -> str:
        """How it computes."""
        return f"engine ({self.engine.facts().isa.decode()})"

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers the model knows."""
        return self.config.species

    @property
    def cutoff(self) -> float:
        """Å."""
        return self.config.cutoff

    @property
    def nearest(self) -> NDArray[np.float64]:
        """As of the force field that it computes."""
        return self.forcefield.nearest

    def graph(self, structure: Structure) -> Graph:
        """Return the graph of a structure at the model's cutoff."""
        return build_graph(structure, self.cutoff)

    def predict(self, graph: Graph, stress: bool = False) -> Prediction:
        """Return energy (eV), forces (eV/Å) and, on request, stress (eV/Å³) of a graph, float64.

        Raises:
            SpeciesError: an element the model was not trained on.
            StructureError: positions that are not finite; atoms at one place; stress without a cell.
            GaqError: the model itself gives a result that is not finite.
        """
        check_graph(graph, self.species)
        volume = torch.linalg.det(graph.cell).abs() if stress else None
        if volume is not None and not bool((volume > 0).all()):
            raise StructureError("stress needs a cell that is periodic in three directions")
        with self.engine.lock:
            self.engine.set_graph(graph)
            energies, forces, virials = self.engine.compute(_array(graph.positions, np.float64), virial=stress)
        atoms = torch.from_numpy(energies)
        energy = atoms.new_zeros(graph.structures).index_add(0, graph.batch, atoms)
        tensor = None
        if virials is not None and volume is not None:
            total = torch.zeros(graph.structures, 3, 3, dtype=torch.float64).index_add(
                0, graph.batch, torch.from_numpy(virials))
            tensor = 0.5 * (total + total.mT) / volume[:, None, None]
        return check_finite(Prediction(energy, torch.from_numpy(forces), atoms, tensor))

    __call__ = predict

    def saturation(self) -> list[tuple[str, float]]:
        """Return the share of clipped activations of each quantizer since the engine was made."""
        clipped, seen = self.engine.saturation()
        return [(name, float(c) / max(float(n), 1.0)) for name, c, n in zip(self.quantizers, clipped, seen, strict=True)]


def _array(values: torch.Tensor, dtype: type) -> NDArray:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=dtype)
