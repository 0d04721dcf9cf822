"""Everything about one run, from map to tables; redrawn alone when only the selection changes."""

import io
from typing import Final

import streamlit as st

from analysis.confidence import router_entropy
from analysis.drops import dropped_assignments, drops_by_position
from analysis.figures.atlas import ATLAS_VALUES, AtlasValue, build_atlas_figure
from analysis.figures.drop_strip import build_drop_strip_figure
from analysis.figures.entropy_strip import build_entropy_strip_figure
from analysis.figures.labels import site_label
from analysis.figures.loss_strip import build_loss_strip_figure
from analysis.figures.utilisation import build_utilisation_figure
from analysis.tables import sites_table, units_table
from analysis.utilisation import expert_load
from dashboard import cache
from dashboard.notices import guarded
from dashboard.state import PageState, ShownRun, page_state
from dashboard.widgets import tables
from dashboard.widgets.badge import render_badge, render_training_warning
from dashboard.widgets.charts import page_theme, render_chart, render_format_picker
from dashboard.widgets.maps import is_picture, render_map, tell_maps
from dashboard.widgets.numbers import render_headlines, render_numbers
from dashboard.widgets.output import render_output
from dashboard.widgets.words import plain_markdown
from uoe_model.trace_io import save_trace

ATLAS_NAMES: Final[dict[str, AtlasValue]] = dict(
    zip(("Relative load", "Utilisation", "Dropped share"), ATLAS_VALUES, strict=True)
)
ALL_SITES: Final = "all sites"


def render_results(run: ShownRun) -> None:
    """Draw a run."""
    state = page_state()
    _render_title(run)
    render_training_warning(run)
    if run.trace.num_units == 0 or state.site_id is None:
        st.info("This trace is valid and empty: it has no units or no sites, so there is nothing to draw.")
        return
    _render_panels(run)


@st.fragment
def _render_panels(run: ShownRun) -> None:
    state = page_state()
    with guarded("The numbers"):
        render_headlines(run)
    left, right = st.columns([0.61, 0.39], gap="small")
    with left, guarded("The map"):
        render_map(run, state)
    with right, guarded("The model's output"):
        render_output(run)
    site_id = state.site_id if state.site_id is not None else 0
    name = _site_name(run, site_id)
    left, right = st.columns(2, gap="medium")
    with left, guarded("The atlas"):
        _render_atlas(run, state)
    with right, guarded("The load of the site"):
        _render_load(run, site_id, name)
    with guarded("The drop strip"):
        _render_drop_strip(run, site_id, name)
    if not is_picture(run):
        with guarded("The loss strip"):
            _render_loss_strip(run)
    with guarded("The entropy strip"):
        _render_entropy_strip(run, site_id, name)
    numbers, drops, routes, load, record = st.tabs(["Numbers", "Drops: who was full", "Routes", "Load", "What ran"])
    with numbers, guarded("The table of numbers"):
        render_numbers(run, site_id, name)
    with drops, guarded("The table of drops"):
        tables.render_drops(run, site_id, name)
    with routes, guarded("The table of routes"):
        tables.render_routes(run, site_id, name)
    with load, guarded("The table of load"):
        tables.render_load(run, site_id)
    with record, guarded("The record of the run"):
        tables.render_record(run)


def _render_title(run: ShownRun) -> None:
    record = run.trace.run
    count = run.trace.num_units
    units = ("cell" if is_picture(run) else "token") + ("" if count == 1 else "s")
    examples = f" in {run.trace.num_examples} examples" if run.trace.num_examples > 1 else ""
    forward = f", forward {record.timings_ms['forward']:.0f} ms" if "forward" in record.timings_ms else ""
    kind = "Trace from a file" if run.origin == "file" else "Live run"
    st.markdown(
        f"**{plain_markdown(run.name)}** · {kind} · {plain_markdown(record.model)} on {plain_markdown(record.device)} "
        f"in {plain_markdown(record.dtype)} · {count:,} {units}{examples}{forward}"
    )
    for note in (*run.notes, *([f"Routing was changed for this run: {run.changes}."] if run.changes else [])):
        st.caption(plain_markdown(note))
    badge, formats, save = st.columns([0.5, 0.3, 0.2], vertical_alignment="bottom")
    with badge, guarded("The capture badge"):
        render_badge(run)
    with formats:
        render_format_picker()
    save.download_button(
        "Save trace",
        data=lambda: trace_file(run),
        file_name="uoe-trace.zip",
        mime="application/zip",
        key="save_trace",
        on_click="ignore",
        icon=":material/save:",
        width="stretch",
        help="A zip of Parquet files. Open it here without a model, or with pandas, polars or DuckDB.",
    )


