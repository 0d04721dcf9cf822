"""Drawings for tests: one with every kind of item, and the ways to look into drawings and the files made of them."""

from collections.abc import Iterator

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium

from analysis.exports.drawing import Drawing, Group, Item, Paint, Path, Picture, Rect, Text

HOSTILE = "]]></svg><script>alert(1)</script> &amp; \\input{x} \x00\x01\ud800 日本 🙂 שלום (a) %s"


def build_drawing(text: str = "Hello Wörld") -> Drawing:
    """A drawing with every kind of item and paint."""
    grey = Paint(fill="#C9CDD3", fill_opacity=0.5, stroke="#333333", dash=(2, 1))
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    return Drawing(
        width=234,
        height=150,
        items=(
            Rect(x=5, y=5, width=60, height=20, paint=Paint(fill="#E69F00", hatch="#000000", stroke="#333333")),
            Rect(x=70, y=5, width=60, height=20, radius=6, paint=grey),
            Path(
                commands=(("M", 140, 5), ("L", 180, 5), ("C", 200, 5, 200, 30, 160, 30), ("Z",)),
                paint=Paint(fill="#CC79A7", hatch="#000000"),
            ),
            Text(x=10, y=45, text=text, size=8, colour="#000000"),
            Text(x=117, y=60, text=text, size=9, colour="#0000AA", anchor="middle", bold=True),
            Text(x=20, y=120, text="upwards", size=8, colour="#000000", rotate=90, anchor="end"),
            Group(
                items=(
                    Rect(x=40, y=70, width=40, height=30, paint=Paint(fill="#0072B2")),
                    Rect(x=60, y=80, width=40, height=30, paint=Paint(fill="#D55E00")),
                ),
                opacity=0.5,
                clip=(45, 70, 40, 40),
            ),
            Picture(x=170, y=70, width=60, height=40, pixels=pixels, smooth=False),
        ),
        notes=("A note.",),
    )


def flat(items: tuple[Item, ...]) -> Iterator[Item]:
    """All items of a drawing, those of groups included."""
    for item in items:
        if isinstance(item, Group):
            yield from flat(item.items)
        else:
            yield item


def texts(drawing: Drawing) -> list[Text]:
    return [item for item in flat(drawing.items) if isinstance(item, Text)]


def written(drawing: Drawing) -> str:
    return " ".join(text.text for text in texts(drawing))


def rects(drawing: Drawing) -> list[Rect]:
    return [item for item in flat(drawing.items) if isinstance(item, Rect)]


def pdf_type_sizes(data: bytes) -> set[float]:
    """Sizes in points of all letters of a PDF as they stand on the page."""
    document = pypdfium2.PdfDocument(data)
    page = document[0]
    text = page.get_textpage()
    sizes = {round(pdfium.FPDFText_GetFontSize(text, place), 3) for place in range(text.count_chars())}
    document.close()
    return sizes - {0.0, 1.0}  # what pdfium itself puts between words


def pdf_text(data: bytes) -> str:
    document = pypdfium2.PdfDocument(data)
    found = str(document[0].get_textpage().get_text_range())
    document.close()
    return found


def pdf_object_kinds(data: bytes) -> list[int]:
    """Kinds of all objects on the page, those inside forms included."""
    document = pypdfium2.PdfDocument(data)
    kinds = [found.type for found in document[0].get_objects(max_depth=5)]
    document.close()
    return kinds
