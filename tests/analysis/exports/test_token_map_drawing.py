import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pypdfium2
import pytest

from analysis.exports import token_map
from analysis.exports.drawing import Drawing, Group, Path, Rect, Text
from analysis.exports.map_frame import DIM, HATCH, blend
from analysis.exports.pdf import write_pdf
from analysis.exports.svg import write_svg
from analysis.exports.token_map import draw_token_map
from analysis.exports.typeface import text_width
from analysis.figures.theme import IDENTITIES, NEUTRAL, FocusPalette, focus_palette
from analysis.figures.token_map import TokenMap, build_token_map
from analysis.selection import Selection, lit_units
from tests.analysis.random_traces import random_traces
from tests.drawings import HOSTILE, flat, pdf_object_kinds, pdf_text, pdf_type_sizes, rects, texts, written
from tests.traces import make_trace, mark_padding
from uoe_model.errors import ConfigError
from uoe_model.trace import RoutingTrace, text_column


def draw(
    trace: RoutingTrace,
    selection: Selection | None = None,
    *,
    palettes: dict[int, FocusPalette] | None = None,
    width_pt: float = 234,
    font_pt: float = 8,
    **options,
) -> Drawing:
    selection = (selection or Selection(site_id=0)).fitted(trace)
    counts = dict(zip(trace.sites.site_id.tolist(), trace.sites.num_experts.tolist(), strict=True))
    palettes = palettes or {site: focus_palette(count) for site, count in counts.items()}
    lit = lit_units(trace, selection)
    tokens = build_token_map(trace)
    return draw_token_map(tokens, palettes, selection, width_pt=width_pt, font_pt=font_pt, lit=lit, **options)


def baselines(drawing: Drawing, words: list[str]) -> list[float]:
    return [next(text.y for text in texts(drawing) if text.text == word) for word in words]


def behind(drawing: Drawing, word: str) -> list[Rect]:
    """Areas that the text of a token stands on."""
    text = next(text for text in texts(drawing) if text.text == word)
    return [
        rect
        for rect in rects(drawing)
        if rect.x <= text.x < rect.x + rect.width and rect.y < text.y + 3 and text.y <= rect.y + rect.height + 3
    ]


def trace_of(pieces: list[str], routes: str = "", **options) -> RoutingTrace:
    routes = routes or " ".join(f"{unit}>E0" for unit in range(len(pieces)))
    return make_trace(f"L0.mlp: {routes}", pieces=pieces, **({"num_experts": 3} | options))


def test_tokens_stand_on_the_colour_of_the_expert_that_kept_them():
    drawing = draw(trace_of(["one", " two"], "0>E0 1>E1,E0"))
    fills = {rect.paint.fill for rect in behind(drawing, "one")}
    assert fills == {IDENTITIES[0], blend(IDENTITIES[0], 0.3)}
    assert IDENTITIES[1] in {rect.paint.fill for rect in behind(drawing, "·two")}


def test_neutral_experts_carry_their_number_and_all_do_when_asked():
    palettes = {0: focus_palette(12, pinned=(3,))}
    trace = make_trace("L0.mlp: 0>E3 1>E11", num_experts=12, pieces=["one", " two"])
    drawing = draw(trace, palettes=palettes)
    assert [text.text for text in texts(drawing)][-3:] == ["one", "·two", "11"]
    assert NEUTRAL["light"] in {rect.paint.fill for rect in behind(drawing, "·two")}
    assert [text.text for text in texts(draw(trace, palettes=palettes, numbered=True))][-4:] == [
        "one",
        "3",
        "·two",
        "11",
    ]


def test_status_is_shown_without_colour():
    kept, partly, dropped, unrouted = "kept", " partly", " dropped", " unrouted"
    trace = make_trace(
        "L0.mlp: 0>E0 1>E0,E1! 2>E1! 3", num_experts=2, pieces=[kept, partly, dropped, unrouted], capacity=5
    )
    drawing = draw(trace)
    (hatched,) = behind(drawing, "·dropped")
    assert (hatched.paint.fill, hatched.paint.hatch, hatched.paint.dash) == (None, HATCH, ())
    (dashed,) = behind(drawing, "·unrouted")
    assert (dashed.paint.fill, dashed.paint.hatch) == (None, None)
    assert dashed.paint.dash
    assert len(behind(drawing, "kept")) == 2  # area and bar
    (area,) = behind(drawing, "·partly")
    feet = [item for item in flat(drawing.items) if isinstance(item, Path) and item.paint.fill == IDENTITIES[0]]
    (foot,) = feet
    assert len([command for command in foot.commands if command[0] == "M"]) > 4
    heights = sorted({round(command[2], 6) for command in foot.commands if len(command) > 2})
    assert heights == pytest.approx([area.y + area.height, area.y + area.height + 0.18 * 8])


