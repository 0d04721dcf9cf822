"""One small model, routed in different ways or not at all, over seeds: tables of what a comparison measured.

The file comes from `python -m uoe_model.training comparison`. Two numbers stand side by side and are never mixed: how
much a trained model *depends* on its routes (loss when they are replaced), and whether *learning* them helped (against
a twin whose routers stayed frozen at random).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.columns import text_column
from uoe_model.errors import CheckpointError

Result = Mapping[str, Any]
"""The content of a comparison.json."""

LARGEST_FILE: Final = 16 * 2**20
NOT_RUN: Final = "no run of it was finished"
BLOCKS: Final = ("attention", "mlp")

_PARTS: Final[Mapping[str, type]] = {
    "kind": str,
    "dataset": str,
    "steps": int,
    "variants": list,
    "runs": list,
    "differences": list,
}
_RUN_PARTS: Final = ("variant", "seed", "loss", "parameters", "multiply_adds", "drops", "dependence")


def load_comparison(path: Path) -> Result:
    """Read a comparison.json.

    Raises:
        CheckpointError: the file is missing, too large, no JSON, or lacks a part.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise CheckpointError(f"{path} has {size:,} bytes, a comparison at most {LARGEST_FILE:,}: wrong file?")
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no readable comparison ({error}): pass what the command wrote") from error
    problems = [f"it is a {type(result).__name__}"] if not isinstance(result, dict) else []
    if not problems:
        problems = [f"{name} is missing" for name, kind in _PARTS.items() if not isinstance(result.get(name), kind)]
    if not problems:
        runs = enumerate(result["runs"])
        problems = [
            f"run {number} lacks {name}"
            for number, run in runs
            for name in _RUN_PARTS
            if not isinstance(run, dict) or name not in run
        ]
    if problems:
        raise CheckpointError(f"{path} is no comparison: {'; '.join(problems)}")
    found: Result = result
    return found


def comparison_table(result: Result) -> pd.DataFrame:
    """Sum up every variant over its seeds.

    Returns:
        One row per variant, in the order of the file:

        - variant (str); runs (int64): finished seeds
        - test_loss, test_loss_low, test_loss_high, test_loss_sd (float64): nats per image or token: mean, smallest,
          largest over seeds, and their standard deviation (n - 1; NaN for one seed)
        - accuracy (float64): mean over seeds, 0..1; NaN for text
        - bits_per_byte (float64): mean over seeds of the mean over domains; NaN for images
        - requested_multiply_adds, kept_multiply_adds (float64): of a forward pass per unit, by what was asked for and
          by what was kept
        - parameters, active_parameters (float64)
        - drop_share_attention, drop_share_mlp (float64): dropped share of the requests, mean over sites and seeds;
          NaN where nothing is routed
        - training_seconds (float64): wall time of a training, mean over seeds; step_seconds (float64): of one step, all
          variants measured in turn; NaN if that was not done
        - reason (str): why a variant has no numbers; "" if it has
    """
    rows = []
    reasons = []
    steps = {row["variant"]: row["step_seconds"] for row in result.get("step_seconds", {}).get("rows", [])}
    for entry in result["variants"]:
        runs = [run for run in result["runs"] if run["variant"] == entry["variant"]]
        loss = np.array([run["loss"] for run in runs], dtype=np.float64)
        totals = [_part(run, "total") for run in runs]
        rows.append(
            {
                "runs": len(runs),
                "test_loss": _mean(loss),
                "test_loss_low": loss.min() if len(loss) else np.nan,
                "test_loss_high": loss.max() if len(loss) else np.nan,
                "test_loss_sd": loss.std(ddof=1) if len(loss) > 1 else np.nan,
                "accuracy": _mean(run.get("accuracy") for run in runs),
                "bits_per_byte": _mean(run.get("bits_per_byte") for run in runs),
                "requested_multiply_adds": _mean(total["requested"] for total in totals),
                "kept_multiply_adds": _mean(total["kept"] for total in totals),
                "parameters": _mean(run["parameters"]["total"] for run in runs),
                "active_parameters": _mean(run["parameters"]["active"] for run in runs),
                **{f"drop_share_{block}": _mean(_drops(run, block) for run in runs) for block in BLOCKS},
                "training_seconds": _mean(run.get("training_seconds") for run in runs),
                "step_seconds": steps.get(entry["variant"], np.nan),
            }
        )
        reasons.append("" if runs else entry["reason"] or NOT_RUN)
    columns = list(rows[0]) if rows else _TABLE_COLUMNS
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns, "float64") | {"runs": "int64"})
    table.insert(0, "variant", _texts([entry["variant"] for entry in result["variants"]]))
    return table.assign(reason=_texts(reasons))


_TABLE_COLUMNS: Final = [
    *("runs", "test_loss", "test_loss_low", "test_loss_high", "test_loss_sd", "accuracy", "bits_per_byte"),
    *("requested_multiply_adds", "kept_multiply_adds", "parameters", "active_parameters"),
    *("drop_share_attention", "drop_share_mlp", "training_seconds", "step_seconds"),
]


