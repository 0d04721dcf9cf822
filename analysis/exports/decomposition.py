"""What fewer experts cost a decomposed model, as files for a paper."""

from typing import Any, Final

from analysis.decomposition import decomposition_curve
from analysis.exports.files import DEFAULT_DPI, Format, export_figure
from analysis.exports.presets import Preset, Span
from analysis.figures.decomposition import TITLE, build_decomposition_figure

NAME: Final = "decomposition"


def export_decomposition(
    record: dict[str, Any], kind: Format, *, preset: Preset, span: Span | None = None, dpi: int = DEFAULT_DPI
) -> bytes:
    """Make one file of the curve of a decomposition; the same record gives the same bytes.

    Raises:
        CheckpointError: the record is not what a decomposition writes. ConfigError: as `export_figure`.
    """
    rows = decomposition_curve(record)
    return export_figure(
        build_decomposition_figure(rows),
        rows,
        kind,
        name=NAME,
        title=TITLE,
        caption=caption_of(record),
        preset=preset,
        span=span,
        dpi=dpi,
    )


def caption_of(record: dict[str, Any]) -> str:
    """Where the model comes from, and on how much the curve was measured."""
    words = str(record.get("summary", "a decomposed dense model"))
    return f"{words[:1].upper()}{words[1:]}. Curve over {record.get('held_out_units', 'unknown')} held-out units."
