"""What a visitor may change about the routing of one run; the model itself is never touched."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import streamlit as st

from dashboard.models import ModelEntry, TrainedRouting
from dashboard.worker import RoutingChanges

if TYPE_CHECKING:
    from uoe_model.config import Block, Gate

TRAINED: Final = "trained"
NEVER_FULL: Final = "never full"
FACTORS: Final = ("0.25", "0.5", "0.75", "1.0", "1.25", "1.5", "2.0", "3.0", "4.0")
GATES: "Final[dict[str, Gate]]" = {"mean_one": "mean_one", "probability": "probability", "one": "one"}
BLOCKS: "Final[dict[str, Block | None]]" = {"all sites": None, "attention only": "attention", "MLP only": "mlp"}


def render_knobs(model: ModelEntry) -> RoutingChanges:
    """Draw the settings, folded, each beginning at the value the model was trained with."""
    most = max(model.attention.num_experts, model.mlp.num_experts)
    with st.expander("Change the routing of this run", icon=":material/tune:"):
        top_k = _choose(
            "Experts per unit",
            "knob_top_k",
            [str(count) for count in range(1, most + 1)],
            model,
            lambda router: str(router.top_k),
            "How many experts every unit asks for.",
        )
        factor = _choose(
            "Capacity factor",
            "knob_capacity_factor",
            [*FACTORS, NEVER_FULL],
            model,
            lambda router: NEVER_FULL if router.capacity_factor is None else str(router.capacity_factor),
            "How much room experts have beyond an even share. Less room drops more.",
        )
        gate = _choose(
            "Gate",
            "knob_gate",
            list(GATES),
            model,
            lambda router: router.gate,
            "Weight of an expert's output: k · p / sum of requested p (mean_one), p (probability), or 1 (one).",
        )
        where = st.selectbox("Changed at", list(BLOCKS), key="knob_block", persist_state="session")
        st.caption("Only this run is changed; the model keeps the values marked *trained*.")
    return RoutingChanges(
        capacity_factor="trained" if factor == TRAINED else None if factor == NEVER_FULL else float(factor),
        num_experts_per_tok=None if top_k == TRAINED else int(top_k),
        gate=GATES.get(gate),
        block=BLOCKS[where],
    )


def _choose(
    label: str,
    key: str,
    options: Sequence[str],
    model: ModelEntry,
    trained: Callable[[TrainedRouting], str],
    help_text: str,
) -> str:
    """A picker whose first entry, `TRAINED`, leaves everything as it is, and which marks the trained values."""
    attention, mlp = trained(model.attention), trained(model.mlp)

    def name(choice: str) -> str:
        if choice == TRAINED:
            return (
                f"as trained: {attention}" if attention == mlp else f"as trained: {attention} (attention), {mlp} (MLP)"
            )
        if choice not in (attention, mlp):
            return choice
        only = "" if attention == mlp else " (attention)" if choice == attention else " (MLP)"
        return f"{choice} · trained{only}"

    return st.selectbox(label, [TRAINED, *options], format_func=name, key=key, help=help_text, persist_state="session")
