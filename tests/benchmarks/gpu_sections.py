"""The sections of `bench_gpu`: every function measures one case and returns its rows."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from tests.benchmarks import bench_capture
from tests.benchmarks.bench_block import BASELINE, OURS, TRITON
from tests.benchmarks.blocks.sublayers import SUBLAYERS, ExpertWeights, Sublayer, products, route
from tests.benchmarks.blocks.variants import Prepared, Setting, UnionBlock
from tests.benchmarks.checks import check_block, check_sublayer
from tests.benchmarks.device_counts import NEEDS_CUDA, count, peak_bytes, record_graph, why_it_waits
from tests.benchmarks.floor import (
    Device,
    dense_attention_phases,
    dense_phases,
    expert_flops,
    routed_mlp_phases,
    sublayer_phases,
    union_phases,
)
from tests.benchmarks.gpu_cases import (
    COMPILED,
    RACED,
    ROUTED,
    ROUTED_TRITON,
    BlockCase,
    SublayerCase,
    build_raced_blocks,
)
from tests.benchmarks.protocol import (
    Samples,
    Step,
    attempt,
    ratio_of,
    rotating,
    runnable,
    saved_bytes,
    take_samples,
    timing_of,
)
from tests.benchmarks.rows import build_row
from uoe_model.capture import to_host
from uoe_model.kernels.backend import Backend

Row = dict[str, Any]

KERNELS_KEPT: Final = 15
BACKENDS: Final[dict[str, Backend]] = {OURS: "plain", TRITON: "triton"}


def check_rows(setting: Setting, dtype: torch.dtype, device: torch.device) -> list[Row]:
    """Differences of our blocks, and of all forms of the MLP, from float64 loops on short inputs."""
    calls: dict[str, Callable[[], Any]] = {
        f"block: {name}": functools.partial(check_block, setting, device, dtype, backend)
        for name, backend in BACKENDS.items()
    }
    calls |= {
        f"MLP: {name}": functools.partial(check_sublayer, name, setting, "random", device, dtype) for name in SUBLAYERS
    }
    rows = []
    for name, call in calls.items():
        found, reason = attempt(call, device)
        row: Row = {"bench": "check", "variant": name, "config": setting.name, "dtype": _name(dtype), "failed": reason}
        if found is not None:
            row |= dataclasses.asdict(found) | {"is_right": found.is_right(dtype)}
        rows.append(row)
    return rows


def block_rows(case: BlockCase, device: torch.device, rates: Mapping[str, Any]) -> list[Row]:
    """One row per block: time, ratios, memory, the floor, and launches where they are counted."""
    setting, given = case.setting, Prepared(case.setting, device, case.dtype)
    names = (*RACED, COMPILED) if case.compiled else tuple(RACED)
    blocks = build_raced_blocks(setting, device, case.dtype, names)
    inputs = rotating(
        functools.partial(_random, (setting.batch, setting.length, setting.width), case.dtype, device), device
    )
    steps = {name: _step(block, inputs, given, case.direction) for name, block in blocks.items()}
    kept = _kept_rows(blocks[OURS], inputs(), given)  # type: ignore[arg-type]
    floors = _block_floors(setting, Device.measured(rates, case.dtype), kept) if case.direction == "forward" else {}
    with torch.inference_mode(case.direction == "forward"):
        steps, failed = runnable(steps, device)
        samples = take_samples(steps, device=device)
        extra = {name: _looked_at(case, blocks[name], step, inputs, given, device) for name, step in steps.items()}
    rows = []
    for name in blocks:
        row = _row("block", name, case, samples, failed, baseline=BASELINE)
        row |= extra.get(name, {}) | {"kept_rows": kept, "floor_ms": floors.get(name)}
        if row["median_ms"]:
            row["units_per_s"] = 1e3 * setting.batch * setting.length / row["median_ms"]
            row["floor_share"] = row["floor_ms"] / row["median_ms"] if row["floor_ms"] else None
        rows.append(row)
    _add_ratios_of_bytes(rows)
    return rows


def _looked_at(
    case: BlockCase,
    block: nn.Module,
    step: Step,
    inputs: Callable[[], Tensor],
    given: Prepared,
    device: torch.device,
) -> Row:
    """Memory and, where counted, kernels of one block."""
    block.zero_grad(set_to_none=True)
    row: Row = {"peak_bytes": peak_bytes(step, device)}
    block.zero_grad(set_to_none=True)
    if case.direction == "both":
        row["saved_bytes"] = saved_bytes(lambda: block(inputs().detach().requires_grad_(), given), block)
    if case.counted and case.direction == "forward":
        counts = count(step, device)
        if counts is not None:
            row["why_it_waits"] = why_it_waits(step, device)
            row |= {"launches": counts.kernels, "copies_to_host": counts.copies_to_host, "waits": counts.waits}
            row["kernel_us"] = dict(list(counts.kernel_us.items())[:KERNELS_KEPT])
    return row


def _block_floors(setting: Setting, device: Device, kept: tuple[int, int]) -> dict[str, float]:
    """Milliseconds, forward, of the blocks whose floor is known."""
    dense = sum(dense_phases(setting, device).values())
    routed = sum((dense_attention_phases(setting, device) | routed_mlp_phases(setting, device, kept[1])).values())
    union = sum(union_phases(setting, device, *kept).values())
    return {BASELINE: dense, COMPILED: dense, ROUTED: routed, ROUTED_TRITON: routed, OURS: union, TRITON: union}


@torch.no_grad()
def _kept_rows(union: UnionBlock, x_BTD: Tensor, given: Prepared) -> tuple[int, int]:
    """Rows that the experts of attention and of the MLP process."""
    _, attention, mlp = union.decide(x_BTD, given)
    return int(attention.kept_NK.sum()), int(mlp.kept_NK.sum())


def sublayer_rows(case: SublayerCase, device: torch.device, rates: Mapping[str, Any]) -> list[Row]:
    """One row per form of the MLP, gather to combine, and for the two products alone."""
    setting, baseline = case.setting, OURS
    with torch.device(device):
        weights = ExpertWeights(setting).to(device, case.dtype)
    routed = route(setting, case.routing, device)
    inputs = rotating(
        functools.partial(_random, (setting.batch * setting.length, setting.width), case.dtype, device), device
    )
    gradient = _random((setting.batch * setting.length, setting.width), case.dtype, device, 0)

    def both(form: Sublayer) -> None:
        weights.zero_grad(set_to_none=True)
        routed.gate_NK.grad = None
        form(inputs().detach().requires_grad_(), weights, routed).backward(gradient)

    if case.direction == "forward":
        steps: dict[str, Step] = {
            name: lambda form=form: form(inputs(), weights, routed)  # type: ignore[misc]
            for name, form in SUBLAYERS.items()
        }
        steps |= products(setting, routed, weights)
    else:
        steps = {name: functools.partial(both, form) for name, form in SUBLAYERS.items()}
    measured = Device.measured(rates, case.dtype)
    floor_ms = sum(sublayer_phases(setting, measured, routed.kept_rows).values())
    flops = expert_flops(setting, routed.kept_rows) * (1 if case.direction == "forward" else 3)
    names = list(steps)
    with torch.no_grad() if case.direction == "forward" else torch.enable_grad():
        steps, failed = runnable(steps, device)
        samples = take_samples(steps, device=device)
        counts = {name: count(steps[name], device) for name in (OURS, TRITON) if name in steps}
    rows = []
    for name in names:
        row = _row("MLP", name, case, samples, failed, baseline=baseline) | {"routing": case.routing}
        if row["median_ms"]:
            row["share_of_rate"] = flops / (measured.flops * row["median_ms"] / 1e3)
            is_whole = case.direction == "forward" and name in SUBLAYERS
            row |= {"floor_ms": floor_ms, "floor_share": floor_ms / row["median_ms"]} if is_whole else {}
        found = counts.get(name)
        if found is not None:
            row |= {"launches": found.kernels, "kernel_us": dict(list(found.kernel_us.items())[:KERNELS_KEPT])}
        rows.append(row)
    return rows


def graph_rows(setting: Setting, dtype: torch.dtype, device: torch.device) -> list[Row]:
    """Eager calls against replays of a CUDA graph, always of the same input; ratios are to the eager call."""
    case = BlockCase(setting=setting, dtype=dtype, direction="forward")
    given, rows = Prepared(setting, device, dtype), []
    x_BTD = _random((setting.batch, setting.length, setting.width), dtype, device, 1)
    for name, block in build_raced_blocks(setting, device, dtype, (BASELINE, TRITON)).items():
        eager, replayed = f"{name}, eager", f"{name}, graph"
        with torch.inference_mode():
            steps, failed = runnable({eager: lambda block=block: block(x_BTD, given)}, device)  # type: ignore[misc]
            replay, reason = record_graph(steps[eager], device) if eager in steps else (None, failed[eager])
            if replay is None:
                failed[replayed] = reason or NEEDS_CUDA
            else:
                steps[replayed] = replay
            samples = take_samples(steps, device=device)
        rows += [_row("graph", variant, case, samples, failed, baseline=eager) for variant in (eager, replayed)]
    return rows


def capture_rows(examples: int, length: int, repetitions: int, device: torch.device) -> list[Row]:
    """What a trace costs the bundled language model's configuration, and what a forward pass copies and waits for."""
    case = bench_capture.text_case("text", examples, length, device)
    found = bench_capture.measure(case, device, repetitions)

    @torch.inference_mode()
    def forward() -> Any:
        return case.model(**case.inputs)

    without, captured = count(forward, device), count(lambda: to_host(forward().decisions), device)
    row: Row = {"bench": "capture", "variant": "stack", "config": "text", "S": length, "B": examples}
    row |= {"ratio": found["ratio"]["stack"], "aa_ratio": found["ratio"]["discard again"]}
    row |= {"isolated_us": found["isolated_us"]["stack"], "isolated_percent": found["isolated_percent"]["stack"]}
    for name, counts in (("forward", without), ("captured", captured)):
        row[f"copies_{name}"] = None if counts is None else counts.copies_to_host
        row[f"waits_{name}"] = None if counts is None else counts.waits
    return [row]


