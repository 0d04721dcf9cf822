"""The fonts of exported figures: which font has a character, how wide a line is, and the outlines of its glyphs.

Characters are set one by one, without kerning, ligatures or joined letters: Arabic and Indic scripts are readable but
unjoined, and `character_notes` says so. Runs of right-to-left letters are set from right to left.
"""

import io
import re
import threading
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path as FilePath
from typing import Any, Final

from fontTools.pens.basePen import BasePen
from fontTools.ttLib import TTFont, TTLibError

from analysis.exports.machine_fonts import fonts_with

FONT_FOLDER: Final = FilePath(__file__).parent / "fonts"
REGULAR: Final = "NotoSans-Regular"
BOLD: Final = "NotoSans-Bold"
FALLBACK: Final = "DejaVuSans"
SHIPPED: Final = (REGULAR, BOLD, FALLBACK)

MIN_TEXT_PT: Final = 7.0
"""Smallest type of a figure at its final size."""

EM: Final = 1000.0
"""Outlines and advances are in thousandths of the type size, y upwards."""

BOX_TOP: Final = 780.0
BOX_FOOT: Final = -140.0
BOX_MARGIN: Final = 60.0
BOX_PADDING: Final = 80.0

_CONTROLS: Final = re.findall(
    "[A-Z0-9]+",
    "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI "
    "DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US",
)
# Scripts whose letters join or move, and so look wrong when set one by one: first and last code point.
_JOINED: Final = ((0x600, 0x7BF), (0x8A0, 0xDFF), (0xE31, 0xEFF), (0xF00, 0x109F), (0x1780, 0x17FF), (0xA8E0, 0xA8FF))

_READING: Final = threading.RLock()  # fontTools reads a font bit by bit, as its glyphs are asked for

