"""The input panel: model, text or picture or trace, what to change about the routing, and Run."""

from typing import Final

import streamlit as st

from dashboard.models import Catalogue, Kind, ModelEntry
from dashboard.samples import IMAGE_SAMPLES, TEXT_SAMPLES, Sample
from dashboard.settings import (
    DEFAULT_NEW_TOKENS,
    MAX_NEW_TOKENS,
    MAX_PICTURE_UPLOAD_MB,
    MAX_TEXT_UPLOAD_MB,
    MAX_TRACE_BYTES,
    MAX_TRACE_UPLOAD_MB,
)
from dashboard.state import PageState
from dashboard.widgets.knobs import render_knobs
from dashboard.worker import RoutingChanges, RunRequest
from uoe_model.errors import CheckpointError, InputError
from uoe_model.processors.text_input import check_text, decode_text
from uoe_model.trace import RoutingTrace
from uoe_model.trace_io import load_trace

TEXT: Final = "Text"
TEXT_FILE: Final = "File"
PICTURE: Final = "Picture"
TRACE: Final = "Trace"
SOURCES: Final = (TEXT, TEXT_FILE, PICTURE, TRACE)

NO_SAMPLE: Final = "none"
_KINDS: Final[dict[str, Kind]] = {TEXT: "text", TEXT_FILE: "text", PICTURE: "image"}


def render_input_panel(found: Catalogue, state: PageState) -> RunRequest | tuple[RoutingTrace, str] | None:
    """Draw the panel.

    Returns:
        What was asked for in this rerun: a run, or a trace from a file with its name; None if nothing was.

    Raises:
        UoEError: what was asked for cannot be used.
    """
    st.session_state.setdefault("source", TEXT)
    source = st.segmented_control("Input", SOURCES, key="source", required=True, persist_state="session")
    if source == TRACE:
        return _render_trace_input()
    kind = _KINDS[source or TEXT]
    model = _render_model_picker(found, kind)
    if source == PICTURE:
        _render_picture_input()
    elif source == TEXT_FILE:
        _upload("Text file", "text_file", MAX_TEXT_UPLOAD_MB, "UTF-8 text of any name; the content decides.")
    else:
        _render_text_input()
    place_of_run = st.container()
    new_tokens = 0
    if kind == "text":
        st.session_state.setdefault("new_tokens", DEFAULT_NEW_TOKENS)
        new_tokens = int(
            st.number_input(
                "Tokens to generate",
                min_value=0,
                max_value=MAX_NEW_TOKENS,
                key="new_tokens",
                persist_state="session",
                help="The model continues the text with its most probable tokens. They are routed too, and shown.",
            )
        )
    changes = render_knobs(model) if model else RoutingChanges()
    is_asked = place_of_run.button("Run", type="primary", width="stretch", key="run", disabled=model is None)
    is_asked, state.wants_run = is_asked or state.wants_run, False
    if not is_asked:
        return None
    if model is None:
        raise CheckpointError(f"There is no model for this input ({kind}): start the page with -- --models DIR.")
    name, content = _read_input(source or TEXT)
    return RunRequest(model=model, content=content, name=name, max_new_tokens=new_tokens, changes=changes)


def choose_sample(sample: Sample, state: PageState) -> None:
    """Fill the panel with a sample and ask for its run, as a callback before the next rerun."""
    if sample.kind == "text":
        st.session_state["source"] = TEXT
        st.session_state["text_sample"] = sample.title
        st.session_state["text"] = sample.read_text()
    else:
        st.session_state["source"] = PICTURE
        st.session_state["picture_sample"] = sample.title
    state.wants_run = True


def _render_model_picker(found: Catalogue, kind: Kind) -> ModelEntry | None:
    models = {model.label: model for model in found.of_kind(kind)}
    if not models:
        wanted = "text" if kind == "text" else "pictures"
        st.warning(f"No model for {wanted} was found. Start the page with `-- --models DIR`, or open a saved trace.")
        return None
    label = st.selectbox("Model", list(models), key=f"model_{kind}", persist_state="session")
    model = models[label]
    per_site = f"attention {_routing(model.attention.num_experts, model.attention.top_k)}, " + (
        f"MLP {_routing(model.mlp.num_experts, model.mlp.top_k)}"
    )
    context = f", context {model.context} tokens" if kind == "text" else ""
    st.caption(f"{model.num_layers} layers{context}; {per_site}")
    return model


def _routing(num_experts: int, top_k: int) -> str:
    return f"{top_k} of {num_experts} experts"


def _render_text_input() -> None:
    titles = [sample.title for sample in TEXT_SAMPLES]
    st.selectbox(
        "Start from a sample",
        [NO_SAMPLE, *titles],
        key="text_sample",
        on_change=_fill_in_sample,
        persist_state="session",
        help="  \n".join(f"{s.title}: {s.description} {s.credit}." for s in TEXT_SAMPLES),
    )
    st.text_area(
        "Text", key="text", height=170, placeholder="Type or paste a text, then press Run.", persist_state="session"
    )


def _fill_in_sample() -> None:
    for sample in TEXT_SAMPLES:
        if sample.title == st.session_state["text_sample"]:
            st.session_state["text"] = sample.read_text()


def _render_picture_input() -> None:
    is_uploaded = _upload(
        "Picture", "picture_file", MAX_PICTURE_UPLOAD_MB, "JPEG, PNG, WebP or any raster format; the content decides."
    )
    titles = [sample.title for sample in IMAGE_SAMPLES]
    st.selectbox(
        "Or a bundled picture",
        [NO_SAMPLE, *titles],
        key="picture_sample",
        disabled=is_uploaded,
        persist_state="session",
        help="  \n".join(f"{s.title}: {s.description} {s.credit}." for s in IMAGE_SAMPLES),
    )


def _upload(label: str, key: str, max_mb: int, help_text: str) -> bool:
    return st.file_uploader(label, key=key, max_upload_size=max_mb, help=help_text) is not None


def _render_trace_input() -> tuple[RoutingTrace, str] | None:
    _upload("Saved trace", "trace_file", MAX_TRACE_UPLOAD_MB, "A .zip that Save trace wrote. No model is needed.")
    if not st.button("Open", type="primary", width="stretch", key="open_trace"):
        return None
    file = st.session_state.get("trace_file")
    if file is None:
        raise InputError("There is no file yet: choose a saved trace, then press Open.")
    file.seek(0)
    return load_trace(file, max_bytes=MAX_TRACE_BYTES), plain_name(file.name)


def _read_input(source: str) -> tuple[str, str | bytes]:
    """Name and content of what is to be run."""
    if source == TEXT:
        return "text", check_text(st.session_state.get("text") or "")
    key, missing = ("text_file", "text file") if source == TEXT_FILE else ("picture_file", "picture")
    file = st.session_state.get(key)
    if file is not None:
        data: bytes = file.getvalue()
        return plain_name(file.name), decode_text(data, name=file.name) if source == TEXT_FILE else data
    if source == PICTURE:
        for sample in IMAGE_SAMPLES:
            if sample.title == st.session_state.get("picture_sample"):
                return sample.file_name, sample.read_bytes()
    raise InputError(f"There is no {missing} yet: choose one, then press Run.")


def plain_name(name: str) -> str:
    """A file's name on one line."""
    return " ".join(name.split()) or "file"
