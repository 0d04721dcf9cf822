import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.figures import theme
from analysis.figures.theme import FocusPalette, focus_palette, site_palettes
from analysis.utilisation import expert_load
from tests.analysis.figures.colour_distance import closest, delta_e2000
from tests.traces import make_trace

TELLABLE = 8.0  # below that, small marks are hard to tell apart


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [  # from the test data of Sharma, Wu, Dalal 2005, table 1
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ],
)
def test_the_colour_difference_used_here_is_ciede2000(one, other, expected):
    assert delta_e2000(np.array(one), np.array(other)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("page", ["light", "dark"])
def test_experts_neutral_and_page_can_be_told_apart_under_every_vision(page):
    distance, pair = closest([*theme.IDENTITIES, theme.NEUTRAL[page], theme.PAGE[page]])
    assert distance >= TELLABLE, pair


@pytest.mark.parametrize("page", ["light", "dark"])
@pytest.mark.parametrize(
    "colours",
    [
        [theme.KEPT_BAR, theme.DROPPED_BAR],
        [colour for _, colour in theme.DIFFERENCE],
    ],
)
def test_the_other_sets_of_colours_can_be_told_apart_as_well(page, colours):
    distance, pair = closest([*colours, theme.PAGE[page]])
    assert distance >= TELLABLE, pair


@pytest.mark.parametrize("page", ["light", "dark"])
def test_text_is_readable(page):
    for fill in [*theme.IDENTITIES, theme.NEUTRAL[page], theme.PAGE[page], theme.DROPPED_BAR]:
        assert theme.contrast_ratio(theme.text_on(fill), fill) >= 4.5
    for ink in (theme.INK[page], theme.QUIET_INK[page]):
        assert theme.contrast_ratio(ink, theme.PAGE[page]) >= 4.5
    for value in np.linspace(0, 1, 41):
        cell = theme.magnitude_colour(float(value), 0.0, 1.0)
        assert theme.contrast_ratio(theme.text_on(cell), cell) >= 4.5


def test_contrast_goes_from_1_to_21():
    assert theme.contrast_ratio("#FFFFFF", "#FFFFFF") == 1
    assert theme.contrast_ratio("#000000", "rgb(255, 255, 255)") == pytest.approx(21)


def test_magnitudes_beyond_the_scale_take_the_colour_of_its_end():
    assert theme.magnitude_colour(-1, 0, 2) == theme.magnitude_colour(0, 0, 2)
    assert theme.magnitude_colour(9, 0, 2) == theme.magnitude_colour(2, 0, 2)
    assert theme.magnitude_colour(0, 0, 2) != theme.magnitude_colour(2, 0, 2)


def test_differences_have_a_labelled_zero_in_the_middle():
    axis = theme.difference_axis("Change", 2.0)
    assert (axis["cmin"], axis["cmid"], axis["cmax"]) == (-2.0, 0.0, 2.0)
    labels = dict(zip(axis["colorbar"]["tickvals"], axis["colorbar"]["ticktext"], strict=True))
    assert labels[0.0] == "0 same"
    assert labels[2.0] == "≥ +2"
    go.Figure(layout={"coloraxis": axis})  # plotly accepts it


def test_up_to_twelve_experts_all_have_the_colour_of_their_number():
    for num_experts in (1, 8, 12):
        palette = focus_palette(num_experts, load=[0.0] * num_experts)
        assert palette.slots == {expert: expert for expert in range(num_experts)}


def test_of_many_experts_the_eight_fullest_have_colours_and_the_others_are_neutral():
    load = [0.0] * 64
    for place, expert in enumerate((3, 11, 19, 20, 30, 41, 50, 63)):
        load[expert] = 100.0 - place
    load[5] = 1.0
    palette = focus_palette(64, load=load)
    assert palette.in_focus() == (3, 11, 19, 20, 30, 41, 50, 63)
    assert len({palette.colour(expert, "light") for expert in palette.in_focus()}) == 8
    assert palette.colour(5, "light") == theme.NEUTRAL["light"]
    assert palette.colour(5, "dark") == theme.NEUTRAL["dark"]


def test_equal_loads_and_missing_loads_prefer_lower_ids():
    assert focus_palette(20, load=[np.nan] * 20).in_focus() == tuple(range(8))
    assert focus_palette(20, load=[]).in_focus() == tuple(range(8))


def test_an_expert_keeps_its_colour_when_the_company_changes():
    before = focus_palette(64, pinned=(1, 2, 9))
    after = focus_palette(64, pinned=(2, 1, 30))
    assert before.colour(1, "light") == after.colour(1, "light")
    assert before.colour(2, "light") == after.colour(2, "light")


def test_pinned_experts_alone_are_coloured_at_most_twelve_of_them():
    assert focus_palette(8, load=range(8), pinned=(7, 7, 99, -1)).in_focus() == (7,)
    many = focus_palette(64, pinned=range(0, 64, 4))
    assert many.in_focus() == tuple(range(0, 48, 4))
    assert len(set(many.slots.values())) == theme.MAX_IDENTITIES


def test_a_palette_refuses_what_would_give_two_experts_one_colour():
    with pytest.raises(ValueError, match=r"experts \[9\].*must be different"):
        FocusPalette(num_experts=4, slots={9: 0, 1: 0})


def test_every_site_has_its_own_palette():
    trace = make_trace("L0.attention: 0>E1; L0.mlp: 0>E19", num_experts={"L0.attention": 2, "L0.mlp": 20})
    palettes = site_palettes(expert_load(trace), pinned={0: (1,)})
    assert palettes[0].in_focus() == (1,)
    assert 19 in palettes[1].in_focus()
    assert palettes[1].num_experts == 20
    assert site_palettes(pd.DataFrame({"site_id": [], "expert_id": [], "load": []})) == {}


def test_both_templates_are_complete_and_differ():
    light, dark = theme.template("light"), theme.template("dark")
    assert light.layout.paper_bgcolor == theme.PAGE["light"]
    assert dark.layout.paper_bgcolor == theme.PAGE["dark"]
    assert light.layout.font.color != dark.layout.font.color
