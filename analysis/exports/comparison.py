"""`python -m analysis.exports.comparison FILE --output DIR`: a comparison as a figure for a column, and as a table."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from analysis.comparison import (
    Result,
    comparison_dependence,
    comparison_differences,
    comparison_positions,
    comparison_runs,
    comparison_table,
    load_comparison,
)
from analysis.exports.chart.draw import draw_chart
from analysis.exports.drawing import Drawing
from analysis.exports.files import DEFAULT_DPI
from analysis.exports.pdf import write_pdf
from analysis.exports.png import write_png
from analysis.exports.presets import PRESETS, page_width_pt, preset_named, spans_of
from analysis.exports.svg import write_svg
from analysis.figures.comparison import TITLE, VARIANT_NAMES, build_comparison_figure
from uoe_model.errors import UoEError

UNKNOWN: Final = "–"


def draw_comparison(result: Result, *, width_pt: float, font_pt: float) -> Drawing:
    """The figure at the size of a page; see `build_comparison_figure`."""
    figure = build_comparison_figure(
        comparison_runs(result),
        comparison_table(result),
        comparison_dependence(result),
        comparison_differences(result),
        kind=result["kind"],
    )
    return draw_chart(figure, width_pt=width_pt, font_pt=font_pt)


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; 0 if all were written, 2 with one sentence if not."""
    options = _parser().parse_args(arguments)
    try:
        result = load_comparison(options.file)
        preset = preset_named(options.preset)
        width = page_width_pt(preset, spans_of(preset)[0])
        drawing = draw_comparison(result, width_pt=width, font_pt=preset.font_pt)
        stem = f"comparison-{result['kind']}"
        made = {
            f"{stem}.svg": write_svg(drawing),
            f"{stem}.pdf": write_pdf(drawing, title=TITLE),
            f"{stem}.png": write_png(drawing, dpi=DEFAULT_DPI),
            f"{stem}.md": render_comparison(result).encode(),
        }
        options.output.mkdir(parents=True, exist_ok=True)
        for name, data in made.items():
            (options.output / name).write_bytes(data)
            print(options.output / name)  # noqa: T201  (a command's output)
    except (UoEError, OSError) as error:
        print(f"Nothing was written: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.exports.comparison", description=__doc__)
    parser.add_argument("file", type=Path, help="comparison.json")
    parser.add_argument("--preset", choices=list(PRESETS), default="icml", help="venue whose column the figure fits")
    parser.add_argument("--output", type=Path, default=Path(), help="folder of the files; default: this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
