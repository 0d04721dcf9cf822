import subprocess
import unicodedata
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from analysis.exports import machine_fonts, typeface
from analysis.exports.machine_fonts import fonts_with, read_font_list
from analysis.exports.typeface import (
    EM,
    FONT_FOLDER,
    SHIPPED,
    character_notes,
    find_glyph,
    outline,
    set_line,
    shipped_face,
    text_width,
)


@pytest.fixture
def no_machine_fonts(monkeypatch):
    """A machine without fontconfig."""
    machine_fonts._machine_fonts.cache_clear()
    typeface.find_glyph.cache_clear()
    typeface.set_line.cache_clear()
    monkeypatch.setattr(machine_fonts.shutil, "which", lambda name: None)
    yield
    machine_fonts._machine_fonts.cache_clear()
    typeface.find_glyph.cache_clear()
    typeface.set_line.cache_clear()


def shown(text):
    return "".join(glyph.text for glyph in set_line(text).glyphs)


@pytest.mark.parametrize(("name", "bold"), [("NotoSans-Regular", False), ("NotoSans-Bold", True)])
def test_a_line_is_as_wide_as_the_advances_of_its_letters(name, bold):
    font = TTFont(FONT_FOLDER / f"{name}.ttf")
    text = "Routing, 12 %"
    units = sum(font["hmtx"][font.getBestCmap()[ord(letter)]][0] for letter in text)
    assert text_width(text, 8, bold=bold) == pytest.approx(units / font["head"].unitsPerEm * 8)


def test_the_first_font_that_has_a_character_draws_it():
    assert [find_glyph(letter)[0].name for letter in "aé⏎∅"] == [
        *("NotoSans-Regular", "NotoSans-Regular", "DejaVuSans", "DejaVuSans")
    ]
    assert find_glyph("a", True)[0].name == "NotoSans-Bold"


def test_outlines_come_in_thousandths_whatever_the_units_of_the_font():
    for name in SHIPPED:
        face = shipped_face(name)
        values = [value for command in outline(face, face.names[ord("H")]) for value in command[2::2]]
        assert max(values) == pytest.approx(714 if name != "DejaVuSans" else 729, abs=2)  # heights of their capitals
    assert {command[0] for command in outline(face, face.names[ord("o")])} == {"M", "C", "Z"}
    assert outline(face, face.names[ord(" ")]) == ()


def test_a_character_without_a_glyph_is_a_box_with_its_code_point(no_machine_fonts):
    line = set_line("a\U0001f9ffb")
    assert "".join(glyph.text for glyph in line.glyphs) == "a1F9FFb"
    ((left, right),) = line.boxes
    inside = [glyph.x for glyph in line.glyphs[1:6]]
    assert left < min(inside) < max(inside) < right < line.glyphs[-1].x
    assert shown("\U00100000\x7f\ud800") == "100000007FD800"


def test_control_pictures_are_boxes_with_the_names_of_the_characters():
    assert shown("\u2400\u240d\u241b\u241f") == "NULCRESCUS"
    assert character_notes(["\u240d"]) == ()


def test_missing_characters_are_noted_by_code_point_and_once(no_machine_fonts):
    (note,) = character_notes(["日本", "日"])
    assert note == "No font of this machine has U+65E5, U+672C: a box shows the code point."
    (many,) = character_notes([chr(code) for code in range(0x4E00, 0x4E14)])
    assert "U+4E07 and 12 more" in many
    assert character_notes(["plain text, é, ⏎ and a\u200bb"]) == ()


def test_scripts_that_join_letters_are_noted():
    assert "one by one" in " ".join(character_notes(["\u0645\u0631\u062d\u0628\u0627"]))
    assert not any("one by one" in note for note in character_notes(["\u05e9\u05dc\u05d5\u05dd"]))


def test_invisible_characters_take_no_room():
    assert set_line("a\u200b\ufe0f\u2066b") == set_line("ab")


