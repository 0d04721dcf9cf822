"""The numbers of a running training: averaged between rows, appended to CSV files, cut back on resume."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from uoe_model.config import BLOCKS
from uoe_model.decision import RoutingDecision


class RunningMeans:
    """Means of named numbers since the last reset; tensors are read only then."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, numbers: Mapping[str, Tensor]) -> None:
        """Take in one step."""
        for name, value in numbers.items():
            addend = value.detach().double()
            self._sums[name] = self._sums[name] + addend if name in self._sums else addend
        self._count += 1

    def take(self) -> dict[str, float]:
        """The means; counting starts anew."""
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


@torch.no_grad()
def dropped_shares(decisions: Sequence[RoutingDecision]) -> dict[str, Tensor]:
    """Dropped share of the requested assignments, pooled over the sites of each kind of block."""
    shares: dict[str, Tensor] = {}
    for offset, block in enumerate(BLOCKS):
        sites = decisions[offset :: len(BLOCKS)]
        requested = torch.stack([(site.expert_NK >= 0).sum() for site in sites]).sum()
        kept = torch.stack([site.kept_NK.sum() for site in sites]).sum()
        shares[f"dropped_share_{block}"] = 1 - kept / requested.clamp(min=1)
    return shares


class MetricsFile:
    """A CSV file that grows by one row at a time and always is complete on disk."""

    def __init__(self, path: Path, *, resumed_step: int) -> None:
        """Open the file, without the rows after the step from which training goes on."""
        self._path = path
        rows = read_metrics(path) if path.is_file() else []
        kept = [row for row in rows if float(row["step"]) <= resumed_step]
        path.unlink(missing_ok=True)
        for row in kept:
            self.append(row)

    def append(self, row: Mapping[str, float | str]) -> None:
        """Add a row; the first one names the columns."""
        is_new = not self._path.is_file()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(
                {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
            )


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file, as text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