def test_the_legend_counts_every_unit_once_per_kind():
    trace = make_trace("L2.mlp: 0>E0 1>E0,E1! 2>E1! 3>E2", num_experts=4, capacity=9)
    words = written(draw(trace, palettes={0: focus_palette(4, pinned=(0, 1))}))
    assert words.startswith("L2 MLP E0 2 E1 0 n 2 other experts 1 partly dropped 1 dropped 1 ")
    assert "unrouted" not in words
    picked = make_trace("L0.mlp: 0>E0 1", num_experts=1, selection="expert_choice")
    assert "L0 MLP E0 1 unrouted 1" in written(draw(picked))


def test_line_breaks_begin_a_row_and_are_seen():
    drawing = draw(trace_of(["a", "\n", "\n", "b\n", "c"]))
    shown = [text for text in texts(drawing) if text.text in ("a", "⏎", "b⏎", "c")]
    assert [text.text for text in shown] == ["a", "⏎", "⏎", "b⏎", "c"]
    rows = [text.y for text in shown]
    assert rows[0] == rows[1] < rows[2] < rows[3] < rows[4]
    assert np.diff(sorted(set(rows))) == pytest.approx([1.72 * 8] * 3)


def test_several_line_breaks_in_a_token_are_several_rows():
    drawing = draw(trace_of(["x", ":\n\n  y", "z"]))
    assert [text.text for text in texts(drawing)][-5:] == ["x", ":⏎", "⏎", "  y", "z"]
    assert len(set(baselines(drawing, [":⏎", "⏎", "  y"]))) == 3


def test_spaces_tabs_and_control_characters_are_seen():
    words = written(draw(trace_of(["", "  a", "\tb", "\x00", "\u0301", " "])))
    for shown in ("∅", "··a", "⇥b", "␀", "◌\u0301", " ·"):
        assert shown in words


def test_rows_break_between_words_and_never_within_one_that_fits():
    pieces = ["un", "believ", "able"] + [" w", "ord"] * 30
    drawing = draw(trace_of(pieces), width_pt=120)
    body = [text for text in texts(drawing) if text.text in {"un", "believ", "able", "·w", "ord"}]
    starts = [text.text for before, text in pairwise(body) if text.y > before.y]
    assert set(starts) == {"·w"}
    for rect in rects(drawing):
        assert rect.x >= 0
        assert rect.x + rect.width <= 120 + 1e-6


def test_words_and_tokens_wider_than_the_page_are_broken():
    drawing = draw(trace_of(["x" * 200, "y", "z" * 30, "ww"]), width_pt=100)
    parts = [text for text in texts(drawing) if set(text.text) <= {"x"} or set(text.text) <= {"z"}]
    assert "".join(text.text for text in parts) == "x" * 200 + "z" * 30
    assert len({text.y for text in parts}) > 8
    for text in texts(drawing):
        assert text.x + text_width(text.text, text.size, bold=text.bold) <= 100 + 1e-6 or text.anchor == "middle"


def test_pieces_of_one_character_are_numbered_and_touch():
    trace = make_trace("L0.mlp: 0>E0 1>E1 2>E0", num_experts=2)
    start, end = (np.array(column, dtype=np.int32) for column in ([0, 1, 1], [1, 2, 2]))
    units = replace(trace.units, char_start=start, char_end=end, text=text_column(["a", "\ufffd", "\ufffd"]))
    trace = replace(trace, units=units)
    tokens = build_token_map(trace, source_text="aé")
    drawing = draw_token_map(
        tokens, {0: focus_palette(2)}, Selection(site_id=0), width_pt=200, font_pt=8, lit=np.ones(3, dtype=np.bool_)
    )
    assert [text.text for text in texts(drawing)][-4:] == ["a", "é", "1/2", "2/2"]
    areas = [rect for rect in rects(drawing) if rect.paint.fill in {blend(colour, 0.3) for colour in IDENTITIES[:2]}]
    assert areas[1].x + areas[1].width == pytest.approx(areas[2].x)
    assert areas[0].x + areas[0].width < areas[1].x


