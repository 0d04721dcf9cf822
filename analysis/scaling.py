"""How the cost of one block grows with the length of the input, from the record of a benchmark."""

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from uoe_model.errors import TraceError

VARIANTS: Final = ("dense", "union", "union, Triton")
"""The dense block with fused attention, ours in plain PyTorch, ours with Triton kernels."""


def cost_growth(record: Mapping[str, Any]) -> pd.DataFrame:
    """Read the `growth` rows of a record of `bench_model`.

    Returns:
        One row per variant and length, sorted by both in the order of `VARIANTS`:

        - variant (str), length (int64): units of one example
        - milliseconds (float64): median of a forward pass
        - megabytes (float64): kept for a backward pass, 1e6 bytes
        - device (str), noisy (bool): whether others used the machine meanwhile

    Raises:
        TraceError: the record is of another kind.
    """
    try:
        rows = [
            {
                "variant": str(row["variant"]),
                "length": int(row["S"]),
                "milliseconds": float(row["median_ms"]),
                "megabytes": float(row["saved_bytes"]) / 1e6,
                "device": str(record["cpu"] if record["device"] == "cpu" else record["device"]),
                "noisy": bool(row["noisy"]),
            }
            for row in record["rows"]
            if row["bench"] == "growth"
        ]
        rows.sort(key=lambda row: (VARIANTS.index(str(row["variant"])), row["length"]))
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"this is no record of bench_model: {error}") from error
    types = {
        "variant": "str",
        "length": "int64",
        "milliseconds": "float64",
        "megabytes": "float64",
        "device": "str",
        "noisy": "bool",
    }
    return pd.DataFrame(rows, columns=list(types)).astype(types)
