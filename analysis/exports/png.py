"""Drawings as pixels at a physical size: the page of the PDF, rendered."""

import io
import math
import threading
from typing import Final

import pypdfium2

from analysis.exports.drawing import Drawing
from analysis.exports.pdf import write_pdf
from uoe_model.errors import ConfigError

MIN_DPI: Final = 36
MAX_DPI: Final = 1200
MAX_PIXELS: Final = 50_000_000

_ONE_AT_A_TIME: Final = threading.Lock()  # pdfium is not safe for threads


def write_png(drawing: Drawing, *, dpi: int) -> bytes:
    """Render a drawing; the file says its resolution, so that programs show it at its physical size.

    Raises:
        ConfigError: a resolution out of range, or more than MAX_PIXELS pixels.
    """
    if not MIN_DPI <= dpi <= MAX_DPI:
        raise ConfigError(f"dpi={dpi} must lie in {MIN_DPI}..{MAX_DPI}")
    scale = dpi / 72 * (1 - 1e-9)  # 234 points at 300 dpi are 975 pixels, not 975.0000000001
    width, height = (math.ceil(side * scale) for side in (drawing.width, drawing.height))
    if width * height > MAX_PIXELS:
        fits = max(MIN_DPI, math.floor(dpi * math.sqrt(MAX_PIXELS / (width * height))) - 1)
        raise ConfigError(
            f"{width} x {height} pixels at dpi={dpi} are more than {MAX_PIXELS:,}: choose dpi={fits} or less, or save "
            "PDF or SVG, which have no pixels"
        )
    data = write_pdf(drawing, title="")
    with _ONE_AT_A_TIME:
        document = pypdfium2.PdfDocument(data)
        try:
            page = document[0]
            picture = page.render(scale=scale).to_pil().convert("RGB")
        finally:
            document.close()
    file = io.BytesIO()
    picture.save(file, "PNG", dpi=(dpi, dpi))
    return file.getvalue()
