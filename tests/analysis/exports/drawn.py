"""Reading drawings back: what is drawn, where, and in which data coordinates."""

from collections.abc import Iterator
from dataclasses import dataclass

from analysis.exports.drawing import Drawing, Group, Item, Path, Rect, Text


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A plot of a drawing, which is what its marks are clipped to, with the ends of both axes."""

    clip: tuple[float, float, float, float]
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, place: float) -> float:
        """Data value at a place on the page."""
        left, _, width, _ = self.clip
        return self.x_range[0] + (place - left) / width * (self.x_range[1] - self.x_range[0])

    def y(self, place: float) -> float:
        """Data value at a place on the page; the range starts at the foot."""
        _, top, _, height = self.clip
        return self.y_range[0] + (top + height - place) / height * (self.y_range[1] - self.y_range[0])

    def bar(self, rect: Rect) -> tuple[float, float, float, float]:
        """x0, x1, y0, y1 of a rectangle in data, both rising."""
        x0, x1 = sorted((self.x(rect.x), self.x(rect.x + rect.width)))
        y0, y1 = sorted((self.y(rect.y), self.y(rect.y + rect.height)))
        return x0, x1, y0, y1


def items(drawing: Drawing | Group) -> Iterator[Item]:
    """All items with those in groups, from back to front."""
    for item in drawing.items:
        yield item
        if isinstance(item, Group):
            yield from items(item)


def texts(drawing: Drawing) -> list[Text]:
    """All lines of text."""
    return [item for item in items(drawing) if isinstance(item, Text)]


def words(drawing: Drawing) -> list[str]:
    """What the lines of text say."""
    return [text.text for text in texts(drawing)]


def windows(drawing: Drawing) -> list[Group]:
    """The clipped groups: the marks of each plot."""
    return [item for item in items(drawing) if isinstance(item, Group) and item.clip is not None]


def rects(group: Drawing | Group) -> list[Rect]:
    """All rectangles."""
    return [item for item in items(group) if isinstance(item, Rect)]


def paths(group: Drawing | Group) -> list[Path]:
    """All paths."""
    return [item for item in items(group) if isinstance(item, Path)]


def points(path: Path) -> list[tuple[float, float]]:
    """Ends of the pieces of a path."""
    return [(float(command[-2]), float(command[-1])) for command in path.commands if command[0] != "Z"]
