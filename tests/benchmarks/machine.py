"""What a benchmark ran on, and how busy others kept the machine meanwhile."""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = Path(__file__).with_name("results")
NOISY: Final = 0.15
"""Cores used by others above which a result is marked."""


class BusyOthers:
    """How many cores other processes use from now on; unknown where there is no /proc/stat."""

    def __init__(self) -> None:
        self.started = self._clocks()

    def cores(self) -> float | None:
        """Cores used by others since it was made."""
        now = self._clocks()
        if now is None or self.started is None:
            return None
        busy, own, wall = (after - before for after, before in zip(now, self.started, strict=True))
        return max(0.0, (busy - own) / wall)

    @staticmethod
    def _clocks() -> tuple[float, float, float] | None:
        """Seconds: busy of all cores, own, wall."""
        path = Path("/proc/stat")
        if not path.is_file():
            return None
        ticks = [int(word) for word in path.read_text().splitlines()[0].split()[1:9]]
        idle = ticks[3] + ticks[4]
        return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK"), time.process_time(), time.perf_counter()


def busy_cores(seconds: float = 2.0) -> float | None:
    """Cores that others use while this process waits."""
    others = BusyOthers()
    time.sleep(seconds)
    return others.cores()


def read_machine(*packages: str) -> dict[str, Any]:
    """Commit, processor and versions: the same keys in every result."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--", "uoe_model", "analysis", "dashboard").splitlines()),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "measured": time.strftime("%Y-%m-%d"),
    }


def cpu_name() -> str:
    """The processor as it calls itself."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()
