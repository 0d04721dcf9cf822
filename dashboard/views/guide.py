"""Guide: a two-minute tour, how to read the page, what every word means, and what differs from the released UoE."""

from collections.abc import Callable

import streamlit as st

from analysis.figures.labels import visible
from analysis.glossary import TERMS
from analysis.highlights import Highlights, find_highlights
from dashboard import cache
from dashboard.notices import guarded
from dashboard.views.guide_released import render_released
from dashboard.widgets.deviations import render_deviations
from dashboard.widgets.words import plain_markdown


def render() -> None:
    """Draw the page."""
    draw: dict[str, Callable[[], None]] = {
        "Two-minute tour": _render_tour,
        "How to read Explore": _render_reading,
        "Every word": _render_words,
        "What differs from the released UoE": render_deviations,
        "What the released code really routes": render_released,
    }
    for name, tab in zip(draw, st.tabs(list(draw), key="guide", on_change="rerun"), strict=True):
        if tab.open:
            with tab, guarded(name):
                draw[name]()


def _render_tour() -> None:
    run = cache.example("text").runs[0]
    found = run.tables.part("highlights", lambda: find_highlights(run.trace))
    st.markdown("Every stop opens the bundled example with something selected. It was recorded, so no model is loaded.")
    for number, (title, words, params) in enumerate(_stops(found), start=1):
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            st.markdown(f"**{number}. {title}**  \n{words}", width=760)
            st.link_button("Show me", _address(params), icon=":material/arrow_forward:")


def _address(params: dict[str, str]) -> str:
    return "./?" + "&".join(f"{name}={value}" for name, value in {"show": "text", **params}.items())


def _stops(found: Highlights) -> list[tuple[str, str, dict[str, str]]]:
    stops: list[tuple[str, str, dict[str, str]]] = [
        (
            "Which expert took which token",
            (
                "The map colours every token by the expert that kept it. Choose the router above the map: attention or"
                " MLP, and the layer. Hover over a token for its whole route. Bars and patterns say what colour alone"
                " would not."
            ),
            {},
        )
    ]
    if found.fullest is not None:
        site, expert, label, dropped = found.fullest
        stops.append(
            (
                "Who was full",
                (
                    f"{label} had to turn away {dropped} requests, more than any other expert. Its tokens are lit, all"
                    " others dimmed; the drop strip shows where along the text it was full."
                ),
                {"site": str(site), "experts": str(expert)},
            )
        )
    if found.most_dropped is not None:
        unit, text, site, share = found.most_dropped
        stops.append(
            (
                "A token that was dropped",
                (
                    f"“{plain_markdown(visible(text))}” lost {share:.0%} of its requests. Its card below the map lists"
                    " every site: rank, expert, probability, gate, and whether it was kept."
                ),
                {"site": str(site), "units": str(unit)},
            )
        )
    if found.other_block is not None:
        site, name = found.other_block
        stops.append(
            (
                "Attention is routed too",
                (
                    f"{name}: here the experts are groups of attention heads. In a Union of Experts both blocks of"
                    " every layer are routed, each in its own way."
                ),
                {"site": str(site)},
            )
        )
    stops.append(
        (
            "Is that much?",
            (
                "The five numbers stand beside what the model's own test set and chance would give for an input of this"
                " size. A number inside the chance band says nothing about this text."
            ),
            {"atlas": "drop_share"},
        )
    )
    stops.append(
        (
            "Now your own",
            (
                "Type a text or choose pictures on the left and press Run. *Pin as A*, change the routing, run again: B"
                " stands beside A. *Export* makes the figure you see as a PDF that fits your paper."
            ),
            {},
        )
    )
    return stops


def _render_reading() -> None:
    st.markdown("""
1. **Run something.** A text is cut into tokens, a picture into cells; both are *units*. Text longer than the model's
   context runs as consecutive *examples*; capacity starts anew in each, and the map draws the border. Several files, or
   the rows of a table, run together: a navigator leads through them, and statistics are of one input or of all.
2. **The map** colours every unit by the expert that kept it (the preferred one of several). At most twelve experts have
   a colour at once; the others carry their number. Pin an expert in the legend to give it one. Hatched units are
   *dropped*: no expert had room, and only their residual goes on. Hatched along the foot: *partly dropped*.
3. **Everything is one selection.** A click on the atlas, a bar, a legend entry, a flow or a token selects it for all
   views; the chips over the map remove it again. The address of the page holds the selection: copy it
   to share the view.
4. **The atlas** has one cell for every expert of every site, attention on the left, MLP on the right.
5. **Load of every expert**: what it kept, what it had to drop on top, its slots as an outline, and behind it what the
   model's own test set would give an input of this size, with the band that chance alone allows.
6. **The drop strip** shows where along the input requests were dropped. A *dropped assignment* found one expert full; a
   *dropped unit* was kept by none. They are different numbers.
7. **Flow** follows units from the expert of one site to that of the next.
8. **A and B**: pin a run, change anything, run again. The map marks routes that changed.
9. **Capture** says whether the tables agree with each other and with the model; a trace that fails is shown as failed.
10. **Export** makes every view, as it is filtered now, into SVG, PDF, PNG, HTML, CSV, Parquet or LaTeX, and the
    whole run into a bundle that this page opens again.

**Keys of the map**: arrows walk over units, Enter selects, `[` and `]` change the layer, `m` changes the block, `p` on
a legend entry pins its colour.
""")


def _render_words() -> None:
    terms = TERMS.values()
    st.dataframe(
        {
            "Word": [term.name for term in terms],
            "Meaning": [term.sentence for term in terms],
            "Formula": [term.formula for term in terms],
            "Unit": [term.unit for term in terms],
            "Source": [term.source for term in terms],
        },
        hide_index=True,
        height=720,
        column_config={"Meaning": st.column_config.TextColumn(width="large")},
        row_height=35,
        key="words",
    )
