"""How variants are timed: interleaved in random order, by medians of ratios within a repetition."""

import dataclasses
import random
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

Step = Callable[[], object]
"""One call of a variant."""

LEAST_SAMPLE_S: Final = 1e-3
STEADY: Final = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Milliseconds per call, and ratios to the baseline within a repetition."""

    median_ms: float
    min_ms: float
    p90_ms: float
    ratio: float
    ratio_p10: float
    ratio_p90: float
    reps: int


def measure(steps: Mapping[str, Step], baseline: str, *, repetitions: int, device: torch.device) -> dict[str, Timing]:
    """Time all variants of one case side by side.

    Each sample is a loop of calls that lasts at least a millisecond; within a repetition the variants come in random
    order.
    """
    loops = {name: _warm_up(step, device) for name, step in steps.items()}
    order, shuffle = list(steps), random.Random(0)
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repetitions):
        shuffle.shuffle(order)
        for name in order:
            samples[name].append(_sample(steps[name], loops[name], device))
    found = {}
    for name, values in samples.items():
        ratios = [value / base for value, base in zip(values, samples[baseline], strict=True)]
        found[name] = Timing(
            median_ms=1e3 * statistics.median(values),
            min_ms=1e3 * min(values),
            p90_ms=1e3 * _quantile(values, 0.9),
            ratio=statistics.median(ratios),
            ratio_p10=_quantile(ratios, 0.1),
            ratio_p90=_quantile(ratios, 0.9),
            reps=repetitions,
        )
    return found


def _warm_up(step: Step, device: torch.device) -> int:
    """Call until two successive times agree, then say how many calls make a sample."""
    before = _sample(step, 1, device)
    for _ in range(10):
        now = _sample(step, 1, device)
        if abs(now - before) <= STEADY * before:
            break
        before = now
    least = 20 if device.type == "cuda" else 1
    return max(least, round(LEAST_SAMPLE_S / max(now, 1e-9)))


def _sample(step: Step, loops: int, device: torch.device) -> float:
    """Seconds per call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(loops):
            step()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3 / loops
    began = time.perf_counter()
    for _ in range(loops):
        step()
    return (time.perf_counter() - began) / loops


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def saved_bytes(step: Callable[[], Tensor], parameters: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass: distinct storages, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    return sum(kept.values())


def peak_rss() -> int:
    """Largest resident memory of this process so far, in bytes.

    From /proc where there is one: getrusage counts what the process was before it was replaced by this program.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rates(device: torch.device) -> dict[str, Any]:
    """What this device does at best here: matrix products and copies, in GFLOP/s and GB/s."""
    size = 4096 if device.type == "cuda" else 1024
    found: dict[str, Any] = {}
    for name, dtype in (("matmul_f32", torch.float32), ("matmul_bf16", torch.bfloat16)):
        a = torch.randn(size, size, device=device).to(dtype)
        product = torch.empty_like(a)

        def multiply(a: Tensor = a, product: Tensor = product) -> None:
            torch.mm(a, a, out=product)

        found[name] = 2 * size**3 / _best(multiply, device) / 1e9
    source = torch.randn(1 << 25 if device.type == "cuda" else 1 << 23, device=device)
    target = torch.empty_like(source)
    found["copy"] = 2 * source.nbytes / _best(lambda: target.copy_(source), device) / 1e9
    return found


def _best(step: Step, device: torch.device) -> float:
    _sample(step, 2, device)
    return min(_sample(step, 2, device) for _ in range(5))
