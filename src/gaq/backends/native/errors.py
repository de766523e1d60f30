"""What can go wrong between a force field and the engine."""

from gaq.errors import GaqError, SpeciesError, StructureError


class EngineError(GaqError):
    """The native engine cannot do what was asked; the message says why and what to do."""


class EngineMissing(EngineError):
    """The library is not there, or is of another version."""


class BadBlob(EngineError):
    """A blob that is truncated, damaged or foreign."""


class NoSuchInstructionSet(EngineError):
    """An instruction set that this processor or build does not have."""


class EngineBusy(EngineError):
    """Two calls at once on one engine of the C interface; `NativeEngine` lets threads take turns."""


class OutOfMemory(EngineError, MemoryError):
    """A graph too large for the memory of this machine."""


BUSY = 10
# By the codes of csrc/include/gaq_engine.h.
BY_STATUS: dict[int, type[GaqError]] = {
    1: EngineError, 2: BadBlob, 3: NoSuchInstructionSet, 4: SpeciesError, 5: StructureError, 6: StructureError,
    7: OutOfMemory, 8: EngineError, 9: EngineError, BUSY: EngineBusy}