def test_units_that_are_not_lit_are_faded_together():
    trace = trace_of(["one", " two", " three"], "0>E0 1>E1 2>E0")
    drawing = draw(trace, Selection(site_id=0, experts=(1,)))
    (group,) = [item for item in drawing.items if isinstance(item, Group)]
    assert group.opacity == DIM
    assert [item.text for item in group.items if isinstance(item, Text)] == ["one", "·three"]
    assert "In full colour: tokens kept by E1." in written(drawing)
    assert "In full colour: tokens kept by E1." in drawing.notes
    dropped = draw(trace, Selection(site_id=0, experts=(0, 1), status="dropped"))
    assert "kept by E0 or E1 and dropped" in written(dropped)
    assert not [item for item in draw(trace).items if isinstance(item, Group)]


def test_selected_units_are_outlined():
    trace = trace_of(["one", " two", " three"])
    plain, chosen = draw(trace), draw(trace, Selection(site_id=0, units=(0, 2)))
    new = [item for item in chosen.items if item not in plain.items]
    assert [(rect.paint.stroke, rect.paint.fill) for rect in new] == [("#000000", None)] * 2
    assert new[0].x < 1 < new[1].x


def test_changed_units_are_marked_and_counted():
    trace = trace_of(["one", " two", " three"])
    drawing = draw(trace, changed=np.array([False, True, True]))
    assert "route differs from A 2" in written(drawing)
    corners = [item for item in drawing.items if isinstance(item, Path) and item.paint.fill == "#000000"]
    assert len(corners) == 3  # two and the one in the legend
    assert "run A" in drawing.notes[0]
    assert "differs" not in written(draw(trace))


def test_examples_and_what_the_model_wrote_begin_under_a_heading():
    trace = trace_of(["a", "b", "c", "d"], example_lengths=[2, 2])
    assert [text.text for text in texts(draw(trace))][-6:] == ["example 0", "a", "b", "example 1", "c", "d"]
    assert baselines(draw(trace), ["b", "example 1", "c"]) == sorted(baselines(draw(trace), ["b", "example 1", "c"]))
    one = trace_of(["a", "b", "c"])
    one = replace(one, units=replace(one.units, phase=text_column(["prefill", "prefill", "decode"])))
    rows = baselines(draw(one), ["a", "b", "written by the model", "c"])
    assert rows[0] == rows[1] < rows[2] < rows[3]
    assert "example" not in written(draw(one))


def test_padding_begins_under_a_heading_with_its_size():
    trace = mark_padding(
        make_trace("L0.mlp: 0>E0 1>E0 2>E0 3>E0", num_experts=3, pieces=["one", "[p]", "[p]", "[p]"]), 1
    )
    drawing = draw(trace)
    heading = "padding: 3 units behind the end of the example"
    [top] = baselines(drawing, [heading])
    assert baselines(drawing, ["one"])[0] < top < baselines(drawing, ["[p]"])[0]
    assert not any("padding" in text.text for text in texts(draw(trace_of(["one", " two"]))))


def test_the_sentence_of_a_filter_says_what_filler_is():
    trace = make_trace("L0.mlp: 0>E0,E1~ 1>E0", num_experts=2, capacity=2)
    shown = [text.text for text in texts(draw(trace, Selection(site_id=0, status="filler")))]
    assert "In full colour: tokens taken as filler." in shown


def test_a_long_text_is_drawn_in_part_and_says_so(monkeypatch):
    monkeypatch.setattr(token_map, "MAX_TOKENS", 4)
    trace = trace_of([f"t{unit} " for unit in range(10)])
    words = written(draw(trace))
    assert "t3 " in words
    assert "t4 " not in words
    assert "Tokens 0 to 3 of 10" in words
    later = written(draw(trace, Selection(site_id=0, units=(5,))))
    assert "Tokens 4 to 7 of 10" in later
    assert "t5 " in later
    assert "t3 " not in later


