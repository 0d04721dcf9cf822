"""How much the loss depends on the learned routes: the table of replaced routes that comes with every bundled model."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from analysis.columns import Column, text_column
from uoe_model.errors import CheckpointError

COLUMN_ORDER: Final[Mapping[str, tuple[str, ...]]] = {
    "replacement": ("balanced_random", "permuted", "untrained_router", "lookup"),
    "block": ("attention", "mlp", "both"),
    "capacity": ("as trained", "none"),
}
"""What the three text columns may hold, in the order in which rows are sorted."""

NUMBERS: Final = ("loss_change", "low", "high")


def routing_value_table(records: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Make the dependence table from the records of a checkpoint's metrics.json.

    It measures how much the experts depend on their routes. It does not show that learning the routes helped; that
    takes a twin trained with frozen routers.

    Args:
        records: each with the keys model, replacement, block, capacity, loss_change, low, high, examples; a number
            that is absent or null is unknown.

    Returns:
        One row per record, sorted by model, replacement, block, capacity (the last three in the order above):

        - model (str)
        - replacement (str): balanced_random (a), permuted over units (b), untrained_router (c), lookup (d)
        - block (str): whose routes were replaced: attention, mlp, both
        - capacity (str): as trained, or none (never full, in both terms of the difference)
        - loss_change (float64): test loss with replaced routes minus test loss with learned routes, nats
        - low, high (float64): its 95% interval over examples
        - examples (int64): documents or images that the interval is over

    Raises:
        CheckpointError: a record lacks a key, or holds another word than those above.
    """
    problems = []
    for number, record in enumerate(records):
        for column, allowed in COLUMN_ORDER.items():
            if record.get(column) not in allowed:
                problems.append(f"record {number}: {column}={record.get(column)!r} must be one of {', '.join(allowed)}")
        if not isinstance(record.get("model"), str):
            problems.append(f"record {number}: model={record.get('model')!r} must be a name")
        for column in NUMBERS:
            value = record.get(column)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                problems.append(f"record {number}: {column}={value!r} must be a number or null")
        if type(record.get("examples")) is not int:
            problems.append(f"record {number}: examples={record.get('examples')!r} must be a whole number")
    if problems:
        raise CheckpointError("routing value of metrics.json: " + "; ".join(problems))
    names = sorted({str(record["model"]) for record in records})
    codes = {"model": np.array([names.index(str(record["model"])) for record in records], dtype=np.int64)}
    for column, allowed in COLUMN_ORDER.items():
        codes[column] = np.array([allowed.index(str(record[column])) for record in records], dtype=np.int64)
    order = np.lexsort([*reversed(codes.values())])
    columns: dict[str, Column] = {"model": text_column(names, codes["model"][order])}
    columns |= {column: text_column(allowed, codes[column][order]) for column, allowed in COLUMN_ORDER.items()}
    for name in NUMBERS:
        columns[name] = np.array([record.get(name) for record in records], dtype=np.float64)[order]
    columns["examples"] = np.array([record["examples"] for record in records], dtype=np.int64)[order]
    return pd.DataFrame(columns)
