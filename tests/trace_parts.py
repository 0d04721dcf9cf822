"""Parts of test traces: a run record, sites, units, and the step from plain rows to a valid trace."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uoe_model.trace import (
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

Row = tuple[int, int, int, int, float, float, int]  # site, unit, rank, expert, score, gate, status
PIECES = ("the", " cat", "", "\n", " é", "日本", "🙂", "<script>", "=1+1", "\x00", " a\tb", "'\"&")


def make_run(**changes: Any) -> RunRecord:
    """A run record; keywords replace fields."""
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "source": "test",
        "model": "uoe-test",
        "revision": "",
        "weights_digest": "0" * 64,
        "adapter": "uoe",
        "dtype": "float32",
        "device": "cpu",
        "backend": "reference",
        "seed": 7,
        "library_versions": {"numpy": np.__version__},
        "input_digest": "1" * 64,
        "timings_ms": {"forward": 1.5},
        "self_check": (Check(name="sites", passed=True, detail="as made"),),
        "notes": {"training": "trained", "router_logits": "a hand-made trace has none"},
    }
    return RunRecord(**(fields | changes))


def build_sites(
    names: list[str],
    *,
    num_experts: list[int],
    selection: list[str],
    top_k: list[int],
    capacity_factor: list[float],
    admission: list[str],
    gate: list[str],
    patch_len: int,
) -> SiteTable:
    places = [re.fullmatch(r"L(\d+)\.(attention|mlp)", name) for name in names]
    if None in places:
        raise ValueError(f"{names} must be site names such as L0.mlp")
    count = len(names)
    return SiteTable(
        site_id=np.arange(count, dtype=np.int16),
        layer=np.array([int(place[1]) for place in places if place], dtype=np.int16),
        block=text_column(place[2] for place in places if place),
        name=text_column(names),
        selection=text_column(selection),
        num_experts=np.array(num_experts, dtype=np.int16),
        top_k=np.array(top_k, dtype=np.int16),
        capacity_factor=np.array(capacity_factor, dtype=np.float64),
        admission=text_column(admission),
        gate=text_column(gate),
        gate_keys=np.zeros(count, dtype=np.bool_),
        score_function=text_column(["softmax"] * count),
        patch_len=np.full(count, patch_len, dtype=np.int16),
        num_shared_experts=np.zeros(count, dtype=np.int16),
    )


def build_units(
    lengths: Sequence[int],
    patch_len: int,
    *,
    rng: np.random.Generator | None = None,
    pieces: Sequence[str] | None = None,
    losses: Sequence[float] | None = None,
) -> UnitTable:
    count = sum(lengths)
    position = np.concatenate([np.arange(length) for length in lengths] or [np.empty(0)]).astype(np.int32)
    example_id = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    patch_id = np.cumsum(position % patch_len == 0).astype(np.int32) - np.int32(1)
    last = np.append(position[1:] == 0, True)[:count]
    image = rng is not None and bool(rng.random() < 0.4)
    if pieces is None:
        pieces = [f"t{unit} " for unit in range(count)] if rng is None else rng.choice(PIECES, count).tolist()
    words = [""] * count if image else list(pieces)
    end = np.cumsum([len(word) for word in words]).astype(np.int32)
    start = end - np.array([len(word) for word in words], dtype=np.int32)
    none16, none32 = np.full(count, -1, dtype=np.int16), np.full(count, -1, dtype=np.int32)
    row, col = (position // 4).astype(np.int16), (position % 4).astype(np.int16)
    unknown = np.full(count, np.nan, dtype=np.float32)
    loss = np.ones(count, dtype=np.float32) if rng is None else rng.exponential(2, count).astype(np.float32)
    if losses is not None:
        loss = np.array(losses, dtype=np.float32)
    else:
        loss[last] = np.nan
    return UnitTable(
        unit_id=np.arange(count, dtype=np.int32),
        example_id=example_id,
        patch_id=patch_id,
        position=position,
        modality=text_column(["image" if image else "text"] * count),
        token_id=none32 if image else np.arange(count, dtype=np.int32) % np.int32(5),
        text=text_column(words),
        char_start=none32 if image else start,
        char_end=none32 if image else end,
        grid_row=row if image else none16,
        grid_col=col if image else none16,
        box_x0=col * np.float32(8.5) if image else unknown,
        box_y0=row * np.float32(8.5) if image else unknown,
        box_x1=(col + 1) * np.float32(8.5) if image else unknown,
        box_y1=(row + 1) * np.float32(8.5) if image else unknown,
        phase=text_column(["prefill"] * count),
        is_special=np.arange(count) % 17 == 16,
        label=text_column(["", "prose"][unit % 2] for unit in range(count)),
        output_token_id=none32 if image else np.arange(count, dtype=np.int32) % np.int32(3),
        output_text=text_column([""] * count),
        output_probability=unknown if image else np.full(count, 0.25, dtype=np.float32),
        loss=unknown if image and losses is None else loss,
    )


def build_trace(
    sites: SiteTable,
    units: UnitTable,
    capacities: list[int],
    rows: list[Row],
    logits: Mapping[int, NDArray[np.float32]],
    reference: ReferenceTable | None,
    *,
    selection_score: NDArray[np.float32] | None = None,
) -> RoutingTrace:
    columns = [list(column) for column in zip(*sorted(rows, key=lambda row: row[:4]), strict=True)] or [[]] * 7
    site_id, unit_id, rank, expert_id, score, gate, status = columns
    num_examples = len(set(units.example_id.tolist()))
    later = ~units.first_of_patch()[np.array(unit_id, dtype=np.int64)]
    by_position = (sites.admission == "position")[np.array(site_id, dtype=np.int64)].astype(np.bool_)
    return RoutingTrace(
        run=make_run(),
        sites=sites,
        units=units,
        capacities=CapacityTable(
            site_id=np.repeat(sites.site_id, num_examples),
            example_id=np.tile(np.arange(num_examples, dtype=np.int32), len(sites)),
            capacity=np.array(capacities, dtype=np.int32),
        ),
        assignments=AssignmentTable(
            site_id=np.array(site_id, dtype=np.int16),
            unit_id=np.array(unit_id, dtype=np.int32),
            rank=np.array(rank, dtype=np.int8),
            expert_id=np.array(expert_id, dtype=np.int16),
            score=np.array(score, dtype=np.float32),
            selection_score=selection_score,
            gate=np.array(gate, dtype=np.float32),
            status=np.array(status, dtype=np.uint8),
            inherited=later & by_position,
        ),
        router_logits=logits,
        reference=reference,
    )


def repeat_over_patches(rows: list[Row], units: UnitTable) -> list[Row]:
    """Give every unit of a patch the rows written for its first unit."""
    first = units.unit_id[units.first_of_patch()]
    members: dict[int, list[int]] = {}
    for unit, patch in zip(units.unit_id.tolist(), units.patch_id.tolist(), strict=True):
        members.setdefault(int(first[patch]), []).append(unit)
    return [(row[0], unit, *row[2:]) for row in rows for unit in members.get(row[1], [row[1]])]
