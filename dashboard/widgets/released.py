"""Input and switches of the authors' released model: token ids, one example a line, and its quirks."""

from typing import Final

import streamlit as st

from dashboard.model_tasks import ReferenceRunRequest
from dashboard.models import ReferenceEntry
from uoe_model.sources.released_quirks import CLASSIFIER_QUIRKS, Quirks, TieRule

TIES: "Final[dict[str, TieRule]]" = {"lower position first": "lowest", "as torch.topk takes them": "torch"}


def sample_ids() -> str:
    """Two made-up examples of the ids 1 to 14, which the released checkpoint was trained on."""
    return "\n".join(
        " ".join(str(1 + (start * place * place + 3 * place) % 14) for place in range(length))
        for start, length in ((5, 180), (3, 60))
    )


def render_ids() -> str:
    """Draw the field for token ids; what stands in it."""
    st.session_state.setdefault("ids", sample_ids())
    return st.text_area(
        "Token ids, one example a line",
        key="ids",
        height=150,
        persist_state="session",
        help=(
            "The released classifier reads token ids of its own vocabulary, not text. All lines run in one batch,"
            " padded to its full length, as its own code does. The sample is made up."
        ),
    )


def render_quirks(entry: ReferenceEntry, text: str) -> ReferenceRunRequest:
    """Draw the switches, folded; what Run asks for."""
    with st.expander("Repair the released code", icon=":material/build:"):
        off = [
            name
            for name, sentence in CLASSIFIER_QUIRKS.items()
            if st.checkbox(name.replace("_", " "), key=f"repair_{name}", persist_state="session", help=sentence)
        ]
        st.caption("Checked: our repair. Unchecked: as released. The Guide says what each one does.")
        ties = st.selectbox("Equal gates fill free slots", list(TIES), key="reference_ties", persist_state="session")
    return ReferenceRunRequest(model=entry, text=text, quirks=Quirks().without(off), ties=TIES[ties])
