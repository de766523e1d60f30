"""Finding and loading the native library, and its functions with their C types."""

import ctypes
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gaq.backends.native.errors import EngineMissing

ABI_VERSION = 2
NAMES = {"linux": "libgaq_engine.so", "darwin": "libgaq_engine.dylib", "win32": "gaq_engine.dll"}


class Facts(ctypes.Structure):
    """`gaq_facts` of the header."""

    _fields_ = (("size", ctypes.c_uint64), ("isa", ctypes.c_char * 16), ("threads", ctypes.c_int32),
                ("quantizers", ctypes.c_int32), ("weight_bytes", ctypes.c_uint64), ("table_bytes", ctypes.c_uint64),
                ("workspace_bytes", ctypes.c_uint64), ("pairs", ctypes.c_uint64))


class ModelFacts(ctypes.Structure):
    """`gaq_model_facts` of the header."""

    _fields_ = (("size", ctypes.c_uint64), ("kind", ctypes.c_char * 32), ("cutoff", ctypes.c_double),
                ("blob_version", ctypes.c_uint32), ("hops", ctypes.c_int32), ("rounding_hops", ctypes.c_int32),
                ("takes_charge", ctypes.c_int32), ("takes_spin", ctypes.c_int32), ("species_count", ctypes.c_int32),
                ("species", ctypes.c_int32 * 118))


class Ceilings(ctypes.Structure):
    """`gaq_ceilings` of the header."""

    _fields_ = (("float32", ctypes.c_double), ("int16", ctypes.c_double), ("int8", ctypes.c_double),
                ("bandwidth", ctypes.c_double))


class Dynamics(ctypes.Structure):
    """`gaq_dynamics` of the header."""

    _fields_ = (("timestep", ctypes.c_double), ("friction", ctypes.c_double), ("temperature", ctypes.c_double),
                ("seed", ctypes.c_uint64), ("step", ctypes.c_int64), ("reach", ctypes.c_double),
                ("hottest", ctypes.c_double))


@dataclass(frozen=True, eq=False)
class Library:
    """The loaded library.

    Args:
        path: where it is.
        functions: its functions.
    """

    path: Path
    functions: ctypes.CDLL

    @property
    def best_isa(self) -> str:
        """The best instruction set of this processor and build."""
        return str(self.functions.gaq_best_isa().decode())


def candidates() -> list[Path]:
    """Return where the library may lie: with an editable install it is beside the installed package, not the source."""
    name = NAMES.get(sys.platform, "libgaq_engine.so")
    return [Path(folder) / "lib" / name for folder in sys.modules["gaq"].__path__]


@lru_cache(maxsize=1)
def library() -> Library:
    """Load the library.

    Raises:
        EngineMissing: it was not built, or is of another version.
    """
    places = candidates()
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise EngineMissing(f"the native engine is not installed (looked for {', '.join(map(str, places))}); install a "
                            "C++ compiler and then gaq again, or use backend=\"torch\"")
    try:
        functions = ctypes.CDLL(str(path))
        found = int(functions.gaq_abi_version())
    except (OSError, AttributeError) as error:
        raise EngineMissing(f"the native engine at {path} cannot be loaded: {error}; install gaq again") from error
    if found != ABI_VERSION:
        raise EngineMissing(f"the native engine at {path} has interface {found}, and this gaq needs {ABI_VERSION}; "
                            "install gaq again")
    _declare(functions)
    return Library(path, functions)


def _declare(f: ctypes.CDLL) -> None:
    p, i32, i64, size = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_size_t
    f.gaq_best_isa.restype = ctypes.c_char_p
    f.gaq_engine_message.restype = ctypes.c_char_p
    f.gaq_engine_destroy.restype = None
    for name, arguments in {
        "gaq_engine_create": [ctypes.c_char_p, size, ctypes.c_char_p, ctypes.c_int, p, p, size],
        "gaq_engine_destroy": [p],
        "gaq_engine_message": [p],
        "gaq_engine_facts": [p, p],
        "gaq_engine_model_facts": [p, p],
        "gaq_engine_set_graph": [p, i64, p, i64, p, p, p],
        "gaq_engine_set_offsets": [p, i64, p],
        "gaq_engine_compute": [p, p, p, p, p],
        "gaq_engine_saturation": [p, p, p],
        "gaq_engine_run": [p, p, i64, p, p, i32, p, p, p, p, p, p],
        "gaq_measure_ceilings": [ctypes.c_char_p, p],
    }.items():
        getattr(f, name).argtypes = arguments
