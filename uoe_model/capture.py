"""Routers' decisions to a routing trace: one copy to the host, then columns; only probabilities are recomputed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from uoe_model.config import BLOCKS, RouterConfig, UoEConfig
from uoe_model.errors import CaptureError
from uoe_model.router import RoutingDecision, RoutingOverrides, example_capacity
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
    parts, shapes = [], []
    for decision in decisions:
        tensors = (decision.logits_NE, decision.expert_NK, decision.gate_NK, decision.kept_NK)
        taken = [part if unit_index is None else part.index_select(0, unit_index) for part in tensors]
        shapes.append([part.shape for part in taken])
        parts += [part.detach().to(torch.float32).flatten() for part in taken]
    if 4 * sum(part.numel() for part in parts) > LARGEST_GATHERED_BYTES:
        raise CaptureError("the decisions of this run do not fit into 2 GB: run a shorter input")
    flat = torch.cat(parts).cpu().numpy()
    sites, start = [], 0
    for site in shapes:
        columns = []
        for shape in site:
            columns.append(flat[start : start + shape.numel()].reshape(tuple(shape)))
            start += shape.numel()
        logits, expert, gate, kept = columns
        sites.append(
            SiteDecisions(
                logits_NE=logits.copy(), expert_NK=expert.astype(np.int16), gate_NK=gate, kept_NK=kept.astype(np.bool_)
            )
        )
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


def first_units(decisions: tuple[SiteDecisions, ...], count: int) -> tuple[SiteDecisions, ...]:
    """The decisions about the first `count` units."""
    names = [field.name for field in dataclasses.fields(SiteDecisions)]
    return tuple(SiteDecisions(**{name: getattr(site, name)[:count] for name in names}) for site in decisions)


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
    capacities = _capacity_table(configs, units)
    assignments = _assignment_table(config, units, decisions)
    expected = [f"L{layer}.{block}" for layer in range(config.num_hidden_layers) for block in BLOCKS]
    checks = build_self_check(sites, units, capacities, assignments, expected_sites=expected)
    return RoutingTrace(
        run=RunRecord(schema_version=SCHEMA_VERSION, self_check=(*checks, _logit_check(configs, decisions)), **record),
        sites=sites,
        units=units,
        capacities=capacities,
        assignments=assignments,
        router_logits={site_id: site.logits_NE for site_id, site in enumerate(decisions)} if len(units) else {},
        reference=reference,
    )


def _logit_check(configs: Sequence[RouterConfig], decisions: tuple[SiteDecisions, ...]) -> Check:
    """Whether units request the experts with their largest logits, ties either way; where experts choose, none do."""
    right = total = 0
    for config, site in zip(configs, decisions, strict=True):
        if config.selection == "expert_choice":
            continue
        chosen_NK = np.take_along_axis(site.logits_NE, site.expert_NK.astype(np.int64), 1)
        best_NK = -np.sort(-site.logits_NE, axis=1)[:, : chosen_NK.shape[1]]
        right += int((chosen_NK == best_NK).all(1).sum())
        total += len(chosen_NK)
    detail = f"{right:,} of {total:,} units request the experts with the largest logits"
    return Check(name="requests follow logits", passed=right == total, detail=detail)


def _capacity_table(configs: Sequence[RouterConfig], units: UnitTable) -> CapacityTable:
    num_examples = int(units.example_id[-1]) + 1 if len(units) else 0
    patches = np.bincount(units.example_id[units.first_of_patch()], minlength=num_examples)
    patches_G = torch.from_numpy(patches.astype(np.int64))
    capacity = [example_capacity(config, patches_G).numpy() for config in configs]
    return CapacityTable(
        site_id=np.repeat(np.arange(len(configs), dtype=np.int16), num_examples),
        example_id=np.tile(np.arange(num_examples, dtype=np.int32), len(configs)),
        capacity=np.concatenate(capacity).astype(np.int32) if capacity else np.zeros(0, dtype=np.int32),
    )


def _assignment_table(config: UoEConfig, units: UnitTable, decisions: tuple[SiteDecisions, ...]) -> AssignmentTable:
    first = units.first_of_patch()
    columns: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("site_id", "unit_id", "rank", "expert_id", "score", "gate", "status", "inherited")
    }
    for site_id, site in enumerate(decisions):
        asked_NK = site.expert_NK >= 0
        unit_id, rank = np.nonzero(asked_NK)
        expert = site.expert_NK[asked_NK]
        columns["site_id"].append(np.full(len(unit_id), site_id, dtype=np.int16))
        columns["unit_id"].append(unit_id.astype(np.int32))
        columns["rank"].append(rank.astype(np.int8))
        columns["expert_id"].append(expert)
        columns["score"].append(_softmax(site.logits_NE)[unit_id, expert])
        columns["gate"].append(site.gate_NK[asked_NK])
        columns["status"].append(np.where(site.kept_NK[asked_NK], KEPT, DROPPED).astype(np.uint8))
        columns["inherited"].append(~first[unit_id] & config.is_causal)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return AssignmentTable(selection_score=None, **joined)


def _softmax(logits_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = np.exp(logits_NE - logits_NE.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: NDArray[np.float32] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities
