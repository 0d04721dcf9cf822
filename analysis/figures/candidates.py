"""What a language model would say next: its most probable tokens, with probabilities over the whole vocabulary."""

from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.class_bars import bar_rows
from analysis.figures.frame import nothing_to_draw
from analysis.figures.labels import plain
from analysis.figures.theme import ThemeName
from uoe_model.result import TextPrediction

TITLE: Final = "Next token"


def candidate_table(prediction: TextPrediction) -> pd.DataFrame:
    """List the candidates for the next token in the order of the prediction, most probable first.

    Returns:
        token_id (int32), text (str), probability (float64): over the full vocabulary, 0 to 1
    """
    candidates = prediction.next_candidates
    return pd.DataFrame(
        {
            "token_id": pd.Series([candidate.token_id for candidate in candidates], dtype="int32"),
            "text": pd.Series([candidate.text for candidate in candidates], dtype="str"),
            "probability": pd.Series([candidate.probability for candidate in candidates], dtype="float64"),
        }
    )


def build_candidates_figure(candidates: pd.DataFrame, *, top: int = 10, theme: ThemeName = "light") -> go.Figure:
    """Draw the first `top` candidates as bars from 0 to 1; spaces and line breaks are made visible.

    Args:
        candidates: `candidate_table`.
    """
    rows = candidates.head(top)
    if rows.empty:
        return nothing_to_draw(TITLE, "The model gave no candidates.", theme=theme)
    return bar_rows(
        TITLE,
        [plain(text) for text in rows["text"]],
        rows["probability"].tolist(),
        [f"token id {token_id}" for token_id in rows["token_id"]],
        theme=theme,
    )
