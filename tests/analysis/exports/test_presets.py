import dataclasses

import pytest

from analysis.exports.presets import PRESETS, page_width_in, page_width_pt, preset_named, spans_of
from uoe_model.errors import ConfigError

WIDTHS = {  # column, text; inches
    "icml": (3.25, 6.75),
    "aistats": (3.25, 6.75),
    "uai": (3.25, 6.75),
    "acl": (3.03, 6.30),
    "ieee": (3.50, 7.16),
    "cvpr": (3.25, 6.875),
    "aaai": (3.30, 6.975),
    "neurips": (None, 5.5),
    "iclr": (None, 5.5),
    "eccv": (None, 4.8),
    "jmlr": (None, 6.0),
    "tmlr": (None, 6.5),
    "screen": (None, 10.0),
}


def test_every_venue_has_the_widths_of_its_author_guide():
    assert {name: (preset.column_in, preset.full_in) for name, preset in PRESETS.items()} == WIDTHS


def test_type_and_lines_are_never_too_small_to_print():
    for preset in PRESETS.values():
        assert preset.font_pt >= 7
        assert preset.line_pt >= 0.5
        assert preset.source
        for change in ({"font_pt": 6.9}, {"line_pt": 0.4}, {"column_in": preset.full_in + 1}):
            with pytest.raises(ConfigError, match=next(iter(change))):
                dataclasses.replace(preset, **change)


def test_widths_are_in_points():
    assert page_width_pt(preset_named("icml"), "column") == 234
    assert page_width_pt(preset_named("icml"), "full") == 486
    assert page_width_in(preset_named("jmlr")) == 6


def test_a_venue_of_one_column_offers_the_full_width_only():
    assert spans_of(preset_named("neurips")) == ("full",)
    assert spans_of(preset_named("icml")) == ("column", "full")
    with pytest.raises(ConfigError, match=r"NeurIPS.*choose 'full'"):
        page_width_pt(preset_named("neurips"), "column")


def test_unknown_names_are_refused_with_those_that_exist():
    with pytest.raises(ConfigError, match=r"'nature'.*icml, neurips"):
        preset_named("nature")
    with pytest.raises(ConfigError, match="column, full"):
        page_width_pt(preset_named("icml"), "half")
