"""Views of what the model said and how sure its routers were: output, loss, entropy."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.confidence import router_entropy
from analysis.exhibit import Exhibit
from analysis.figures.candidates import build_candidates_figure, candidate_table
from analysis.figures.class_bars import build_class_bars_figure, class_table
from analysis.figures.entropy_strip import build_entropy_strip_figure
from analysis.figures.loss_strip import build_loss_strip_figure
from analysis.figures.theme import ThemeName
from analysis.loss import loss_of_unit
from analysis.tables import sites_table, units_table
from analysis.views.view import View, lit_words, site_name, subject
from uoe_model.errors import TraceError
from uoe_model.result import ClassPrediction, EmbeddingPrediction, TextPrediction


def _entropy_rows(exhibit: Exhibit) -> pd.DataFrame:
    rows = exhibit.run.tables.table(router_entropy, site_ids=(exhibit.site_id,))
    return rows.assign(is_lit=True if exhibit.lit is None else exhibit.lit)


def _entropy_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    tables = exhibit.run.tables
    return build_entropy_strip_figure(
        _entropy_rows(exhibit),
        tables.table(units_table),
        tables.table(sites_table),
        site_id=exhibit.site_id,
        theme=theme,
        lit=exhibit.lit,
    )


def _loss_rows(exhibit: Exhibit) -> pd.DataFrame:
    rows = exhibit.run.tables.table(units_table)
    columns = ["unit_id", "example_id", "position", "text", "output_text", "output_probability"]
    return rows[columns].assign(loss=loss_of_unit(rows), is_lit=True if exhibit.lit is None else exhibit.lit)


def _loss_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    return build_loss_strip_figure(exhibit.run.tables.table(units_table), theme=theme, lit=exhibit.lit)


def _no_loss(exhibit: Exhibit) -> str:
    return "A picture has no loss per cell." if exhibit.run.is_picture else ""


def _output_rows(exhibit: Exhibit) -> pd.DataFrame:
    prediction = exhibit.run.prediction
    if isinstance(prediction, ClassPrediction):
        return class_table(prediction)
    if isinstance(prediction, TextPrediction):
        return candidate_table(prediction)
    raise TraceError(_no_output(exhibit))


def _output_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    rows = _output_rows(exhibit)
    if isinstance(exhibit.run.prediction, ClassPrediction):
        return build_class_bars_figure(rows, top=5, theme=theme)
    return build_candidates_figure(rows, top=5, theme=theme)


def _output_caption(exhibit: Exhibit) -> str:
    if isinstance(exhibit.run.prediction, ClassPrediction):
        return f"Probabilities of the classes ({subject(exhibit)})."
    return f"The most probable next tokens, over the whole vocabulary ({subject(exhibit)})."


def _no_output(exhibit: Exhibit) -> str:
    if isinstance(exhibit.run.prediction, EmbeddingPrediction):
        return "A text encoder answers with a vector; it names no class and no next token."
    return "A trace alone holds no answer of the model." if exhibit.run.prediction is None else ""


ANSWER_VIEWS: Final[Mapping[str, View]] = MappingProxyType(
    {
        "entropy-strip": View(
            title="Entropy strip",
            rows=_entropy_rows,
            figure=_entropy_figure,
            caption=lambda e: f"Router entropy of every unit at {site_name(e)}, nats ({subject(e)}).{lit_words(e)}",
        ),
        "loss-strip": View(
            title="Loss strip",
            rows=_loss_rows,
            figure=_loss_figure,
            caption=lambda e: f"Loss of every token, in nats ({subject(e)}).{lit_words(e)}",
            missing=_no_loss,
        ),
        "output": View(
            title="Output of the model",
            rows=_output_rows,
            figure=_output_figure,
            caption=_output_caption,
            missing=_no_output,
        ),
    }
)
