"""The empty figure every builder starts from, and the one it returns when there is nothing to draw."""

import plotly.graph_objects as go

from analysis.figures.theme import QUIET_INK, STRIP_PX, ThemeName, template


def build_frame(title: str, *, theme: ThemeName, height: int = STRIP_PX) -> go.Figure:
    """A figure with the project's template and a title, and no axes of its own yet."""
    return go.Figure(layout={"template": template(theme), "title": {"text": title}, "height": height})


def nothing_to_draw(title: str, sentence: str, *, theme: ThemeName, height: int = STRIP_PX) -> go.Figure:
    """A figure that says why it is empty."""
    figure = build_frame(title, theme=theme, height=height)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(
        text=sentence, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"color": QUIET_INK[theme]}
    )
    return figure
