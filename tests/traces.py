"""Traces for tests: `make_trace` writes one by hand in a tiny language, `random_trace` draws a valid one."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.trace_parts import Row, build_sites, build_trace, build_units, make_run, repeat_over_patches
from uoe_model.trace import (
    DROPPED,
    FILLER,
    GATES,
    KEPT,
    SELECTIONS,
    ReferenceTable,
    RoutingTrace,
    SiteTable,
    UnitTable,
    text_column,
)

__all__ = ["assert_traces_equal", "make_reference", "make_run", "make_trace", "random_trace"]


def make_trace(
    text: str,
    *,
    num_experts: int | Mapping[str, int],
    selection: str | Mapping[str, str] = "data",
    top_k: int | None = None,
    capacity: int | None = None,
    capacity_factor: float | None = None,
    admission: str = "score",
    gate: str = "one",
    patch_len: int = 1,
    example_lengths: Sequence[int] | None = None,
    pieces: Sequence[str] | None = None,
    losses: Sequence[float] | None = None,
    logits: Mapping[int, NDArray[np.float32]] | None = None,
    reference: ReferenceTable | None = None,
) -> RoutingTrace:
    """Write a trace by hand.

    One site per line (or between semicolons), its name first, then its units: `L0.mlp: 0>E1 1>E1,E2! 2` says that unit
    0 was kept by expert 1, unit 1 preferred expert 1 (kept) and also requested expert 2, which was full, and unit 2
    exists and has no rows. `!` is dropped, `~` is filler, `E1=0.7` gives a score (else 1/2, 1/4, ... by rank). A kept
    gate is 1. With `patch_len` above 1, write the first unit of each patch; the others exist and repeat it.

    Args:
        num_experts: of all sites, or by site name; likewise `selection`.
        top_k: default: the most rows any unit of the site has.
        capacity: of all sites with drops or a `capacity_factor`; default: the most any expert kept there.
        example_lengths: units per example; default: one example.
    """
    rows: list[Row] = []
    names: list[str] = []
    num_units = sum(example_lengths or ())
    for line in filter(None, (part.strip() for part in re.split(r"[;\n]", text))):
        name, _, words = line.partition(":")
        for word in words.split():
            unit, _, requests = word.partition(">")
            if not example_lengths:
                num_units = max(num_units, math.ceil((int(unit) + 1) / patch_len) * patch_len)
            rank = 0
            for request in filter(None, requests.split(",")):
                found = re.fullmatch(r"E(\d+)(?:=([\d.]+))?([!~]?)", request)
                if found is None:
                    raise ValueError(f"{request!r} is no request such as E1, E1!, E1~, E1=0.7")
                status = {"": KEPT, "!": DROPPED, "~": FILLER}[found[3]]
                score = float(found[2]) if found[2] else 0.5 ** (rank + 1)
                shown = -1 if status == FILLER else rank
                rows.append((len(names), int(unit), shown, int(found[1]), score, float(status == KEPT), status))
                rank += status != FILLER
        names.append(name.strip())
    lengths = list(example_lengths or ([num_units] if num_units else []))
    units = build_units(lengths, patch_len, pieces=pieces, losses=losses)
    rows = repeat_over_patches(rows, units)
    found_k = [_most_rows_per_unit([row for row in rows if row[0] == site]) for site in range(len(names))]
    full = [
        capacity_factor is not None or any(r[0] == site and r[6] == DROPPED for r in rows) for site in range(len(names))
    ]
    capacities = []
    for site in range(len(names)):
        for example in range(len(lengths)):
            kept = _kept_patches(rows, units, site, example)
            capacities.append((capacity or max([1, *kept.values()])) if full[site] else -1)
    sites = build_sites(
        names,
        num_experts=[num_experts if isinstance(num_experts, int) else num_experts[name] for name in names],
        selection=[selection if isinstance(selection, str) else selection[name] for name in names],
        top_k=[top_k or k for k in found_k],
        capacity_factor=[(capacity_factor or 1.0) if limited else math.nan for limited in full],
        admission=[admission] * len(names),
        gate=[gate] * len(names),
        patch_len=patch_len,
    )
    return build_trace(sites, units, capacities, rows, logits or {}, reference)


def mark_padding(trace: RoutingTrace, first: int) -> RoutingTrace:
    """The same trace, all units from `first` on being padding."""
    is_padding = np.arange(trace.num_units) >= first
    label = text_column("padding" if padding else "" for padding in is_padding.tolist())
    return dataclasses.replace(trace, units=dataclasses.replace(trace.units, is_special=is_padding, label=label))


def random_trace(
    rng: np.random.Generator,
    *,
    num_units: int | None = None,
    num_examples: int | None = None,
    num_sites: int | None = None,
    patch_len: int | None = None,
    selection: str | None = None,
    admission: str | None = None,
    with_logits: bool | None = None,
    with_reference: bool | None = None,
    with_filler: bool | None = None,
    with_selection_score: bool | None = None,
) -> RoutingTrace:
    """Draw a valid trace: real softmax, top-k, admission and gates of random routers, by slow loops.

    What is None is drawn as well, so that many traces hold ties, drops, idle experts, unrouted units, one unit or
    none, several examples, patches, text and image cells, and sites of every selection.
    """
    if num_units is None:
        num_units = int(rng.choice([0, 1, 2, int(rng.integers(3, 50)), int(rng.integers(3, 50)), 64]))
    if num_examples is None:
        num_examples = int(rng.integers(1, 5))
    num_examples = min(num_examples, num_units)
    cuts = np.sort(rng.choice(np.arange(1, num_units), max(num_examples - 1, 0), replace=False)) if num_examples else []
    lengths = np.diff([0, *cuts, num_units]).tolist() if num_examples else []
    num_sites = int(rng.integers(1, 7)) if num_sites is None else num_sites
    patch_len = int(rng.choice([1, 1, 2, 3, 4])) if patch_len is None else patch_len
    slots = sorted(rng.choice(2 * num_sites, num_sites, replace=False).tolist())
    num_experts = rng.integers(1, 9, num_sites).tolist()
    kinds = [selection or str(rng.choice(["data", "data", *SELECTIONS])) for _ in range(num_sites)]
    factors = [math.nan if kind == "expert" else float(rng.choice([math.nan, 0.3, 0.5, 1.0, 1.5])) for kind in kinds]
    sites = build_sites(
        [f"L{slot // 2}.{('attention', 'mlp')[slot % 2]}" for slot in slots],
        num_experts=num_experts,
        selection=kinds,
        top_k=[int(rng.integers(1, min(experts, 4) + 1)) for experts in num_experts],
        capacity_factor=factors,
        admission=[admission or str(rng.choice(["score", "position"])) for _ in range(num_sites)],
        gate=[str(rng.choice(GATES)) for _ in range(num_sites)],
        patch_len=patch_len,
    )
    units = build_units(lengths, patch_len, rng=rng)
    filler = bool(rng.random() < 0.2) if with_filler is None else with_filler
    rows, capacities, logits = [], [], {}
    for site in range(num_sites):
        drawn = _draw_logits(rng, units, int(sites.num_experts[site]), sites.selection[site])
        if bool(rng.random() < 0.7) if with_logits is None else with_logits:
            logits[site] = drawn
        for example in range(len(lengths)):
            found, limit = _route(sites, units, site, example, drawn)
            rows += found
            capacities.append(limit)
            if filler and sites.selection[site] == "data":
                rows += _draw_filler(rng, found, site, int(sites.num_experts[site]))
    rows = repeat_over_patches(rows, units)
    reference = None
    if bool(rng.random() < 0.6) if with_reference is None else with_reference:
        reference = _draw_reference(rng, sites)
    scored = bool(rng.random() < 0.3) if with_selection_score is None else with_selection_score
    bias = rng.normal(size=len(rows)).astype(np.float32) if scored else None
    if bias is not None and len(bias):
        bias[0] = np.nan
    return build_trace(sites, units, capacities, rows, logits, reference, selection_score=bias)


def make_reference(requested: Mapping[int, Sequence[int]], *, patches: int, dataset: str = "by hand") -> ReferenceTable:
    """Write reference counts by hand: requests of every expert by site; everything was kept."""
    counts = [(site, expert, count) for site in sorted(requested) for expert, count in enumerate(requested[site])]
    return ReferenceTable(
        dataset=dataset,
        site_id=np.array([site for site, _, _ in counts], dtype=np.int16),
        expert_id=np.array([expert for _, expert, _ in counts], dtype=np.int16),
        requested=np.array([count for _, _, count in counts], dtype=np.int64),
        kept=np.array([count for _, _, count in counts], dtype=np.int64),
        patches=np.full(len(counts), patches, dtype=np.int64),
    )


def assert_traces_equal(found: RoutingTrace, expected: RoutingTrace) -> None:
    """Compare everything exactly: dtypes, bits (NaN equals NaN), strings, records, absent parts."""
    assert found.run == expected.run
    for name in ("sites", "units", "capacities", "assignments", "reference"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert list(one.columns()) == list(other.columns()), name
            for column, values in one.columns().items():
                _assert_columns_equal(values, other.columns()[column], f"{name}.{column}")
    if found.reference is not None and expected.reference is not None:
        assert found.reference.dataset == expected.reference.dataset
    assert list(found.router_logits) == list(expected.router_logits)
    for site, values in found.router_logits.items():
        _assert_columns_equal(values, expected.router_logits[site], f"router_logits[{site}]")
    _assert_columns_equal(found.counted, expected.counted, "counted")


def _assert_columns_equal(found: NDArray[Any], expected: NDArray[Any], name: str) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
    same = found.tolist() == expected.tolist() if found.dtype == np.object_ else found.tobytes() == expected.tobytes()
    assert same, name


def _most_rows_per_unit(rows: list[Row]) -> int:
    counts: dict[int, int] = {}
    for row in rows:
        counts[row[1]] = counts.get(row[1], 0) + (row[6] != FILLER)
    return max([1, *counts.values()])


def _kept_patches(rows: list[Row], units: UnitTable, site: int, example: int) -> dict[int, int]:
    first = units.first_of_patch()
    counts: dict[int, int] = {}
    for row in rows:
        if row[0] == site and row[6] == KEPT and first[row[1]] and units.example_id[row[1]] == example:
            counts[row[3]] = counts.get(row[3], 0) + 1
    return counts


def _draw_logits(rng: np.random.Generator, units: UnitTable, num_experts: int, selection: str) -> NDArray[np.float32]:
    """Logits per unit, equal within a patch (or within an example that chooses once); half of the time with ties."""
    group = units.example_id if selection == "expert" else units.patch_id
    count = int(group[-1]) + 1 if len(group) else 0
    drawn = (
        rng.integers(-2, 3, (count, num_experts)) / 2 if rng.random() < 0.5 else rng.normal(size=(count, num_experts))
    )
    favour = rng.choice([0.0, 0.0, 2.0, -20.0], num_experts)  # -20: an idle expert
    return (drawn + favour).astype(np.float32)[group]


def _route(
    sites: SiteTable, units: UnitTable, site: int, example: int, logits: NDArray[np.float32]
) -> tuple[list[Row], int]:
    """Rows of the first unit of each patch of one example at one site, and the capacity there."""
    leaders = [int(unit) for unit in np.flatnonzero(units.first_of_patch() & (units.example_id == example))]
    num_experts, top_k, factor = (
        int(sites.num_experts[site]),
        int(sites.top_k[site]),
        float(sites.capacity_factor[site]),
    )
    kind, in_order = sites.selection[site], sites.admission[site] == "position"
    exponent = np.exp(logits[leaders].astype(np.float64) - logits[leaders].max(axis=1, keepdims=True))
    p = (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)
    unlimited = math.isnan(factor)
    share = Fraction(0 if unlimited else str(factor)) * top_k / num_experts
    limit = len(leaders) if unlimited else math.ceil(share * len(leaders))
    if in_order and not unlimited:
        limit = max(4, limit)
    requested: dict[int, list[int]] = {}
    for patch in range(len(leaders)):
        requested[patch] = sorted(range(num_experts), key=lambda expert: (-p[patch, expert], expert))
    kept: set[tuple[int, int]] = set()
    for expert in range(num_experts):
        asking = [patch for patch in requested if kind == "expert_choice" or expert in requested[patch][:top_k]]
        if in_order and not unlimited and kind == "data":
            taken = 0
            for patch in asking:
                if taken < max(4, math.ceil(share * (patch + 1))):
                    taken += 1
                    kept.add((patch, expert))
        else:
            asking.sort(key=lambda patch: (-p[patch, expert], patch))
            kept.update((patch, expert) for patch in asking[:limit])
    rows: list[Row] = []
    for patch, unit in enumerate(leaders):
        chosen = requested[patch][:top_k]
        if kind == "expert_choice":
            chosen = [expert for expert in requested[patch] if (patch, expert) in kept]
        total = sum(float(p[patch, expert]) for expert in chosen)
        for rank, expert in enumerate(chosen):
            score = float(p[patch, expert])
            gate = {"mean_one": len(chosen) * score / total, "probability": score, "one": 1.0}[sites.gate[site]]
            status = KEPT if (patch, expert) in kept else DROPPED
            rows.append((site, unit, rank, expert, score, gate if status == KEPT else 0.0, status))
    return rows, -1 if unlimited else limit


def _draw_filler(rng: np.random.Generator, rows: list[Row], site: int, num_experts: int) -> list[Row]:
    leaders = sorted({row[1] for row in rows})
    drawn = {(unit, int(rng.integers(num_experts))) for unit in leaders if rng.random() < 0.5}
    return [(site, unit, -1, expert, 0.125, float(rng.random()), FILLER) for unit, expert in sorted(drawn)]


def _draw_reference(rng: np.random.Generator, sites: SiteTable) -> ReferenceTable:
    patches, kept, requested = 1000, [], []
    for experts, top_k in zip(sites.num_experts.tolist(), sites.top_k.tolist(), strict=True):
        counts = np.minimum(rng.multinomial(patches * top_k, rng.dirichlet(np.ones(experts))), patches)
        requested.append(counts)
        kept.append(np.minimum(counts, rng.integers(100, patches)))
    return ReferenceTable(
        dataset="random",
        site_id=np.repeat(sites.site_id, sites.num_experts),
        expert_id=np.concatenate([np.arange(experts) for experts in sites.num_experts]).astype(np.int16),
        requested=np.concatenate(requested).astype(np.int64),
        kept=np.concatenate(kept).astype(np.int64),
        patches=np.full(int(sites.num_experts.sum()), patches, dtype=np.int64),
    )
