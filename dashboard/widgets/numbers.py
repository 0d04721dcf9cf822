"""The numbers of a run beside the model's test set and chance, each with its definition."""

from typing import Final

import pandas as pd
import streamlit as st

from analysis.exhibit import Exhibit
from analysis.filler import filler_share
from analysis.glossary import TERMS
from analysis.summary import summary
from analysis.views import site_name
from dashboard.widgets.charts import render_csv
from dashboard.widgets.words import plain_markdown, write_number

HEADLINES: Final = ("drop_share", "dropped_units", "idle_experts", "load_cv", "entropy")

SHORT: Final = {"entropy": "entropy", "load_cv": "load CV"}  # where the full name does not fit

JOINED: Final = "\N{WORD JOINER}–\N{WORD JOINER}"  # a dash at which no line ends

TOGETHER: Final = str.maketrans(" ", "\N{NO-BREAK SPACE}")
"""Keeps a value on the line of its name."""


def define(term: str) -> str:
    """Sentence, formula and source of a term, as markdown."""
    entry = TERMS[term]
    formula = f"  \n`{entry.formula}`" if entry.formula else ""
    unit = f" ({entry.unit})" if entry.unit else ""
    return f"**{entry.name}**{unit}: {plain_markdown(entry.sentence)}{formula}  \n*{plain_markdown(entry.source)}*"


def render_headlines(exhibit: Exhibit) -> None:
    """Draw five numbers over all sites, each with what the test set and chance would give."""
    rows = exhibit.statistics.table(summary)
    for column, term in zip(st.columns(len(HEADLINES), gap="small"), HEADLINES, strict=True):
        entry = TERMS[term]
        found = rows[rows["term"] == term]
        unit = " (nats)" if entry.unit == "nats" else ""
        value = "–" if found.empty else write_number(float(found.iloc[0]["value"]), entry.unit)
        expected = "unknown" if found.empty else _expectation(found.iloc[0], entry.unit)
        reason = "" if found.empty or not found.iloc[0]["note"] else f"\n\n{plain_markdown(found.iloc[0]['note'])}."
        with column.container(gap=None):
            st.markdown(f"**{value}** {SHORT.get(term, entry.name)}{unit}", help=define(term) + reason)
            st.caption(expected)
    filler = exhibit.statistics.table(filler_share)
    if filler["filler"].any():
        used = int(filler["kept"].sum() + filler["filler"].sum())
        st.markdown(
            f"**{write_number(filler['filler'].sum() / used, 'share')}** of the slots in use hold *filler*, units that "
            "did not ask: dotted along the top on the map.",
            help=define("filler_share"),
        )


def render_numbers(exhibit: Exhibit) -> None:
    """Draw the whole table, over all sites or for one."""
    everywhere = "all sites"
    name = site_name(exhibit)
    where = st.segmented_control("Numbers of", [everywhere, name], default=everywhere, required=True, key="numbers_of")
    is_all = where != name
    tables = exhibit.statistics
    rows = tables.table(summary) if is_all else tables.table(summary, site_ids=(exhibit.site_id,))
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
        return "no reference"
    reference, low, high = (write_number(float(row[name]), unit) for name in ("reference", "low", "high"))
    parts = (f"test set {reference},", f"chance {low.removesuffix(' %')}{JOINED}{high}")
    return " ".join(part.translate(TOGETHER) for part in parts)


def _written(rows: pd.DataFrame, column: str) -> list[str]:
    return [write_number(value, unit) for value, unit in zip(rows[column], rows["unit"], strict=True)]
