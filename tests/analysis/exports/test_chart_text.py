import math

import pytest

from analysis.exports.chart.text import Run, line_width, parse_markup, place_text, shorten, wrap
from analysis.exports.typeface import text_width
from analysis.figures.labels import plain
from uoe_model.errors import ConfigError


def as_text(lines):
    return ["".join(run.text for run in line) for line in lines]


def test_bold_breaks_and_entities_are_read():
    lines = parse_markup("a <b>bold &amp; big</b> word<br>next&nbsp;line")
    assert lines == (
        (Run(text="a "), Run(text="bold & big", bold=True), Run(text=" word")),
        (Run(text="next\u00a0line"),),
    )


def test_empty_lines_at_the_end_are_left_out():
    assert as_text(parse_markup("Relative load<br>&nbsp;")) == ["Relative load"]
    assert parse_markup("") == ((),)


@pytest.mark.parametrize(
    "text", ["<b>x</b>", "a<br>b", "1 < 2 > 0", "&lt;i&gt;", "$a$", "&amp;nbsp;", "<script>", "a & b"]
)
def test_text_of_the_input_comes_back_as_it_was(text):
    assert as_text(parse_markup(plain(text))) == [text]


def test_a_sign_that_opens_no_tag_is_a_sign():
    assert as_text(parse_markup("< 0.1 %")) == ["< 0.1 %"]


@pytest.mark.parametrize("tag", ["<i>", "<sup>", "</span>", "<a href='x'>"])
def test_other_tags_are_refused(tag):
    with pytest.raises(ConfigError, match="cannot be drawn"):
        parse_markup(f"a {tag} b")


def test_lines_are_broken_at_spaces_and_keep_every_word():
    lines = wrap(parse_markup("one two <b>three four</b> five"), 10, 50)
    assert len(lines) > 1
    assert all(line_width(line, 10) <= 50 for line in lines)
    assert " ".join(as_text(lines)) == "one two three four five"
    assert {run.text.strip() for line in lines for run in line if run.bold} <= {"three four", "three", "four"}


def test_a_label_is_cut_with_an_ellipsis_and_stays_text():
    cut = shorten(plain("<b> is a very long label"), 8, 40)
    (line,) = as_text(parse_markup(cut))
    assert line.endswith("…")
    assert line.startswith("<b>")
    assert text_width(line, 8) <= 40
    assert shorten("short", 8, 40) == "short"


@pytest.mark.parametrize(("anchor", "share"), [("start", 0.0), ("middle", 0.5), ("end", 1.0)])
@pytest.mark.parametrize("rotate", [0, 90, -90])
def test_a_line_lies_at_its_anchor_however_it_is_turned(anchor, share, rotate):
    (text,) = place_text(parse_markup("some words"), 100, 50, size=10, colour="#000000", anchor=anchor, rotate=rotate)
    width = text_width("some words", 10)
    along = (math.cos(math.radians(rotate)), -math.sin(math.radians(rotate)))
    at = (text.x + share * width * along[0], text.y + share * width * along[1])
    assert abs((at[0] - 100) * along[0] + (at[1] - 50) * along[1]) < 1e-6
    assert math.hypot(at[0] - 100, at[1] - 50) < 5


def test_lines_follow_each_other_downwards():
    first, second = place_text(parse_markup("one<br>two"), 0, 0, size=10, colour="#000000", side="top")
    assert 0 < first.y < 10
    assert second.y - first.y == pytest.approx(12)