def trace_file(run: ShownRun) -> bytes:
    """The trace of a run as a file that can be opened again."""
    stream = io.BytesIO()
    save_trace(run.trace, stream)
    return stream.getvalue()


def _render_atlas(run: ShownRun, state: PageState) -> None:
    choice = st.segmented_control(
        "Atlas: click a cell to select its expert",
        list(ATLAS_NAMES),
        default=next(iter(ATLAS_NAMES)),
        required=True,
        key="atlas_value",
    )
    value = ATLAS_NAMES[choice or next(iter(ATLAS_NAMES))]
    rows = cache.table(run, dropped_assignments if value == "drop_share" else expert_load)
    selected = None
    if state.site_id is not None and state.expert_id is not None:
        selected = (state.site_id, state.expert_id)
    render_chart(
        build_atlas_figure(rows, value=value, theme=page_theme(), selected=selected),
        rows,
        name="atlas",
        alt=f"{choice} of every expert: one row per layer, attention experts on the left, MLP experts on the right.",
        on_select=_select_in_atlas,
    )


def _select_in_atlas() -> None:
    """Select the clicked expert everywhere."""
    points = st.session_state["chart_atlas"]["selection"]["points"]
    state = page_state()
    if not points:
        state.expert_id = None
        return
    site_id, expert_id = points[0]["customdata"][:2]
    state.select(site_id=int(site_id), unit_id=state.unit_id, expert_id=int(expert_id))
    tell_maps(state)


def _render_load(run: ShownRun, site_id: int, name: str) -> None:
    load = cache.table(run, expert_load)
    render_chart(
        build_utilisation_figure(load, site_id=site_id, theme=page_theme()),
        load[load["site_id"] == site_id],
        name="utilisation",
        alt=f"Load, drops and slots of every expert at {name}, with the load of the test set and its chance band.",
    )


def _render_drop_strip(run: ShownRun, site_id: int, name: str) -> None:
    rows = cache.table(run, drops_by_position)
    where = st.segmented_control(
        "Drops by position", [ALL_SITES, "this site"], default=ALL_SITES, required=True, key="drop_strip_sites"
    )
    site_ids = None if where == ALL_SITES else (site_id,)
    render_chart(
        build_drop_strip_figure(rows, site_ids=site_ids, theme=page_theme()),
        rows if site_ids is None else rows[rows["site_id"] == site_id],
        name="drop-strip",
        alt=f"Share of requests that was dropped at every position, at {ALL_SITES if site_ids is None else name}.",
    )


def _render_loss_strip(run: ShownRun) -> None:
    rows, theme = cache.table(run, units_table), page_theme()
    render_chart(
        cache.part(run, f"loss strip {theme}", lambda: build_loss_strip_figure(rows, theme=theme)),
        rows,
        name="loss",
        alt="Loss of every token along the text, in nats.",
    )


def _render_entropy_strip(run: ShownRun, site_id: int, name: str) -> None:
    entropy = cache.table(run, router_entropy, site_ids=(site_id,))
    units, sites, theme = cache.table(run, units_table), cache.table(run, sites_table), page_theme()
    render_chart(
        cache.part(
            run,
            f"entropy strip {site_id} {theme}",
            lambda: build_entropy_strip_figure(entropy, units, sites, site_id=site_id, theme=theme),
        ),
        entropy,
        name="entropy",
        alt=f"Router entropy of every unit at {name}, in nats.",
    )


def _site_name(run: ShownRun, site_id: int) -> str:
    rows = cache.table(run, sites_table)
    row = rows[rows["site_id"] == site_id].iloc[0]
    return site_label(int(row["layer"]), str(row["block"]))
