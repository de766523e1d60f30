"""A blob: named arrays in one stretch of bytes, which an engine reads in place. The format is in docs/format.md."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaq.errors import GaqError

MAGIC, VERSION = b"GAQBLOB1", 4
HEADER, ENTRY, ALIGNMENT = 64, 88, 64
TYPES = {np.dtype(np.float32): 0, np.dtype(np.float64): 1, np.dtype(np.int8): 2, np.dtype(np.int32): 3}


class NotLowered(GaqError):
    """A model that the native engine does not compute; take backend="torch"."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; use backend=\"torch\"")


@dataclass(frozen=True, eq=False)
class Blob:
    """A lowered model.

    Args:
        data: what the engine reads.
        quantizers: names of the activation quantizers, in the order of the engine's counters.
        table_error: largest error of a table, relative to its largest value.
    """

    data: bytes
    quantizers: tuple[str, ...]
    table_error: float


def written(kind: str, arrays: Mapping[str, NDArray]) -> bytes:
    """Return header, directory and arrays of a kind of model as bytes."""
    place = HEADER + ENTRY * len(arrays)
    directory, payload = [], []
    for name, array in arrays.items():
        padding = -place % ALIGNMENT
        place += padding
        directory.append(struct.pack("<64sIIQQ", name.encode(), TYPES[array.dtype], 0, array.size, place))
        payload += [bytes(padding), array.astype(array.dtype.newbyteorder("<")).tobytes()]
        place += array.nbytes
    body = b"".join([*directory, *payload])
    header = struct.pack("<8sIIQII32s", MAGIC, VERSION, len(arrays), HEADER + len(body), zlib.crc32(body), 0, kind.encode())
    return header.ljust(HEADER, b"\0") + body
