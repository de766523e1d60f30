"""An engine of the native library: memory, a graph, and calls whose failures are Python errors."""

import ctypes
import os
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaq.backends.native.errors import BUSY, BY_STATUS, EngineBusy, EngineError
from gaq.backends.native.library import Dynamics, Facts, ModelFacts, library
from gaq.errors import StructureError
from gaq.graph import Graph
from gaq.threads import MOST_THREADS, Lock

MESSAGE = 512  # bytes of a reason
ISA = "GAQ_ISA"  # environment variable that forces an instruction set


class Moving(Protocol):
    """What `NativeEngine.advance` changes in place: the arrays of a simulation, of N atoms in R structures."""

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    forces: NDArray[np.float64]
    potential: NDArray[np.float64]
    kinetic: NDArray[np.float64]


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
        self._graph: object = None
        self._quantizers: int | None = None
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

    @property
    def graph(self) -> object:
        """Token of the graph that was set; None where there is none, as in a forked child at first."""
        return self._graph if self._process == os.getpid() else None

    def facts(self) -> Facts:
        """Return instruction set, threads and memory."""
        facts = Facts(size=ctypes.sizeof(Facts))
        self._call("gaq_engine_facts", ctypes.byref(facts))
        return facts

    def model_facts(self) -> ModelFacts:
        """Return kind, cutoff, hops and species of the model that the blob holds."""
        facts = ModelFacts(size=ctypes.sizeof(ModelFacts))
        self._call("gaq_engine_model_facts", ctypes.byref(facts))
        return facts

    def set_graph(self, graph: Graph) -> object:
        """Take the species and edges of a graph; edges beyond the cutoff have no effect until they come within it.

        Returns: a token, which `graph` is until another graph is set.
        """
        species, centers, neighbours = (np.ascontiguousarray(values, dtype=np.int64)
                                        for values in (graph.species, graph.centers, graph.neighbours))
        offsets = None
        if np.asarray(graph.cell).any():
            cells = np.asarray(graph.cell)[np.asarray(graph.batch)[centers]]
            offsets = np.ascontiguousarray(np.einsum("ev,eva->ea", np.asarray(graph.shifts), cells))
        with self.lock:
            self._graph, self.atoms = None, 0
            self._call("gaq_engine_set_graph", len(species), species, len(centers), centers, neighbours, offsets)
            self._graph, self.atoms = object(), len(species)
            self._given, self._forces = _Buffer((self.atoms, 3)), _Buffer((self.atoms, 3))
            self._energies = _Buffer((self.atoms,))
            return self._graph

    def set_offsets(self, offsets: NDArray[np.float64]) -> None:
        """Change the offsets (E, 3) in Å of the edges of the graph, in its order: the cell changes, the images stay.

        Results have the bits of those after `set_graph` with these offsets; `graph` stays the token that it is.

        Raises:
            StructureError: offsets of another shape.
            EngineError: no graph was set, or one of another number of edges.
        """
        if np.ndim(offsets) != 2 or np.shape(offsets)[1] != 3:
            raise StructureError(f"offsets must have shape (edges, 3), not {np.shape(offsets)}")
        self._call("gaq_engine_set_offsets", len(offsets), np.ascontiguousarray(offsets, np.float64))

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
                reference: NDArray[np.float64], state: Moving) -> None:
        """Go on for up to `steps` steps of molecular dynamics; `gaq_engine_run` of the header."""
        shape = (self.atoms, 3)
        if any(a.shape != shape or a.dtype != np.float64 or not a.flags.c_contiguous for a in (
                reference, state.positions, state.velocities, state.forces)) or len(masses) != self.atoms:
            raise StructureError(f"positions, velocities and forces must be float64 arrays of shape {shape}")
        self._call("gaq_engine_run", ctypes.addressof(bath), steps, masses, batch, structures, reference, state.positions,
                   state.velocities, state.forces, state.potential, state.kinetic)

    def saturation(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return how many values of each quantizer were beyond its range, and how many there were in all."""
        if self._quantizers is None:
            self._quantizers = self.facts().quantizers
        clipped, seen = np.zeros((2, max(self._quantizers, 1)), np.uint64)
        self._call("gaq_engine_saturation", clipped, seen)
        return clipped[:self._quantizers], seen[:self._quantizers]

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
