"""What the authors' released classifier decided, as a routing trace that is checked against itself."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from uoe_model.reference.blocks import Routed
from uoe_model.reference.classifier import Classified, ReferenceClassifier
from uoe_model.reference.quirks import Quirks, TieRule
from uoe_model.trace import (
    DROPPED,
    FILLER,
    KEPT,
    SCHEMA_VERSION,
    AssignmentTable,
    CapacityTable,
    Check,
    RoutingTrace,
    RunRecord,
    SiteTable,
    UnitTable,
    text_column,
)

BLOCKS: Final = ("attention", "mlp")
TRAINING: Final = (
    "trained by the authors for a short time (best test accuracy 0.194 in their log); its routers still hold their "
    "random start, bit for bit: use it for its routes and logits, not for its answers"
)


def build_reference_trace(
    model: ReferenceClassifier,
    example: Sequence[int],
    found: Classified,
    mask_BS: Tensor,
    row: int,
    quirks: Quirks,
    ties: TieRule,
    forward_ms: float,
) -> RoutingTrace:
    """The trace of one example of a batch."""
    real = len(example)
    count = model.length if quirks.routed_padding else real
    sites = _site_table(model, found, quirks, count)
    tables = [_site_rows(site_id, site, row, count, quirks) for site_id, site in enumerate(found.sites)]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    assignments = AssignmentTable(selection_score=None, **columns)
    capacity = np.asarray([int(site.slots.capacity_B[row]) for site in found.sites], dtype=np.int32)
    record = RunRecord(
        schema_version=SCHEMA_VERSION,
        source="uoe-reference",
        model=model.name,
        revision="5f2306b",
        weights_digest=model.digest,
        adapter="uoe_model.sources.reference",
        dtype="float32",
        device="cpu",
        backend="reference",
        seed=None,
        library_versions={name: version(name) for name in ("torch", "numpy")},
        input_digest=hashlib.sha256(" ".join(map(str, example)).encode()).hexdigest(),
        timings_ms={"forward": forward_ms},
        self_check=_self_check(model, found, assignments, capacity, row, count),
        notes={
            "training": TRAINING,
            "quirks_off": ", ".join(quirks.names_off()) or "none: as released",
            "ties": ties,
            "batch": f"{len(mask_BS)} examples; this is number {row}",
            "padding": (
                f"{count - real} of {count} units are padding, which the released code routes as everything else"
                if count > real
                else "not routed, not counted"
            ),
        },
    )
    return RoutingTrace(
        run=record,
        sites=sites,
        units=_unit_table(example, count),
        capacities=CapacityTable(
            site_id=np.arange(len(capacity), dtype=np.int16),
            example_id=np.zeros(len(capacity), dtype=np.int32),
            capacity=capacity,
        ),
        assignments=assignments,
        router_logits={
            site_id: np.ascontiguousarray(site.requests.logits_BSE[row, :count].float().numpy())
            for site_id, site in enumerate(found.sites)
        },
        reference=None,
    )


def _site_table(model: ReferenceClassifier, found: Classified, quirks: Quirks, count: int) -> SiteTable:
    names = [(layer, block) for layer in range(model.num_layers) for block in BLOCKS]
    experts = [model.num_experts(block) for _, block in names]
    top_k = [site.requests.order_BSK.shape[-1] for site in found.sites]
    # What the capacity in use comes to as a factor of an even share.
    factors = [
        int(site.slots.capacity_B.max()) * number / (k * count)
        for site, number, k in zip(found.sites, experts, top_k, strict=True)
    ]
    size = len(names)
    return SiteTable(
        site_id=np.arange(size, dtype=np.int16),
        layer=np.asarray([layer for layer, _ in names], dtype=np.int16),
        block=text_column(block for _, block in names),
        name=text_column(f"L{layer}.{block}" for layer, block in names),
        selection=text_column(["data"] * size),
        num_experts=np.asarray(experts, dtype=np.int16),
        top_k=np.asarray(top_k, dtype=np.int16),
        capacity_factor=np.asarray(factors, dtype=np.float64),
        admission=text_column(["score"] * size),
        gate=text_column(["one" if quirks.unweighted else "mean_one"] * size),
        gate_keys=np.zeros(size, dtype=np.bool_),
        score_function=text_column(["softmax"] * size),
        patch_len=np.ones(size, dtype=np.int16),
        num_shared_experts=np.zeros(size, dtype=np.int16),
    )


def _site_rows(site_id: int, site: Routed, row: int, count: int, quirks: Quirks) -> dict[str, NDArray[Any]]:
    """Requests (kept or dropped) and filler of one example at one site, sorted by unit, filler first."""
    order = site.requests.order_BSK[row, :count].numpy()
    p = site.requests.p_BSE[row, :count].float().numpy()
    ids, live = site.slots.ids_EBL[:, row].numpy(), site.slots.live_EBL[:, row].numpy()
    kept, weight = site.slots.kept_EBL[:, row].numpy(), site.slots.weight_EBL[:, row].float().numpy()
    weight_SE = np.zeros(p.shape, dtype=np.float32)
    is_kept_SE = np.zeros(p.shape, dtype=np.bool_)
    for expert in range(len(ids)):
        is_kept_SE[ids[expert][kept[expert]], expert] = True
        weight_SE[ids[expert][live[expert]], expert] = weight[expert][live[expert]]
    unit = np.repeat(np.arange(count, dtype=np.int32), order.shape[1])
    rank = np.tile(np.arange(order.shape[1], dtype=np.int8), count)
    expert_id = order.flatten().astype(np.int16)
    status = np.where(is_kept_SE[unit, expert_id], KEPT, DROPPED).astype(np.uint8)
    filled = [(ids[e][live[e] & ~kept[e]], e) for e in range(len(ids))]
    filler_unit = np.concatenate([units for units, _ in filled]).astype(np.int32)
    filler_expert = np.concatenate([np.full(len(units), e) for units, e in filled]).astype(np.int16)
    unit = np.concatenate([unit, filler_unit])
    rank = np.concatenate([rank, np.full(len(filler_unit), -1, dtype=np.int8)])
    expert_id = np.concatenate([expert_id, filler_expert])
    status = np.concatenate([status, np.full(len(filler_unit), FILLER, dtype=np.uint8)])
    by = np.lexsort((expert_id, rank, unit))
    unit, rank, expert_id, status = unit[by], rank[by], expert_id[by], status[by]
    return {
        "site_id": np.full(len(unit), site_id, dtype=np.int16),
        "unit_id": unit,
        "rank": rank,
        "expert_id": expert_id,
        "score": p[unit, expert_id],
        "gate": np.where(status == DROPPED, np.float32(0), weight_SE[unit, expert_id]),
        "status": status,
        "inherited": np.zeros(len(unit), dtype=np.bool_),
    }


def _unit_table(example: Sequence[int], count: int) -> UnitTable:
    ids = np.zeros(count, dtype=np.int32)
    ids[: len(example)] = example
    is_padding = np.arange(count) >= len(example)
    nothing = text_column([""] * count)
    nowhere, unknown = np.full(count, -1, dtype=np.int32), np.full(count, np.nan, dtype=np.float32)
    return UnitTable(
        unit_id=np.arange(count, dtype=np.int32),
        example_id=np.zeros(count, dtype=np.int32),
        patch_id=np.arange(count, dtype=np.int32),
        position=np.arange(count, dtype=np.int32),
        modality=text_column(["text"] * count),
        token_id=ids,
        text=text_column(f"{one} " for one in ids.tolist()),
        char_start=nowhere,
        char_end=nowhere,
        grid_row=nowhere.astype(np.int16),
        grid_col=nowhere.astype(np.int16),
        box_x0=unknown,
        box_y0=unknown,
        box_x1=unknown,
        box_y1=unknown,
        phase=text_column(["prefill"] * count),
        is_special=is_padding,
        label=text_column("padding" if padding else "" for padding in is_padding.tolist()),
        output_token_id=nowhere,
        output_text=nothing,
        output_probability=unknown,
        loss=unknown,
    )


def _self_check(
    model: ReferenceClassifier,
    found: Classified,
    assignments: AssignmentTable,
    capacity: NDArray[np.int32],
    row: int,
    count: int,
) -> tuple[Check, ...]:
    """Compare the rows with the slots that the model really computed."""
    sites = len(found.sites)
    site, status = assignments.site_id, assignments.status
    expected = 2 * model.num_layers
    requests = np.bincount(site[status != FILLER], minlength=sites)
    wanted = np.asarray([site.requests.order_BSK.shape[-1] * count for site in found.sites])
    used = np.bincount(site[status != DROPPED], minlength=sites)
    live = np.asarray([int(one.slots.live_EBL[:, row].sum()) for one in found.sites])
    widest = int(assignments.expert_id.max(initial=0)) + 1
    cell = site[status != DROPPED].astype(np.int64) * widest + assignments.expert_id[status != DROPPED]
    taken = np.bincount(cell, minlength=sites * widest).reshape(sites, widest)
    over = int((taken > capacity[:, None]).sum())
    gates_right = int(((assignments.gate == 0) == (status == DROPPED)).sum())
    return (
        Check(name="sites", passed=sites == expected, detail=f"{sites} of {expected} sites"),
        Check(
            name="rows",
            passed=bool((requests == wanted).all()),
            detail=f"{int(requests.sum()):,} of {int(wanted.sum()):,} requests found",
        ),
        Check(
            name="slots are kept or filler",
            passed=bool((used == live).all()),
            detail=f"{int(used.sum()):,} of {int(live.sum()):,} slots in use are in the trace",
        ),
        Check(
            name="kept and filler within capacity",
            passed=over == 0,
            detail=f"{sites * widest - over} of {sites * widest} experts hold at most their capacity",
        ),
        Check(
            name="gates zero exactly where dropped",
            passed=gates_right == len(status),
            detail=f"{gates_right:,} of {len(status):,} gates agree",
        ),
    )
