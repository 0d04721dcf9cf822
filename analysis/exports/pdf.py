"""Drawings as PDF: text as embedded subsets of the shipped fonts, shapes as vectors; equal drawings, equal bytes."""

import dataclasses
import io
import math
import threading
from functools import cache
from typing import Any, Final

from PIL import Image
from reportlab import rl_config
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.pdfdoc import PDFDictionary, PDFInfo, PDFName, PDFStream, PDFString
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import FILL_NON_ZERO, Canvas

from analysis.exports.drawing import Drawing, Group, Item, Paint, Path, Picture, Rect, Text
from analysis.exports.shapes import Commands, extent, hatch_segments, hatch_width, rect_commands
from analysis.exports.typeface import (
    BOX_FOOT,
    BOX_TOP,
    EM,
    FONT_FOLDER,
    REGULAR,
    SHIPPED,
    Glyph,
    Line,
    advance,
    outline,
    set_line,
)
from uoe_model.errors import ConfigError

MAX_SIDE_PT: Final = 14_400.0
"""Longest side of a page that every reader opens: 200 inches."""

_ONE_AT_A_TIME: Final = threading.Lock()  # reportlab's font objects hold the state of one document


def write_pdf(drawing: Drawing, *, title: str) -> bytes:
    """Write a drawing as one page of its physical size.

    Args:
        title: of the document, in its properties; never drawn.

    Raises:
        ConfigError: a page longer than PDF allows.
    """
    if max(drawing.width, drawing.height) > MAX_SIDE_PT:
        raise ConfigError(
            f"a PDF page of {drawing.width:.0f} x {drawing.height:.0f} pt is too large: at most {MAX_SIDE_PT:.0f} pt a "
            "side; choose a wider preset or draw less"
        )
    file = io.BytesIO()
    with _ONE_AT_A_TIME:
        _embedded()
        rl_config.useA85 = 0  # data as bytes: a fifth smaller than as letters
        size = (drawing.width, drawing.height)
        canvas = Canvas(file, pagesize=size, pageCompression=1, invariant=1, initialFontName=REGULAR)
        canvas._doc.info = _Properties()
        canvas.setTitle(_spelled(title))
        canvas.setSubject(_spelled(" ".join(drawing.notes)))
        page = _Page(canvas, drawing.height)
        page.item(Rect(x=0, y=0, width=size[0], height=size[1], paint=Paint(fill=drawing.background)))
        for item in drawing.items:
            page.item(item)
        canvas.showPage()
        canvas.save()
    return file.getvalue()


@cache
def _embedded() -> dict[str, frozenset[int]]:
    """The shipped fonts, known to reportlab from now on, and the characters that it can embed of each."""
    found = {}
    for name in SHIPPED:
        font = TTFont(name, str(FONT_FOLDER / f"{name}.ttf"), asciiReadable=False)
        pdfmetrics.registerFont(font)
        found[name] = frozenset(font.face.charToGlyph) - {0, 0xA0}
    return found


@cache
def _rgb(colour: str) -> tuple[float, float, float]:
    return int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255


