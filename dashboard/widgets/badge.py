"""Can this run be believed: the capture's self-check, and whether the model was trained at all."""

import streamlit as st

from analysis.recorded_run import RecordedRun
from dashboard.widgets.words import plain_markdown

TRAINED: str = "trained"


def render_training_warning(run: RecordedRun) -> None:
    """Say so when the weights are random, or when nobody knows."""
    training = run.trace.run.notes.get("training", "")
    if "decomposed" in training or run.trace.run.source == "uoe-reference":
        st.caption(f":material/info: {plain_markdown(training[:1].upper() + training[1:])}.")
    if training == "untrained":
        st.warning(
            "This model is **untrained**: its weights are random, so its routes and answers mean nothing.",
            icon=":material/warning:",
        )
    elif not training.startswith(TRAINED):
        detail = f" ({plain_markdown(training)})" if training else ""
        st.warning(f"How far this model was trained is **unknown**{detail}.", icon=":material/warning:")


def render_badge(run: RecordedRun) -> None:
    """Draw the result of the self-check, which unfolds to its questions."""
    checks = run.trace.run.self_check
    passed = [check for check in checks if check.passed]
    is_good = len(passed) == len(checks)
    if not checks:
        label, icon = "capture not checked", ":material/help:"
    elif is_good:
        label, icon = f"capture {len(passed)} of {len(checks)}", ":material/verified:"
    else:
        label, icon = f"CAPTURE FAILED {len(checks) - len(passed)} of {len(checks)}", ":material/error_outline:"
    with st.popover(label, icon=icon, type="tertiary", key="badge"):
        if not checks:
            st.markdown("No self-check was recorded in this trace.")
            return
        st.markdown("The capture asks about itself whether its tables agree with each other and with the model.")
        for check in checks:
            icon = ":material/check:" if check.passed else ":material/error_outline: **FAILED**"
            st.markdown(f"{icon} **{plain_markdown(check.name)}**: {plain_markdown(check.detail)}")
    if checks and not is_good:
        st.error("The capture contradicts itself: do not trust what is shown.", icon=":material/error_outline:")
