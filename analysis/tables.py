"""The trace as DataFrames, joined: what is downloaded as CSV, and where every join of trace tables lives."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.columns import Column, site_columns, text_column
from analysis.counts import site_bounds
from uoe_model.trace import RoutingTrace, Table

STATUS_NAMES = ("kept", "dropped", "filler")
"""Text of a status, by its number in the trace."""


def sites_table(trace: RoutingTrace) -> pd.DataFrame:
    """The routers: one row per site with the columns of `SiteTable`, dtypes as there (text as str)."""
    return _frame(trace.sites)


def units_table(trace: RoutingTrace) -> pd.DataFrame:
    """The tokens or cells: one row per unit with the columns of `UnitTable`, dtypes as there (text as str)."""
    return _frame(trace.units)


def capacities_table(trace: RoutingTrace) -> pd.DataFrame:
    """Patches that every expert takes of each example: one row per (site, example), sorted by both.

    Returns:
        site_id (int16), layer (int16), block (str), site_name (str), example_id (int32), capacity (int32; -1: never
        full; with admission by position the value at the last patch)
    """
    table = trace.capacities
    columns = site_columns(trace, table.site_id)
    return pd.DataFrame(columns | {"example_id": table.example_id, "capacity": table.capacity})


def reference_table(trace: RoutingTrace) -> pd.DataFrame:
    """The model's own load on its test set: one row per (site, expert), sorted by both; no rows if unknown.

    Returns:
        site_id (int16), layer (int16), block (str), site_name (str), expert_id (int16), requested, kept (int64):
        patches; patches (int64): all patches that the site saw
    """
    table = trace.reference
    site_id = np.zeros(0, dtype=np.int16) if table is None else table.site_id
    columns = site_columns(trace, site_id)
    columns["expert_id"] = np.zeros(0, dtype=np.int16) if table is None else table.expert_id
    for name in ("requested", "kept", "patches"):
        columns[name] = np.zeros(0, dtype=np.int64) if table is None else getattr(table, name)
    return pd.DataFrame(columns)


def assignments_table(trace: RoutingTrace, site_ids: Sequence[int] | None = None) -> pd.DataFrame:
    """Every requested expert of every unit, with the names of its site and unit.

    Args:
        trace: any valid trace.
        site_ids: sites to include, None for all; the order is always that of the trace.

    Returns:
        One row per assignment, sorted by site, unit, rank:

        - site_id (int16), layer (int16), block (str), site_name (str)
        - unit_id, example_id, patch_id, position (int32), text (str)
        - rank (int8), expert_id (int16), score (float32)
        - selection_score (float32): what the choice was made by; NaN if the trace does not have it
        - gate (float32), status (str: kept, dropped, filler), inherited (bool)
        - is_counted (bool): counts towards load and drops (the first unit of its patch, no filler)
    """
    rows, units = trace.assignments, trace.units
    chosen = assignment_rows(trace, site_ids)
    site_id, unit_id = rows.site_id[chosen], rows.unit_id[chosen]
    if rows.selection_score is None:
        selection_score = np.full(len(unit_id), np.nan, dtype=np.float32)
    else:
        selection_score = rows.selection_score[chosen]
    columns = site_columns(trace, site_id)
    columns |= {
        "unit_id": unit_id,
        "example_id": units.example_id[unit_id],
        "patch_id": units.patch_id[unit_id],
        "position": units.position[unit_id],
        "text": text_column(units.text.tolist(), unit_id),
        "rank": rows.rank[chosen],
        "expert_id": rows.expert_id[chosen],
        "score": rows.score[chosen],
        "selection_score": selection_score,
        "gate": rows.gate[chosen],
        "status": text_column(STATUS_NAMES, rows.status[chosen]),
        "inherited": rows.inherited[chosen],
        "is_counted": trace.counted[chosen],
    }
    return pd.DataFrame(columns)


def chosen_sites(trace: RoutingTrace, site_ids: Sequence[int] | None) -> list[int]:
    """Site rows in trace order; all of them for None."""
    wanted = range(len(trace.sites)) if site_ids is None else set(site_ids)
    return [site for site in range(len(trace.sites)) if site in wanted]


def assignment_rows(
    trace: RoutingTrace, site_ids: Sequence[int] | None
) -> slice | np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Index of the assignment rows of some sites (all for None), in trace order."""
    if site_ids is None:
        return slice(None)
    bounds = site_bounds(trace)
    parts = [np.arange(bounds[site], bounds[site + 1], dtype=np.intp) for site in chosen_sites(trace, site_ids)]
    return np.concatenate([np.zeros(0, dtype=np.intp), *parts])


def _frame(table: Table) -> pd.DataFrame:
    columns: dict[str, Column] = {}
    for name, column in table.columns().items():
        is_text = column.dtype == np.object_
        columns[name] = text_column(column.tolist(), np.arange(len(column))) if is_text else column
    return pd.DataFrame(columns)
