"""Codes as bytes, truly at their bit width, and back.

The bytes are one little-endian bit stream: code 0 takes the lowest bits of byte 0, code 1 the bits above it, and so on
in row-major order; the last byte is filled up with zero bits. A code is kept in two's complement (signed formats) or
as it is (unsigned formats). So 8 and 16 bits are plain int8 and little-endian int16, and 4 bits are two codes per
byte, the first in the low half.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gaq.errors import ConfigError, ModelFileError
from gaq.quant.formats import WholeNumbers


def packed_size(count: int, fmt: WholeNumbers) -> int:
    """Return the number of bytes that `count` codes take, ceil(count · bits / 8)."""
    return -(-count * fmt.bits // 8)


def pack(codes: NDArray, fmt: WholeNumbers) -> NDArray[np.uint8]:
    """Return the codes as bytes.

    Args:
        codes: whole numbers in [qmin, qmax], of an integer or a float type, any shape.
        fmt: format of the codes.

    Returns:
        `packed_size` bytes.

    Raises:
        ConfigError: a code is not a whole number of the format.
    """
    if not bool(np.all((codes == np.rint(codes)) & (codes >= fmt.qmin) & (codes <= fmt.qmax))):
        raise ConfigError(f"codes must be whole numbers from {fmt.qmin} to {fmt.qmax} for {fmt!r}; "
                          f"given {codes.dtype} values from {codes.min()} to {codes.max()}; compute them with "
                          "gaq.quant.affine.codes")
    words = np.ascontiguousarray(codes.ravel().astype(np.int64).astype("<u4"))  # modulo 2^32: two's complement
    bits = np.unpackbits(words.view(np.uint8).reshape(-1, 4), axis=1, count=fmt.bits, bitorder="little")
    return np.packbits(bits.ravel(), bitorder="little")


def unpack(data: NDArray[np.uint8], fmt: WholeNumbers, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the codes that `pack` made bytes of.

    Args:
        data: bytes, shape (bytes,).
        fmt: format of the codes.
        shape: shape of the codes.

    Returns:
        Codes of that shape.

    Raises:
        ModelFileError: the number of bytes does not fit the shape, or a code is outside the format.
    """
    count = math.prod(shape)
    _check_size(data, fmt, shape)
    first = np.arange(count, dtype=np.int64) * fmt.bits  # bit at which each code begins
    stream = np.concatenate([data, np.zeros(4, np.uint8)]).astype(np.uint32)
    words = np.zeros(count, np.uint32)
    for k in range(4):  # a code of up to 24 bits lies within four bytes
        words |= stream[(first >> 3) + k] << np.uint32(8 * k)
    words = (words >> (first & 7).astype(np.uint32)) << np.uint32(32 - fmt.bits)
    whole = words.view(np.int32) >> (32 - fmt.bits) if fmt.qmin < 0 else words >> np.uint32(32 - fmt.bits)
    codes = whole.astype(np.int32).reshape(shape)
    if count and int(codes.min()) < fmt.qmin:
        raise ModelFileError(f"packed codes hold {int(codes.min())}, below the smallest code {fmt.qmin} of {fmt!r}; "
                             "the data are damaged: get the file again")
    return codes


def _check_size(data: NDArray, fmt: WholeNumbers, shape: tuple[int, ...]) -> None:
    expected = packed_size(math.prod(shape), fmt)
    if data.dtype != np.uint8 or data.shape != (expected,):
        raise ModelFileError(f"packed codes of shape {tuple(shape)} at {fmt.bits} bits take {expected} bytes (uint8), "
                             f"not {data.dtype} of shape {data.shape}; the data are damaged: get the file again")


def check_codes(data: NDArray[np.uint8], fmt: WholeNumbers, shape: tuple[int, ...], name: str) -> None:
    """Refuse what `unpack` would refuse, at the usual widths without unpacking; `name` is that of the tensor.

    Raises:
        ModelFileError: as for `unpack`.
    """
    try:
        _check_size(data, fmt, shape)
        if fmt.qmin == 0:
            return
        if fmt.bits == 4:
            lowest = ((data & 15) == 8) | ((data >> 4) == 8)
        elif fmt.bits in (8, 16):
            lowest = data.view(f"<i{fmt.bits // 8}") == fmt.qmin - 1
        else:
            unpack(data, fmt, shape)
            return
        if lowest.any():
            raise ModelFileError(f"packed codes hold {fmt.qmin - 1}, below the smallest code {fmt.qmin} of {fmt!r}; the "
                                 "data are damaged: get the file again")
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}") from error
