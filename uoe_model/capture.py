"""Routers' decisions to a routing trace: one copy to the host, then columns; only probabilities are recomputed."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from uoe_model.capacity import example_capacity
from uoe_model.config import BLOCKS, RouterConfig, UoEConfig
from uoe_model.decision import RoutingDecision
from uoe_model.errors import CaptureError
from uoe_model.router import RoutingOverrides
from uoe_model.self_check import build_self_check
from uoe_model.trace import (
    DROPPED,
    KEPT,
    SCHEMA_VERSION,
    AssignmentTable,
    CapacityTable,
    Check,
    ReferenceTable,
    RoutingTrace,
    RunRecord,
    SiteTable,
    UnitTable,
    text_column,
)

LARGEST_GATHERED_BYTES: Final = 2 << 30
"""Decisions of one copy; far above what a page can show."""


_NEAR_TIE: Final = 1e-6
"""Probabilities this close are a tie, since the model's own rounding decided between them."""

_COLUMNS: Final = ("logits_NE", "expert_NK", "gate_NK", "kept_NK")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SiteDecisions:
    """One site's decisions on the host, over the units of a trace in their order."""

    logits_NE: NDArray[np.float32]
    expert_NK: NDArray[np.int16]
    gate_NK: NDArray[np.float32]
    kept_NK: NDArray[np.bool_]


def to_host(decisions: Sequence[RoutingDecision], unit_index: torch.Tensor | None = None) -> tuple[SiteDecisions, ...]:
    """Copy the decisions of all sites at once.

    Args:
        decisions: over B * T units. unit_index: int64, the units to take (without padding); None for all.
    """
    choices = sum(decision.expert_NK.shape[1] for decision in decisions)
    width = sum(decision.logits_NE.shape[1] for decision in decisions) + 3 * choices
    rows = decisions[0].logits_NE.shape[0] if unit_index is None else unit_index.shape[0]
    if 4 * rows * width > LARGEST_GATHERED_BYTES:
        raise CaptureError("the decisions of this run do not fit into 2 GB: run a shorter input")
    # Ids and flags travel as floats, which hold them exactly, so that all of it is one tensor and one copy.
    with torch.no_grad():
        parts = [torch.cat([getattr(decision, name) for decision in decisions], dim=1) for name in _COLUMNS]
        together = torch.cat([part.to(torch.float32) for part in parts], dim=1)
        host = (together if unit_index is None else together.index_select(0, unit_index)).cpu().numpy()
    expert, gate, kept = np.split(host[:, width - 3 * choices :], 3, axis=1)
    expert, kept = expert.astype(np.int16), kept.astype(np.bool_)
    sites, left, first = [], 0, 0
    for decision in decisions:
        right, last = left + decision.logits_NE.shape[1], first + decision.expert_NK.shape[1]
        sites.append(
            SiteDecisions(
                logits_NE=host[:, left:right].copy(),
                expert_NK=expert[:, first:last],
                gate_NK=gate[:, first:last],
                kept_NK=kept[:, first:last],
            )
        )
        left, first = right, last
    return tuple(sites)


def join(parts: Sequence[tuple[SiteDecisions, ...]]) -> tuple[SiteDecisions, ...]:
    """Put the decisions of consecutive calls one after another; narrower choices are filled with no request."""
    if len(parts) == 1:
        return parts[0]
    joined = []
    for site in zip(*parts, strict=True):
        width = max(part.expert_NK.shape[1] for part in site)
        joined.append(
            SiteDecisions(
                logits_NE=np.concatenate([part.logits_NE for part in site]),
                expert_NK=np.concatenate([_widen(part.expert_NK, width, -1) for part in site]),
                gate_NK=np.concatenate([_widen(part.gate_NK, width, 0) for part in site]),
                kept_NK=np.concatenate([_widen(part.kept_NK, width, False) for part in site]),
            )
        )
    return tuple(joined)


def _widen(values_NK: NDArray[Any], width: int, fill: float) -> NDArray[Any]:
    return np.pad(values_NK, ((0, 0), (0, width - values_NK.shape[1])), constant_values=fill)


def site_configs(config: UoEConfig, overrides: RoutingOverrides | None) -> tuple[RouterConfig, ...]:
    """The routing of every site in this call."""
    if overrides is None:
        return config.site_configs()
    return tuple(
        overrides.apply(site) if overrides.touches(site_id) else site
        for site_id, site in enumerate(config.site_configs())
    )


