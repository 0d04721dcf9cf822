"""What the model said: classes of a picture, or how it read a text and how it would go on."""

import streamlit as st

from analysis.figures.candidates import build_candidates_figure, candidate_table
from analysis.figures.class_bars import build_class_bars_figure, class_table
from dashboard.state import ShownRun
from dashboard.widgets.charts import page_theme, render_chart
from dashboard.widgets.numbers import define
from dashboard.widgets.words import plain_markdown, write_number
from uoe_model.result import ClassPrediction, TextPrediction


def render_output(run: ShownRun) -> None:
    """Draw the model's own output."""
    prediction = run.prediction
    if prediction is None:
        st.info(
            "A trace holds the routes, and for text each token's loss and the model's next token; class probabilities, "
            "candidates and the continuation are shown for live runs.",
            icon=":material/inventory_2:",
        )
    elif isinstance(prediction, ClassPrediction):
        classes = class_table(prediction)
        render_chart(
            build_class_bars_figure(classes, theme=page_theme()),
            classes,
            name="classes",
            alt="Probabilities of the model's classes as bars, the most probable first.",
        )
    else:
        _render_text_output(run, prediction)


def _render_text_output(run: ShownRun, prediction: TextPrediction) -> None:
    loss, bits = st.columns(2)
    loss.metric("loss of the input (nats)", write_number(prediction.mean_loss, "nats"), help=define("loss"))
    bits.metric("bits per byte", write_number(prediction.bits_per_byte, ""), help=define("bits_per_byte"))
    st.markdown("**Continuation** (greedy; its tokens are in the map, marked *written by the model*)")
    if prediction.continuation:
        st.code(prediction.continuation, language=None, wrap_lines=True, height=110)
    else:
        st.caption("Nothing was generated.")
    if "continuation" in run.trace.run.notes:
        st.caption(plain_markdown(run.trace.run.notes["continuation"]))
    candidates = candidate_table(prediction)
    render_chart(
        build_candidates_figure(candidates, top=6, theme=page_theme()),
        candidates,
        name="candidates",
        alt="Probabilities of the next token after everything shown, as bars, the most probable first.",
    )
