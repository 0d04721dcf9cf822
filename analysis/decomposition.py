"""What fewer experts cost a decomposed model: the curve that its `decomposition.json` keeps, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.columns import text_column
from uoe_model.checkpoint_json import ROUTES, SCOPES
from uoe_model.errors import CheckpointError

KNOWN: Final = ("hidden_error", "cosine")
"""Numbers of every record."""

SOMETIMES: Final = ("loss", "agreement")
"""Numbers that only some kinds of model have."""

MOST_PROBLEMS: Final = 8


def decomposition_curve(record: Mapping[str, Any]) -> pd.DataFrame:
    """Make the table of a decomposed model's error against the number of experts that each unit is given to.

    Args:
        record: content of a `decomposition.json`; its keys `options` and `curve` are read.

    Returns:
        One row per measurement, sorted by scope, attention_top_k, mlp_top_k, routes (texts in the order given here);
        no rows if the routers were not calibrated:

        - scope (str): whose experts are fewer: both, attention, mlp
        - attention_top_k, mlp_top_k (int64): experts chosen per unit
        - attention_experts, mlp_experts (int64): experts there are
        - expert_share (float64): chosen experts / experts, 0 to 1, mean over the blocks of the scope
        - is_in_step (bool): both blocks choose the same share, rounded up; true where only one block's number changes
        - is_chosen (bool): the numbers that the model runs with
        - routes (str): calibrated, by the model's routers; random; longest, by the true lengths of the experts'
          outputs. With all experts there is only calibrated, as there is nothing to choose
        - hidden_error (float64): length of the change of all final hidden states / their length with all experts
        - cosine (float64): mean cosine of pooled vectors with those of all experts
        - loss (float64): nats per token; NaN unless it is a language model
        - agreement (float64): share of examples whose class stays, 0 to 1; NaN unless it is a classifier

    Raises:
        CheckpointError: the record is not what a decomposition writes.
    """
    options, curve = record.get("options"), record.get("curve")
    if not isinstance(options, Mapping) or not isinstance(curve, Sequence) or isinstance(curve, str):
        raise CheckpointError("decomposition.json: options must be an object and curve a list of records")
    experts = {block: options.get(f"{block}_experts") for block in ("attention", "mlp")}
    problems = [f"{block}_experts={n!r} must be a count" for block, n in experts.items() if not _is_count(n)]
    for number, row in enumerate(curve):
        problems += [f"record {number}: {problem}" for problem in _problems(row, experts)]
    keys = [] if problems else [_key(row) for row in curve]
    if len(set(keys)) < len(keys):
        problems.append("two records measure the same")
    if problems:
        more = f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        raise CheckpointError("decomposition.json: " + "; ".join(problems[:MOST_PROBLEMS]) + more)
    rows = [curve[place] for place in sorted(range(len(curve)), key=keys.__getitem__)]
    attention, mlp = (int(experts[block]) for block in ("attention", "mlp"))  # type: ignore[arg-type]
    attention_k, mlp_k = (np.array([row[f"{block}_top_k"] for row in rows], np.int64) for block in experts)
    scope = np.array([SCOPES.index(row["scope"]) for row in rows], dtype=np.int64)
    shares = np.stack([attention_k / attention, mlp_k / mlp])
    return pd.DataFrame(
        {
            "scope": text_column(SCOPES, scope),
            "attention_top_k": attention_k,
            "mlp_top_k": mlp_k,
            "attention_experts": np.full(len(rows), attention, np.int64),
            "mlp_experts": np.full(len(rows), mlp, np.int64),
            "expert_share": np.choose(scope, [shares.mean(0), shares[0], shares[1]]),
            "is_in_step": (scope > 0) | _is_in_step(attention_k, mlp_k, attention, mlp),
            "is_chosen": (attention_k == _chosen(options, "attention")) & (mlp_k == _chosen(options, "mlp")),
            "routes": text_column(ROUTES, np.array([ROUTES.index(row["routes"]) for row in rows], dtype=np.int64)),
        }
        | {name: np.array([row.get(name) for row in rows], dtype=np.float64) for name in (*KNOWN, *SOMETIMES)}
    )


def _problems(row: object, experts: Mapping[str, object]) -> list[str]:
    if not isinstance(row, Mapping):
        return ["must be an object"]
    found = [
        f"{name}={row.get(name)!r} must be one of {', '.join(allowed)}"
        for name, allowed in (("scope", SCOPES), ("routes", ROUTES))
        if row.get(name) not in allowed
    ]
    for block, most in experts.items():
        top_k = row.get(f"{block}_top_k")
        if not _is_count(top_k) or (_is_count(most) and top_k > most):  # type: ignore[operator]
            found.append(f"{block}_top_k={top_k!r} must lie in 1..{block}_experts={most!r}")
    for name in (*KNOWN, *SOMETIMES):
        value = row.get(name)
        if not _is_number(value) and (value is not None or name in KNOWN):
            found.append(f"{name}={value!r} must be a finite number{'' if name in KNOWN else ' or null'}")
    return found


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value < 1 << 31


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and abs(value) < 1e300  # so neither NaN


def _key(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    return SCOPES.index(row["scope"]), row["attention_top_k"], row["mlp_top_k"], ROUTES.index(row["routes"])


def _is_in_step(attention_k: Any, mlp_k: Any, attention: int, mlp: int) -> Any:
    """Whether some share of the larger number of experts, rounded up in both blocks, gives this pair."""
    most = max(attention, mlp)
    larger_k = attention_k if attention == most else mlp_k
    return (attention_k == -(-larger_k * attention // most)) & (mlp_k == -(-larger_k * mlp // most))


def _chosen(options: Mapping[str, Any], block: str) -> int | None:
    """Experts of the model's own choice; by default half of them, rounded up."""
    top_k = options.get(f"{block}_top_k")
    if top_k is None:
        return -(-int(options[f"{block}_experts"]) // 2)
    return top_k if type(top_k) is int else None