Commands = tuple[tuple[str | float, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Face:
    """An open font. `name` is unique among the faces of this process."""

    name: str
    path: FilePath
    scale: float  # from units of the font to EM
    names: Mapping[int, str]  # code point -> name of the glyph
    glyphs: Any  # fontTools' glyph set: name -> glyph


@dataclass(frozen=True, kw_only=True, slots=True)
class Glyph:
    """A glyph on a line: `x` is its left edge in EM; `text` the character, as a file may spell it."""

    face: Face
    name: str
    text: str
    x: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of text, set. `boxes` are the left and right edge of a frame around a code point without a glyph."""

    glyphs: tuple[Glyph, ...]
    boxes: tuple[tuple[float, float], ...]
    width: float


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of a line in points at a type size in points."""
    return set_line(text, bold).width * size / EM


@lru_cache(maxsize=32_768)
def set_line(text: str, bold: bool = False) -> Line:
    """Choose a glyph for every character and place it. Letters with separate marks are joined where Unicode can."""
    glyphs: list[Glyph] = []
    boxes: list[tuple[float, float]] = []
    x = 0.0
    for letter in _visual_order(unicodedata.normalize("NFC", text)):
        if _is_invisible(letter):
            continue
        found = find_glyph(letter, bold)
        if found is not None:
            face, name = found
            glyphs.append(Glyph(face=face, name=name, text=letter, x=x))
            x += advance(face, name)
        elif unicodedata.category(letter) == "Zs":
            x += EM if unicodedata.east_asian_width(letter) == "F" else EM / 4
        else:
            left = x + BOX_MARGIN
            x = left + BOX_PADDING
            for digit in code_name(letter):
                face, name = _shipped_glyph(digit, bold)
                glyphs.append(Glyph(face=face, name=name, text=digit, x=x))
                x += advance(face, name)
            boxes.append((left, x + BOX_PADDING))
            x += BOX_PADDING + BOX_MARGIN
    return Line(glyphs=tuple(glyphs), boxes=tuple(boxes), width=x)


def code_name(letter: str) -> str:
    """What a box says in the place of a character: the short name of a control character, else its code point."""
    code = ord(letter)
    return _CONTROLS[code - 0x2400] if 0x2400 <= code <= 0x241F else f"{code:04X}"


@cache
def find_glyph(letter: str, bold: bool = False) -> tuple[Face, str] | None:
    """The font that draws a character and the glyph's name there; None if no font of this machine has it."""
    code = ord(letter)
    for shipped in (BOLD, REGULAR, FALLBACK) if bold else (REGULAR, FALLBACK):
        face = shipped_face(shipped)
        if code in face.names:
            return face, face.names[code]
    if 0x2400 <= code <= 0x241F or unicodedata.category(letter) in ("Cc", "Cs", "Co", "Cn"):
        return None
    for font in fonts_with(code):
        opened = _machine_face(font.path, font.index)
        if opened is not None and code in opened.names and _can_draw(opened, opened.names[code], letter):
            return opened, opened.names[code]
    return None


@cache
def shipped_face(name: str) -> Face:
    """One of the fonts in the folder beside this file."""
    path = FONT_FOLDER / f"{name}.ttf"
    return _open(path, 0, name)


@cache
def outline(face: Face, name: str) -> Commands:
    """Outline of a glyph in EM, y upwards: M, L, C and Z as in `drawing.Path`."""
    pen = _OutlinePen(face.glyphs, face.scale)
    with _READING:
        face.glyphs[name].draw(pen)
    return tuple(pen.commands)


@cache
def advance(face: Face, name: str) -> float:
    """How far the next glyph stands from this one, in EM."""
    with _READING:
        return float(face.glyphs[name].width) * face.scale


def character_notes(texts: Iterable[str]) -> tuple[str, ...]:
    """What a reader should know about the characters of these texts: which have no glyph, which are unjoined."""
    letters = sorted(set(unicodedata.normalize("NFC", "".join(texts))))
    shown = [letter for letter in letters if not _is_invisible(letter) and unicodedata.category(letter) != "Zs"]
    notes = []
    missing = [letter for letter in shown if find_glyph(letter) is None and not 0x2400 <= ord(letter) <= 0x241F]
    if missing:
        named = ", ".join(f"U+{ord(letter):04X}" for letter in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        notes.append(f"No font of this machine has {named}{more}: a box shows the code point.")
    if any(low <= ord(letter) <= high for letter in shown for low, high in _JOINED):
        notes.append("Letters of scripts that join or move them, such as Arabic and Devanagari, are set one by one.")
    return tuple(notes)


@lru_cache(maxsize=64)
def _machine_face(path: FilePath, index: int) -> Face | None:
    try:
        return _open(path, index, f"{path.stem}-{index}")
    except (OSError, TTLibError, KeyError, ValueError, AssertionError):
        return None  # damaged, or without outlines


def _open(path: FilePath, index: int, name: str) -> Face:
    with _READING:
        font = TTFont(io.BytesIO(path.read_bytes()), fontNumber=index, lazy=True)
        names, glyphs = font.getBestCmap() or {}, font.getGlyphSet()
        return Face(name=name, path=path, scale=EM / font["head"].unitsPerEm, names=names, glyphs=glyphs)


def _can_draw(face: Face, name: str, letter: str) -> bool:
    """Whether a glyph has an outline; colour fonts have empty ones."""
    try:
        return bool(outline(face, name)) or unicodedata.category(letter) == "Zs"
    except (TTLibError, KeyError, ValueError, AssertionError):
        return False


def _shipped_glyph(letter: str, bold: bool) -> tuple[Face, str]:
    face = shipped_face(BOLD if bold else REGULAR)
    return face, face.names[ord(letter)]


def _is_invisible(letter: str) -> bool:
    """Joiners, direction marks, variation selectors and the like, which every renderer hides."""
    code = ord(letter)
    return unicodedata.category(letter) == "Cf" or 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF


def _visual_order(text: str) -> str:
    """Text from left to right as it is seen: runs of right-to-left letters turned round, numbers within them not."""
    if text.isascii() or not any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text):
        return text
    clusters: list[str] = []
    for letter in text:
        if clusters and unicodedata.category(letter).startswith("M"):
            clusters[-1] += letter
        else:
            clusters.append(letter)
    kinds = [unicodedata.bidirectional(cluster[0]) for cluster in clusters]
    shown: list[str] = []
    place = 0
    while place < len(clusters):
        if kinds[place] not in ("R", "AL"):
            shown.append(clusters[place])
            place += 1
            continue
        end = last = place
        while end < len(clusters) and kinds[end] != "L":
            if kinds[end] in ("R", "AL"):
                last = end
            end += 1
        shown += _turned(clusters[place : last + 1])
        place = last + 1
    return "".join(shown)


def _turned(clusters: list[str]) -> list[str]:
    turned: list[str] = []
    number: list[str] = []
    for cluster in reversed(clusters):
        if unicodedata.bidirectional(cluster[0]) in ("EN", "AN"):
            number.insert(0, cluster)
            continue
        turned += [*number, cluster]
        number = []
    return turned + number


class _OutlinePen(BasePen):  # type: ignore[misc]
    """Collects an outline as lines and cubic curves, scaled to EM."""

    def __init__(self, glyphs: Any, scale: float) -> None:
        super().__init__(glyphs)
        self.scale = scale
        self.commands: list[tuple[str | float, ...]] = []

    def _add(self, name: str, *points: tuple[float, float]) -> None:
        self.commands.append((name, *(value * self.scale for point in points for value in point)))

    def _moveTo(self, pt: tuple[float, float]) -> None:
        self._add("M", pt)

    def _lineTo(self, pt: tuple[float, float]) -> None:
        self._add("L", pt)

    def _curveToOne(self, pt1: tuple[float, float], pt2: tuple[float, float], pt3: tuple[float, float]) -> None:
        self._add("C", pt1, pt2, pt3)

    def _closePath(self) -> None:
        self.commands.append(("Z",))
