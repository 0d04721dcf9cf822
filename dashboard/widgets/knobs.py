"""What a visitor may change for one run: how it is routed and how text is generated; the model is never touched."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import streamlit as st

from dashboard.models import Kind, ModelEntry, TrainedRouting
from dashboard.settings import DEFAULT_NEW_TOKENS, MAX_NEW_TOKENS
from dashboard.state import PageState
from dashboard.worker import RoutingChanges
from uoe_model.generation import GenerationSettings

if TYPE_CHECKING:
    from uoe_model.config import Block, Gate

TRAINED: Final = "trained"
NEVER_FULL: Final = "never full"
FACTORS: Final = ("0.25", "0.5", "0.75", "1.0", "1.25", "1.5", "2.0", "3.0", "4.0")
GATES: "Final[dict[str, Gate]]" = {"mean_one": "mean_one", "probability": "probability", "one": "one"}
BLOCKS: "Final[dict[str, Block | None]]" = {"all sites": None, "attention only": "attention", "MLP only": "mlp"}


def render_generation(kind: Kind) -> GenerationSettings:
    """Draw how a text is continued; pictures are not."""
    if kind != "text":
        return GenerationSettings(max_new_tokens=0)
    with st.expander("Generation", icon=":material/edit_note:"):
        tokens = _number("Tokens to generate", "new_tokens", DEFAULT_NEW_TOKENS, 0, MAX_NEW_TOKENS, 1, _TOKENS_HELP)
        temperature = _number("Temperature", "temperature", 0.0, 0.0, 5.0, 0.1, "0: always the most probable token.")
        top_p = _number("Top-p", "top_p", 1.0, 0.01, 1.0, 0.05, "Draw from the most probable tokens up to this sum.")
        top_k = _number("Top-k tokens", "top_k_tokens", 0, 0, 100_000, 1, "Draw from so many tokens; 0: from all.")
        seed = _number("Seed", "seed", 0, 0, 2**31 - 1, 1, "Of the draws; matters only above temperature 0.")
    return GenerationSettings(
        max_new_tokens=int(tokens), temperature=float(temperature), top_p=float(top_p), top_k=int(top_k), seed=int(seed)
    )


_TOKENS_HELP: Final = "The model continues the text; its tokens are routed too, and shown."


def _number(label: str, key: str, default: float, low: float, high: float, step: float, help_text: str) -> float:
    st.session_state.setdefault(key, default)
    return st.number_input(
        label, min_value=low, max_value=high, step=step, key=key, persist_state="session", help=help_text
    )


def render_knobs(model: ModelEntry, state: PageState) -> RoutingChanges:
    """Draw the settings, folded, each at its trained value, with the loss change of the run on show beside it."""
    most = max(model.attention.num_experts, model.mlp.num_experts)
    changes = _loss_changes(state)
    with st.expander("Change the routing", icon=":material/tune:"):
        top_k = _choose(
            "Experts per unit",
            "knob_top_k",
            [str(count) for count in range(1, most + 1)],
            model,
            lambda router: str(router.top_k),
            "How many experts every unit asks for.",
        )
        _tell_loss_change(changes, "num_experts_per_tok")
        factor = _choose(
            "Capacity factor",
            "knob_capacity_factor",
            [*FACTORS, NEVER_FULL],
            model,
            lambda router: NEVER_FULL if router.capacity_factor is None else str(router.capacity_factor),
            "How much room experts have beyond an even share. Less room drops more.",
        )
        _tell_loss_change(changes, "capacity_factor")
        gate = _choose(
            "Gate",
            "knob_gate",
            list(GATES),
            model,
            lambda router: router.gate,
            "Weight of an expert's output: k · p / sum of requested p (mean_one), p (probability), or 1 (one).",
        )
        _tell_loss_change(changes, "gate")
        where = st.selectbox("Changed at", list(BLOCKS), key="knob_block", persist_state="session")
        st.caption("Only this run is changed; the model keeps the values marked *trained*.")
    return RoutingChanges(
        capacity_factor="trained" if factor == TRAINED else None if factor == NEVER_FULL else float(factor),
        num_experts_per_tok=None if top_k == TRAINED else int(top_k),
        gate=GATES.get(gate),
        block=BLOCKS[where],
    )


def _loss_changes(state: PageState) -> Mapping[str, float]:
    """Loss change of every single knob of the run on show, in nats."""
    showing = state.showing
    if showing is None:
        return {}
    found: Mapping[str, float] = state.measured.get((showing.key, state.index, "loss changes"), {})
    return found


def _tell_loss_change(changes: Mapping[str, float], knob: str) -> None:
    if knob in changes:
        st.caption(f"In the run on show, this change alone moved the loss by **{changes[knob]:+.3f} nats**.")


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