def comparison_runs(result: Result) -> pd.DataFrame:
    """List the test loss of every run.

    Returns:
        variant (str), seed (int64), test_loss (float64), in the order of the variants, then of the seeds.
    """
    order = _order(result)
    runs = sorted(result["runs"], key=lambda run: (order.index(run["variant"]), run["seed"]))
    return pd.DataFrame(
        {
            "variant": _texts([run["variant"] for run in runs]),
            "seed": np.array([run["seed"] for run in runs], dtype=np.int64),
            "test_loss": np.array([run["loss"] for run in runs], dtype=np.float64),
        }
    )


def comparison_differences(result: Result) -> pd.DataFrame:
    """List test loss minus that of the baseline of the same seed, trained on the same batches.

    `data` minus `frozen` is whether learning the routes helped: below zero it did, for that seed.

    Returns:
        One row per variant, baseline (dense, frozen), seed, in this order:

        - variant, baseline (str), seed (int64)
        - test_loss_difference, low, high (float64): nats; the 95% paired interval over images or documents
    """
    order = _order(result)
    rows = sorted(
        result["differences"],
        key=lambda row: (order.index(row["variant"]), order.index(row["baseline"]), row["seed"]),
    )
    columns = {"test_loss_difference": "difference", "low": "low", "high": "high"}
    numbers = {name: np.array([row[key] for row in rows], np.float64) for name, key in columns.items()}
    return pd.DataFrame(
        {
            "variant": _texts([row["variant"] for row in rows]),
            "baseline": _texts([row["baseline"] for row in rows]),
            "seed": np.array([row["seed"] for row in rows], dtype=np.int64),
            **numbers,
        }
    )


def comparison_dependence(result: Result) -> pd.DataFrame:
    """Sum up over seeds how much the loss changes when learned routes are replaced, site by site.

    Returns:
        One row per variant, replacement and target, in the order of the file:

        - variant, replacement (str): balanced_random, permuted, untrained_router
        - target (str): one site (`L0.attention`), or all sites of attention, of mlp, or both
        - loss_change (float64): test loss with replaced routes minus that with learned ones, nats: mean over seeds
        - low, high (float64): smallest and largest over seeds
        - runs (int64): seeds with a number
        - reason (str): why there is none; "" if there is one
    """
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    order = _order(result)
    for run in sorted(result["runs"], key=lambda run: (order.index(run["variant"]), run["seed"])):
        for row in run["dependence"]:
            found.setdefault((run["variant"], row["replacement"], row["target"]), []).append(row)
    changes = [[row["loss_change"] for row in rows if row["loss_change"] is not None] for rows in found.values()]
    reasons = [
        "" if known else next((row["reason"] for row in rows if row["reason"]), NOT_RUN)
        for known, rows in zip(changes, found.values(), strict=True)
    ]
    return pd.DataFrame(
        {
            **{name: _texts([key[place] for key in found]) for place, name in enumerate(_DEPENDENCE_KEYS)},
            "loss_change": np.array([_mean(known) for known in changes], dtype=np.float64),
            "low": np.array([min(known, default=np.nan) for known in changes], dtype=np.float64),
            "high": np.array([max(known, default=np.nan) for known in changes], dtype=np.float64),
            "runs": np.array([len(known) for known in changes], dtype=np.int64),
            "reason": _texts(reasons),
        }
    )


_DEPENDENCE_KEYS: Final = ("variant", "replacement", "target")


def comparison_positions(result: Result) -> pd.DataFrame:
    """Sum up the loss by position of a text comparison; empty for images.

    Returns:
        One row per variant and bucket of positions, in this order:

        - variant (str), position_start, position_end (int64): first position of the predicting token, 0 being the start
          of the window, and first one after the bucket
        - loss, low, high (float64): nats per token: mean, smallest, largest over seeds
    """
    found: dict[tuple[str, int, int], list[float]] = {}
    order = _order(result)
    for run in sorted(result["runs"], key=lambda run: (order.index(run["variant"]), run["seed"])):
        for row in run.get("positions", []):
            found.setdefault((run["variant"], row["first"], row["last"]), []).append(row["loss"])
    return pd.DataFrame(
        {
            "variant": _texts([variant for variant, _, _ in found]),
            "position_start": np.array([first for _, first, _ in found], dtype=np.int64),
            "position_end": np.array([last + 1 for _, _, last in found], dtype=np.int64),
            "loss": np.array([_mean(losses) for losses in found.values()], dtype=np.float64),
            "low": np.array([min(losses) for losses in found.values()], dtype=np.float64),
            "high": np.array([max(losses) for losses in found.values()], dtype=np.float64),
        }
    )


def _order(result: Result) -> list[str]:
    """Names of the variants; `frozen` and `dense` are among them."""
    return [entry["variant"] for entry in result["variants"]]


def _part(run: Mapping[str, Any], name: str) -> Mapping[str, float]:
    rows: list[Mapping[str, Any]] = [row for row in run["multiply_adds"] if row["part"] == name]
    return rows[0] if rows else {"requested": np.nan, "kept": np.nan}


def _drops(run: Mapping[str, Any], block: str) -> float:
    return _mean(site["dropped_assignment_share"] for site in run["drops"] if site["site"].endswith(f".{block}"))


def _mean(values: Iterable[float | None]) -> float:
    """Mean of what is known; NaN of nothing."""
    known = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _texts(values: Sequence[str]) -> Any:
    return text_column(values, np.arange(len(values)))
