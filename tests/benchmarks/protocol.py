"""How variants are timed: interleaved in random order, by medians of ratios within a repetition."""

import dataclasses
import gc
import itertools
import math
import random
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

Step = Callable[[], object]
"""One call of a variant."""

LEAST_SAMPLE_S: Final = 1e-3
GPU_SAMPLE_S: Final = 20e-3
GPU_SAMPLE_CALLS: Final = 20
"""On a GPU a sample is this many calls, or as many as take this long."""

STEADY: Final = 0.05
FAST_S: Final = 10e-3
FEW, MANY = 7, 20
"""Repetitions where none are given: many if all variants are fast."""

CACHE_BYTES: Final = 128 << 20
MOST_INPUTS: Final = 128
"""Inputs in rotation, together larger than any cache of today's GPUs."""

Samples = Mapping[str, Sequence[float]]
"""Seconds per call of every variant, one per repetition."""


class DeviceLostError(RuntimeError):
    """The device does not answer any more: nothing after this can be measured."""


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
    """Time all variants of one case side by side."""
    samples = take_samples(steps, device=device, repetitions=repetitions)
    return {name: timing_of(samples, name, baseline) for name in samples}


def take_samples(steps: Mapping[str, Step], *, device: torch.device, repetitions: int | None = None) -> Samples:
    """Call all variants of one case in turn; within a repetition they come in random order.

    Each sample is a loop of calls: on a CPU as many as last a millisecond, on a GPU as `GPU_SAMPLE_CALLS` says. On a
    CPU a call that is not measured comes before it, as another layer of the same kind does in a model: otherwise
    variants pay for the caches and the heap that the one before left behind.
    """
    loops, slowest = {}, 0.0
    for name, step in steps.items():
        seconds = _warm_up(step, device)
        loops[name] = _calls_of_a_sample(seconds, device)
        slowest = max(slowest, seconds)
    order, shuffle = list(steps), random.Random(0)
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repetitions or (MANY if slowest < FAST_S else FEW)):
        shuffle.shuffle(order)
        for name in order:
            samples[name].append(_sample(steps[name], loops[name], device))
    return samples


def timing_of(samples: Samples, name: str, baseline: str) -> Timing:
    """Sum up one variant's samples, with the ratios to another's."""
    values = list(samples[name])
    low, middle, high = ratio_of(samples, name, baseline)
    return Timing(
        median_ms=1e3 * statistics.median(values),
        min_ms=1e3 * min(values),
        p90_ms=1e3 * _quantile(values, 0.9),
        ratio=middle,
        ratio_p10=low,
        ratio_p90=high,
        reps=len(values),
    )


def ratio_of(samples: Samples, name: str, baseline: str) -> tuple[float, float, float]:
    """10% quantile, median and 90% quantile of the ratios within a repetition."""
    ratios = [value / base for value, base in zip(samples[name], samples[baseline], strict=True)]
    return _quantile(ratios, 0.1), statistics.median(ratios), _quantile(ratios, 0.9)


def attempt(call: Callable[[], Any], device: torch.device) -> tuple[Any, str | None]:
    """Call once: what it returns, and in one line why it could not.

    Raises:
        DeviceLostError: the device failed for good.
    """
    try:
        result = call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return result, None
    except torch.OutOfMemoryError:
        reason = "out of memory"
    except (Exception, SystemExit) as error:  # noqa: BLE001  (time is scarce: what a variant dies of is its result)
        reason = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
    gc.collect()
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
        except RuntimeError as error:
            raise DeviceLostError(reason) from error
    return None, reason


def runnable(steps: Mapping[str, Step], device: torch.device) -> tuple[dict[str, Step], dict[str, str]]:
    """The variants that run, and why the others do not."""
    reasons = {name: attempt(step, device)[1] for name, step in steps.items()}
    failed = {name: reason for name, reason in reasons.items() if reason is not None}
    return {name: step for name, step in steps.items() if name not in failed}, failed


def rotating(make: Callable[[int], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """Inputs in rotation, so that none is still in the cache when it comes again.

    Args:
        make: the input of a seed.
    """
    inputs = [make(1)]
    if device.type == "cuda":
        count = min(math.ceil(CACHE_BYTES / inputs[0].nbytes) + 1, MOST_INPUTS)
        inputs += [make(seed) for seed in range(2, count + 1)]
    ring = itertools.cycle(inputs)
    return lambda: next(ring)


def _warm_up(step: Step, device: torch.device) -> float:
    """Call until two successive times agree: seconds per call."""
    before = _sample(step, 1, device)
    for _ in range(10):
        now = _sample(step, 1, device)
        if abs(now - before) <= STEADY * before:
            break
        before = now
    return max(now, 1e-9)


def _calls_of_a_sample(seconds: float, device: torch.device) -> int:
    if device.type == "cuda":
        return min(GPU_SAMPLE_CALLS, max(1, math.ceil(GPU_SAMPLE_S / seconds)))
    return max(1, round(LEAST_SAMPLE_S / seconds))


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
    step()
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