def site_table(configs: Sequence[RouterConfig]) -> SiteTable:
    """One row per site, in site order."""
    layers = [site_id // len(BLOCKS) for site_id in range(len(configs))]
    blocks = [BLOCKS[site_id % len(BLOCKS)] for site_id in range(len(configs))]
    factors = [np.nan if config.capacity_factor is None else config.capacity_factor for config in configs]
    return SiteTable(
        site_id=np.arange(len(configs), dtype=np.int16),
        layer=np.asarray(layers, dtype=np.int16),
        block=text_column(blocks),
        name=text_column(f"L{layer}.{block}" for layer, block in zip(layers, blocks, strict=True)),
        selection=text_column(config.selection for config in configs),
        num_experts=np.asarray([config.num_experts for config in configs], dtype=np.int16),
        top_k=np.asarray([config.num_experts_per_tok for config in configs], dtype=np.int16),
        capacity_factor=np.asarray(factors, dtype=np.float64),
        admission=text_column(config.admission for config in configs),
        gate=text_column(config.gate for config in configs),
        gate_keys=np.asarray([config.gate_keys for config in configs], dtype=np.bool_),
        score_function=text_column("softmax" for _ in configs),
        patch_len=np.asarray([config.patch_len for config in configs], dtype=np.int16),
        num_shared_experts=np.zeros(len(configs), dtype=np.int16),
    )


def patch_ids(example_id: NDArray[np.int32], position: NDArray[np.int32], patch_len: int) -> NDArray[np.int32]:
    """Number the patches of all examples through: `patch_len` consecutive units of one example each."""
    starts = position % patch_len == 0
    starts[1:] |= example_id[1:] != example_id[:-1]
    return (np.cumsum(starts) - 1).astype(np.int32)


def build_trace(
    config: UoEConfig,
    overrides: RoutingOverrides | None,
    units: UnitTable,
    decisions: tuple[SiteDecisions, ...],
    reference: ReferenceTable | None,
    record: Mapping[str, Any],
) -> RoutingTrace:
    """Make the trace of one run and check it against itself.

    Args:
        units: without padding. decisions: over these units, one per site.
        record: the fields of `RunRecord` but schema_version and self_check.

    Raises:
        CaptureError: another number of sites or units was captured than ran.
        TraceError: the tables contradict each other.
    """
    configs = site_configs(config, overrides)
    if len(decisions) != len(configs):
        raise CaptureError(f"{len(decisions)} routers were captured, the model has {len(configs)}")
    for site_id, site in enumerate(decisions):
        if len(site.expert_NK) != len(units):
            raise CaptureError(f"site {site_id}: {len(site.expert_NK)} rows were captured for {len(units)} units")
    sites = site_table(configs)
    trained = site_table(config.site_configs()).capacity_factor
    if reference is not None and not np.array_equal(sites.capacity_factor, trained, equal_nan=True):
        measured_with = " ".join(map(str, trained.tolist()))  # one per site, nan: never full
        record = {**record, "notes": {**record["notes"], "reference_capacity_factor": measured_with}}
    capacities = _capacity_table(configs, units)
    scores, follows = _score_requests(configs, decisions)
    assignments = _assignment_table(config, units, decisions, scores)
    expected = [f"L{layer}.{block}" for layer in range(config.num_hidden_layers) for block in BLOCKS]
    checks = build_self_check(sites, units, capacities, assignments, expected_sites=expected)
    return RoutingTrace(
        run=RunRecord(schema_version=SCHEMA_VERSION, self_check=(*checks, follows), **record),
        sites=sites,
        units=units,
        capacities=capacities,
        assignments=assignments,
        router_logits={site_id: site.logits_NE for site_id, site in enumerate(decisions)} if len(units) else {},
        reference=reference,
    )


def _score_requests(
    configs: Sequence[RouterConfig], decisions: tuple[SiteDecisions, ...]
) -> tuple[list[NDArray[np.float32]], Check]:
    """The probability of every requested expert, and whether the requests follow the logits.

    Returns:
        (N, K) per site, anything where there is no request; and the check that units request their most probable
        experts, best first, up to `_NEAR_TIE`. Where experts choose, it asks nothing.
    """
    alike: dict[tuple[tuple[int, ...], tuple[int, ...], bool], list[int]] = {}
    for site_id, (config, site) in enumerate(zip(configs, decisions, strict=True)):
        shape = (site.logits_NE.shape, site.expert_NK.shape, config.selection == "expert_choice")
        alike.setdefault(shape, []).append(site_id)
    scores: dict[int, NDArray[np.float32]] = {}
    right = total = 0
    for (*_, experts_choose), site_ids in alike.items():
        logits_SNE = torch.from_numpy(np.stack([decisions[site_id].logits_NE for site_id in site_ids]))
        expert_SNK = torch.from_numpy(np.stack([decisions[site_id].expert_NK for site_id in site_ids])).long()
        expert_SNK = expert_SNK.clamp_min_(0)
        p_SNE = logits_SNE.softmax(-1)
        chosen_SNK = p_SNE.gather(2, expert_SNK)
        scores |= zip(site_ids, chosen_SNK.numpy(), strict=True)
        if not experts_choose:
            is_falling_SN = (chosen_SNK.diff(dim=-1) <= _NEAR_TIE).all(-1)
            num_better_SN = (p_SNE > chosen_SNK[..., -1:] + _NEAR_TIE).sum(-1)
            right += int((is_falling_SN & (num_better_SN < chosen_SNK.shape[2])).sum())
            total += is_falling_SN.numel()
    detail = f"{right:,} of {total:,} units request the experts with the largest logits"
    check = Check(name="requests follow logits", passed=right == total, detail=detail)
    return [scores[site_id] for site_id in range(len(decisions))], check


def _capacity_table(configs: Sequence[RouterConfig], units: UnitTable) -> CapacityTable:
    num_examples = int(units.example_id[-1]) + 1 if len(units) else 0
    patches = np.bincount(units.example_id[units.first_of_patch()], minlength=num_examples)
    patches_G = torch.from_numpy(patches.astype(np.int64))
    known = {config: example_capacity(config, patches_G).numpy() for config in set(configs)}
    capacity = [known[config] for config in configs]
    return CapacityTable(
        site_id=np.repeat(np.arange(len(configs), dtype=np.int16), num_examples),
        example_id=np.tile(np.arange(num_examples, dtype=np.int32), len(configs)),
        capacity=np.concatenate(capacity).astype(np.int32) if capacity else np.zeros(0, dtype=np.int32),
    )


def _assignment_table(
    config: UoEConfig,
    units: UnitTable,
    decisions: tuple[SiteDecisions, ...],
    scores: Sequence[NDArray[np.float32]],
) -> AssignmentTable:
    """One row per request; first all cells of the decisions as they lie, then those without a request are left out."""
    num_units, widths = len(units), [site.expert_NK.shape[1] for site in decisions]
    unit_N = np.arange(num_units, dtype=np.int32)
    inherited_N = ~units.first_of_patch() & config.is_causal
    status = _one_after_another([site.kept_NK.view(np.uint8) for site in decisions], np.uint8)
    status ^= np.uint8(KEPT ^ DROPPED)  # a flag is 1 where kept, which as a status would be dropped
    columns = {
        "site_id": np.repeat(np.arange(len(widths), dtype=np.int16), [num_units * width for width in widths]),
        "unit_id": _each_site(widths, lambda width: np.repeat(unit_N, width)),
        "rank": _each_site(widths, lambda width: np.tile(np.arange(width, dtype=np.int8), num_units)),
        "expert_id": _one_after_another([site.expert_NK for site in decisions], np.int16),
        "score": _one_after_another(scores, np.float32),
        "gate": _one_after_another([site.gate_NK for site in decisions], np.float32),
        "status": status,
        "inherited": _each_site(widths, lambda width: np.repeat(inherited_N, width)),
    }
    if columns["expert_id"].min(initial=0) < 0:
        asked = columns["expert_id"] >= 0
        columns = {name: column[asked] for name, column in columns.items()}
    return AssignmentTable(selection_score=None, **columns)


def _each_site(widths: Sequence[int], build: Callable[[int], NDArray[Any]]) -> NDArray[Any]:
    """The column that every site of one width has alike, for all sites."""
    alike = {width: build(width) for width in set(widths)}
    return np.concatenate([alike[width] for width in widths])


def _one_after_another(parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    """The numbers of all sites' matrices (N, K), row by row.

    A row is copied as one piece of memory: number by number, as NumPy does with matrices that are parts of a larger
    one, takes five times as long.
    """
    column = np.empty(sum(part.size for part in parts), dtype=dtype)
    end = 0
    for part in parts:
        start, end = end, end + part.size
        rows = np.asarray(part, dtype=dtype)
        if rows.size:
            rows = rows if rows.strides[1] == rows.itemsize else np.ascontiguousarray(rows)
            row = np.dtype((np.void, rows.shape[1] * rows.itemsize))
            column[start:end].view(row)[:] = rows.view(row)[:, 0]
    return column
