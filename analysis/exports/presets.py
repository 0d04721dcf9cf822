"""Sizes of figures for venues: how wide a column and a page of text are, and how large the type in a figure is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from analysis.exports.drawing import LINE_PT
from analysis.exports.typeface import MIN_TEXT_PT
from uoe_model.errors import ConfigError

Span = Literal["column", "full"]
SPANS: Final[tuple[Span, ...]] = get_args(Span)
POINTS_PER_INCH: Final = 72.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """Where a figure is going.

    Attributes:
        name: as the command line spells it. label: as the page does.
        column_in: width of one column in inches; None for a venue whose text has one column.
        full_in: width of the text in inches.
        font_pt: type size of labels and text, at least 7 points. line_pt: thinnest line, at least 0.5 points.
        source: where the widths are from.
    """

    name: str
    label: str
    column_in: float | None
    full_in: float
    font_pt: float
    source: str
    line_pt: float = LINE_PT

    def __post_init__(self) -> None:
        problems = []
        if self.font_pt < MIN_TEXT_PT:
            problems.append(f"font_pt={self.font_pt} must be at least {MIN_TEXT_PT:g}")
        if self.line_pt < LINE_PT:
            problems.append(f"line_pt={self.line_pt} must be at least {LINE_PT:g}")
        if not 0 < (self.column_in or self.full_in) <= self.full_in:
            problems.append(f"column_in={self.column_in} must lie in 0..full_in={self.full_in}")
        if problems:
            raise ConfigError(f"Preset {self.name!r}: " + "; ".join(problems))


_TUEPLOTS: Final = "tueplots, figsizes.py"
_TEMPLATES: Final = "tueplots, figsizes.py, from the author guide of the venue"

PRESETS: Final[Mapping[str, Preset]] = {
    preset.name: preset
    for preset in (
        Preset(name="icml", label="ICML", column_in=3.25, full_in=6.75, font_pt=8.0, source=_TUEPLOTS),
        Preset(name="neurips", label="NeurIPS", column_in=None, full_in=5.5, font_pt=8.0, source=_TUEPLOTS),
        Preset(name="iclr", label="ICLR", column_in=None, full_in=5.5, font_pt=8.0, source=_TUEPLOTS),
        Preset(name="aistats", label="AISTATS", column_in=3.25, full_in=6.75, font_pt=8.0, source=_TUEPLOTS),
        Preset(name="uai", label="UAI", column_in=3.25, full_in=6.75, font_pt=8.0, source=_TUEPLOTS),
        Preset(
            name="acl",
            label="ACL, EMNLP, NAACL",
            column_in=3.03,
            full_in=6.30,
            font_pt=8.0,
            source="formatting guide of the ACL: two columns of 7.7 cm, 0.6 cm apart",
        ),
        Preset(
            name="ieee",
            label="IEEE",
            column_in=3.5,
            full_in=7.16,
            font_pt=8.5,
            source="graphics guide of the IEEE: columns of 21 picas, pages of 43 picas",
        ),
        Preset(name="cvpr", label="CVPR, ICCV", column_in=3.25, full_in=6.875, font_pt=8.0, source=_TUEPLOTS),
        Preset(name="aaai", label="AAAI", column_in=3.3, full_in=6.975, font_pt=8.0, source=_TUEPLOTS),
        Preset(name="eccv", label="ECCV", column_in=None, full_in=4.8, font_pt=7.5, source=_TEMPLATES),
        Preset(name="jmlr", label="JMLR", column_in=None, full_in=6.0, font_pt=8.5, source=_TEMPLATES),
        Preset(name="tmlr", label="TMLR", column_in=None, full_in=6.5, font_pt=8.5, source=_TEMPLATES),
        Preset(
            name="screen",
            label="Screen, slides",
            column_in=None,
            full_in=10.0,
            font_pt=10.0,
            source="960 pixels at 96 per inch",
        ),
    )
}


def preset_named(name: str) -> Preset:
    """The preset of a venue.

    Raises:
        ConfigError: no venue of this name.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} is unknown: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def spans_of(preset: Preset) -> tuple[Span, ...]:
    """The widths that a venue has."""
    return SPANS if preset.column_in is not None else ("full",)


def page_width_in(preset: Preset, span: Span = "full") -> float:
    """Width of a figure in inches; see `page_width_pt`."""
    if span not in SPANS:
        raise ConfigError(f"span={span!r} must be one of {', '.join(SPANS)}")
    if span == "full":
        return preset.full_in
    if preset.column_in is None:
        raise ConfigError(f"{preset.label} sets its text in one column: span='column' is not possible, choose 'full'")
    return preset.column_in


def page_width_pt(preset: Preset, span: Span = "full") -> float:
    """Width of a figure in points of 1/72 inch.

    Raises:
        ConfigError: one column asked of a venue that has no columns.
    """
    return page_width_in(preset, span) * POINTS_PER_INCH
