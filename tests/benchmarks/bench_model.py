"""Twelve layers: a whole forward pass, what of it the routers take, and how cost grows with the length.

    python -m tests.benchmarks.bench_model [--quick] [--device cpu] [--threads N] [--output FOLDER]

`model` rows are forward passes of 12 layers of our blocks against 12 dense ones. `router` rows are the share of a
block that its two routers and tables take, timed alone against the block in the same run. `growth` rows are one block,
forward, with the memory that autograd would keep. What capture costs is measured by `bench_capture`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.benchmarks.bench_block import BASELINE, NOT_ON_GPU, OURS, SCHEMA
from tests.benchmarks.blocks.variants import DenseBlock, Prepared, Setting, UnionBlock
from tests.benchmarks.machine import NOISY, RESULTS, BusyOthers, read_machine
from tests.benchmarks.protocol import measure, rates, saved_bytes
from uoe_model.dispatch import build_slot_table

LAYERS = 12


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure, print the table, and write the JSON it was printed from."""
    parser = argparse.ArgumentParser(description="What a model of twelve layers costs.")
    parser.add_argument("--quick", action="store_true", help="short inputs only")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--longest", type=int, default=16_384, help="last length of the growth rows")
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


def _blocks(kind: type[nn.Module], setting: Setting, count: int, device: torch.device) -> nn.ModuleList:
    torch.manual_seed(0)
    blocks = nn.ModuleList(kind(setting) for _ in range(count))
    for name, parameter in blocks.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3 if "router" in name else 0.05)
    return blocks.to(device)


def _through(blocks: nn.ModuleList, x: Tensor, given: Prepared) -> Tensor:
    for block in blocks:
        x = block(x, given)
    return x


def model_rows(length: int, device: torch.device) -> list[dict[str, Any]]:
    """Twelve layers, d 256, 8 attention and 8 MLP experts, top-2 of both, one example."""
    setting = Setting(name="12 layers, top-2 of 8", batch=1, length=length, attention_top_k=2)
    given = Prepared(setting, device, torch.float32)
    x = torch.randn(1, length, setting.width, device=device)
    kinds = {BASELINE: DenseBlock, OURS: UnionBlock}
    models = {name: _blocks(kind, setting, LAYERS, device) for name, kind in kinds.items()}
    steps = {name: lambda blocks=blocks: _through(blocks, x, given) for name, blocks in models.items()}
    with torch.inference_mode():
        found = measure(steps, BASELINE, repetitions=15 if length <= 256 else 9, device=device)
    return [_row("model", name, setting, found[name]) for name in steps]


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
        build_slot_table(decision, setting.attention_experts, layout.group_N, layout.num_groups)
        decision = block.mlp.router(flat, layout, causal=True)
        build_slot_table(decision, setting.mlp_experts, None, 1)

    with torch.inference_mode():
        steps = {"union": lambda: union(x, given), "its routers and tables": routers}
        found = measure(steps, "union", repetitions=15 if length <= 256 else 9, device=device)
    return [_row("router", "its routers and tables", setting, found["its routers and tables"], baseline="union")]


def growth_rows(length: int, device: torch.device) -> list[dict[str, Any]]:
    """One block of the project's configuration at one length, one example: time, and bytes kept for a backward pass."""
    setting = Setting(name="project", batch=1, length=length)
    given = Prepared(setting, device, torch.float32)
    x = torch.randn(1, length, setting.width, device=device)
    blocks = {
        name: _blocks(kind, setting, 1, device)[0] for name, kind in {BASELINE: DenseBlock, OURS: UnionBlock}.items()
    }
    with torch.inference_mode():
        steps = {name: lambda block=block: block(x, given) for name, block in blocks.items()}
        found = measure(steps, BASELINE, repetitions=15 if length <= 1024 else 5, device=device)
    rows = []
    for name, block in blocks.items():
        kept = saved_bytes(lambda block=block: block(x.clone().requires_grad_(), given), block)  # type: ignore[misc]
        rows.append(_row("growth", name, setting, found[name]) | {"saved_bytes": kept})
    return rows


def _row(bench: str, variant: str, setting: Setting, timing: Any, *, baseline: str = BASELINE) -> dict[str, Any]:
    return {
        "bench": bench,
        "variant": variant,
        "baseline": baseline,
        "config": setting.name,
        "S": setting.length,
        "B": setting.batch,
        "dtype": "float32",
        "direction": "forward",
        **{field: getattr(timing, field) for field in timing.__slots__},
    }


if __name__ == "__main__":
    main()
