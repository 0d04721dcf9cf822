"""Drawings as SVG: text as outlines of glyphs, so that the file looks the same everywhere; equal drawings, equal bytes.

No text of the input is written into the file, only shapes and the notes, which are escaped.
"""

import base64
import hashlib
import io
import math
import re
from typing import Final
from xml.sax.saxutils import escape

from PIL import Image

from analysis.exports.drawing import Drawing, Group, Item, Paint, Path, Picture, Rect, Text
from analysis.exports.shapes import Commands, extent, hatch_segments, hatch_width, rect_commands
from analysis.exports.typeface import BOX_FOOT, BOX_TOP, EM, outline, set_line

_COLOUR: Final = re.compile(r"#[0-9A-Fa-f]{6}")
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_svg(drawing: Drawing) -> bytes:
    """Write a drawing at its physical size.

    Raises:
        ValueError: a colour that is not `#rrggbb`, or a length that is no number.
    """
    page = _Page()
    body = [page.item(item) for item in drawing.items]
    width, height = number(drawing.width), number(drawing.height)
    notes = _NOT_XML.sub("\ufffd", " ".join(drawing.notes))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1" '
        f'width="{width}pt" height="{height}pt" viewBox="0 0 {width} {height}">',
        *([f"<desc>{escape(notes)}</desc>"] if notes else []),
        *(["<defs>", *page.definitions.values(), "</defs>"] if page.definitions else []),
        f'<rect width="{width}" height="{height}" fill="{colour(drawing.background)}"/>',
        *body,
        "</svg>",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8")


def number(value: float) -> str:
    """A length with at most two decimals."""
    if not math.isfinite(value):
        raise ValueError(f"a length of a drawing is {value}; every length must be a finite number")
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def colour(value: str) -> str:
    """A colour as it may stand in an attribute."""
    if not _COLOUR.fullmatch(value):
        raise ValueError(f"colour {value!r} must be written #rrggbb")
    return value


def _path_data(commands: Commands) -> str:
    return "".join(str(name) + " ".join(number(float(value)) for value in values) for name, *values in commands)


class _Page:
    """Definitions of one file; an id is made of its content, so that several files can stand in one page."""

    def __init__(self) -> None:
        self.definitions: dict[str, str] = {}
        self.glyph_ids: dict[tuple[str, str], str] = {}

    def item(self, item: Item) -> str:
        match item:
            case Rect():
                return self.rect(item)
            case Path():
                return self.shape(f'<path d="{_path_data(item.commands)}"', item.commands, item.paint)
            case Text():
                return self.text(item)
            case Picture():
                return _picture(item)
            case Group():
                return self.group(item)

    def rect(self, rect: Rect) -> str:
        box = _box(rect.x, rect.y, rect.width, rect.height)
        corners = f' rx="{number(rect.radius)}"' if rect.radius > 0 else ""
        commands = rect_commands(rect.x, rect.y, rect.width, rect.height, rect.radius)
        return self.shape(f"<rect {box}{corners}", commands, rect.paint, needs_clip=rect.radius > 0)

    def shape(self, start: str, commands: Commands, paint: Paint, *, needs_clip: bool = True) -> str:
        fill = "none" if paint.fill is None else colour(paint.fill)
        alpha = f' fill-opacity="{number(paint.fill_opacity)}"' if paint.fill and paint.fill_opacity < 1 else ""
        if paint.hatch is None:
            return f'{start} fill="{fill}"{alpha}{_stroke(paint)}/>'
        segments = hatch_segments(*extent(commands), paint.hatch_gap)
        data = "".join(_path_data((("M", x1, y1), ("L", x2, y2))) for x1, y1, x2, y2 in segments)
        clip = f' clip-path="url(#{self.clip(commands)})"' if needs_clip else ""
        lines = f'<path{clip} d="{data}" fill="none" stroke="{colour(paint.hatch)}"'
        lines += f' stroke-width="{number(hatch_width(paint.hatch_gap))}"/>'
        border = f'{start} fill="none"{_stroke(paint)}/>' if paint.stroke else ""
        area = f'{start} fill="{fill}"{alpha}/>' if paint.fill else ""
        return area + lines + border

    def clip(self, commands: Commands) -> str:
        data = _path_data(commands)
        name = "c" + hashlib.sha256(data.encode()).hexdigest()[:12]
        self.definitions[name] = f'<clipPath id="{name}"><path d="{data}"/></clipPath>'
        return name

    def group(self, group: Group) -> str:
        opacity = f' opacity="{number(group.opacity)}"' if group.opacity < 1 else ""
        clip = f' clip-path="url(#{self.clip(rect_commands(*group.clip))})"' if group.clip else ""
        return "\n".join([f"<g{opacity}{clip}>", *(self.item(item) for item in group.items), "</g>"])

    def text(self, text: Text) -> str:
        line = set_line(text.text, text.bold)
        shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.anchor] * line.width
        scale = f"{text.size / EM:.6g}"
        turn = f" rotate({number(-text.rotate)})" if text.rotate else ""
        place = f"translate({number(text.x)} {number(text.y)}){turn} scale({scale} -{scale})"
        drawn = []
        for glyph in line.glyphs:
            name = self.glyph(glyph.face.name, glyph.name, outline(glyph.face, glyph.name))
            if name:
                drawn.append(f'<use xlink:href="#{name}" x="{glyph.x - shift:.0f}"/>')
        for left, right in line.boxes:
            box = _box(left - shift, BOX_FOOT, right - left, BOX_TOP - BOX_FOOT)
            drawn.append(f'<rect {box} fill="none" stroke="{colour(text.colour)}" stroke-width="60"/>')
        return f'<g fill="{colour(text.colour)}" transform="{place}">{"".join(drawn)}</g>' if drawn else ""

    def glyph(self, face: str, glyph: str, commands: Commands) -> str:
        """Id of an outline; "" for a glyph without one, such as a space."""
        if (face, glyph) not in self.glyph_ids:
            data = "".join(str(name) + " ".join(f"{value:.0f}" for value in values) for name, *values in commands)
            name = "g" + hashlib.sha256(data.encode()).hexdigest()[:12] if data else ""
            if name:
                self.definitions[name] = f'<path id="{name}" d="{data}"/>'
            self.glyph_ids[face, glyph] = name
        return self.glyph_ids[face, glyph]


def _box(x: float, y: float, width: float, height: float) -> str:
    return f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'


def _stroke(paint: Paint) -> str:
    if paint.stroke is None:
        return ""
    dash = f' stroke-dasharray="{" ".join(number(length) for length in paint.dash)}"' if paint.dash else ""
    return f' stroke="{colour(paint.stroke)}" stroke-width="{number(paint.stroke_width)}"{dash}'


def _picture(picture: Picture) -> str:
    file = io.BytesIO()
    Image.fromarray(picture.pixels).save(file, "PNG")
    box = _box(picture.x, picture.y, picture.width, picture.height)
    sharp = "" if picture.smooth else ' style="image-rendering:pixelated"'
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<image {box} preserveAspectRatio="none"{sharp} xlink:href="data:image/png;base64,{data}"/>'
