"""`python -m analysis.exports.scaling FILE --output DIR`: how the cost of a block grows, as figures for a column."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from analysis.exports.chart.draw import draw_chart
from analysis.exports.files import Format, write_drawing, write_rows
from analysis.exports.presets import PRESETS, page_width_pt, preset_named, spans_of
from analysis.figures.scaling import TITLES, build_scaling_figure
from analysis.scaling import cost_growth
from uoe_model.errors import TraceError, UoEError

VALUES: Final[tuple[Literal["milliseconds", "megabytes"], ...]] = ("milliseconds", "megabytes")
FORMATS: Final[tuple[Format, ...]] = ("svg", "pdf", "png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figures and their table; 0 if all were written, 2 with one sentence if not."""
    options = _parser().parse_args(arguments)
    try:
        growth = cost_growth(_load(options.file))
        preset = preset_named(options.preset)
        width = page_width_pt(preset, spans_of(preset)[0])
        made = {"scaling.csv": write_rows(growth, "csv")}
        for value in VALUES:
            drawing = draw_chart(build_scaling_figure(growth, value=value), width_pt=width, font_pt=preset.font_pt)
            for kind in FORMATS:
                made[f"scaling-{value}.{kind}"] = write_drawing(drawing, kind, title=TITLES[value], caption="")
        options.output.mkdir(parents=True, exist_ok=True)
        for name, data in made.items():
            (options.output / name).write_bytes(data)
            print(options.output / name)  # noqa: T201  (a command's output)
    except (UoEError, OSError) as error:
        print(f"Nothing was written: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _load(path: Path) -> dict[str, object]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TraceError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise TraceError(f"{path.name} is no record of bench_model: it holds no object.")
    return record


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.exports.scaling", description=__doc__)
    parser.add_argument("file", type=Path, help="what tests.benchmarks.bench_model wrote")
    parser.add_argument("--preset", choices=list(PRESETS), default="icml", help="venue whose column the figures fit")
    parser.add_argument("--output", type=Path, default=Path(), help="folder of the files; default: this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
