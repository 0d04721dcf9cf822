import json
import struct

import numpy as np
import pytest

from analysis.figures.packed_columns import UNKNOWN, Shares, as_bits, as_shares, narrow, pack

DTYPES = {"Uint8": "<u1", "Uint16": "<u2", "Uint32": "<u4", "Int8": "<i1", "Int16": "<i2", "Int32": "<i4"}
DTYPES |= {"Float32": "<f4"}


def unpack(packed):
    """Read a block as the browser does."""
    (size,) = struct.unpack("<I", packed[:4])
    header = json.loads(packed[4 : 4 + size])
    columns = {}
    for name, (kind, first, length, *_) in header.pop("columns").items():
        assert (4 + size + first) % 8 == 0, "a typed array begins at a multiple of its width"
        columns[name] = np.frombuffer(packed, DTYPES[kind.removesuffix("Array")], length, 4 + size + first)
    return header, columns


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "f4"])
def test_columns_come_back_whatever_the_byte_order_here(kind):
    values = [0, 1, 200 if kind[0] == "u" else -2]
    header, columns = unpack(pack({"text": ["é", "\x00"]}, {"one": np.array(values, dtype=f">{kind}"), "two": NOTHING}))
    assert header == {"text": ["é", "\x00"]}
    assert columns["one"].tolist() == values
    assert columns["two"].tolist() == []


NOTHING = np.zeros(0, dtype=np.uint8)


def test_the_header_is_strict_json():
    with pytest.raises(ValueError, match="JSON"):
        pack({"loss": float("nan")}, {})


def test_shares_are_off_by_less_than_a_rounding_of_three_decimals_and_keep_what_is_unknown():
    values = np.random.default_rng(0).random(1000).astype(np.float32)
    values[[3, 5]] = np.nan
    shares = as_shares(values)
    back = np.where(shares.share == UNKNOWN, np.nan, shares.low + shares.share * (shares.high - shares.low) / 65534)
    assert (shares.low, shares.high) == (0, 1)
    np.testing.assert_allclose(back, values, atol=1e-5)


def test_the_range_of_shares_grows_with_what_lies_outside():
    shares = as_shares(np.array([-2.0, 0.5, 6.0], dtype=np.float32))
    assert (shares.low, shares.high, shares.share.tolist()) == (-2, 6, [0, round(65534 * 2.5 / 8), 65534])
    packed = pack({}, {"gate": Shares(low=-2.0, high=6.0, share=shares.share)})
    (size,) = struct.unpack("<I", packed[:4])
    assert json.loads(packed[4 : 4 + size])["columns"]["gate"] == ["Uint16Array", 0, 3, -2.0, 6.0]


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [(0, 255, "u1"), (0, 256, "u2"), (0, 65536, "u4"), (-1, 127, "i1"), (-1, 128, "i2"), (-1, 32768, "i4")],
)
def test_whole_numbers_take_the_narrowest_type(low, high, kind):
    column = narrow(np.array([low, high], dtype=np.int64))
    assert column.dtype == np.dtype(kind)
    assert column.tolist() == [low, high]


def test_bits_begin_with_the_lowest():
    assert as_bits(np.array([1, 0, 1, 0, 0, 0, 0, 0, 1], dtype=np.bool_)).tolist() == [5, 1]