def _row(
    bench: str,
    name: str,
    case: BlockCase | SublayerCase,
    samples: Samples,
    failed: Mapping[str, str],
    *,
    baseline: str,
) -> Row:
    """A variant's row: its times and its ratios to all others, or why there are none."""
    timing = timing_of(samples, name, baseline) if name in samples and baseline in samples else None
    row = build_row(
        bench,
        name,
        case.setting,
        timing,
        baseline=baseline,
        dtype=_name(case.dtype),
        direction=case.direction,
    )
    reason = failed.get(name)
    if timing is None and reason is None:
        reason = f"{baseline}: {failed.get(baseline)}"
    others = [other for other in samples if timing is not None and other != name]
    return row | {"failed": reason, "ratios": {other: ratio_of(samples, name, other)[1] for other in others}}


def _add_ratios_of_bytes(rows: list[Row]) -> None:
    base = next(row for row in rows if row["variant"] == BASELINE)
    for kind in ("saved", "peak"):
        for row in rows:
            size, of_base = row.get(f"{kind}_bytes"), base.get(f"{kind}_bytes")
            row[f"{kind}_ratio"] = size / of_base if size is not None and of_base else None


def _step(block: nn.Module, inputs: Callable[[], Tensor], given: Prepared, direction: str) -> Step:
    if direction == "forward":
        return lambda: block(inputs(), given)
    gradient = torch.randn_like(inputs())

    def both() -> None:
        block.zero_grad(set_to_none=True)
        block(inputs().detach().requires_grad_(), given).backward(gradient)

    return both


def _random(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, seed: int) -> Tensor:
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device, dtype=dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
