"""One block of a Union of Experts against dense blocks, a conventional mixture, loops, and the authors' code.

    python -m tests.benchmarks.bench_block [--quick] [--device cpu] [--threads N] [--output FOLDER]
    python -m tests.benchmarks.bench_block --compare OLD.json NEW.json

All variants of a case run in one process in random order; what counts are ratios to the dense block with fused
attention in the same run. Before it is timed, our block is checked against a float64 loop over experts. Saved bytes are
what autograd keeps (device-independent); peak memory is that of a fresh process per variant. What only a GPU can tell
is "not measured on GPU yet" in results of a CPU, and measured by `bench_gpu`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.benchmarks.blocks.variants import Prepared, Setting, build_blocks
from tests.benchmarks.checks import check_block
from tests.benchmarks.machine import NOISY, RESULTS, ROOT, BusyOthers, read_machine
from tests.benchmarks.protocol import measure, peak_rss, rates, saved_bytes
from tests.benchmarks.rows import build_row

SCHEMA = 1
BASELINE, CONTROL, OURS, TRITON = "dense", "dense again", "union", "union, Triton"
NOT_ON_GPU = "not measured on GPU yet"
LONGEST_FOR = {"dense, scores in memory": 2048, "union, expert by expert": 2048, "released code": 1024}
"""Lengths beyond which a slow variant is left out."""
HALF_TOO = (BASELINE, CONTROL, "dense attention, routed MLP", OURS)
"""Variants that are also measured in bfloat16."""


def cases(*, quick: bool) -> list[tuple[Setting, torch.dtype]]:
    """All of batch 4 in the project's configuration, and one of d 512, that also in bfloat16."""
    lengths = (256, 1024) if quick else (64, 256, 1024, 2048, 4096)
    found = [Setting(name="project", batch=4, length=length) for length in lengths]
    if quick:
        return [(setting, torch.float32) for setting in found]
    found += [
        Setting(name="project, as bundled", batch=4, length=1024, capacity_factor=1.25, gate_keys=True),
        Setting(name="project, never full", batch=4, length=1024, capacity_factor=None),
        Setting(name="project, score", batch=4, length=1024, causal=False),
        Setting(name="project, score", batch=4, length=2048, causal=False),
    ]
    wide = Setting(
        name="d512",
        batch=1,
        length=2048,
        width=512,
        hidden=2048,
        attention_experts=16,
        mlp_experts=16,
        mlp_top_k=4,
    )
    return [(setting, torch.float32) for setting in [*found, wide]] + [(wide, torch.bfloat16)]


