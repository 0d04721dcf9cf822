"""The input panel: model, texts or pictures or a saved file, how to generate and route, and Run."""

from typing import TYPE_CHECKING, Any, Final

import streamlit as st

from analysis.text_rows import TABLE_ENDINGS, is_table, read_text_rows
from dashboard.model_tasks import DecomposeRequest, ReferenceRunRequest
from dashboard.models import Catalogue, Kind, ModelEntry, ReferenceEntry
from dashboard.samples import IMAGE_SAMPLES, TEXT_SAMPLES
from dashboard.settings import MAX_INPUTS, MAX_PICTURE_UPLOAD_MB, MAX_TEXT_UPLOAD_MB, MAX_TRACE_UPLOAD_MB
from dashboard.showing import Showing, open_file
from dashboard.state import PageState
from dashboard.widgets.decompose import open_decompose_dialog, render_decompose_button, render_made, take_request
from dashboard.widgets.knobs import render_generation, render_knobs
from dashboard.widgets.released import render_ids, render_quirks
from dashboard.widgets.words import plain_name
from dashboard.worker import RoutingChanges, RunRequest
from uoe_model.errors import CheckpointError, InputError
from uoe_model.processors.text_input import check_text, decode_text

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

TEXT: Final = "Text"
FILES: Final = "Files"
PICTURES: Final = "Images"
SAVED: Final = "Saved"
SOURCES: Final = (TEXT, FILES, PICTURES, SAVED)

NO_SAMPLE: Final = "none"
MAX_TITLE: Final = 36  # letters of a typed text that name it
_KINDS: Final[dict[str, Kind]] = {TEXT: "text", FILES: "text", PICTURES: "image"}


Asked = RunRequest | ReferenceRunRequest | DecomposeRequest | Showing
"""What a visitor may ask for here."""


def render_input_panel(found: Catalogue, state: PageState) -> Asked | None:
    """Draw the panel.

    Returns:
        What was asked for in this rerun: runs, a new checkpoint, or what a saved file shows; None if nothing was.

    Raises:
        UoEError: what was asked for cannot be used.
    """
    st.session_state.setdefault("source", TEXT)
    source = st.segmented_control("Input", SOURCES, key="source", required=True, persist_state="session") or TEXT
    if source == SAVED:
        return _render_saved_input()
    kind = _KINDS[source]
    render_made(state)
    model = _render_model_picker(found, kind, with_references=source == TEXT)
    if render_decompose_button(found):
        open_decompose_dialog(found, tuple(filter(None, [st.session_state.get("text")])) if kind == "text" else ())
    if (request := take_request()) is not None:
        st.session_state["progress_place"] = st.container()
        return request
    if isinstance(model, ReferenceEntry):
        return _render_reference(model)
    if source == PICTURES:
        _render_picture_input()
    elif source == FILES:
        _render_text_files()
    else:
        _render_text_input()
    is_asked = st.button("Run", type="primary", width="stretch", key="run", disabled=model is None)
    st.session_state["progress_place"] = st.container()
    changes = RoutingChanges()
    generation = render_generation("text" if model is not None and model.writes else "image")
    if model is not None:
        changes = render_knobs(model, state)
    if not is_asked:
        return None
    if model is None:
        raise CheckpointError(f"There is no model for this input ({kind}): start the page with -- --models DIR.")
    return RunRequest(model=model, inputs=_read_inputs(source), generation=generation, changes=changes)


def _render_reference(model: ReferenceEntry) -> ReferenceRunRequest | None:
    text = render_ids()
    is_asked = st.button("Run", type="primary", width="stretch", key="run")
    st.session_state["progress_place"] = st.container()
    request = render_quirks(model, text)
    return request if is_asked else None


def choose_input_of(example: str) -> None:
    """Turn the panel to the kind of input that an example has, as a callback before the next rerun."""
    st.session_state["source"] = PICTURES if example == "picture" else TEXT
    if example == "picture" and st.session_state.get("picture_sample", NO_SAMPLE) == NO_SAMPLE:
        st.session_state["picture_sample"] = IMAGE_SAMPLES[0].title


def _render_model_picker(found: Catalogue, kind: Kind, *, with_references: bool) -> ModelEntry | ReferenceEntry | None:
    models: dict[str, ModelEntry | ReferenceEntry] = {model.label: model for model in found.of_kind(kind)}
    if with_references:
        models |= {f"{entry.label} · released by the authors": entry for entry in found.references}
    if not models:
        wanted = "text" if kind == "text" else "pictures"
        st.warning(f"No model for {wanted} was found. Start the page with `-- --models DIR`, or open a saved trace.")
        return None
    wanted = st.session_state.pop(f"wanted_{kind}", None)  # a checkpoint that was just made
    if wanted in models:
        st.session_state[f"model_{kind}"] = wanted
    label = st.selectbox("Model", list(models), key=f"model_{kind}", persist_state="session")
    model = models[label]
    if isinstance(model, ReferenceEntry):
        st.caption("The authors' released classifier; reads token ids. See the Guide for what its code really routes.")
        return model
    per_site = (
        f"attention {_routing(model.attention.num_experts, model.attention.top_k)}, "
        + f"MLP {_routing(model.mlp.num_experts, model.mlp.top_k)}"
    )
    context = f", context {model.context} tokens" if kind == "text" else ""
    encoder = "; a text encoder, which predicts no tokens" if not model.has_loss else ""
    st.caption(f"{model.num_layers} layers{context}; {per_site}{encoder}")
    return model


