"""How the tables spell their columns: repeated text, the columns that name a site, and why a value is missing."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from uoe_model.trace import RoutingTrace

IntArray = npt.NDArray[np.integer]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

Column = npt.NDArray[np.generic] | pd.api.extensions.ExtensionArray


_TEXT: Final[Any] = pd.StringDtype("pyarrow", na_value=np.nan)
"""What pandas calls `str`."""


def text_column(values: Sequence[str], codes: IntArray) -> pd.api.extensions.ExtensionArray:
    """Text column (str) whose row r reads `values[codes[r]]`."""
    return text_parts([text_array(values or [""]).take(pa.array(codes))])


def repeated_text(values: Sequence[str], counts: Sequence[int]) -> pd.api.extensions.ExtensionArray:
    """Text column (str) in which value i stands `counts[i]` times in a row.

    Equal values share their memory, so that a long column costs little more than its longest run.
    """
    longest: dict[str, int] = {}
    for value, count in zip(values, counts, strict=True):
        longest[value] = max(longest.get(value, 0), count)
    ends: dict[int, Any] = {}  # of texts of one length
    runs = {}
    for value, count in longest.items():
        data = value.encode()
        if len(data) not in ends:
            ends[len(data)] = pa.py_buffer(np.arange(max(counts) + 1, dtype=np.int64) * len(data))
        runs[value] = pa.LargeStringArray.from_buffers(count, ends[len(data)], pa.py_buffer(data * count))
    parts = [runs[value].slice(0, count) for value, count in zip(values, counts, strict=True)]
    return text_parts(parts)


def text_parts(parts: Sequence[Any]) -> pd.api.extensions.ExtensionArray:
    """Text column (str) made of Arrow arrays of large strings, one after another; nothing is copied."""
    column: pd.api.extensions.ExtensionArray = _TEXT.__from_arrow__(pa.chunked_array(parts, pa.large_string()))
    return column


def text_array(values: Sequence[str] | npt.NDArray[np.object_]) -> Any:
    """Arrow array of large strings, for `text_parts`."""
    return pa.array(values, pa.large_string())


def site_columns(trace: RoutingTrace, site_row: IntArray) -> dict[str, Column]:
    """The columns that name a site, for a table whose row r belongs to site `site_row[r]`.

    Returns:
        site_id (int16), layer (int16), block (str: attention, mlp), site_name (str)
    """
    sites = trace.sites
    return {
        "site_id": sites.site_id[site_row],
        "layer": sites.layer[site_row],
        "block": text_column([str(block) for block in sites.block], site_row),
        "site_name": text_column([str(name) for name in sites.name], site_row),
    }


def reason_column(num_rows: int, causes: Sequence[tuple[BoolArray, str]]) -> pd.api.extensions.ExtensionArray:
    """Why values of a row are NaN: the sentences of all causes that hold there, in the order given; "" where none does.

    Args:
        causes: (mask of length num_rows, sentence without a full stop), at most 60.
    """
    code = np.zeros(num_rows, dtype=np.int64)
    for bit, (mask, _) in enumerate(causes):
        code |= mask.astype(np.int64) << bit
    found, row_code = np.unique(code, return_inverse=True)
    sentences = ["; ".join(text for bit, (_, text) in enumerate(causes) if held >> bit & 1) for held in found.tolist()]
    return text_column(sentences, row_code)


def share(part: npt.ArrayLike, whole: npt.ArrayLike) -> FloatArray:
    """part / whole as float64; NaN where whole is 0 or unknown."""
    part_float, whole_float = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    result = np.full(part_float.shape, np.nan)
    np.divide(part_float, whole_float, out=result, where=whole_float > 0)
    return result