def main(arguments: Sequence[str] | None = None) -> Path | None:
    """Measure, print the table, and write the JSON it was printed from."""
    parser = argparse.ArgumentParser(description="What one block costs.")
    parser.add_argument("--quick", action="store_true", help="S 256 and 1024 only")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"))
    parser.add_argument("--peak-of", nargs=2, metavar=("VARIANT", "LENGTH"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.peak_of is not None:
        sys.stdout.write(str(_peak(options.peak_of[0], int(options.peak_of[1]))))
        return None
    if options.compare is not None:
        sys.stdout.write(_compared(*(json.loads(path.read_text()) for path in options.compare)))
        return None
    device = torch.device(options.device)
    busy = BusyOthers()
    rows: list[dict[str, Any]] = []
    for setting, dtype in cases(quick=options.quick):
        for direction in ("forward", "both"):
            others = BusyOthers()
            found = run_case(setting, dtype, direction, device)
            cores = others.cores()
            for row in found:
                row["noisy"] = cores is not None and cores > NOISY
            rows += found
            sys.stdout.write("".join(map(_printed, found)))
            sys.stdout.flush()
    if device.type == "cpu":
        rows += peaks(1024 if options.quick else 2048, options.threads)
    record = {
        "schema": SCHEMA,
        **read_machine("torch"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": options.threads,
        "rates": rates(device),
        "others_cores": busy.cores(),
        "aa_spread": max(abs(row["ratio"] - 1) for row in rows if row["variant"] == CONTROL),
        "gpu": None if device.type == "cuda" else NOT_ON_GPU,
        "rows": rows,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    path: Path = options.output / f"block-{record['device'].lower().replace(' ', '-')}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"A/A spread {record['aa_spread']:.3f}; {path}\n")
    return path


def run_case(setting: Setting, dtype: torch.dtype, direction: str, device: torch.device) -> list[dict[str, Any]]:
    """One row per variant."""
    given, blocks = Prepared(setting, device, dtype), build_blocks(setting)
    x = torch.randn(setting.batch, setting.length, setting.width, generator=torch.Generator().manual_seed(1))
    x = x.to(device, dtype)
    steps = {}
    for name, block in blocks.items():
        if setting.length > LONGEST_FOR.get(name, setting.length) or (name == "released code" and setting.causal):
            continue
        if dtype == torch.float32 or name in HALF_TOO:
            steps[name] = _step(block.to(device, dtype), x, given, direction)
    error = check_block(setting, device, dtype, "plain").largest
    with torch.enable_grad() if direction == "both" else torch.inference_mode():
        repetitions = 20 if setting.length <= 256 else 9 if setting.length <= 1024 else 7
        timings = measure(steps, BASELINE, repetitions=repetitions, device=device)
    rows = []
    for name, timing in timings.items():
        written = str(dtype).removeprefix("torch.")
        row = build_row("block", name, setting, timing, baseline=BASELINE, dtype=written, direction=direction)
        row |= {"max_err": error if name == OURS else None, "saved_bytes": None, "saved_ratio": None}
        if direction == "both":
            row["saved_bytes"] = saved_bytes(
                lambda block=blocks[name]: block(x.clone().requires_grad_(), given), blocks[name]
            )  # type: ignore[misc]
        rows.append(row)
    base = next(row["saved_bytes"] for row in rows if row["variant"] == BASELINE)
    for row in rows:
        row["saved_ratio"] = row["saved_bytes"] / base if base else None
    return rows


def _step(block: nn.Module, x: Tensor, given: Prepared, direction: str):  # type: ignore[no-untyped-def]
    if direction == "forward":
        return lambda: block(x, given)

    def both() -> None:
        block.zero_grad(set_to_none=True)
        block(x.clone().requires_grad_(), given).square().mean().backward()

    return both


def peaks(length: int, threads: int) -> list[dict[str, Any]]:
    """Resident memory that a forward and backward pass of four layers adds, each variant in a fresh process."""
    found = {}
    for variant in (BASELINE, "dense attention, routed MLP", OURS):
        command = [sys.executable, "-m", "tests.benchmarks.bench_block", "--device", "cpu", "--threads", str(threads)]
        out = subprocess.run(
            [*command, "--peak-of", variant, str(length)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        found[variant] = int(out.stdout)
    return [
        {
            "bench": "peak memory, 4 layers",
            "variant": variant,
            "baseline": BASELINE,
            "config": "project",
            "S": length,
            "B": 4,
            "dtype": "float32",
            "direction": "both",
            "peak_bytes": size,
            "ratio": size / found[BASELINE],
            "noisy": False,
        }
        for variant, size in found.items()
    ]


def _peak(variant: str, length: int) -> int:
    """Bytes added to this process's largest resident memory."""
    setting = Setting(name="project", batch=4, length=length)
    given = Prepared(setting, torch.device("cpu"), torch.float32)
    layers = [build_blocks(setting, seed=seed)[variant] for seed in range(4)]
    small = Setting(name="project", batch=1, length=64)
    layers[0](torch.randn(1, 64, small.width), Prepared(small, torch.device("cpu"), torch.float32)).sum().backward()
    x = torch.randn(setting.batch, setting.length, setting.width)
    before = peak_rss()
    for layer in layers:
        x = layer(x, given)
    x.square().mean().backward()
    return peak_rss() - before


def _printed(row: dict[str, Any]) -> str:
    saved = "" if row["saved_ratio"] is None else f"  saved {row['saved_ratio']:.2f}"
    error = "" if row["max_err"] is None else f"  max err {row['max_err']:.1e}"
    noisy = "  NOISY" if row["noisy"] else ""
    return (
        f"{row['config']:22} S {row['S']:5} {row['dtype']:8} {row['direction']:8} {row['variant']:28} "
        f"{row['median_ms']:9.2f} ms  "
        f"ratio {row['ratio']:.2f} [{row['ratio_p10']:.2f}, {row['ratio_p90']:.2f}]{saved}{error}{noisy}\n"
    )


def _compared(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Old against new ratio of every row that both have."""
    names = ("bench", "variant", "config", "S", "dtype", "direction")
    before = {tuple(row[name] for name in names): row["ratio"] for row in old["rows"]}
    lines = []
    for row in new["rows"]:
        key = tuple(row[name] for name in names)
        if key in before:
            lines.append(f"{' | '.join(map(str, key))}: {before[key]:.3f} -> {row['ratio']:.3f}\n")
    return "".join(lines)


if __name__ == "__main__":
    main()
