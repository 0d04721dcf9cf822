"""Columns for the browser as one block of bytes: a JSON header that says where each column lies, then the columns."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ALIGNMENT: Final = 8
UNKNOWN: Final = 65_535
"""In a column of shares: no value."""

_ARRAYS: Final = {
    "u1": "Uint8Array",
    "u2": "Uint16Array",
    "u4": "Uint32Array",
    "i1": "Int8Array",
    "i2": "Int16Array",
    "i4": "Int32Array",
    "f4": "Float32Array",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shares:
    """Numbers of a known range in 16 bits each; a finite one is off by at most (high - low) / 131,068.

    Attributes:
        low, high: ends of the range.
        share: uint16, place in the range times 65,534; UNKNOWN where the number was NaN.
    """

    low: float
    high: float
    share: NDArray[np.uint16]


def as_shares(values: NDArray[np.floating[Any]], *, low: float = 0.0, high: float = 1.0) -> Shares:
    """Write numbers as places in a range, which grows if a number lies outside."""
    known = values[np.isfinite(values)].astype(np.float64)
    low, high = min(low, float(known.min(initial=low))), max(high, float(known.max(initial=high)))
    place = (np.nan_to_num(values.astype(np.float64), nan=low) - low) / (high - low)
    share = np.where(np.isnan(values), UNKNOWN, np.rint(place * (UNKNOWN - 1)))
    return Shares(low=low, high=high, share=share.astype(np.uint16))


def as_bits(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Write a mask as bits, the first one lowest in its byte."""
    return np.packbits(mask.ravel(), bitorder="little")


def narrow(column: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """The same whole numbers in the narrowest type that a browser has for them."""
    low, high = int(column.min(initial=0)), int(column.max(initial=0))
    kinds = (np.uint8, np.uint16, np.uint32) if low >= 0 else (np.int8, np.int16, np.int32)
    return column.astype(next(kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max))


def pack(header: Mapping[str, Any], columns: Mapping[str, NDArray[Any] | Shares]) -> bytes:
    """Join a header and columns.

    Layout: length of the header (uint32, little-endian), the header (JSON in UTF-8), then every column in
    little-endian order, each beginning at a multiple of 8 bytes after the header's own padding. The header's entry
    `columns` holds per column the name of its JavaScript array, its first byte counted from there, and its length;
    of shares also the two ends of their range.
    """
    entries: dict[str, list[Any]] = {}
    blocks: list[bytes] = []
    place = 0
    for name, column in columns.items():
        values = column.share if isinstance(column, Shares) else column
        kind = values.dtype.str[1:]
        block = np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()
        entries[name] = [_ARRAYS[kind], place, values.size]
        if isinstance(column, Shares):
            entries[name] += [column.low, column.high]
        blocks.append(block + bytes(-len(block) % ALIGNMENT))
        place += len(blocks[-1])
    text = json.dumps({**header, "columns": entries}, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    data = text.encode()
    data += b" " * (-(4 + len(data)) % ALIGNMENT)
    return b"".join([struct.pack("<I", len(data)), data, *blocks])
