"""Guide chapter: what the authors' released code really routes, shown on the visitor's own copy of their checkpoint."""

from typing import Final

import streamlit as st

from analysis.exhibit import Exhibit
from analysis.filler import filler_share
from analysis.recorded_run import RecordedRun
from analysis.selection import Selection
from dashboard import cache
from dashboard.model_tasks import ReleasedStudy, ReleasedStudyRequest
from dashboard.notices import render_notice
from dashboard.results import take_result
from dashboard.showing import new_showing
from dashboard.state import PageState, page_state
from dashboard.widgets.charts import render_view
from dashboard.widgets.progress import render_progress
from dashboard.widgets.released import render_ids
from dashboard.widgets.words import plain_markdown, write_number
from uoe_model.result import RunResult
from uoe_model.sources.released_quirks import CLASSIFIER_QUIRKS

REPOSITORY: Final = "https://github.com/YujiaoYang-work/UoE"
INTRODUCTION: Final = f"""
The authors published their code and one trained checkpoint ([repository]({REPOSITORY}), commit 5f2306b). Three things
happen in it that the paper does not tell; here they show on your copy of the checkpoint.

- **Filler**: an expert with free slots takes units that did not ask for it, lets others attend to them, and writes its
  output back to them.
- **Batch dependence**: what happens to an example depends on its padding and on the other examples of its batch.
- **Frozen routers**: nothing ever trains the routers; the checkpoint holds their random start.
"""
NAMES: Final = {"as released": "as released", "alone": "the example alone", "all repaired": "all of them repaired"}
CHOICES: Final = {"in the batch": "batch", "alone": "alone", "repaired": "repaired"}


def render_released() -> None:
    """Draw the chapter."""
    st.markdown(INTRODUCTION)
    references = cache.catalogue().references
    if not references:
        st.info(
            "There is no copy here. Put `uoe_listops.model` from the authors' repository into the folder that the page "
            "is started with (`-- --models DIR`); it is read as data, never run.",
            icon=":material/folder_open:",
        )
        _render_quirks()
        return
    labels = {entry.label: entry for entry in references}
    entry = labels[st.selectbox("Checkpoint", list(labels), key="released_checkpoint")]
    text = render_ids()
    state = page_state()
    if st.button("Show what it does", key="study", type="primary", disabled=state.job is not None):
        state.start(cache.device_worker(), ReleasedStudyRequest(model=entry, text=text))
    is_new = False
    while render_progress(state):
        take_result(state)
        is_new = True
    if is_new:
        st.rerun()  # the button above was drawn while the work was under way
    if state.problem is not None:
        render_notice(state.problem)
    if state.study is not None:
        _render_study(state, state.study)
    else:
        _render_quirks()


def _render_quirks() -> None:
    st.table(
        {
            "Quirk": [name.replace("_", " ") for name in CLASSIFIER_QUIRKS],
            "What the released code does": list(CLASSIFIER_QUIRKS.values()),
        },
        border="horizontal",
        hide_index=True,
    )
    st.caption(
        "Each can be repaired by itself in Explore: choose the checkpoint there, and *Repair the released code*."
    )


def _render_study(state: PageState, study: ReleasedStudy) -> None:
    released, alone = study.effects[0], study.effects[1]
    columns = st.columns(3)
    columns[0].metric("slots that hold filler", write_number(released["filler_share"], "share"))
    columns[1].metric("routes that change when it runs alone", write_number(alone["routes_changed"], "share"))
    columns[2].metric(
        "parameters that training never moves",
        f"{len(study.without_gradient)} of {len(study.without_gradient) + study.moved}",
    )
    st.markdown("**One repair at a time**, for the first example against the batch as released:")
    st.dataframe(
        {
            "Change": [
                NAMES.get(row["change"], row["change"].replace("_", " ") + " repaired") for row in study.effects
            ],
            "Largest change of a logit": [f"{row['logit_change']:.4f}" for row in study.effects],
            "Filler, of slots in use": [write_number(row["filler_share"], "share") for row in study.effects],
            "Dropped, of requests": [write_number(row["dropped_share"], "share") for row in study.effects],
            "Routes changed": [write_number(row["routes_changed"], "share") for row in study.effects],
            "What the released code does": [CLASSIFIER_QUIRKS.get(row["change"], "") for row in study.effects],
        },
        hide_index=True,
        height="content",
        key="released_effects",
    )
    st.caption(
        "Routes changed: share of pairs of site and unit (padding apart) that other experts kept. A repair may change "
        "the answer and no route, or the other way round."
    )
    with st.expander("Parameters without a gradient", icon=":material/lock:"):
        st.markdown(
            "After one backward pass of the loss, these have no gradient; all routers (`switch_gate`) are among them."
        )
        st.code("\n".join(study.without_gradient), language=None)
    _render_loads(study)
    st.button(
        "Open both in Explore: A alone, B in the batch",
        key="open_study",
        icon=":material/compare_arrows:",
        on_click=_open,
        args=(state, study),
        help="Then go to Explore: the map marks filler and every route that changed.",
    )


def _render_loads(study: ReleasedStudy) -> None:
    """Draw how full the experts are at one site, filler included."""
    which = st.segmented_control(
        "Load of every expert", list(CHOICES), default="in the batch", required=True, key="released_run"
    )
    run = recorded(getattr(study, CHOICES[which or "in the batch"]))
    table = filler_share(run.trace)
    names = table["site_name"].tolist()
    site = st.selectbox("Site", names, index=min(1, len(names) - 1), key="released_site")
    row = table[table["site_name"] == site].iloc[0]
    st.caption(
        f"{plain_markdown(str(site))}: {int(row['kept']):,} slots kept, {int(row['filler']):,} filler "
        f"({write_number(row['filler_share'], 'share')})."
    )
    exhibit = Exhibit(runs=(run,), index=0, selection=Selection(site_id=int(row["site_id"])))
    render_view(exhibit, "load")


def recorded(run: RunResult) -> RecordedRun:
    """A run as the page shows it."""
    return RecordedRun(name=run.input.name, trace=run.trace, prediction=run.prediction, input=run.input)


def _open(state: PageState, study: ReleasedStudy) -> None:
    pinned, shown = new_showing("run", [recorded(study.alone)]), new_showing("run", [recorded(study.batch)])
    for showing in (pinned, shown):
        cache.keep_showing(showing)
    state.show(pinned)
    state.pin_shown()
    state.show(shown)
