"""Labels of figures: the small markup of our builders as lines of bold and plain words, placed and measured."""

import html
import re
from dataclasses import dataclass
from typing import Final, Literal

from analysis.exports.drawing import Anchor, Text
from analysis.exports.typeface import text_width
from uoe_model.errors import ConfigError

LEADING: Final = 1.2
ASCENT: Final = 0.76
DESCENT: Final = 0.22
_CAP: Final = 0.714  # height of a capital
_TAG: Final = re.compile(r"</?[a-zA-Z][^<>]*>")

Side = Literal["top", "middle", "bottom"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Words in one weight."""

    text: str
    bold: bool = False


Line = tuple[Run, ...]


def parse_markup(text: str) -> tuple[Line, ...]:
    """Read `<b>`, `<br>` and entities; empty lines at the end are left out.

    Raises:
        ConfigError: any other tag.
    """
    lines: list[list[Run]] = [[]]
    depth, end = 0, 0
    for tag in [*_TAG.finditer(text), None]:
        words = html.unescape(text[end : tag.start() if tag else len(text)])
        if words:
            lines[-1].append(Run(text=words.replace("\n", " "), bold=depth > 0))
        if tag is None:
            break
        end = tag.end()
        match tag.group().lower().replace(" ", ""):
            case "<b>":
                depth += 1
            case "</b>":
                depth -= 1
            case "<br>" | "<br/>":
                lines.append([])
            case _:
                raise ConfigError(
                    f"{tag.group()!r} in the label {text[:60]!r} cannot be drawn; only <b> and <br> can. Escape text "
                    "that is not markup."
                )
    while len(lines) > 1 and not "".join(run.text for run in lines[-1]).strip():
        lines.pop()
    return tuple(tuple(line) for line in lines)


def line_width(line: Line, size: float) -> float:
    """Width of a line in points."""
    return sum(text_width(run.text, size=size, bold=run.bold) for run in line)


def label_width(text: str, size: float) -> float:
    """Width of the longest line of a label, in points."""
    return max(line_width(line, size) for line in parse_markup(text))


def wrap(lines: tuple[Line, ...], size: float, width: float) -> tuple[Line, ...]:
    """Break lines at spaces so that each is at most `width` points wide, as far as words allow."""
    wrapped: list[Line] = []
    for line in lines:
        words = [Run(text=word, bold=run.bold) for run in line for word in re.findall(r"\S+\s*|\s+", run.text)]
        current: list[Run] = []
        for word in words:
            tried = (*current, Run(text=word.text.rstrip(), bold=word.bold))
            if current and line_width(tried, size) > width:
                wrapped.append(_trimmed(current))
                current = []
            current.append(word)
        wrapped.append(_trimmed(current))
    return tuple(wrapped)


def shorten(text: str, size: float, width: float) -> str:
    """Cut a label that is wider than `width` points, with an ellipsis; it comes back escaped, without markup."""
    if label_width(text, size) <= width:
        return text
    words = " ".join("".join(run.text for run in line) for line in parse_markup(text))
    while words and text_width(words + "…", size=size) > width:
        words = words[:-1]
    return html.escape(words.rstrip() + "…", quote=False)


def place_text(
    lines: tuple[Line, ...],
    x: float,
    y: float,
    *,
    size: float,
    colour: str,
    anchor: Anchor = "middle",
    side: Side = "middle",
    rotate: Literal[0, 90, -90] = 0,
    align: Anchor | None = None,
) -> list[Text]:
    """Set lines as a block that touches (x, y) with the named point of its box.

    Args:
        anchor: which horizontal part of the block lies at x. side: which vertical part lies at y; both are meant
            before the block is turned by `rotate` degrees about (x, y).
        align: of shorter lines in the block; None for as `anchor`.
    """
    widths = [line_width(line, size) for line in lines]
    block = max(widths)
    depth = (len(lines) - 1) * LEADING * size
    first = {
        "top": ASCENT * size,
        "middle": (_CAP * size - depth) / 2,
        "bottom": -depth - DESCENT * size,
    }[side]
    left = {"start": 0.0, "middle": -block / 2, "end": -block}[anchor]
    items = []
    for place, (line, width) in enumerate(zip(lines, widths, strict=True)):
        across = left + {"start": 0.0, "middle": (block - width) / 2, "end": block - width}[align or anchor]
        down = first + place * LEADING * size
        for run in line:
            # (across, down) turned counterclockwise, in coordinates whose y grows downwards
            dx, dy = {0: (across, down), 90: (down, -across), -90: (-down, across)}[rotate]
            if run.text.strip():
                items.append(
                    Text(
                        x=x + dx, y=y + dy, text=run.text, size=size, colour=colour, bold=run.bold, rotate=float(rotate)
                    )
                )
            across += text_width(run.text, size=size, bold=run.bold)
    return items


def _trimmed(words: list[Run]) -> Line:
    runs: list[Run] = []
    for word in words:
        if runs and runs[-1].bold == word.bold:
            runs[-1] = Run(text=runs[-1].text + word.text, bold=word.bold)
        else:
            runs.append(word)
    return (*runs[:-1], Run(text=runs[-1].text.rstrip(), bold=runs[-1].bold)) if runs else ()
