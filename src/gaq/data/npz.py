"""Arrays from npz files of others: numbers only, never objects, and every damage named."""

import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaq.errors import DataError
from gaq.reading import require_file

Arrays = dict[str, NDArray]

# What zipfile and numpy raise for flipped bits: RuntimeError for a file that seems encrypted, the last five for a
# header that numpy evaluates as a literal.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, RuntimeError,
           tokenize.TokenError, SyntaxError, TypeError, OverflowError, MemoryError)


def read_arrays(path: Path, wanted: Iterable[str] | None = None) -> Arrays:
    """Return the arrays of an npz file, or those of them that are `wanted`.

    Raises:
        DataError: the file is missing, damaged or not npz, or holds Python objects.
    """
    require_file(path, DataError, "give the path of a data file")
    name, arrays = "", {}
    try:
        with open(path, "rb") as file:  # numpy would leave a damaged file open
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is not an npz archive but a single array; save it with numpy.savez")
            for name in archive.files:
                if wanted is None or name in wanted:
                    arrays[name] = archive[name]
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged or cut short ({error}); copy or download it again") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        if "Object arrays" in str(error):
            raise DataError(f"{path}: the array {name!r} holds Python objects, which gaq does not read, because they "
                            "can run code; save it as numbers") from error
        if not name:
            raise DataError(f"{path} is not an npz archive; save it with numpy.savez") from error
        raise DataError(f"{path}: the array {name!r} cannot be read ({error}); copy or download it again") from error
    return arrays


def require_numbers(path: Path, name: str, array: NDArray, whole: bool = False) -> None:
    """Refuse an array of texts, dates, complex numbers, or of anything but whole numbers where those are needed.

    Raises:
        DataError: as said.
    """
    if array.dtype.kind not in ("iu" if whole else "iuf"):
        raise DataError(f"{path}: the array {name!r} must hold {'whole' if whole else 'real'} numbers, not {array.dtype}")


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in an npz file, without reading them."""
    require_file(path, DataError, "give the path of a data file")
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged or not an npz archive ({error}); copy or download it again") from error
