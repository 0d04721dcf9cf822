"""A view as one HTML file that needs nothing else: charts stay interactive, maps are vector graphics."""

import html
from typing import Final

import plotly.graph_objects as go

_STYLE: Final = """
body { font-family: 'Source Sans', 'Source Sans Pro', Arial, sans-serif; margin: 24px auto; max-width: 1100px;
  color: #2F2D2B; background: #FFFFFF; }
figure { margin: 0; } figcaption { margin-top: 12px; line-height: 1.5; } svg { max-width: 100%; height: auto; }
"""


def chart_page(figure: go.Figure, *, title: str, caption: str) -> bytes:
    """A chart that can be hovered and zoomed, with plotly's own program inside the file."""
    body = figure.to_html(
        full_html=False, include_plotlyjs=True, div_id="figure", config={"displaylogo": False, "responsive": True}
    )
    return _page(body, title, caption)


def drawing_page(svg: bytes, *, title: str, caption: str) -> bytes:
    """A drawing as it is in its SVG file."""
    text = svg.decode("utf-8")
    return _page(text[text.index("<svg") :], title, caption)


def _page(body: str, title: str, caption: str) -> bytes:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<figure>\n{body}\n"
        f"<figcaption>{html.escape(caption)}</figcaption>\n</figure>\n</body>\n</html>\n"
    ).encode()
