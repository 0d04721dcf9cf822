"""Can this run be believed: the capture's self-check, and whether the model was trained at all."""

import streamlit as st

from dashboard.state import ShownRun
from dashboard.widgets.words import plain_markdown

TRAINED: str = "trained"


def render_training_warning(run: ShownRun) -> None:
    """Say so when the weights are random, or when nobody knows."""
    training = run.trace.run.notes.get("training", "")
    if training == "untrained":
        st.warning(
            "This model is **untrained**: its weights are random, so its routes and answers mean nothing.",
            icon=":material/warning:",
        )
    elif not training.startswith(TRAINED):
        detail = f" ({plain_markdown(training)})" if training else ""
        st.warning(f"How far this model was trained is **unknown**{detail}.", icon=":material/warning:")


def render_badge(run: ShownRun) -> None:
    """Draw the result of the self-check, which unfolds to its questions."""
    checks = run.trace.run.self_check
    passed = [check for check in checks if check.passed]
    if not checks:
        st.info("Capture: no self-check was recorded in this trace.", icon=":material/help:")
        return
    is_good = len(passed) == len(checks)
    label = f"Capture: {'all self-checks passed' if is_good else 'SELF-CHECK FAILED'}, {len(passed)} of {len(checks)}"
    with st.expander(
        label, icon=":material/verified:" if is_good else ":material/error_outline:", expanded=not is_good
    ):
        st.dataframe(
            {
                "Check": [check.name for check in checks],
                "Result": ["passed" if check.passed else "FAILED" for check in checks],
                "What was compared": [check.detail for check in checks],
            },
            hide_index=True,
            key="self_check",
        )
