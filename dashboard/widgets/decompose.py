"""Cut a dense checkpoint into a Union of Experts: what to cut, into how many experts, and what it cost."""

from typing import Any, Final

import streamlit as st

from analysis.glossary import TERMS
from dashboard.model_tasks import DecomposeRequest, target_folder
from dashboard.models import Catalogue, DenseEntry
from dashboard.samples import IMAGE_SAMPLES, TEXT_SAMPLES
from dashboard.state import PageState
from dashboard.widgets.words import plain_markdown
from uoe_model.errors import InputError, UoEError

HUB: Final = "a checkpoint of the Hugging Face hub"
SLICES: Final = {"neighbouring hidden units": "contiguous", "hidden units that are active together": "co_activation"}
MAX_EXPERTS: Final = 64


def render_decompose_button(found: Catalogue) -> bool:
    """Draw the button; whether it was pressed."""
    return st.button(
        "Cut a dense model into experts",
        key="decompose",
        type="tertiary",
        icon=":material/carpenter:",
        disabled=found.target is None,
        help=(
            "A BERT, GPT-2, Llama-style or ViT checkpoint becomes a Union of Experts that computes the same thing; its "
            "routers are calibrated on unlabelled inputs."
            + ("" if found.target else " Start the page with -- --models DIR, where new checkpoints go.")
        ),
    )


@st.dialog("Cut a dense model into experts", width="large")
def open_decompose_dialog(found: Catalogue, texts: tuple[str, ...]) -> None:
    """Draw the dialog.

    Args:
        texts: what the visitor typed, which may serve to calibrate on.
    """
    named = {f"{entry.label} ({entry.family})": entry for entry in found.dense}
    choice = st.selectbox(
        "Dense model",
        [*named, HUB],
        key="dense_source",
        help="Folders beside your checkpoints whose config.json says bert, gpt2, llama, mistral, qwen2 or vit.",
    )
    entry = named.get(choice)
    source: DenseEntry | str = entry or st.text_input(
        "Its id", key="dense_hub_id", placeholder="owner/name", help="Needs a connection to the hub."
    )
    left, right = st.columns(2)
    with left:
        attention = _choose_experts("Attention experts", entry.head_groups if entry else None, 4, "dense_attention")
        mlp = _choose_experts("MLP experts", entry.hidden_units if entry else None, 8, "dense_mlp")
    with right:
        attention_k = _choose_top_k("Attention experts per unit", attention, "dense_attention_k")
        mlp_k = _choose_top_k("MLP experts per unit", mlp, "dense_mlp_k")
    slices = st.selectbox(
        "An MLP expert is made of", list(SLICES), key="dense_slices", help="Balanced k-means over their activations."
    )
    own = st.toggle("Calibrate on the text that is typed in the panel, too", key="dense_own", disabled=not texts)
    base = entry.label if entry else str(source).rpartition("/")[2] or "model"
    name = st.text_input(
        "Name of the new checkpoint", f"{base}-uoe-{attention}a{mlp}m", key=f"dense_name_{base}_{attention}_{mlp}"
    )
    st.caption(
        "With all experts chosen the result computes what the dense model does. With fewer it does not: what that "
        "costs is measured on held-out inputs and stands beside every run. Routers are calibrated on the bundled "
        "samples and this page's glossary."
    )
    if st.button("Cut it", key="dense_start", type="primary"):
        try:
            if not source:
                raise InputError("There is no model yet: choose one, or give its id on the hub.")
            is_picture = entry is not None and entry.kind == "image"
            samples = [one.read_text() for one in TEXT_SAMPLES] + [" ".join(term.sentence for term in TERMS.values())]
            inputs: list[tuple[str, str | bytes]] = [(f"text {i}", text) for i, text in enumerate(samples)]
            if own and not is_picture:
                inputs += [("typed text", text) for text in texts]
            if is_picture:
                inputs = [(one.file_name, one.read_bytes()) for one in IMAGE_SAMPLES]
            st.session_state["decompose_request"] = DecomposeRequest(
                source=source,
                target=target_folder(found.target, name),
                attention_experts=attention,
                mlp_experts=mlp,
                attention_top_k=attention_k,
                mlp_top_k=mlp_k,
                slices=SLICES[slices],
                inputs=tuple(inputs),
            )
        except UoEError as error:
            st.error(plain_markdown(str(error)), icon=":material/error_outline:")
        else:
            st.rerun()


def take_request() -> DecomposeRequest | None:
    """What the dialog asked for since the last rerun."""
    request: DecomposeRequest | None = st.session_state.pop("decompose_request", None)
    return request


def render_made(state: PageState) -> None:
    """Tell about the checkpoint that was made last, with its curve, until it is dismissed."""
    made = state.made
    if made is None:
        return
    with st.container(border=True):
        st.markdown(f":material/check_circle: **{plain_markdown(made.label)}** is ready and picked below.")
        st.caption(plain_markdown(made.record["summary"]) + ".")
        left, right = st.columns(2)
        if left.button("What k costs", key="made_curve", type="tertiary", icon=":material/show_chart:"):
            _show_curve(made.label, made.record)
        right.button("Dismiss", key="made_dismiss", type="tertiary", on_click=_dismiss, args=(state,))


def _dismiss(state: PageState) -> None:
    state.made = None


@st.dialog("What fewer experts cost", width="large")
def _show_curve(label: str, record: dict[str, Any]) -> None:
    from analysis.decomposition import decomposition_curve
    from analysis.figures.decomposition import build_decomposition_figure
    from dashboard.widgets.charts import CONFIG, page_theme, render_csv

    rows = decomposition_curve(record)
    st.caption(
        f"{plain_markdown(label)}: error of the final hidden states against the model with all experts, on inputs that "
        "the routers were not calibrated on."
    )
    if rows.empty:
        st.info("Nothing was measured: the routers are not calibrated.")
        return
    figure = build_decomposition_figure(rows, theme=page_theme())
    st.plotly_chart(figure, theme=None, key="made_curve_chart", config=CONFIG, alt="What fewer experts cost")
    st.dataframe(rows, hide_index=True, height=260, placeholder="–")
    render_csv(rows, name="decomposition", label="CSV of this table")


def _choose_experts(label: str, size: int | None, usual: int, key: str) -> int:
    """A number of equal parts of `size`."""
    options = [n for n in range(1, MAX_EXPERTS + 1) if size is None or size % n == 0]
    place = min(range(len(options)), key=lambda i: abs(options[i] - usual))
    return int(st.selectbox(label, options, index=place, key=f"{key}_{size}"))


def _choose_top_k(label: str, experts: int, key: str) -> int:
    return int(
        st.number_input(label, min_value=1, max_value=experts, value=-(-experts // 2), step=1, key=f"{key}_{experts}")
    )