def _routing(num_experts: int, top_k: int) -> str:
    return f"{top_k} of {num_experts} experts"


def _render_text_input() -> None:
    titles = [sample.title for sample in TEXT_SAMPLES]
    if "text" not in st.session_state:  # the text of the example that is shown first, ready to be changed and run
        st.session_state["text"], st.session_state["text_sample"] = TEXT_SAMPLES[0].read_text(), titles[0]
    st.text_area(
        "Text", key="text", height=150, placeholder="Type or paste a text, then press Run.", persist_state="session"
    )
    st.selectbox(
        "Start from a sample",
        [NO_SAMPLE, *titles],
        key="text_sample",
        on_change=_fill_in_sample,
        persist_state="session",
        help="  \n".join(f"{s.title}: {s.description} {s.credit}." for s in TEXT_SAMPLES),
    )


def _fill_in_sample() -> None:
    for sample in TEXT_SAMPLES:
        if sample.title == st.session_state["text_sample"]:
            st.session_state["text"] = sample.read_text()


def _render_text_files() -> None:
    _upload(
        "Text files, or a table of texts",
        "text_file",
        MAX_TEXT_UPLOAD_MB,
        f"UTF-8 text of any name, one input each; or a table ({', '.join(TABLE_ENDINGS)}), one input per row. At most "
        f"{MAX_INPUTS} inputs.",
    )
    st.text_input(
        "Column of the table",
        key="text_column",
        placeholder="found by itself",
        persist_state="session",
        help="Empty: a column called text, content, prompt, sentence or body, else the first that holds text.",
    )


def _render_picture_input() -> None:
    is_uploaded = _upload(
        "Pictures",
        "picture_file",
        MAX_PICTURE_UPLOAD_MB,
        f"JPEG, PNG, WebP or any raster format; the content decides. At most {MAX_INPUTS} pictures.",
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
    files = st.file_uploader(label, key=key, max_upload_size=max_mb, help=help_text, accept_multiple_files=True)
    return bool(files)


def _render_saved_input() -> Showing | None:
    st.file_uploader(
        "Run bundle or trace",
        key="trace_file",
        max_upload_size=MAX_TRACE_UPLOAD_MB,
        help="A .zip that Export saved. No model is needed.",
    )
    is_asked = st.button("Open", type="primary", width="stretch", key="open_trace")
    st.session_state["progress_place"] = st.container()
    if not is_asked:
        return None
    file = st.session_state.get("trace_file")
    if file is None:
        raise InputError("There is no file yet: choose a run bundle or a saved trace, then press Open.")
    file.seek(0)
    return open_file(file, plain_name(file.name))


def _read_inputs(source: str) -> tuple[tuple[str, str | bytes], ...]:
    """Name and content of everything that is to be run."""
    if source == TEXT:
        text = check_text(st.session_state.get("text") or "")
        return ((_title_of(text), text),)
    files: list[UploadedFile] = st.session_state.get("text_file" if source == FILES else "picture_file") or []
    inputs: list[tuple[str, str | bytes]] = []
    for file in files:
        inputs += _inputs_of_file(file, source)
    if not inputs and source == PICTURES:
        chosen = st.session_state.get("picture_sample")
        inputs = [(one.file_name, one.read_bytes()) for one in IMAGE_SAMPLES if one.title == chosen]
    if not inputs:
        missing = "text file" if source == FILES else "picture"
        raise InputError(f"There is no {missing} yet: choose one, then press Run.")
    if len(inputs) > MAX_INPUTS:
        raise InputError(f"{len(inputs)} inputs were chosen: at most {MAX_INPUTS} run together. Take some away.")
    return tuple(inputs)


def _title_of(text: str) -> str:
    """The first words of a typed text, as its name."""
    words = " ".join(text[: 4 * MAX_TITLE].split())
    return words if len(words) <= MAX_TITLE else words[: MAX_TITLE - 1].rstrip() + "…"


def _inputs_of_file(file: Any, source: str) -> list[tuple[str, str | bytes]]:
    data: bytes = file.getvalue()
    name = plain_name(file.name)
    if source == PICTURES:
        return [(name, data)]
    if not is_table(name):
        return [(name, decode_text(data, name=name))]
    column = str(st.session_state.get("text_column") or "").strip() or None
    rows, _ = read_text_rows(data, name=name, max_rows=MAX_INPUTS, column=column)
    return [(f"{name} row {row}", text) for row, text in zip(rows["row"], rows["text"], strict=True)]
