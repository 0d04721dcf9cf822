"""What the tables of a large trace cost: columns, checks, DataFrames, Parquet, and the statistics a page shows.

    python -m tests.benchmarks.bench_tables [--quick] [--repetitions N] [--output FOLDER]

One trace of 100,000 units in 25 examples, 12 sites, 16 experts, top-4: 4.8 million assignments, of which a few percent
are dropped. `decisions` are what routers hand over, random and skewed, admitted by position; everything after them is
timed alone, the reference load included where a statistic looks at it. Medians and minima over the repetitions.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.drops import dropped_assignments, drops_by_position
from analysis.summary import summary
from analysis.tables import assignments_table, units_table
from analysis.transitions import transitions
from analysis.unit_drops import drops_by_unit
from analysis.utilisation import expert_load
from tests.benchmarks.machine import NOISY, RESULTS, BusyOthers, read_machine
from uoe_model import capture
from uoe_model.capture import SiteDecisions, build_trace
from uoe_model.config import UoEConfig
from uoe_model.self_check import build_self_check
from uoe_model.trace import ReferenceTable, RoutingTrace, UnitTable, text_column
from uoe_model.trace_parquet import read_table, write_table

SCHEMA_VERSION: Final = 1
NUM_LAYERS, NUM_EXPERTS, TOP_K, FACTOR = 6, 16, 4, 1.25
NUM_EXAMPLES = 25
IDS: Final = ("site_id", "unit_id", "rank", "expert_id", "status")

AIMS_MS: Final[Mapping[str, float]] = {"columns": 25, "frame": 60, "parquet": 500, "load": 25}
AIM_IDS_MB: Final = 8.0


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure, print the table, and write the JSON it was printed from."""
    parser = argparse.ArgumentParser(description="What the tables of a large trace cost.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the units, three repetitions")
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    repetitions = 3 if options.quick else options.repetitions
    length = 400 if options.quick else 4000
    rows, others = measure(NUM_EXAMPLES, length, repetitions)
    for row in rows:
        sys.stdout.write(_printed(row))
    record = read_machine("numpy", "pandas", "pyarrow", "torch") | {
        "schema": SCHEMA_VERSION,
        "units": NUM_EXAMPLES * length,
        "sites": 2 * NUM_LAYERS,
        "top_k": TOP_K,
        "repetitions": repetitions,
        "others_cores": others,
        "noisy": others is not None and others > NOISY,
        "rows": rows,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    path: Path = options.output / ("tables-quick.json" if options.quick else "tables.json")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{path}{': others were using the machine' if record['noisy'] else ''}\n")
    return path


def measure(examples: int, length: int, repetitions: int) -> tuple[list[dict[str, Any]], float | None]:
    """Time everything; also say how many cores others used meanwhile."""
    config = build_config()
    units = build_units(examples, length)
    decisions = draw_decisions(config, examples, length)
    trace = build_trace(config, None, units, decisions, build_reference(decisions), RECORD)
    failed = [check.name for check in trace.run.self_check if not check.passed]
    if failed:
        raise SystemExit(f"the trace does not hold: {', '.join(failed)}")
    configs = config.site_configs()
    scores, _ = capture._score_requests(configs, decisions)
    rows = trace.assignments
    ids = pa.table({name: pa.array(getattr(rows, name)) for name in IDS})
    stored = write_table(rows)
    calls: dict[str, tuple[str, Callable[[], object]]] = {
        "columns": ("assignment columns", lambda: capture._assignment_table(config, units, decisions, scores)),
        "check": (
            "self-check",
            lambda: build_self_check(
                trace.sites, units, trace.capacities, rows, expected_sites=trace.sites.name.tolist()
            ),
        ),
        "trace": ("validated trace", lambda: _rebuild(trace)),
        "build": ("decisions to trace, all of it", lambda: build_trace(config, None, units, decisions, None, RECORD)),
        "frame": ("DataFrame of assignments", lambda: assignments_table(trace)),
        "parquet": ("Parquet of assignments, written", lambda: write_table(rows)),
        "read": ("Parquet of assignments, read", lambda: read_table(type(rows), "assignments", stored, 2**31)),
        "load": ("load table", lambda: expert_load(trace)),
        "summary": ("summary", lambda: summary(trace)),
        "dropped": ("drops by expert", lambda: dropped_assignments(trace)),
        "strip": ("drops by position", lambda: drops_by_position(trace)),
        "transitions": ("transitions of three sites", lambda: transitions(trace, [1, 3, 5])),
        "unit drops": ("drops by unit", lambda: drops_by_unit(trace)),
        "units": ("DataFrame of units", lambda: units_table(trace)),
    }
    others = BusyOthers()
    found = []
    for key, (name, call) in calls.items():
        call()
        seconds = [_seconds(call) for _ in range(repetitions)]
        row = {
            "name": name,
            "median_ms": 1e3 * statistics.median(seconds),
            "min_ms": 1e3 * min(seconds),
            "aim_ms": AIMS_MS.get(key),
        }
        found.append(row)
    sizes = {"ids, rank and status": _chunk_bytes(stored, IDS), "all columns": len(stored)}
    plain = pa.BufferOutputStream()
    pq.write_table(ids, plain)
    sizes["ids, rank and status with pyarrow's defaults"] = plain.tell()
    for name, size in sizes.items():
        found.append(
            {"name": f"Parquet size: {name}", "mb": size / 1e6, "aim_mb": AIM_IDS_MB if "ids" in name else None}
        )
    return found, others.cores()


def build_config() -> UoEConfig:
    """A causal text model of six layers; only its routing is used."""
    router = {
        "selection": "data",
        "num_experts": NUM_EXPERTS,
        "num_experts_per_tok": TOP_K,
        "capacity_factor": FACTOR,
        "admission": "position",
        "gate": "mean_one",
    }
    return UoEConfig(
        vocab_size=64,
        hidden_size=256,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=16,
        intermediate_size=1024,
        max_position_embeddings=4096,
        is_causal=True,
        attention_router=router,
        mlp_router=router,
    )


def build_units(examples: int, length: int) -> UnitTable:
    """Words of a text, some of them repeated, as a tokenizer would give."""
    count = examples * length
    position = np.tile(np.arange(length, dtype=np.int32), examples)
    nothing, no_place = np.full(count, -1, dtype=np.int32), np.full(count, np.nan, dtype=np.float32)
    words = [f" w{index}" for index in range(4999)]
    return UnitTable(
        unit_id=np.arange(count, dtype=np.int32),
        example_id=np.repeat(np.arange(examples, dtype=np.int32), length),
        patch_id=np.arange(count, dtype=np.int32),
        position=position,
        modality=text_column(["text"] * count),
        token_id=np.arange(count, dtype=np.int32) % 4999,
        text=text_column(words[index % 4999] for index in range(count)),
        char_start=position * 5,
        char_end=position * 5 + np.int32(5),
        grid_row=nothing.astype(np.int16),
        grid_col=nothing.astype(np.int16),
        box_x0=no_place,
        box_y0=no_place,
        box_x1=no_place,
        box_y1=no_place,
        phase=text_column(["prefill"] * count),
        is_special=np.zeros(count, dtype=np.bool_),
        label=text_column([""] * count),
        output_token_id=nothing,
        output_text=text_column([""] * count),
        output_probability=np.full(count, 0.5, dtype=np.float32),
        loss=np.full(count, 2.5, dtype=np.float32),
    )


def draw_decisions(config: UoEConfig, examples: int, length: int) -> tuple[SiteDecisions, ...]:
    """Random routers, some experts more popular; every expert keeps its first patches up to the running capacity."""
    rng = np.random.default_rng(0)
    count = examples * length
    patches = np.arange(1, length + 1)
    capacity_N = np.tile(np.maximum(-(-patches * 5 * TOP_K // (4 * NUM_EXPERTS)), 4), examples)
    example_N = np.repeat(np.arange(examples), length)
    experts, gates, kept, sites = [], [], [], []
    for _ in config.site_configs():
        logits_NE = rng.standard_normal((count, NUM_EXPERTS), dtype=np.float32)
        logits_NE += np.linspace(0.5, 0.0, NUM_EXPERTS, dtype=np.float32)
        expert_NK = np.argsort(-logits_NE, axis=1)[:, :TOP_K].astype(np.int16)
        kept_NK = admit(expert_NK, example_N, capacity_N)
        p_NK = np.take_along_axis(np.exp(logits_NE), expert_NK.astype(np.int64), axis=1)
        experts.append(expert_NK)
        kept.append(kept_NK)
        gates.append(np.where(kept_NK, TOP_K * p_NK / p_NK.sum(axis=1, keepdims=True), 0).astype(np.float32))
        sites.append(logits_NE)
    # Side by side, as one copy to the host leaves them.
    expert, gate, flag = (np.concatenate(parts, axis=1) for parts in (experts, gates, kept))
    return tuple(
        SiteDecisions(
            logits_NE=logits_NE,
            expert_NK=expert[:, TOP_K * site : TOP_K * (site + 1)],
            gate_NK=gate[:, TOP_K * site : TOP_K * (site + 1)],
            kept_NK=flag[:, TOP_K * site : TOP_K * (site + 1)],
        )
        for site, logits_NE in enumerate(sites)
    )


def admit(
    expert_NK: NDArray[np.int16], example_N: NDArray[np.int64], capacity_N: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Walk through each example: a request is kept while its expert has kept fewer than the running capacity."""
    kept_NK = np.zeros(expert_NK.shape, dtype=np.bool_)
    for example in np.unique(example_N):
        have = [0] * NUM_EXPERTS
        for unit in np.flatnonzero(example_N == example).tolist():
            capacity = int(capacity_N[unit])
            for rank, expert in enumerate(expert_NK[unit].tolist()):
                if have[expert] < capacity:
                    have[expert] += 1
                    kept_NK[unit, rank] = True
    return kept_NK


def build_reference(decisions: tuple[SiteDecisions, ...]) -> ReferenceTable:
    """The load of this very input, as if it were the test set."""
    requested = [np.bincount(site.expert_NK.ravel(), minlength=NUM_EXPERTS) for site in decisions]
    kept = [np.bincount(site.expert_NK[site.kept_NK], minlength=NUM_EXPERTS) for site in decisions]
    sites = len(decisions)
    return ReferenceTable(
        dataset="this input",
        site_id=np.repeat(np.arange(sites, dtype=np.int16), NUM_EXPERTS),
        expert_id=np.tile(np.arange(NUM_EXPERTS, dtype=np.int16), sites),
        requested=np.concatenate(requested).astype(np.int64),
        kept=np.concatenate(kept).astype(np.int64),
        patches=np.full(sites * NUM_EXPERTS, len(decisions[0].expert_NK), dtype=np.int64),
    )


RECORD: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("revision", "weights_digest", "input_digest"), ""),
    "source": "uoe",
    "model": "random routers",
    "adapter": "bench_tables",
    "dtype": "float32",
    "device": "cpu",
    "backend": "plain",
    "seed": 0,
    "library_versions": {},
    "timings_ms": {},
    "notes": {},
}


def _rebuild(trace: RoutingTrace) -> RoutingTrace:
    """Validate the same tables again, as after a build or a load."""
    return RoutingTrace(
        run=trace.run,
        sites=trace.sites,
        units=trace.units,
        capacities=trace.capacities,
        assignments=trace.assignments,
        router_logits=trace.router_logits,
        reference=trace.reference,
    )


def _chunk_bytes(parquet: bytes, names: Sequence[str]) -> int:
    """Bytes of some columns of a Parquet file."""
    footer = pq.ParquetFile(pa.BufferReader(parquet)).metadata
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    return sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema in names)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _printed(row: Mapping[str, Any]) -> str:
    """One line: name, median and minimum or size, and the aim."""
    if "mb" in row:
        value, aim = f"{row['mb']:9.2f} MB", "" if row["aim_mb"] is None else f"aim {row['aim_mb']:g} MB"
    else:
        value = f"{row['median_ms']:9.1f} ms  (least {row['min_ms']:.1f})"
        aim = "" if row["aim_ms"] is None else f"aim {row['aim_ms']:g} ms"
    return f"{row['name']:48}{value:36}{aim}".rstrip() + "\n"


if __name__ == "__main__":
    main()
