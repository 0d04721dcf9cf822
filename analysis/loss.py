"""The loss of every token itself: a trace keeps it on the row that predicted it."""

import pandas as pd


def loss_of_unit(units: pd.DataFrame) -> pd.Series:
    """Loss of every token itself, in nats: the trace keeps it on the row that predicted it, one before.

    Args:
        units: `analysis.tables.units_table`.

    Returns:
        float64, aligned with the rows; NaN for the first token of every example, which nothing predicted.
    """
    is_first = units["example_id"].ne(units["example_id"].shift())
    return units["loss"].astype("float64").shift().mask(is_first)
