"""`python -m analysis.exports.comparison FILE --output DIR`: a comparison as a figure for a column, and as a table."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.comparison import (
    Result,
    comparison_dependence,
    comparison_differences,
    comparison_positions,
    comparison_runs,
    comparison_table,
    load_comparison,
)
from analysis.exports.command import column_figure, run_command
from analysis.exports.presets import Preset
from analysis.figures.comparison import TITLE, VARIANT_NAMES, build_comparison_figure

UNKNOWN: Final = "–"


def figure_of(result: Result) -> go.Figure:
    """The figure of a whole comparison; see `build_comparison_figure`."""
    return build_comparison_figure(
        comparison_runs(result),
        comparison_table(result),
        comparison_dependence(result),
        comparison_differences(result),
        kind=result["kind"],
    )


def render_comparison(result: Result) -> str:
    """The tables in Markdown: quality and cost, learned against frozen, dependence, and for text loss by position."""
    parts = [_quality(result), _learned(result), _dependence(result)]
    positions = comparison_positions(result)
    return "\n\n".join([*parts, *([] if positions.empty else [_positions(positions)])]) + "\n"


def _quality(result: Result) -> str:
    is_image = result["kind"] == "image"
    quality = "accuracy" if is_image else "bits per byte"
    rows = []
    for row in comparison_table(result).to_dict("records"):
        name = VARIANT_NAMES[row["variant"]]
        if not row["runs"]:
            rows.append([name, row["reason"], *[UNKNOWN] * 8])
            continue
        rows.append(
            [
                name,
                f"{row['test_loss']:.3f}"
                + _spread(row["runs"], f"{row['test_loss_low']:.3f} to {row['test_loss_high']:.3f}"),
                f"{row['accuracy']:.1%}" if is_image else f"{row['bits_per_byte']:.3f}",
                str(row["runs"]),
                f"{row['requested_multiply_adds']:,.0f} / {row['kept_multiply_adds']:,.0f}",
                f"{row['parameters']:,.0f}",
                _share(row["drop_share_attention"]),
                _share(row["drop_share_mlp"]),
                f"{row['training_seconds']:.0f} s",
                "not measured" if pd.isna(row["step_seconds"]) else f"{row['step_seconds'] * 1000:.0f} ms",
            ]
        )
    unit = "cell" if is_image else "token"
    head = ["", "test loss, nats (smallest to largest seed)", quality, "seeds"]
    head += [f"multiply-adds per {unit}, requested / kept", "parameters", "dropped, attention", "dropped, MLP"]
    return markdown_table([*head, "wall time", "a step"], rows)


def _learned(result: Result) -> str:
    differences = comparison_differences(result)
    rows = []
    for row in differences.to_dict("records"):
        what = f"{VARIANT_NAMES[row['variant']]} minus {VARIANT_NAMES[row['baseline']]}"
        numbers = f"{row['test_loss_difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
        rows.append([what, str(row["seed"]), numbers])
    return markdown_table(["test loss", "seed", "nats, 95% over examples"], rows)


def _dependence(result: Result) -> str:
    table = comparison_dependence(result)
    rows = []
    keys = dict.fromkeys(zip(table["variant"], table["target"], strict=True))
    for variant, target in keys:
        group = table[(table["variant"] == variant) & (table["target"] == target)]
        by_replacement = {row["replacement"]: row for row in group.to_dict("records")}
        if not any(row["runs"] for row in by_replacement.values()):
            continue
        cells = []
        for replacement in ("balanced_random", "permuted", "untrained_router"):
            row = by_replacement.get(replacement)
            if row is None or not row["runs"]:
                cells.append(UNKNOWN)
                continue
            spread = _spread(row["runs"], f"{row['low']:+.3f} to {row['high']:+.3f}")
            cells.append(f"{row['loss_change']:+.3f}{spread}")
        rows.append([VARIANT_NAMES[variant], target.replace(".", " ").replace("mlp", "MLP"), *cells])
    return markdown_table(["loss change, nats", "routes of", "balanced random", "permuted", "untrained router"], rows)


def _positions(positions: pd.DataFrame) -> str:
    buckets = list(dict.fromkeys(zip(positions["position_start"], positions["position_end"], strict=True)))
    rows = []
    for variant in dict.fromkeys(positions["variant"]):
        group = positions[positions["variant"] == variant]
        losses = {(row["position_start"], row["position_end"]): row["loss"] for row in group.to_dict("records")}
        rows.append([VARIANT_NAMES[variant], *[f"{losses[bucket]:.3f}" for bucket in buckets]])
    return markdown_table(["loss by position", *[f"{start} to {end - 1}" for start, end in buckets]], rows)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text cells, numbers and all."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _spread(runs: int, span: str) -> str:
    """Smallest to largest seed, or that there is but one."""
    return f" ({span})" if runs > 1 else " (one seed)"


def _share(value: float) -> str:
    return UNKNOWN if pd.isna(value) else f"{value:.1%}"


def _make(file: Path, preset: Preset) -> dict[str, bytes]:
    result = load_comparison(file)
    figure = figure_of(result)
    stem = f"comparison-{result['kind']}"
    tables = {f"{stem}.md": render_comparison(result).encode()}
    return column_figure(figure, stem, title=TITLE, preset=preset) | tables


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; see `run_command`."""
    return run_command(
        _make,
        arguments,
        prog="python -m analysis.exports.comparison",
        description=__doc__,
        file_help="comparison.json",
    )


if __name__ == "__main__":
    sys.exit(main())
