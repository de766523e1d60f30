import numpy as np
import pytest
from pydantic import ValidationError

from gaq.quant.formats import IntFormat, UnsignedFormat


@pytest.mark.parametrize(("bits", "largest"), [(2, 1), (4, 7), (8, 127), (12, 2047), (16, 32767), (24, 8388607)])
def test_signed_range_is_narrow_and_symmetric(bits, largest):
    assert (IntFormat(bits=bits).qmin, IntFormat(bits=bits).qmax) == (-largest, largest)


def test_unsigned_range_uses_every_code():
    assert (UnsignedFormat(bits=8).qmin, UnsignedFormat(bits=8).qmax) == (0, 255)


@pytest.mark.parametrize("bits", [0, 1, 9, 32, 4.5, "many"])
def test_widths_that_cannot_be_stored_are_refused(bits):
    with pytest.raises(ValidationError, match="bits"):
        IntFormat(bits=bits)


def test_the_widest_codes_and_their_edges_are_float32_numbers():
    largest = IntFormat(bits=24).qmax
    assert np.float32(largest) == largest
    assert np.float32(largest + 0.5) == largest + 0.5
    with pytest.raises(ValidationError, match="bits"):
        UnsignedFormat(bits=24)


def test_formats_are_values():
    assert IntFormat(bits=4) == IntFormat(bits=4)
    assert hash(IntFormat(bits=4)) == hash(IntFormat(bits=4))
    with pytest.raises(ValidationError):
        IntFormat(bits=4).bits = 8