def test_separate_accents_are_joined_where_unicode_has_the_letter():
    assert set_line("e\u0301") == set_line("\u00e9")


def test_right_to_left_letters_stand_from_right_to_left_and_their_numbers_do_not():
    assert shown("abc \u05d0\u05d1 12 \u05d2\u05d3 xyz") == "abc \u05d3\u05d2 12 \u05d1\u05d0 xyz"
    pointed = "\u05d0\u05b8\u05d1"  # a mark stays behind its letter
    assert shown(pointed) == "\u05d1\u05d0\u05b8"


def test_fonts_of_the_machine_are_sorted_and_broken_lines_left_out():
    rows = [
        "/f/Mono.ttf\t0\tTrue\tFalse\t0\t80\t20-7e 4e00-9fff",
        "/f/SansItalic.ttf\t0\tTrue\tFalse\t100\t80\t4e00",
        "/f/Sans.ttc\t65538\tTrue\tFalse\t0\t80\t4e00-4e10 61",
        "/f/SansBold.ttf\t0\tTrue\tFalse\t0\t200\t4e00",
        "/f/Bitmap.pcf\t0\tFalse\tFalse\t0\t80\t4e00",
        "/f/Emoji.ttf\t0\tTrue\tTrue\t0\t80\t4e00",
        "/f/Odd.ttf\tx\tTrue\tFalse\t0\t80\t4e00",
        "/f/Odd2.ttf\t0\tTrue\tFalse\t0\t80\tzz",
        "nothing",
    ]
    fonts = read_font_list("\n".join(rows))
    assert [font.path for font in fonts] == [
        *(Path("/f/Sans.ttc"), Path("/f/Mono.ttf"), Path("/f/SansBold.ttf"), Path("/f/SansItalic.ttf"))
    ]
    assert read_font_list("\n".join(reversed(rows))) == fonts
    assert fonts[0].index == 2
    assert [fonts[0].has(code) for code in (0x60, 0x61, 0x62, 0x4DFF, 0x4E00, 0x4E10, 0x4E11)] == [
        *(False, True, False, False, True, True, False)
    ]


@pytest.mark.parametrize("failure", [OSError("gone"), subprocess.TimeoutExpired("fc-list", 5)])
def test_a_failing_font_list_is_no_error(monkeypatch, no_machine_fonts, failure):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(machine_fonts.shutil, "which", lambda name: name)
    monkeypatch.setattr(machine_fonts.subprocess, "run", fail)
    assert list(fonts_with(0x4E00)) == []
    assert shown("日") == "65E5"


def test_a_font_of_the_machine_is_asked_for_what_the_shipped_ones_lack(monkeypatch, no_machine_fonts, tmp_path):
    font = TTFont(FONT_FOLDER / "NotoSans-Regular.ttf")
    for table in font["cmap"].tables:
        table.cmap[0x65E5] = "H"
    font.save(tmp_path / "Sans.ttf")
    damaged = tmp_path / "A-Sans.ttf"
    damaged.write_bytes(b"no font")
    rows = f"{damaged}\t0\tTrue\tFalse\t0\t80\t65e5\n{tmp_path / 'Sans.ttf'}\t0\tTrue\tFalse\t0\t80\t65e5"
    monkeypatch.setattr(machine_fonts, "_machine_fonts", lambda: read_font_list(rows))
    face, name = find_glyph("日")
    assert (face.path, name) == (tmp_path / "Sans.ttf", "H")
    monkeypatch.undo()
    typeface.find_glyph.cache_clear()


def test_every_assigned_character_can_be_set():
    for code in (*range(0x700), *range(0x2000, 0x2500), 0xFFFE, 0xFFFF, 0x1F600, 0xE0001, 0x10FFFF):
        line = set_line(chr(code))
        assert 0 <= line.width < 6 * EM, unicodedata.name(chr(code), hex(code))