def _spelled(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


class _Properties(PDFInfo):  # type: ignore[misc]
    """Properties of the document without times and without made-up names."""

    def format(self, document: Any) -> Any:
        fields = {"Title": self.title, "Subject": self.subject}
        return PDFDictionary({name: PDFString(text) for name, text in fields.items() if text}).format(document)


class _Page:
    """Draws items on a canvas whose y grows upwards."""

    def __init__(self, canvas: Any, height: float) -> None:
        self.canvas = canvas
        self.height = height
        self.groups = 0

    def item(self, item: Item) -> None:
        match item:
            case Rect():
                commands = rect_commands(item.x, item.y, item.width, item.height, item.radius)
                self.shape(commands, item.paint, needs_clip=item.radius > 0)
            case Path():
                self.shape(item.commands, item.paint)
            case Text():
                self.text(item)
            case Picture():
                self.picture(item)
            case Group():
                self.group(item)

    def path(self, commands: Commands) -> Any:
        path = self.canvas.beginPath()
        for name, *values in commands:
            points = [
                float(value) if place % 2 == 0 else self.height - float(value) for place, value in enumerate(values)
            ]
            match name:
                case "M":
                    path.moveTo(*points)
                case "L":
                    path.lineTo(*points)
                case "C":
                    path.curveTo(*points)
                case "Z":
                    path.close()
        return path

    def shape(self, commands: Commands, paint: Paint, *, needs_clip: bool = True) -> None:
        if paint.hatch is None:
            self.paint(commands, paint)
            return
        self.paint(commands, dataclasses.replace(paint, stroke=None))
        self.hatch(commands, paint.hatch, paint.hatch_gap, needs_clip=needs_clip)
        self.paint(commands, dataclasses.replace(paint, fill=None))

    def paint(self, commands: Commands, paint: Paint) -> None:
        """Fill and stroke a shape."""
        canvas = self.canvas
        if paint.fill is None and paint.stroke is None:
            return
        is_clear = paint.fill is not None and paint.fill_opacity < 1
        is_dashed = paint.stroke is not None and bool(paint.dash)
        if is_clear or is_dashed:
            canvas.saveState()
        if is_clear:
            canvas.setFillAlpha(paint.fill_opacity)
        if is_dashed:
            canvas.setDash(list(paint.dash))
        if paint.fill is not None:
            canvas.setFillColorRGB(*_rgb(paint.fill))
        if paint.stroke is not None:
            canvas.setStrokeColorRGB(*_rgb(paint.stroke))
            canvas.setLineWidth(paint.stroke_width)
        is_filled, is_stroked = paint.fill is not None, paint.stroke is not None
        canvas.drawPath(self.path(commands), stroke=is_stroked, fill=is_filled, fillMode=FILL_NON_ZERO)
        if is_clear or is_dashed:
            canvas.restoreState()

    def hatch(self, commands: Commands, colour: str, gap: float, *, needs_clip: bool) -> None:
        canvas = self.canvas
        if needs_clip:
            canvas.saveState()
            canvas.clipPath(self.path(commands), stroke=0, fill=0, fillMode=FILL_NON_ZERO)
        canvas.setStrokeColorRGB(*_rgb(colour))
        canvas.setLineWidth(hatch_width(gap))
        segments = hatch_segments(*extent(commands), gap)
        canvas.lines([(x1, self.height - y1, x2, self.height - y2) for x1, y1, x2, y2 in segments])
        if needs_clip:
            canvas.restoreState()

    def text(self, text: Text) -> None:
        line = set_line(text.text, text.bold)
        if not line.glyphs:
            return
        canvas = self.canvas
        scale = text.size / EM
        shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.anchor] * line.width * scale
        x, y = text.x, self.height - text.y
        if text.rotate:
            canvas.saveState()
            canvas.translate(x, y)
            canvas.rotate(text.rotate)
            x = y = 0.0
        x -= shift
        canvas.setFillColorRGB(*_rgb(text.colour))
        for face, glyphs in _runs(line):
            if face is None:
                self.outline(glyphs[0], x, y, scale)
            else:
                canvas.setFont(face, text.size)
                canvas.drawString(x + glyphs[0].x * scale, y, "".join(glyph.text for glyph in glyphs))
        for left, right in line.boxes:
            canvas.setStrokeColorRGB(*_rgb(text.colour))
            canvas.setLineWidth(0.06 * text.size)
            canvas.rect(x + left * scale, y + BOX_FOOT * scale, (right - left) * scale, (BOX_TOP - BOX_FOOT) * scale)
        if text.rotate:
            canvas.restoreState()

    def outline(self, glyph: Glyph, x: float, y: float, scale: float) -> None:
        """Draw a glyph of a font that is not embedded; x, y is where its line begins, in points upwards."""
        commands = tuple(
            (
                name,
                *(
                    x + (glyph.x + float(value)) * scale if place % 2 == 0 else self.height - y - float(value) * scale
                    for place, value in enumerate(values)
                ),
            )
            for name, *values in outline(glyph.face, glyph.name)
        )
        if commands:
            self.canvas.drawPath(self.path(commands), stroke=0, fill=1, fillMode=FILL_NON_ZERO)

    def picture(self, picture: Picture) -> None:
        reader = ImageReader(Image.fromarray(picture.pixels))
        foot = self.height - picture.y - picture.height
        self.canvas.drawImage(reader, picture.x, foot, picture.width, picture.height)

    def group(self, group: Group) -> None:
        """Draw items as one: what is transparent is the group, not each item, as in SVG."""
        canvas = self.canvas
        is_form = group.opacity < 1
        if is_form:
            self.groups += 1
            name = f"group{self.groups}"
            canvas.beginForm(name, 0, 0, *canvas._pagesize)
        if group.clip is not None:
            canvas.saveState()
            canvas.clipPath(self.path(rect_commands(*group.clip)), stroke=0, fill=0)
        for item in group.items:
            self.item(item)
        if group.clip is not None:
            canvas.restoreState()
        if is_form:
            canvas.endForm()
            _make_transparent(canvas, name)
            canvas.saveState()
            canvas.setFillAlpha(group.opacity)
            canvas.setStrokeAlpha(group.opacity)
            canvas.doForm(name)
            canvas.restoreState()


def _runs(line: Line) -> list[tuple[str | None, list[Glyph]]]:
    """Glyphs that follow each other in one embedded font; a glyph of another font stands alone, under None."""
    runs: list[tuple[str | None, list[Glyph]]] = []
    end = math.nan
    for glyph in line.glyphs:
        name = glyph.face.name
        face = name if ord(glyph.text) in _embedded().get(name, frozenset()) else None
        if face is not None and runs and runs[-1][0] == face and abs(glyph.x - end) < 0.01:
            runs[-1][1].append(glyph)
        else:
            runs.append((face, [glyph]))
        end = glyph.x + advance(glyph.face, glyph.name)
    return runs


def _make_transparent(canvas: Any, name: str) -> None:
    """Say that a form is a transparency group; reportlab has no word for it."""
    form = canvas._doc.idToObject[canvas._doc.getXObjectName(name)]
    content = PDFStream()
    content.content = form.stream
    content.dictionary["Group"] = PDFDictionary(
        {"Type": PDFName("Group"), "S": PDFName("Transparency"), "CS": PDFName("DeviceRGB"), "I": True}
    )
    form.Contents = content
