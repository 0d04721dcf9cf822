"""What happens on a CUDA device during a call: kernels, copies to the host, waits, peak memory; and graph replay.

Without such a device nothing is counted, and every function returns None or says why.
"""

import dataclasses
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.protocol import Step, attempt

NEEDS_CUDA: Final = "needs a CUDA device"
WAITS: Final = ("cudaStreamSynchronize", "cudaEventSynchronize")
CLOCKS: Final = "name,driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Of one call: kernels launched, copies to the host, waits of the host, microseconds by kernel (longest first)."""

    kernels: int
    copies_to_host: int
    waits: int
    kernel_us: dict[str, float]


def count(step: Step, device: torch.device) -> Counts | None:
    """Profile one call that has run before."""
    if device.type != "cuda":
        return None
    step()
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize(device)
    return counts_of(profiled.events() or [])


def counts_of(events: Iterable[Any]) -> Counts:
    """Sum up a profiler's events; the wait that ends the profile is one for the device, which is not counted."""
    times: Counter[str] = Counter()
    kernels = copies = waits = 0
    for event in events:
        if event.device_type == DeviceType.CUDA:
            if getattr(event, "is_user_annotation", False):
                continue
            if event.name.startswith(("Memcpy", "Memset")):
                copies += event.name.startswith("Memcpy DtoH")
            else:
                kernels += 1
                times[event.name] += event.time_range.elapsed_us()
        elif event.name in WAITS:
            waits += 1
    return Counts(kernels=kernels, copies_to_host=copies, waits=waits, kernel_us=dict(times.most_common()))


def peak_bytes(step: Step, device: torch.device) -> int | None:
    """Largest memory allocated during a call, beyond what was allocated before."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def why_it_waits(step: Step, device: torch.device) -> str | None:
    """Which operation of a call makes the host wait for the device, as torch reports the first; None: none does."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return None


def record_graph(step: Step, device: torch.device) -> tuple[Callable[[], object] | None, str | None]:
    """Record a call as a CUDA graph: what replays it, or why it cannot be recorded."""
    if device.type != "cuda":
        return None, NEEDS_CUDA
    graph = torch.cuda.CUDAGraph()

    def record() -> None:
        beside = torch.cuda.Stream(device)
        beside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(beside):
            for _ in range(3):
                step()
        torch.cuda.current_stream(device).wait_stream(beside)
        with torch.cuda.graph(graph):
            step()
        graph.replay()

    _, reason = attempt(record, device)
    return (graph.replay, None) if reason is None else (None, reason)


def clocks() -> str | None:
    """Name, driver, clocks, power and temperature of the device as nvidia-smi prints them; read, never set."""
    if shutil.which("nvidia-smi") is None:
        return None
    found = subprocess.run(
        ["nvidia-smi", f"--query-gpu={CLOCKS}", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None
