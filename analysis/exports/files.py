"""A view, or any figure with its table, as a file: SVG, PDF, PNG, HTML; CSV or Parquet of the table; LaTeX of both."""

import io
from typing import Final, Literal, get_args

import pandas as pd
import plotly.graph_objects as go

from analysis.exhibit import Exhibit
from analysis.exports.chart.draw import draw_chart
from analysis.exports.drawing import Drawing
from analysis.exports.html import chart_page, drawing_page
from analysis.exports.latex import booktabs_table, figure_snippet
from analysis.exports.maps import draw_map
from analysis.exports.pdf import write_pdf
from analysis.exports.png import write_png
from analysis.exports.presets import Preset, Span, page_width_pt, spans_of
from analysis.exports.svg import write_svg
from analysis.views import VIEWS, View, missing
from uoe_model.errors import ConfigError

Format = Literal["svg", "pdf", "png", "html", "csv", "parquet", "tex"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
FIGURE_FORMATS: Final[tuple[Format, ...]] = ("svg", "pdf", "png", "html")
DEFAULT_DPI: Final = 300
MEDIA_TYPES: Final[dict[Format, str]] = {
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "png": "image/png",
    "html": "text/html",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "tex": "text/x-tex",
}


def checked_view(exhibit: Exhibit, name: str) -> View:
    """The view of this name.

    Raises:
        ConfigError: there is none, or the exhibit has nothing to show in it.
    """
    if name not in VIEWS:
        raise ConfigError(f"view={name!r} must be one of {', '.join(VIEWS)}")
    if reason := missing(exhibit, name):
        raise ConfigError(f"{VIEWS[name].title} cannot be drawn: {reason}")
    return VIEWS[name]


def draw_view(exhibit: Exhibit, name: str, preset: Preset, span: Span | None = None) -> Drawing:
    """Draw a view at the size of a venue's page.

    Raises:
        ConfigError: there is no such view or nothing to show in it, or the venue has no such width.
    """
    view = checked_view(exhibit, name)
    width_pt = page_width_pt(preset, span or spans_of(preset)[0])
    if view.figure is None:
        return draw_map(exhibit, width_pt=width_pt, font_pt=preset.font_pt)
    return draw_chart(view.figure(exhibit, "light"), width_pt=width_pt, font_pt=preset.font_pt)


def export_view(
    exhibit: Exhibit, name: str, kind: Format, *, preset: Preset, span: Span | None = None, dpi: int = DEFAULT_DPI
) -> bytes:
    """Make one file of a view; the same exhibit gives the same bytes.

    Args:
        span: width of the figure; None: the narrower one that the venue has.
        dpi: dots per inch of the printed figure (PNG only).

    Raises:
        ConfigError: as `draw_view`, or a dpi that cannot be used.
    """
    view = checked_view(exhibit, name)
    if kind in ("csv", "parquet"):
        return write_rows(view.rows(exhibit), kind)
    if kind == "html" and view.figure is not None:
        return chart_page(view.figure(exhibit, "light"), title=view.title, caption=view.caption(exhibit))
    drawing = draw_view(exhibit, name, preset, span)
    if kind == "tex":
        return latex_of(exhibit, name, drawing, preset).encode()
    return write_drawing(drawing, kind, title=view.title, caption=view.caption(exhibit), dpi=dpi)


def export_figure(
    figure: go.Figure,
    rows: pd.DataFrame,
    kind: Format,
    *,
    name: str,
    title: str,
    caption: str,
    preset: Preset,
    span: Span | None = None,
    dpi: int = DEFAULT_DPI,
) -> bytes:
    """Make one file of a figure that belongs to no run; the same figure gives the same bytes.

    Args:
        figure: in the light theme. rows: the table behind it. name: as in the names of the files.
        span, dpi: as in `export_view`.

    Raises:
        ConfigError: the venue has no such width, or the dpi or the figure cannot be used.
    """
    if kind in ("csv", "parquet"):
        return write_rows(rows, kind)
    if kind == "html":
        return chart_page(figure, title=title, caption=caption)
    width_pt = page_width_pt(preset, span or spans_of(preset)[0])
    drawing = draw_chart(figure, width_pt=width_pt, font_pt=preset.font_pt)
    if kind == "tex":
        return _latex(rows, drawing, preset, name=name, caption=caption).encode()
    return write_drawing(drawing, kind, title=title, caption=caption, dpi=dpi)


def write_drawing(drawing: Drawing, kind: Format, *, title: str, caption: str, dpi: int = DEFAULT_DPI) -> bytes:
    """A drawing as SVG, PDF, PNG, or an HTML page that shows it.

    Raises:
        ConfigError: a dpi that cannot be used, or a format of something else than drawings.
    """
    if kind == "svg":
        return write_svg(drawing)
    if kind == "pdf":
        return write_pdf(drawing, title=title)
    if kind == "png":
        return write_png(drawing, dpi=dpi)
    if kind == "html":
        return drawing_page(write_svg(drawing), title=title, caption=caption)
    raise ConfigError(f"format={kind!r} of a drawing must be one of {', '.join(FIGURE_FORMATS)}")


def latex_of(exhibit: Exhibit, name: str, drawing: Drawing, preset: Preset) -> str:
    """A figure environment for the PDF, and the view's table in booktabs style."""
    view = VIEWS[name]
    return _latex(view.rows(exhibit), drawing, preset, name=name, caption=view.caption(exhibit))


def _latex(rows: pd.DataFrame, drawing: Drawing, preset: Preset, *, name: str, caption: str) -> str:
    label = f"uoe-{name}"
    snippet = figure_snippet(
        f"{file_stem(name)}.pdf",
        width_in=drawing.width / 72,
        caption=caption,
        label=f"fig:{label}",
        spans_columns=preset.column_in is not None and drawing.width / 72 > preset.column_in + 0.01,
    )
    return snippet + "\n" + booktabs_table(rows, caption=caption, label=f"tab:{label}")


def write_rows(rows: pd.DataFrame, kind: Format) -> bytes:
    """A table as CSV (UTF-8, one header row) or Parquet."""
    if kind == "csv":
        return rows.to_csv(index=False, lineterminator="\n").encode("utf-8")
    stream = io.BytesIO()
    rows.to_parquet(stream, index=False)
    return stream.getvalue()


def file_stem(name: str) -> str:
    """Name of a view's files, without their ending."""
    return f"uoe-{name}"
