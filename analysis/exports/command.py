"""Commands that turn one JSON file of results into figures for a column and their tables."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import plotly.graph_objects as go

from analysis.exports.chart.draw import draw_chart
from analysis.exports.files import Format, write_drawing
from analysis.exports.presets import PRESETS, Preset, page_width_pt, preset_named, spans_of
from uoe_model.errors import UoEError

FIGURE_FILES: Final[tuple[Format, ...]] = ("svg", "pdf", "png")


def column_figure(figure: go.Figure, stem: str, *, title: str, preset: Preset) -> dict[str, bytes]:
    """A figure at the venue's narrower width, by file name."""
    drawing = draw_chart(figure, width_pt=page_width_pt(preset, spans_of(preset)[0]), font_pt=preset.font_pt)
    return {f"{stem}.{kind}": write_drawing(drawing, kind, title=title, caption="") for kind in FIGURE_FILES}


def run_command(
    make: Callable[[Path, Preset], Mapping[str, bytes]],
    arguments: Sequence[str] | None,
    *,
    prog: str,
    description: str | None,
    file_help: str,
) -> int:
    """Make all files before any of them is written.

    Args:
        make: contents by file name, of the given file and at the venue's sizes.

    Returns:
        0 if all were written, 2 with one sentence if not.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("file", type=Path, help=file_help)
    parser.add_argument("--preset", choices=list(PRESETS), default="icml", help="venue whose column the figures fit")
    parser.add_argument("--output", type=Path, default=Path(), help="folder of the files; default: this one")
    options = parser.parse_args(arguments)
    try:
        made = make(options.file, preset_named(options.preset))
        options.output.mkdir(parents=True, exist_ok=True)
        for name, data in made.items():
            (options.output / name).write_bytes(data)
            print(options.output / name)  # noqa: T201  (a command's output)
    except (UoEError, OSError) as error:
        print(f"Nothing was written: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0
