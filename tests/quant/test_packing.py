"""Codes as bytes: every width, the documented bit order, and damaged data."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaq.errors import ConfigError, ModelFileError
from gaq.quant.formats import IntFormat, UnsignedFormat
from gaq.quant.packing import pack, packed_size, unpack

BITS = [2, 3, 4, 5, 6, 7, 8, 12, 16]
FORMATS = [*(family(bits=bits) for family in (IntFormat, UnsignedFormat) for bits in BITS), IntFormat(bits=24)]


@settings(derandomize=True, deadline=None, max_examples=120)
@given(data=st.data(), fmt=st.sampled_from(FORMATS), shape=st.sampled_from([(), (0,), (1,), (7,), (3, 5), (2, 3, 4)]))
def test_every_code_comes_back(data, fmt, shape):
    count = math.prod(shape)
    whole = data.draw(st.lists(st.integers(fmt.qmin, fmt.qmax), min_size=count, max_size=count))
    given_codes = np.array(whole, dtype=np.int32).reshape(shape)
    packed = pack(given_codes, fmt)
    assert packed.dtype == np.uint8
    assert packed.size == packed_size(count, fmt) == -(-count * fmt.bits // 8)
    np.testing.assert_array_equal(unpack(packed, fmt, shape), given_codes)


def test_the_bit_order_is_the_documented_one():
    assert pack(np.array([1, -1, 7]), IntFormat(bits=4)).tolist() == [0xF1, 0x07]
    assert pack(np.array([1, -1, -127]), IntFormat(bits=8)).tolist() == [1, 255, 129]
    assert pack(np.array([-2, 258]), IntFormat(bits=16)).tolist() == [0xFE, 0xFF, 0x02, 0x01]
    assert pack(np.array([1, 2, 3]), UnsignedFormat(bits=3)).tolist() == [0b11010001, 0b0]


def test_float_codes_are_taken_when_whole():
    fmt = IntFormat(bits=4)
    assert unpack(pack(np.array([-7.0, 3.0]), fmt), fmt, (2,)).tolist() == [-7, 3]


@pytest.mark.parametrize("bad", [np.array([8]), np.array([-8]), np.array([0.5]), np.array([1e9])])
def test_codes_outside_the_format_are_refused(bad):
    with pytest.raises(ConfigError, match="from -7 to 7"):
        pack(bad, IntFormat(bits=4))


def test_damaged_bytes_are_refused():
    fmt = IntFormat(bits=4)
    data = pack(np.arange(-3, 4), fmt)
    with pytest.raises(ModelFileError, match="take 4 bytes"):
        unpack(data[:-1], fmt, (7,))
    with pytest.raises(ModelFileError, match="take 5 bytes"):
        unpack(data, fmt, (9,))
    with pytest.raises(ModelFileError, match="below the smallest code -7"):
        unpack(np.array([0x88], dtype=np.uint8), fmt, (2,))
