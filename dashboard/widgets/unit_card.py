"""The unit that is looked at: what it is, what the model said about it, and its route through every site."""

import pandas as pd
import streamlit as st

from analysis.exhibit import Exhibit
from analysis.figures.labels import expert_label
from analysis.unit_card import unit_card, unit_facts
from analysis.views import unit_name
from dashboard.widgets.charts import render_view
from dashboard.widgets.words import plain_markdown, write_number


def render_unit_card(exhibit: Exhibit) -> None:
    """Draw the card, or say how to choose a unit."""
    unit = exhibit.selection.unit_id
    if unit is None:
        st.info(
            "Click a token or a cell on the map: its route through every site appears here.",
            icon=":material/touch_app:",
        )
        return
    row = exhibit.run.tables.table(unit_facts, unit_id=unit).iloc[0]
    facts = [f"**{plain_markdown(unit_name(exhibit.trace, unit))}**"]
    if not exhibit.run.is_picture:
        loss = write_number(float(row["loss"]), "nats")
        facts.append("loss unknown: nothing predicted it" if pd.isna(row["loss"]) else f"loss {loss} nats")
        said = str(row["output_text"])
        if said:
            probability = write_number(float(row["output_probability"]), "share")
            facts.append(f"next the model says “{plain_markdown(said)}” ({probability})")
    st.markdown(" · ".join(facts))
    render_view(exhibit, "unit")
    rows = exhibit.run.tables.table(unit_card, unit_id=unit)
    shown = rows.assign(expert=[expert_label(one) if one >= 0 else "none" for one in rows["expert_id"]])
    columns = ["site_name", "rank", "expert", "status", "gate", "score", "margin"]
    st.dataframe(
        shown[columns].rename(columns={"site_name": "site", "score": "probability"}),
        hide_index=True,
        height=260,
        key="unit_card",
        placeholder="–",
        column_config={
            name: st.column_config.NumberColumn(format="%.3f") for name in ("gate", "probability", "margin")
        },
    )
