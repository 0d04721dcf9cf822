"""Compare a table of a statistic with the rows of its oracle, and check what every table promises."""

import math
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

SITE = {"site_id": "int16", "layer": "int16", "block": "str", "site_name": "str"}


def assert_rows(table: pd.DataFrame, expected: Sequence[dict[str, object]], *, skip: Collection[str] = ()) -> None:
    """All rows in order, all columns; numbers to 1e-9, NaN equals NaN. `skip`: columns that the oracle lacks."""
    assert len(table) == len(expected)
    assert list(table.index) == list(range(len(table)))
    if expected:
        assert set(table.columns) - set(skip) == set(expected[0])
    columns = {name: table[name].tolist() for name in table.columns if name not in skip}
    for number, row in enumerate(expected):
        for name, wanted in row.items():
            found = columns[name][number]
            assert same(found, wanted), f"row {number}, {name}: {found!r} instead of {wanted!r}\n{row}"


def same(found: object, wanted: object) -> bool:
    if isinstance(wanted, float) and not isinstance(found, str):
        number = float(str(found))
        return math.isclose(number, wanted, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(number) and math.isnan(wanted))
    return found == wanted


def assert_dtypes(table: pd.DataFrame, **expected: str) -> None:
    """Exactly these columns, in this order, with these dtypes."""
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == expected
    assert list(table.columns) == list(expected)


def assert_missing_is_explained(table: pd.DataFrame, *, column: str = "reason") -> None:
    """A row has a reason exactly if one of its numbers is NaN."""
    numbers = table.select_dtypes(np.floating)
    is_missing = numbers.isna().any(axis=1)
    explained = table[column] != ""
    assert (is_missing == explained).all(), table[is_missing != explained].to_string()
