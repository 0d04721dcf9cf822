"""The numbers of a run beside the model's test set and chance, each with its definition."""

from typing import Final

import pandas as pd
import streamlit as st

from analysis.glossary import TERMS
from analysis.summary import summary
from dashboard import cache
from dashboard.state import ShownRun
from dashboard.widgets.charts import render_csv
from dashboard.widgets.words import plain_markdown, write_number

HEADLINES: Final = ("drop_share", "dropped_units", "idle_experts", "load_cv", "entropy")


def define(term: str) -> str:
    """Sentence, formula and source of a term, as markdown."""
    entry = TERMS[term]
    formula = f"  \n`{entry.formula}`" if entry.formula else ""
    unit = f" ({entry.unit})" if entry.unit else ""
    return f"**{entry.name}**{unit}: {plain_markdown(entry.sentence)}{formula}  \n*{plain_markdown(entry.source)}*"


def render_headlines(run: ShownRun) -> None:
    """Draw five numbers over all sites."""
    rows = cache.table(run, summary)
    for column, term in zip(st.columns(len(HEADLINES)), HEADLINES, strict=True):
        entry = TERMS[term]
        found = rows[rows["term"] == term]
        with column:
            if found.empty:
                st.metric(entry.name, "–", help=define(term))
                continue
            row = found.iloc[0]
            label = f"{entry.name} (nats)" if entry.unit == "nats" else entry.name
            st.metric(label, write_number(float(row["value"]), entry.unit), help=define(term))
            st.caption(_expectation(row, entry.unit))


def render_numbers(run: ShownRun, site_id: int, site_name: str) -> None:
    """Draw the whole table, over all sites or for one."""
    everywhere = "all sites"
    where = st.segmented_control(
        "Numbers of", [everywhere, site_name], default=everywhere, required=True, key="numbers_of"
    )
    is_all = where != site_name
    rows = cache.table(run, summary) if is_all else cache.table(run, summary, site_ids=(site_id,))
    st.dataframe(
        pd.DataFrame(
            {
                "Number": [TERMS[term].name for term in rows["term"]],
                "Value": _written(rows, "value"),
                "Unit": rows["unit"],
                "Test set": _written(rows, "reference"),
                "Chance, low": _written(rows, "low"),
                "Chance, high": _written(rows, "high"),
                "Definition": [TERMS[term].sentence for term in rows["term"]],
                "Formula": [TERMS[term].formula for term in rows["term"]],
                "Note": rows["note"],
            }
        ),
        hide_index=True,
        height="content",
        column_config={
            "Number": st.column_config.TextColumn(width=190),
            "Definition": st.column_config.TextColumn(width="large"),
        },
        key="numbers",
    )
    st.caption(
        f"Test set: {plain_markdown(TERMS['reference'].sentence)}  \n"
        f"Chance: {plain_markdown(TERMS['chance_band'].sentence)}"
    )
    render_csv(rows, name="numbers", label="CSV of these numbers")


def _expectation(row: "pd.Series[float]", unit: str) -> str:
    if pd.isna(row["reference"]):
        return "no reference  \n&nbsp;"
    reference, low, high = (write_number(float(row[name]), unit) for name in ("reference", "low", "high"))
    return f"test set {reference}  \nby chance {low} to {high}"


def _written(rows: pd.DataFrame, column: str) -> list[str]:
    return [write_number(value, unit) for value, unit in zip(rows[column], rows["unit"], strict=True)]
