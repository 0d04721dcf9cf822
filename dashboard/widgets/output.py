"""What the model said: classes of a picture, or how it read a text and how it would go on; A beside B."""

import streamlit as st

from analysis.embedding import cosine
from analysis.exhibit import Exhibit
from analysis.recorded_run import RecordedRun
from dashboard.widgets.charts import render_view
from dashboard.widgets.numbers import define
from dashboard.widgets.words import plain_markdown, write_number
from uoe_model.result import ClassPrediction, EmbeddingPrediction, TextPrediction

OUTPUT_PX = 96


def render_output(exhibit: Exhibit) -> None:
    """Draw the model's own output."""
    prediction = exhibit.run.prediction
    if prediction is None:
        st.info(
            "A trace holds the routes, and for text each token's loss and the model's next token; class probabilities, "
            "candidates and the continuation are in live runs and run bundles.",
            icon=":material/inventory_2:",
        )
        return
    if isinstance(prediction, EmbeddingPrediction):
        _render_embedding(prediction)
        return
    if isinstance(prediction, TextPrediction):
        _render_text(exhibit.run, prediction)
    render_view(exhibit, "output")


def render_both_outputs(exhibit: Exhibit) -> None:
    """Draw the answers of A and B side by side."""
    pinned = exhibit.pinned
    if pinned is None:
        return
    both = [run.prediction for run in (pinned, exhibit.run)]
    vectors = [one.vector for one in both if isinstance(one, EmbeddingPrediction)]
    if len(vectors) == 2 and vectors[0].shape == vectors[1].shape:
        st.markdown(f"Cosine of the two embeddings: **{cosine(*vectors):.4f}**")
    for column, label, run in zip(st.columns(2), ("A", "B"), (pinned, exhibit.run), strict=True):
        with column:
            st.markdown(
                f"**{label}: {plain_markdown(run.name)}** · {plain_markdown(run.changes or 'routing as trained')}"
            )
            if isinstance(run.prediction, TextPrediction):
                _render_text(run, run.prediction)
            elif isinstance(run.prediction, ClassPrediction):
                best = int(run.prediction.probabilities.argmax())
                share = write_number(float(run.prediction.probabilities[best]), "share")
                st.markdown(f"{plain_markdown(run.prediction.labels[best])} with probability {share}")
            elif isinstance(run.prediction, EmbeddingPrediction):
                _render_embedding(run.prediction)
            else:
                st.caption("This trace holds no answer of the model.")


def _render_embedding(prediction: EmbeddingPrediction) -> None:
    size = len(prediction.vector)
    st.markdown(
        f":small[embedding of the input] **{size}** :small[numbers]  ·  :small[length] **{prediction.length:.3f}**",
        help="The model is a text encoder: it answers with a vector and names no class and no next token. Pin a run as "
        "A and run another text, or fewer experts: the cosine of the two vectors then stands under A and B.",
    )
    first = ", ".join(f"{value:+.3f}" for value in prediction.vector[:8])
    st.caption(f"{first}, … (run bundles hold all of it)")


def _render_text(run: RecordedRun, prediction: TextPrediction) -> None:
    loss, bits = write_number(prediction.mean_loss, "nats"), write_number(prediction.bits_per_byte, "")
    st.markdown(
        f":small[loss of the input] **{loss}** :small[nats per token]  ·  **{bits}** :small[bits per byte]",
        help=f"{define('loss')}\n\n{define('bits_per_byte')}",
    )
    if prediction.continuation:
        with st.container(height=OUTPUT_PX, border=True):  # st.code would load a highlighter of 1.5 MB
            st.text(prediction.continuation)
    else:
        st.caption("Nothing was generated.")
    if "continuation" in run.trace.run.notes:
        st.caption(plain_markdown(run.trace.run.notes["continuation"]))
