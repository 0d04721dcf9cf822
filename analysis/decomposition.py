"""What fewer experts cost a decomposed model, from the record in its folder."""

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from uoe_model.errors import TraceError

ROUTES: Final = ("calibrated", "random", "longest")
SCOPES: Final = ("both", "attention", "mlp")

_COLUMNS: Final = {
    "scope": "str",
    "attention_top_k": "int64",
    "mlp_top_k": "int64",
    "routes": "str",
    "hidden_error": "float64",
    "cosine": "float64",
    "loss": "float64",
    "agreement": "float64",
}


def decomposition_curve(record: Mapping[str, Any]) -> pd.DataFrame:
    """Read the curve of a `decomposition.json`.

    Returns:
        One row per measurement, sorted by scope (both, attention, mlp), attention_top_k, mlp_top_k, and routes
        (calibrated, random, longest); no rows if routers were not calibrated:

        - scope (str): at which blocks fewer experts are chosen; attention_top_k, mlp_top_k (int64)
        - routes (str): by the calibrated routers, at random, or the experts with the longest outputs
        - hidden_error (float64): length of the change of the final hidden states over their length; 0 with all experts
        - cosine (float64): of pooled vectors with those of all experts
        - loss (float64): nats per token; NaN unless it is a language model
        - agreement (float64): share of unchanged answers, 0 to 1; NaN unless it is a classifier

    Raises:
        TraceError: the record is not what the decomposition wrote.
    """
    try:
        rows = pd.DataFrame(
            [{name: row[name] for name in _COLUMNS} for row in record["curve"]], columns=list(_COLUMNS)
        ).astype(_COLUMNS)
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"this record of a decomposition cannot be read: {error}") from error
    if not set(rows["scope"]) <= set(SCOPES) or not set(rows["routes"]) <= set(ROUTES):
        raise TraceError("this record of a decomposition names scopes or routes that there are not")
    order = rows.assign(
        scope=rows["scope"].map(SCOPES.index).astype("int64"), routes=rows["routes"].map(ROUTES.index).astype("int64")
    ).sort_values(["scope", "attention_top_k", "mlp_top_k", "routes"], kind="stable")
    return rows.loc[order.index].reset_index(drop=True)
