"""Means over the seeds of a comparison, one variant and one run at a time."""

import math
from collections.abc import Mapping
from typing import Any

BLOCKS = ("attention", "mlp")


def comparison_table(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for entry in result["variants"]:
        row: dict[str, Any] = {"variant": entry["variant"], "runs": 0, "reason": ""}
        losses, sums, counts = [], {}, {}
        for run in result["runs"]:
            if run["variant"] != entry["variant"]:
                continue
            row["runs"] += 1
            losses.append(run["loss"])
            numbers = {name: run[name] for name in ("accuracy", "bits_per_byte") if name in run}
            numbers |= {"parameters": run["parameters"]["total"], "active_parameters": run["parameters"]["active"]}
            numbers |= {"training_seconds": run["training_seconds"]}
            for part in run["multiply_adds"]:
                if part["part"] == "total":
                    numbers["requested_multiply_adds"] = part["requested"]
                    numbers["kept_multiply_adds"] = part["kept"]
            for block in BLOCKS:
                shares = [site["dropped_assignment_share"] for site in run["drops"] if site["site"][3:] == block]
                if shares:
                    numbers[f"drop_share_{block}"] = sum(shares) / len(shares)
            for name, number in numbers.items():
                sums[name] = sums.get(name, 0.0) + number
                counts[name] = counts.get(name, 0) + 1
        names = ("accuracy", "bits_per_byte", "requested_multiply_adds", "kept_multiply_adds", "parameters")
        names += ("active_parameters", "drop_share_attention", "drop_share_mlp", "training_seconds")
        for name in names:
            row[name] = sums[name] / counts[name] if name in sums else math.nan
        row["step_seconds"] = math.nan
        for step in result.get("step_seconds", {}).get("rows", []):
            if step["variant"] == entry["variant"]:
                row["step_seconds"] = step["step_seconds"]
        row["test_loss"] = sum(losses) / len(losses) if losses else math.nan
        row["test_loss_low"] = min(losses) if losses else math.nan
        row["test_loss_high"] = max(losses) if losses else math.nan
        row["test_loss_sd"] = math.nan
        if len(losses) > 1:
            squares = sum((loss - row["test_loss"]) ** 2 for loss in losses)
            row["test_loss_sd"] = math.sqrt(squares / (len(losses) - 1))
        if not losses:
            row["reason"] = entry["reason"] or "no run of it was finished"
        rows.append(row)
    return rows


def comparison_dependence(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for entry in result["variants"]:
        runs = [run for run in result["runs"] if run["variant"] == entry["variant"]]
        for first in runs[0]["dependence"] if runs else []:
            known, reason = [], ""
            for run in runs:
                for row in run["dependence"]:
                    if (row["replacement"], row["target"]) == (first["replacement"], first["target"]):
                        reason = reason or row["reason"]
                        if row["loss_change"] is not None:
                            known.append(row["loss_change"])
            rows.append(
                {
                    "variant": entry["variant"],
                    "replacement": first["replacement"],
                    "target": first["target"],
                    "loss_change": sum(known) / len(known) if known else math.nan,
                    "low": min(known) if known else math.nan,
                    "high": max(known) if known else math.nan,
                    "runs": len(known),
                    "reason": "" if known else reason,
                }
            )
    return rows
