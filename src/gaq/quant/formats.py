"""Integer formats: the frozen values that say which whole numbers a code may be."""

from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Bits = Annotated[Literal[2, 3, 4, 5, 6, 7, 8, 12, 16], Field(description="width of one code in bits")]
InputBits = Annotated[Literal[2, 3, 4, 5, 6, 7, 8, 12, 16, 24], Field(description="width of one code of an activation")]


class IntFormat(BaseModel):
    """Signed codes -q..q with q = 2^(bits-1) - 1.

    The range is narrow and symmetric, so that rounding is an odd function and commutes exactly with the 48 signed
    permutations of the axes; the range -q-1..q of two's complement does not.

    Args:
        bits: width of one code in storage: 2 to 8, 12, 16, or 24. All codes of 24 bits, and the edges between them, are
            float32 numbers, and no finer ones are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    bits: InputBits

    @property
    def qmax(self) -> int:
        """Largest code, 2^(bits-1) - 1."""
        return 2 ** (self.bits - 1) - 1

    @property
    def qmin(self) -> int:
        """Smallest code, -qmax."""
        return -self.qmax


@lru_cache
def int_format(bits: InputBits) -> IntFormat:
    """Return the signed format of a width, made once."""
    return IntFormat(bits=bits)


class UnsignedFormat(BaseModel):
    """Codes 0..2^bits - 1, for a quantity that is never negative: a magnitude.

    Args:
        bits: width of one code in storage: 2 to 8, 12 or 16.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    bits: Bits

    @property
    def qmax(self) -> int:
        """Largest code, 2^bits - 1."""
        return 2**self.bits - 1

    @property
    def qmin(self) -> int:
        """Smallest code, 0."""
        return 0


WholeNumbers = IntFormat | UnsignedFormat