def test_a_drawing_higher_than_a_page_ends_and_says_so(monkeypatch):
    monkeypatch.setattr(token_map, "MAX_HEIGHT_PT", 60)
    drawing = draw(trace_of(["x\n"] * 20))
    assert drawing.height < 100
    assert "of 20; the legend counts all of them" in written(drawing)


def test_a_site_that_does_not_exist_is_refused():
    tokens = build_token_map(trace_of(["a"]))
    with pytest.raises(ConfigError, match="site_id=7"):
        draw_token_map(tokens, {}, Selection(site_id=7), width_pt=99, font_pt=8, lit=np.ones(1, dtype=np.bool_))


def test_traces_without_tokens_say_so():
    assert "The trace has no tokens." in written(draw(make_trace("L0.mlp:", num_experts=2)))


def test_characters_without_a_glyph_are_noted_without_writing_them():
    (note,) = [note for note in draw(trace_of(["\U00100000"])).notes if "U+100000" in note]
    assert "\U00100000" not in note


def test_every_trace_can_be_drawn_within_its_page():
    for trace, _ in random_traces()[:40]:
        drawing = draw(trace, Selection(site_id=0, experts=(0,), units=(0,)))
        assert drawing.height > 0
        for text in texts(drawing):
            assert text.size >= 7
            assert 0 <= text.y <= drawing.height
        for rect in rects(drawing):
            assert -1e-6 <= rect.x <= rect.x + rect.width <= drawing.width + 1e-6
            assert rect.y + rect.height <= drawing.height


@pytest.fixture(scope="module")
def long_map() -> tuple[TokenMap, dict[int, FocusPalette]]:
    words = ["the", " quick", " brown", " fox", "es", ",", " jumped", ".\n", " 日本", HOSTILE.replace("\ud800", "")]
    pieces = [words[unit % 10] if unit < 30 else words[unit % 8] for unit in range(500)]
    routes = " ".join(f"{unit}>E{unit % 12},E{(unit + 3) % 12}{'!' if unit % 7 == 0 else ''}" for unit in range(500))
    trace = make_trace(f"L0.mlp: {routes}", num_experts=12, pieces=pieces, capacity=500)
    return build_token_map(trace), {0: focus_palette(12, pinned=(0, 1, 2))}


def draw_long(long_map, font_pt: float = 7.5) -> Drawing:
    tokens, palettes = long_map
    lit = np.arange(500) % 3 > 0
    return draw_token_map(
        tokens, palettes, Selection(site_id=0, units=(3,)), width_pt=234, font_pt=font_pt, lit=lit, changed=~lit
    )


def test_type_is_never_smaller_than_seven_points(long_map):
    for asked in (5, 7, 7.5):
        drawing = draw_long(long_map, asked)
        assert min(text.size for text in texts(drawing)) >= 7
        assert min(pdf_type_sizes(write_pdf(drawing, title="x"))) >= 7


def test_lines_are_never_thinner_than_half_a_point(long_map):
    painted = [item.paint for item in flat(draw_long(long_map).items) if isinstance(item, (Rect, Path))]
    assert min(paint.stroke_width for paint in painted if paint.stroke) >= 0.5


def test_a_token_map_has_no_image_and_its_text_can_be_read(long_map):
    data = write_pdf(draw_long(long_map), title="x")
    assert pypdfium2.raw.FPDF_PAGEOBJ_IMAGE not in pdf_object_kinds(data)
    assert "·brown" in pdf_text(data)


def test_equal_maps_give_equal_files(long_map):
    one, other = draw_long(long_map), draw_long(long_map)
    assert write_svg(one) == write_svg(other)
    assert write_pdf(one, title="x") == write_pdf(other, title="x")


def test_a_pdf_of_500_tokens_takes_half_a_second_when_warm(long_map):
    drawing = draw_long(long_map)
    write_pdf(drawing, title="x")
    spent = []
    for _ in range(5):
        start = time.process_time()
        write_pdf(drawing, title="x")
        spent.append(time.process_time() - start)
    assert min(spent) < 0.5
