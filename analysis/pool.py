"""Several runs of one model as a single trace, so that every statistic can be taken over all of them."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from uoe_model.errors import MismatchError
from uoe_model.trace import (
    SCHEMA_VERSION,
    AssignmentTable,
    CapacityTable,
    Check,
    ReferenceTable,
    RoutingTrace,
    RunRecord,
    UnitTable,
)


def pool_traces(traces: Sequence[RoutingTrace]) -> RoutingTrace:
    """Put runs of the same model and routing behind one another, as consecutive examples.

    Counts of the pooled trace are sums over the runs. Router logits are kept of the sites for which every run with
    units has them, the reference load if all runs have the same one. The run record says how many inputs there are
    (`notes["inputs"]`); where the runs' records differ it lists what they hold.

    Args:
        traces: at least one; a single one is returned as it is.

    Raises:
        MismatchError: no traces, or traces of different models or routing; the message names what differs.
    """
    if not traces:
        raise MismatchError("there are no runs to pool: run at least one input")
    if len(traces) == 1:
        return traces[0]
    _check_alike(traces)
    first = traces[0]
    shifts = np.cumsum([[0, 0, 0], *([t.num_units, t.num_examples, _num_patches(t)] for t in traces)], axis=0)
    units = _pool_units(traces, shifts)
    return RoutingTrace(
        run=_pool_records([trace.run for trace in traces]),
        sites=first.sites,
        units=units,
        capacities=_pool_capacities(traces),
        assignments=_pool_assignments(traces, shifts[:, 0]),
        router_logits=_pool_logits(traces),
        reference=first.reference if all(_same_reference(first.reference, t.reference) for t in traces) else None,
    )


def _check_alike(traces: Sequence[RoutingTrace]) -> None:
    first = traces[0]
    for number, trace in enumerate(traces[1:], start=2):
        for name in ("model", "weights_digest"):
            one, other = getattr(first.run, name), getattr(trace.run, name)
            if one != other:
                raise MismatchError(
                    f"input 1 ran on {name}={one!r}, input {number} on {other!r}: pool runs of one model"
                )
        if len(first.sites) != len(trace.sites):
            raise MismatchError(
                f"input 1 has {len(first.sites)} routers, input {number} has {len(trace.sites)}: pool runs of one model"
            )
        for name, column in first.sites.columns().items():
            other_column = trace.sites.columns()[name]
            differs = column != other_column
            if column.dtype == np.float64:
                differs &= ~(np.isnan(column) & np.isnan(other_column))
            if differs.any():
                site = int(differs.argmax())
                raise MismatchError(
                    f"site {site}: {name} is {column.tolist()[site]!r} for input 1 and "
                    f"{other_column.tolist()[site]!r} for input {number}: run all inputs with the same routing"
                )


def _num_patches(trace: RoutingTrace) -> int:
    return int(trace.units.first_of_patch().sum())


def _pool_units(traces: Sequence[RoutingTrace], shifts: npt.NDArray[np.int64]) -> UnitTable:
    columns = _concatenated([trace.units.columns() for trace in traces])
    for name, place in (("unit_id", 0), ("example_id", 1), ("patch_id", 2)):
        shift = np.repeat(shifts[:-1, place], [trace.num_units for trace in traces])
        columns[name] = (columns[name] + shift).astype(np.int32)
    return UnitTable(**columns)


def _pool_capacities(traces: Sequence[RoutingTrace]) -> CapacityTable:
    sites = traces[0].sites
    parts = [trace.capacities.capacity.reshape(len(sites), trace.num_examples) for trace in traces]
    capacity_SX = np.concatenate(parts, axis=1)
    return CapacityTable(
        site_id=np.repeat(sites.site_id, capacity_SX.shape[1]),
        example_id=np.tile(np.arange(capacity_SX.shape[1], dtype=np.int32), len(sites)),
        capacity=capacity_SX.ravel(),
    )


def _pool_assignments(traces: Sequence[RoutingTrace], first_unit: npt.NDArray[np.int64]) -> AssignmentTable:
    """All rows behind one another, brought back into site order; within a site they are in order already."""
    tables = [trace.assignments.columns() for trace in traces]
    if any("selection_score" in table for table in tables):
        unknown = [np.full(len(table["score"]), np.nan, dtype=np.float32) for table in tables]
        tables = [{"selection_score": absent} | table for absent, table in zip(unknown, tables, strict=True)]
    columns = _concatenated(tables)
    shift = np.repeat(first_unit[:-1], [len(trace.assignments) for trace in traces])
    columns["unit_id"] = (columns["unit_id"] + shift).astype(np.int32)
    order = np.argsort(columns["site_id"], kind="stable")
    scores = columns.pop("selection_score", None)
    return AssignmentTable(
        selection_score=None if scores is None else scores[order],
        **{name: column[order] for name, column in columns.items()},
    )


def _pool_logits(traces: Sequence[RoutingTrace]) -> dict[int, npt.NDArray[np.float32]]:
    filled = [trace for trace in traces if trace.num_units]
    known = set.intersection(*(set(trace.router_logits) for trace in filled)) if filled else set()
    return {site: np.concatenate([trace.router_logits[site] for trace in filled]) for site in sorted(known)}


def _same_reference(one: ReferenceTable | None, other: ReferenceTable | None) -> bool:
    if one is None or other is None:
        return one is other
    same = (np.array_equal(column, other.columns()[name]) for name, column in one.columns().items())
    return one.dataset == other.dataset and all(same)


def _pool_records(runs: Sequence[RunRecord]) -> RunRecord:
    words = {
        name: _joined([getattr(run, name) for run in runs])
        for name in ("source", "revision", "adapter", "dtype", "device", "backend")
    }
    timings: dict[str, float] = {}
    for run in runs:
        for name, milliseconds in run.timings_ms.items():
            timings[name] = timings.get(name, 0.0) + milliseconds
    digest = hashlib.sha256("\n".join(run.input_digest for run in runs).encode()).hexdigest()
    return RunRecord(
        schema_version=SCHEMA_VERSION,
        model=runs[0].model,
        weights_digest=runs[0].weights_digest,
        seed=runs[0].seed if len({run.seed for run in runs}) == 1 else None,
        library_versions=_joined_values([run.library_versions for run in runs]),
        input_digest=digest,
        timings_ms=timings,
        self_check=_pool_checks(runs),
        notes=_joined_values([run.notes for run in runs]) | {"inputs": str(len(runs))},
        **words,
    )


def _pool_checks(runs: Sequence[RunRecord]) -> tuple[Check, ...]:
    """Every question once: passed if it passed wherever it was asked."""
    asked: dict[str, list[Check]] = {}
    for run in runs:
        for check in run.self_check:
            asked.setdefault(check.name, []).append(check)
    pooled = []
    for name, checks in asked.items():
        failed = [check.detail for check in checks if not check.passed]
        detail = f"{len(checks) - len(failed)} of {len(runs)} inputs passed"
        pooled.append(Check(name=name, passed=not failed, detail="; ".join([detail, *failed[:1]])))
    return tuple(pooled)


def _joined_values(records: Sequence[Mapping[str, str]]) -> dict[str, str]:
    names = dict.fromkeys(name for record in records for name in record)
    return {name: _joined([record[name] for record in records if name in record]) for name in names}


def _joined(values: Sequence[str]) -> str:
    return " / ".join(dict.fromkeys(values))


def _concatenated(tables: Sequence[Mapping[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
