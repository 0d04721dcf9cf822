"""The trace as DataFrames, joined: what is downloaded as CSV, and where every join of trace tables lives."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from analysis.columns import Column, repeated_text, site_columns, text_array, text_column, text_parts
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
    rows = trace.assignments
    sites, bounds = chosen_sites(trace, site_ids), site_bounds(trace)
    chosen = assignment_rows(trace, site_ids)
    num_rows = [int(bounds[site + 1] - bounds[site]) for site in sites]
    if rows.selection_score is None:
        selection_score = np.full(sum(num_rows), np.nan, dtype=np.float32)
    else:
        selection_score = _own(rows.selection_score[chosen])
    columns: dict[str, Column] = {
        "site_id": np.repeat(trace.sites.site_id[sites], num_rows),
        "layer": np.repeat(trace.sites.layer[sites], num_rows),
        "block": repeated_text([trace.sites.block[site] for site in sites], num_rows),
        "site_name": repeated_text([trace.sites.name[site] for site in sites], num_rows),
        "unit_id": _own(rows.unit_id[chosen]),
        **_unit_columns(trace, [rows.unit_id[bounds[site] : bounds[site + 1]] for site in sites]),
        "rank": _own(rows.rank[chosen]),
        "expert_id": _own(rows.expert_id[chosen]),
        "score": _own(rows.score[chosen]),
        "selection_score": selection_score,
        "gate": _own(rows.gate[chosen]),
        "status": text_column(STATUS_NAMES, rows.status[chosen]),
        "inherited": _own(rows.inherited[chosen]),
        "is_counted": _own(trace.counted[chosen]),
    }
    return pd.DataFrame(columns, copy=False)


def _unit_columns(trace: RoutingTrace, units_of_sites: Sequence[npt.NDArray[np.int32]]) -> dict[str, Column]:
    """What the rows of every site say about their units, looked up once for all sites that list the same units."""
    units, words = trace.units, text_array(trace.units.text)
    numbers = ("example_id", "patch_id", "position")
    parts: dict[str, list[npt.NDArray[np.int32]]] = {name: [] for name in numbers}
    texts = []
    latest: dict[int, tuple[npt.NDArray[np.int32], dict[str, npt.NDArray[np.int32]], Any]] = {}
    for unit_id in units_of_sites:
        known = latest.get(len(unit_id))
        if known is None or not np.array_equal(known[0], unit_id):
            found = {name: getattr(units, name)[unit_id] for name in numbers}
            known = latest[len(unit_id)] = (unit_id, found, words.take(pa.array(unit_id)))
        for name in numbers:
            parts[name].append(known[1][name])
        texts.append(known[2])
    nothing = np.zeros(0, dtype=np.int32)
    return {name: np.concatenate([nothing, *parts[name]]) for name in numbers} | {"text": text_parts(texts)}


def _own(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The column itself, or a copy of what belongs to the trace."""
    return column if column.base is None else column.copy()


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
        columns[name] = pd.array(column, dtype="str") if is_text else column
    return pd.DataFrame(columns)
