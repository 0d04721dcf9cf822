"""How much the loss depends on the learned routes: the table of replaced routes that comes with every bundled model."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from analysis.columns import Column, text_column
from analysis.counts import Counts
from uoe_model.errors import CheckpointError, ConfigError

COLUMN_ORDER: Final[Mapping[str, tuple[str, ...]]] = {
    "replacement": ("balanced_random", "permuted", "untrained_router", "lookup"),
    "block": ("attention", "mlp", "both"),
    "capacity": ("as trained", "none"),
}
"""What the three text columns may hold, in the order in which rows are sorted."""

NUMBERS: Final = ("loss_change", "low", "high")
NOT_DRAWN: Final = "this replacement is not drawn at random, so it has no spread over draws"


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
    problems = _problems(records, count="examples")
    for number, record in enumerate(records):
        if not isinstance(record.get("model"), str):
            problems.append(f"record {number}: model={record.get('model')!r} must be a name")
    if problems:
        raise CheckpointError("routing value of metrics.json: " + "; ".join(problems))
    names = sorted({str(record["model"]) for record in records})
    model = np.array([names.index(str(record["model"])) for record in records], dtype=np.int64)
    codes = _codes(records)
    order = np.lexsort([*reversed(codes.values()), model])
    columns: dict[str, Column] = {"model": text_column(names, model[order])}
    return pd.DataFrame(columns | _sorted_columns(records, codes, order, count="examples"))


def input_routing_value_table(records: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Make the dependence table of one input: how much its loss changes when learned routes are replaced.

    One input has no interval over data. Where a replacement is drawn at random, several draws were run, and `low` and
    `high` are the smallest and the largest change among them: the spread over draws, which says nothing about other
    inputs.

    Args:
        records: each with the keys replacement, block, capacity, loss_change, low, high, draws, reason; a number that
            is absent or null is unknown, an absent reason is "".

    Returns:
        One row per record, sorted by replacement, block, capacity (in the order of `COLUMN_ORDER`):

        - replacement, block, capacity (str): as in `routing_value_table`
        - loss_change (float64): loss with replaced routes minus loss with learned routes, nats; mean over draws
        - low, high (float64): smallest and largest change over the draws; NaN for a replacement that is not drawn
        - draws (int64): how many were run; 1 for a replacement that is not drawn, 0 if it was not run
        - reason (str): why values are NaN; "" if none is

    Raises:
        ConfigError: a record lacks a key, holds another word than those above, or does not say why its loss change is
            unknown.
    """
    problems = _problems(records, count="draws")
    for number, record in enumerate(records):
        reason = record.get("reason", "")
        if not isinstance(reason, str):
            problems.append(f"record {number}: reason={reason!r} must be text")
        elif record.get("loss_change") is None and not reason:
            problems.append(f"record {number}: reason must say why loss_change is unknown")
    if problems:
        raise ConfigError("routing value of this input: " + "; ".join(problems))
    codes = _codes(records)
    order = np.lexsort([*reversed(codes.values())])
    columns = _sorted_columns(records, codes, order, count="draws")
    reasons = [str(record.get("reason", "")) or _no_spread(record) for record in records]
    return pd.DataFrame(columns | {"reason": text_column(reasons, order)})


def _no_spread(record: Mapping[str, object]) -> str:
    return NOT_DRAWN if record.get("low") is None or record.get("high") is None else ""


def _problems(records: Sequence[Mapping[str, object]], *, count: str) -> list[str]:
    problems = []
    for number, record in enumerate(records):
        for column, allowed in COLUMN_ORDER.items():
            if record.get(column) not in allowed:
                problems.append(f"record {number}: {column}={record.get(column)!r} must be one of {', '.join(allowed)}")
        for column in NUMBERS:
            value = record.get(column)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                problems.append(f"record {number}: {column}={value!r} must be a number or null")
        if type(record.get(count)) is not int:
            problems.append(f"record {number}: {count}={record.get(count)!r} must be a whole number")
    return problems


def _codes(records: Sequence[Mapping[str, object]]) -> dict[str, Counts]:
    """Place of every record's words in `COLUMN_ORDER`."""
    return {
        column: np.array([allowed.index(str(record[column])) for record in records], dtype=np.int64)
        for column, allowed in COLUMN_ORDER.items()
    }


def _sorted_columns(
    records: Sequence[Mapping[str, object]], codes: Mapping[str, Counts], order: Counts, *, count: str
) -> dict[str, Column]:
    columns: dict[str, Column] = {
        column: text_column(allowed, codes[column][order]) for column, allowed in COLUMN_ORDER.items()
    }
    for name in NUMBERS:
        columns[name] = np.array([record.get(name) for record in records], dtype=np.float64)[order]
    columns[count] = np.array([record[count] for record in records], dtype=np.int64)[order]
    return columns
