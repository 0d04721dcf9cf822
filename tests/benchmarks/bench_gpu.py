"""What only a GPU can tell about one block: Triton kernels against plain ones, dense blocks and a DeepSeek-V3 style.

    python -m tests.benchmarks.bench_gpu [--quick] [--minutes N] [--output FOLDER]
    python -m tests.benchmarks.bench_gpu --device cpu --tiny      that everything runs; a proof, not a measurement
    python -m tests.benchmarks.bench_gpu --print RECORD.json      the tables of an earlier run

In this order: differences from float64 loops, blocks (time, memory, share of the derived floor, launches), the MLP
alone, capture, CUDA graphs. The record is written after every case; cases that do not begin in time are named in it.
A variant that cannot run is recorded with its reason. How the whole model grows is measured by `bench_model`.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.bench_block import CONTROL, NOT_ON_GPU, SCHEMA
from tests.benchmarks.blocks.sublayers import OURS_AGAIN
from tests.benchmarks.device_counts import clocks
from tests.benchmarks.gpu_cases import Plan, build_plan, build_tiny_plan
from tests.benchmarks.gpu_sections import Row, block_rows, capture_rows, check_rows, graph_rows, sublayer_rows
from tests.benchmarks.gpu_tables import printed
from tests.benchmarks.machine import NOISY, RESULTS, BusyOthers, read_machine
from tests.benchmarks.protocol import DeviceLostError, attempt, rates

NO_DEVICE = "bench_gpu needs a CUDA device; without one, --device cpu --tiny proves that everything runs.\n"
CONTROLS = (CONTROL, OURS_AGAIN)
MINUTES, QUICK_MINUTES = 6.0, 1.0

Job = tuple[str, Callable[[], list[Row]]]
"""Name of a case, and what measures it."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the record after every case, print its tables, and return it."""
    parser = argparse.ArgumentParser(description="What only a GPU can tell about one block.")
    parser.add_argument("--quick", action="store_true", help="top-4, S 256 and 4096 only: a minute")
    parser.add_argument("--tiny", action="store_true", help="everything once, very small; writes only with --output")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=float, help="no case begins after this")
    parser.add_argument("--output", type=Path, help=f"folder of the record ({RESULTS} unless --tiny)")
    parser.add_argument("--print", type=Path, dest="earlier", metavar="RECORD", help="print an earlier record")
    options = parser.parse_args(arguments)
    if options.earlier is not None:
        record: dict[str, Any] = json.loads(options.earlier.read_text(encoding="utf-8"))
        sys.stdout.write(printed(record))
        return record
    device = torch.device(options.device)
    if not (torch.cuda.is_available() if device.type == "cuda" else options.tiny):
        parser.exit(2, NO_DEVICE)
    if device.type == "cpu":
        torch.set_num_threads(1)
    output = options.output or (None if options.tiny else RESULTS)
    minutes = options.minutes or (QUICK_MINUTES if options.quick else MINUTES)
    if options.tiny:
        plan = build_tiny_plan(torch.bfloat16 if device.type == "cuda" else torch.float32)
    else:
        plan = build_plan(quick=options.quick)
    record = _begin(device)
    run(jobs(plan, device, record["rates"]), record, minutes, output)
    sys.stdout.write("\n" + printed(record))
    return record


def jobs(plan: Plan, device: torch.device, measured: dict[str, Any]) -> Iterator[Job]:
    """All cases of a plan, those that matter most first; CUDA graphs last, since a failed one may end everything."""
    for setting, dtype in plan.checked:
        yield f"check, {setting.name}, {dtype}", functools.partial(check_rows, setting, dtype, device)
    first, rest = plan.blocks[:2], plan.blocks[2:]
    for block in first:
        yield _name("block", block), functools.partial(block_rows, block, device, measured)
    for sublayer in plan.sublayers:
        yield _name("MLP", sublayer), functools.partial(sublayer_rows, sublayer, device, measured)
    for examples, length in plan.captures:
        call = functools.partial(capture_rows, examples, length, plan.capture_repetitions, device)
        yield f"capture, {examples} x {length}", call
    for block in rest:
        yield _name("block", block), functools.partial(block_rows, block, device, measured)
    for setting in plan.graphs:
        yield f"graph, S {setting.length}", functools.partial(graph_rows, setting, plan.graph_dtype, device)


def _name(kind: str, case: Any) -> str:
    return f"{kind}, {case.setting.name}, S {case.setting.length}, {case.dtype}, {case.direction}"


def run(cases: Iterator[Job], record: dict[str, Any], minutes: float, output: Path | None) -> None:
    """Work through the cases, and keep the record complete at any time."""
    device, started = torch.device(record["device_type"]), time.monotonic()
    for name, case in cases:
        if time.monotonic() - started > 60 * minutes:
            record["left_out"][name] = f"the {minutes:g} minutes were over"
            continue
        others = BusyOthers()
        try:
            found, reason = attempt(case, device)
        except DeviceLostError as error:
            record["left_out"][name] = f"the device failed for good, nothing after this was measured: {error}"
            break
        cores = others.cores()
        for row in found or []:
            row["noisy"] = cores is not None and cores > NOISY
        if reason is not None:
            record["left_out"][name] = reason
        record["rows"] += found or []
        controls = [row for row in record["rows"] if row["variant"] in CONTROLS and row.get("ratio")]
        spreads = [abs(row["ratio"] - 1) for row in controls]
        record |= {"aa_spread": max(spreads, default=None), "clocks_after": clocks()}
        _write(record, output)
        sys.stdout.write(f"{time.monotonic() - started:6.1f} s  {name}{'' if reason is None else ': ' + reason}\n")
        sys.stdout.flush()
    _write(record, output)


def _begin(device: torch.device) -> dict[str, Any]:
    is_cuda = device.type == "cuda"
    try:
        triton: str | None = version("triton")
    except PackageNotFoundError:
        triton = None
    return {
        "schema": SCHEMA,
        **read_machine("torch", "transformers"),
        "device": torch.cuda.get_device_name(device) if is_cuda else "cpu",
        "device_type": device.type,
        "gpu": None if is_cuda else NOT_ON_GPU,
        "triton": triton,
        "cuda": torch.version.cuda if is_cuda else None,
        "clocks_before": clocks(),
        "clocks_after": None,
        "rates": rates(device),
        "aa_spread": None,
        "left_out": {},
        "rows": [],
    }


def _write(record: dict[str, Any], output: Path | None) -> None:
    if output is None:
        return
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"gpu-{record['device'].lower().replace(' ', '-')}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
