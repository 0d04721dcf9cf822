"""Twelve layers: a whole forward pass, what of it the routers take, and how cost grows with the length.

    python -m tests.benchmarks.bench_model [--quick] [--device cpu] [--threads N] [--output FOLDER]

`model` rows are forward passes of 12 layers of our blocks against 12 dense ones. `router` rows are the share of a
block that its two routers and tables take, timed alone against the block in the same run. `growth` rows are one block,
forward, with the memory that autograd would keep. On a GPU, models and growth have our block on Triton kernels too.
What capture costs is measured by `bench_capture`.
"""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.benchmarks.bench_block import BASELINE, NOT_ON_GPU, OURS, SCHEMA, TRITON
from tests.benchmarks.blocks.variants import DenseBlock, Prepared, Setting, UnionBlock, draw_weights
from tests.benchmarks.machine import NOISY, RESULTS, BusyOthers, read_machine
from tests.benchmarks.protocol import Step, Timing, measure, rates, runnable, saved_bytes
from tests.benchmarks.rows import build_row
from uoe_model.dispatch import build_slot_table

LAYERS = 12


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure, print the table, and write the JSON it was printed from."""
    parser = argparse.ArgumentParser(description="What a model of twelve layers costs.")
    parser.add_argument("--quick", action="store_true", help="short inputs only")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--longest", type=int, default=32_768, help="last length of the growth rows")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    rows: list[dict[str, Any]] = []
    for length in (64, 256) if options.quick else (64, 256, 1024):
        rows += _guarded(lambda length=length: model_rows(length, device))  # type: ignore[misc]
        rows += _guarded(lambda length=length: router_rows(length, device))  # type: ignore[misc]
    length = 64
    while length <= (256 if options.quick else options.longest):
        rows += _guarded(lambda length=length: growth_rows(length, device))  # type: ignore[misc]
        length *= 2
    record = {
        "schema": SCHEMA,
        **read_machine("torch"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": options.threads,
        "rates": rates(device),
        "gpu": None if device.type == "cuda" else NOT_ON_GPU,
        "rows": rows,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    path: Path = options.output / f"model-{record['device'].lower().replace(' ', '-')}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{path}\n")
    return path


def _guarded(make: Any) -> list[dict[str, Any]]:
    others = BusyOthers()
    rows: list[dict[str, Any]] = make()
    cores = others.cores()
    for row in rows:
        row["noisy"] = cores is not None and cores > NOISY
        sys.stdout.write(
            f"{row['bench']:8} S {row['S']:6} {row['variant']:22} {row['median_ms']:10.2f} ms  ratio {row['ratio']:.3f}"
            f"{'  NOISY' if row['noisy'] else ''}\n"
        )
    sys.stdout.flush()
    return rows


Kind = Callable[[Setting], nn.Module]
"""Makes a block of a case."""


def _kinds(device: torch.device) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {BASELINE: DenseBlock, OURS: UnionBlock}
    return kinds | ({TRITON: functools.partial(UnionBlock, backend="triton")} if device.type == "cuda" else {})


def _blocks(kind: Kind, setting: Setting, count: int, device: torch.device) -> nn.ModuleList:
    torch.manual_seed(0)
    blocks = nn.ModuleList(kind(setting) for _ in range(count))
    draw_weights(blocks)
    return blocks.to(device)


@torch.inference_mode()
def _measure(steps: Mapping[str, Step], repetitions: int, device: torch.device) -> dict[str, Timing]:
    """All variants that run; those that do not are named, with the reason."""
    steps, failed = runnable(steps, device)
    for name, reason in failed.items():
        sys.stdout.write(f"{name}: {reason}\n")
    return measure(steps, BASELINE, repetitions=repetitions, device=device)


def _through(blocks: nn.ModuleList, x: Tensor, given: Prepared) -> Tensor:
    for block in blocks:
        x = block(x, given)
    return x


def model_rows(length: int, device: torch.device) -> list[dict[str, Any]]:
    """Twelve layers, d 256, 8 attention and 8 MLP experts, top-2 of both, one example."""
    setting = Setting(name="12 layers, top-2 of 8", batch=1, length=length, attention_top_k=2)
    given = Prepared(setting, device, torch.float32)
    x = torch.randn(1, length, setting.width, device=device)
    models = {name: _blocks(kind, setting, LAYERS, device) for name, kind in _kinds(device).items()}
    steps = {name: lambda blocks=blocks: _through(blocks, x, given) for name, blocks in models.items()}
    found = _measure(steps, 15 if length <= 256 else 9, device)
    return [build_row("model", name, setting, timing, baseline=BASELINE) for name, timing in found.items()]


def router_rows(length: int, device: torch.device) -> list[dict[str, Any]]:
    """What the two routers of one block take, against the whole block."""
    setting = Setting(name="project", batch=4, length=length)
    given = Prepared(setting, device, torch.float32)
    [union] = _blocks(UnionBlock, setting, 1, device)
    block = union.block
    x = torch.randn(4, length, setting.width, device=device)

    def routers() -> None:
        flat, layout = x.flatten(0, 1), given.layout
        decision = block.attention.router(flat, layout, causal=True)
        build_slot_table(decision, setting.attention_experts, layout)
        decision = block.mlp.router(flat, layout, causal=True)
        build_slot_table(decision, setting.mlp_experts, None)

    with torch.inference_mode():
        steps = {"union": lambda: union(x, given), "its routers and tables": routers}
        found = measure(steps, "union", repetitions=15 if length <= 256 else 9, device=device)
    name = "its routers and tables"
    return [build_row("router", name, setting, found[name], baseline="union")]


def growth_rows(length: int, device: torch.device) -> list[dict[str, Any]]:
    """One block of the project's configuration at one length, one example: time, and bytes kept for a backward pass."""
    setting = Setting(name="project", batch=1, length=length)
    given = Prepared(setting, device, torch.float32)
    x = torch.randn(1, length, setting.width, device=device)
    blocks = {name: _blocks(kind, setting, 1, device)[0] for name, kind in _kinds(device).items()}
    steps = {name: lambda block=block: block(x, given) for name, block in blocks.items()}
    rows = []
    for name, timing in _measure(steps, 15 if length <= 1024 else 5, device).items():
        block = blocks[name]
        kept = saved_bytes(lambda block=block: block(x.clone().requires_grad_(), given), block)  # type: ignore[misc]
        rows.append(build_row("growth", name, setting, timing, baseline=BASELINE) | {"saved_bytes": kept})
    return rows


if __name__ == "__main__":
    main()
