"""Export: every view as a file at the size of a venue's page, and the whole run as a bundle."""

import io
from functools import partial
from typing import Final

import streamlit as st

from analysis.exhibit import Exhibit
from analysis.exports.bundle import save_bundle
from analysis.exports.files import (
    DEFAULT_DPI,
    FIGURE_FORMATS,
    FORMATS,
    MEDIA_TYPES,
    Format,
    draw_view,
    export_view,
    file_stem,
    latex_of,
)
from analysis.exports.presets import PRESETS, Preset, Span, spans_of
from analysis.exports.svg import write_svg
from analysis.views import VIEWS, missing
from dashboard.notices import guarded, notice_of, render_notice
from dashboard.widgets.words import plain_markdown
from uoe_model.errors import ConfigError

DPI: Final = (150, 300, 600)
BUNDLED: Final[tuple[Format, ...]] = ("svg", "pdf", "csv")  # files of every view inside a run bundle
PREVIEW_PX: Final = 420
_EXHIBIT: Final = "exported"
_SPANS: Final = {"column": "one column", "full": "full width"}
_NAMES: Final[dict[Format, str]] = {
    "svg": "SVG",
    "pdf": "PDF",
    "png": "PNG",
    "html": "HTML",
    "csv": "CSV",
    "parquet": "Parquet",
    "tex": "LaTeX",
}


def open_export(exhibit: Exhibit) -> None:
    """Open the dialog for what is on show now."""
    st.session_state[_EXHIBIT] = exhibit
    _dialog()


@st.dialog("Export", width="large", icon=":material/download:")
def _dialog() -> None:
    exhibit: Exhibit = st.session_state[_EXHIBIT]
    figures, bundle = st.tabs(["A figure or table", "The whole run"], key="export_tab", on_change="rerun")
    if figures.open:
        with figures, guarded("The export"):
            _render_figure(exhibit)
    if bundle.open:
        with bundle, guarded("The run bundle"):
            _render_bundle(exhibit)


def _render_figure(exhibit: Exhibit) -> None:
    left, right = st.columns([0.36, 0.64], gap="medium")
    with left:
        name = st.selectbox(
            "View", list(VIEWS), format_func=lambda one: VIEWS[one].title, key="export_view", persist_state="session"
        )
        preset = PRESETS[
            st.selectbox(
                "Venue",
                list(PRESETS),
                format_func=lambda one: PRESETS[one].label,
                key="export_preset",
                persist_state="session",
                help="Width of the page and sizes of type. Type is never smaller than 7 pt.",
            )
        ]
        span = _choose_span(preset)
        dpi = st.selectbox("PNG resolution (dpi)", DPI, index=DPI.index(DEFAULT_DPI), key="export_dpi")
    with right:
        if reason := missing(exhibit, name):
            st.info(reason, icon=":material/block:")
            return
        try:
            drawing = draw_view(exhibit, name, preset, span)
        except ConfigError as error:
            render_notice(notice_of(error))
            return
        svg = write_svg(drawing).decode("utf-8")
        st.caption(
            f"As it will be printed: {drawing.width / 72:.2f} x {drawing.height / 72:.2f} inches, filtered as now."
        )
        with st.container(height=PREVIEW_PX, border=True):
            st.image(svg[svg.index("<svg") :], width=round(drawing.width * 96 / 72), alt=VIEWS[name].caption(exhibit))
        for note in drawing.notes:
            st.caption(plain_markdown(note))
    with st.container(horizontal=True, gap="small"):
        for kind in FORMATS:
            st.download_button(
                _NAMES[kind],
                data=partial(export_view, exhibit, name, kind, preset=preset, span=span, dpi=dpi),
                file_name=f"{file_stem(name)}.{kind}",
                mime=MEDIA_TYPES[kind],
                key=f"export_{kind}",
                on_click="ignore",
                icon=":material/download:",
            )
    with st.expander("LaTeX: figure and table"):
        st.code(latex_of(exhibit, name, drawing, preset), language="latex", height=240)


def _choose_span(preset: Preset) -> Span:
    spans = spans_of(preset)
    chosen = st.segmented_control(
        "Width",
        spans,
        format_func=lambda one: _SPANS[one],
        default=spans[0],
        required=True,
        key=f"export_span_{spans[0]}",
    )
    return chosen or spans[0]


def _render_bundle(exhibit: Exhibit) -> None:
    st.markdown(
        "One .zip that holds the trace, the input and the model's answer, what is selected and pinned, every figure as"
        " SVG and PDF, every table as CSV, and a YAML record of all that is needed to repeat the run. This page opens"
        " it again under *Saved*, and `python -m analysis.exports BUNDLE --view NAME --preset icml` makes the same"
        " figures from it."
    )
    st.download_button(
        "Run bundle",
        data=lambda: bundle_file(exhibit),
        file_name="uoe-run.zip",
        mime="application/zip",
        key="export_bundle",
        on_click="ignore",
        type="primary",
        icon=":material/folder_zip:",
    )


def bundle_file(exhibit: Exhibit, preset: Preset = PRESETS["icml"]) -> bytes:
    """The bundle with the figures and tables of every view that has something to show."""
    files = {}
    for name in VIEWS:
        if missing(exhibit, name):
            continue
        for kind in BUNDLED:
            folder = "figures" if kind in FIGURE_FORMATS else "tables"
            files[f"{folder}/{file_stem(name)}.{kind}"] = export_view(exhibit, name, kind, preset=preset)
    stream = io.BytesIO()
    save_bundle(exhibit, stream, files)
    return stream.getvalue()
