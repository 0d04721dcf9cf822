"""Pairs of random runs of the same routers: the same input routed anew, with a generated tail that may differ."""

import dataclasses
import functools

import numpy as np

from tests.oracles.records import Records, read
from tests.traces import random_trace
from uoe_model.trace import DROPPED, KEPT, AssignmentTable, RoutingTrace, text_column

Pair = tuple[RoutingTrace, RoutingTrace, Records, Records]


@functools.cache
def run_pairs() -> tuple[Pair, ...]:
    """24 pairs (A, B) with their plain records; equal in every run."""
    pairs = []
    for seed in range(24):
        rng = np.random.default_rng([7, seed])
        a = random_trace(rng, num_units=0 if seed == 5 else int(rng.integers(8, 40)), patch_len=1)
        b = routed_anew(a, rng)
        a, b = _with_tail(a, rng, changed=0), _with_tail(b, rng, changed=seed % 3)
        pairs.append((a, b, read(a), read(b)))
    return tuple(pairs)


def routed_anew(trace: RoutingTrace, rng: np.random.Generator) -> RoutingTrace:
    """Routes exchanged between the units of an example; some that were kept are dropped; other losses."""
    units, rows = trace.units, trace.assignments
    new_unit = np.lexsort([rng.random(trace.num_units), units.example_id]).astype(np.int32)
    unit_id = new_unit[rows.unit_id]
    order = np.lexsort([rows.rank, unit_id, rows.site_id])
    columns = {name: column[order] for name, column in rows.columns().items()} | {"unit_id": unit_id[order]}
    example = units.example_id[columns["unit_id"]]
    capacity = trace.capacities.capacity.reshape(trace.num_sites, trace.num_examples)[columns["site_id"], example]
    can_drop = (trace.sites.selection == "data")[columns["site_id"]].astype(np.bool_) & (capacity >= 0)
    is_lost = can_drop & (columns["status"] == KEPT) & (rng.random(len(order)) < 0.2)
    columns["status"] = np.where(is_lost, np.uint8(DROPPED), columns["status"])
    columns["gate"] = np.where(is_lost, np.float32(0), columns["gate"])
    logits = {}
    for site, matrix in trace.router_logits.items():
        logits[site] = np.empty_like(matrix)
        logits[site][new_unit] = matrix
    return dataclasses.replace(
        trace,
        units=dataclasses.replace(units, loss=(units.loss * rng.random(len(units.loss))).astype(np.float32)),
        assignments=AssignmentTable(**({"selection_score": None} | columns)),
        router_logits=logits,
    )


def _with_tail(trace: RoutingTrace, rng: np.random.Generator, *, changed: int) -> RoutingTrace:
    """The second half of the units counts as generated; the text of `changed` units is another one."""
    units, count = trace.units, trace.num_units
    text = units.text.tolist()
    for unit in rng.integers(0, max(count, 1), changed if count > 1 else 0).tolist():
        text[unit] += "?"
    phase = ["prefill"] * (count - count // 2) + ["decode"] * (count // 2)
    changes = {"phase": text_column(phase), "text": text_column(text)}
    return dataclasses.replace(trace, units=dataclasses.replace(units, **changes))
