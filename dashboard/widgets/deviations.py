"""What differs from the released UoE code: every repair, with the ids of the defects it repairs."""

import dataclasses
from typing import Final

import streamlit as st


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Deviation:
    """One repair.

    Attributes:
        number: of the design decision. defects: ids of what was wrong in the released code, "" if nothing was.
        here, released: one sentence each.
    """

    number: int
    title: str
    defects: str
    here: str
    released: str


PAPER_URL: Final = "https://arxiv.org/abs/2503.02495"

DEVIATIONS: Final = (
    Deviation(
        number=1,
        title="Routers learn",
        defects="L1, L6, M10",
        here="Gates multiply the experts' outputs, so that routers get a gradient.",
        released="The gate only chooses rows; routers keep their random start.",
    ),
    Deviation(
        number=2,
        title="Nobody else matters",
        defects="L2, L9, M1, M7",
        here="An example's result is the same alone, in any batch and at any padding; padding is never routed.",
        released="Gates are normalised over the batch, and padding is routed and takes capacity.",
    ),
    Deviation(
        number=3,
        title="No filler",
        defects="L3, L4, M12",
        here="Unused slots are neither attended to nor written back; ties go to the lower position.",
        released="Free slots are filled with units that did not ask, which are attended to and written back.",
    ),
    Deviation(
        number=4,
        title="Capacity is what it says",
        defects="L5, L7",
        here="C = ceil(f · k · patches / E), and everything that is dropped is reported.",
        released="Half of the sequence, whatever k and E are; a capacity factor is cut to whole numbers.",
    ),
    Deviation(
        number=5,
        title="Causal means causal",
        defects="M1, M2, M4",
        here=(
            "A language model admits by position: later tokens change nothing earlier, and cached decoding equals the "
            "full pass."
        ),
        released="Routing looks at the whole batch and at the future, and the mask with memory is wrong.",
    ),
    Deviation(
        number=6,
        title="Rotary positions are original positions",
        defects="L8, L11, M3",
        here="They are applied to queries and keys after projection; scores are divided by the root of the head width.",
        released="Positions are slot numbers or are mixed in before the router, and scores use another width.",
    ),
    Deviation(
        number=7,
        title="All experts together are the dense block",
        defects="",
        here=(
            "With every expert chosen, no capacity and gate 1, a block equals its dense counterpart to 1e-5. Its "
            "output bias is added once, to units that at least one expert kept."
        ),
        released="Capacity is half of the sequence even then, so half of the requests of every expert are lost.",
    ),
)


def render_deviations() -> None:
    """Draw the list of deviations."""
    st.markdown(
        f"These models follow the design of [Union of Experts]({PAPER_URL}) but not the authors' released code. The "
        "defects of that code have our ids (L: its long-range arena model, M: its language model)."
    )
    st.table(
        {
            "Decision": [f"{deviation.number}. {deviation.title}" for deviation in DEVIATIONS],
            "Repairs": [deviation.defects or "–" for deviation in DEVIATIONS],
            "Here": [deviation.here for deviation in DEVIATIONS],
            "Released code": [deviation.released for deviation in DEVIATIONS],
        },
        border="horizontal",
        hide_index=True,
    )
