"""`python -m analysis.exports.scaling FILE --output DIR`: how the cost of a block grows, as figures for a column."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from analysis.exports.command import column_figure, run_command
from analysis.exports.files import write_rows
from analysis.exports.presets import Preset
from analysis.figures.scaling import TITLES, build_scaling_figure
from analysis.scaling import cost_growth
from uoe_model.errors import TraceError

VALUES: Final[tuple[Literal["milliseconds", "megabytes"], ...]] = ("milliseconds", "megabytes")


def _make(file: Path, preset: Preset) -> dict[str, bytes]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TraceError(f"{file.name} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise TraceError(f"{file.name} is no record of bench_model: it holds no object.")
    growth = cost_growth(record)
    made = {"scaling.csv": write_rows(growth, "csv")}
    for value in VALUES:
        figure = build_scaling_figure(growth, value=value)
        made |= column_figure(figure, f"scaling-{value}", title=TITLES[value], preset=preset)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; see `run_command`."""
    return run_command(
        _make,
        arguments,
        prog="python -m analysis.exports.scaling",
        description=__doc__,
        file_help="what tests.benchmarks.bench_model wrote",
    )


if __name__ == "__main__":
    sys.exit(main())
