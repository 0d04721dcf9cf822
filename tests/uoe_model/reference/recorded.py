"""A recorded case: its arrays, which of them were looked at, and one compared number."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uoe_model.reference.blocks import How, Routed

FORCED, LOWEST, TORCH, NO_FILLER = "forced ids", "lowest-index ties", "torch ties", "filler off"
LOGITS, HIDDEN, Y, GATES, GRADIENT, RELATIVE = 1e-5, 1e-4, 2e-5, 5e-5, 1e-4, 1e-4
LOWEST_ENDING = "_lowest_index_ties"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """One number of one case under one target; `error` is the largest difference, of ids how many differ."""

    case: str
    target: str
    what: str
    error: float
    allowed: float

    @property
    def is_right(self) -> bool:
        return self.error <= self.allowed


class Case(Mapping[str, Any]):
    """Arrays of a case by name, without the case's prefix; remembers which were read."""

    def __init__(self, arrays: Mapping[str, Any], prefix: str = "", read: set[str] | None = None) -> None:
        self._arrays, self._prefix = arrays, prefix
        self._read = set[str]() if read is None else read

    def __getitem__(self, key: str) -> Any:
        value = self._arrays[self._prefix + key]
        self._read.add(self._prefix + key)
        return value

    def __contains__(self, key: object) -> bool:
        return f"{self._prefix}{key}" in self._arrays

    def __iter__(self) -> Iterator[str]:
        return (key.removeprefix(self._prefix) for key in self._arrays if key.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def under(self, prefix: str) -> "Case":
        """Those whose names start so."""
        return Case(self._arrays, self._prefix + prefix, self._read)

    def unread(self) -> list[str]:
        """Names of arrays that nobody looked at, besides settings and margins."""
        return [
            key for key in self if self._prefix + key not in self._read and not key.startswith(("cfg/", "min_margin"))
        ]


def case_names(path: Path) -> list[str]:
    """Cases of a file: those that it lists, and recorded gradients of the classifier."""
    with np.load(path, allow_pickle=False) as file:
        names = [str(name) for name in file["cases"]]
        return names + sorted({key.split("/")[0] for key in file.files if key.startswith("grad_")} - set(names))


@functools.cache
def read_cases(path: Path) -> Mapping[str, Case]:
    """Arrays of every case by name; nothing is unpickled."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return {
        name: Case({key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")})
        for name in case_names(path)
    }


def as_tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.asarray(array))


def as_ids(array: Any) -> Tensor:
    return as_tensor(array).long()


def size(array: Any) -> float:
    """The largest magnitude, at least 1."""
    return max(1.0, float(np.abs(np.asarray(array)).max(initial=0)))


def off(name: str, target: str, what: str, found: Tensor, expected: Any, allowed: float) -> Compared:
    wanted = as_tensor(expected).double()
    error = float("inf")
    if found.shape == wanted.shape or not found.numel() + wanted.numel():
        error = float((found.detach().double() - wanted).abs().max()) if wanted.numel() else 0.0
    return Compared(case=name, target=target, what=what, error=error, allowed=allowed)


def same(name: str, target: str, what: str, found: Tensor, expected: Any) -> Compared:
    wanted = as_ids(expected)
    different = float("inf") if found.shape != wanted.shape else float((found != wanted).sum())
    return Compared(case=name, target=target, what=what, error=different, allowed=0.0)


def targets(case: Case, sites: Mapping[str, str]) -> Iterator[tuple[str, How, str]]:
    """Name of the target, how to route, and what its keys end with.

    Args:
        sites: the key of the recorded ids of each site.
    """
    forced = {site: as_ids(case[key]) for site, key in sites.items() if key in case}
    if forced:
        yield FORCED, How(forced=forced), ""
    if any(key.endswith(LOWEST_ENDING) for key in case):
        yield LOWEST, How(ties="lowest"), LOWEST_ENDING
    yield TORCH, How(ties="torch"), ""


def leaves_of(case: Case) -> dict[str, Tensor]:
    return {key: as_tensor(value).clone().requires_grad_() for key, value in case.under("param/").items()}


def routing(
    name: str, target: str, ending: str, case: Case, what: str, routed: Routed | None, *, relative: bool = False
) -> Iterator[Compared]:
    """Ids and gates of one site, whose keys start with `what`; gates were recorded once."""
    at = f"{what}_" if what else ""
    if routed is None:
        return
    if f"{at}seq_ids{ending}" in case:
        yield same(name, target, f"{at}ids", routed.slots.ids_EBL, case[f"{at}seq_ids{ending}"])
    if not ending and f"{at}gate" in case:
        allowed = RELATIVE * size(case[f"{at}gate"]) if relative else GATES
        yield off(name, target, f"{at}gate", routed.requests.gate_BSE, case[f"{at}gate"], allowed)
    if not ending and f"{at}gate_logits" in case:
        allowed = RELATIVE * size(case[f"{at}gate_logits"]) if relative else GATES
        yield off(name, target, f"{at}gate_logits", routed.requests.logits_BSE, case[f"{at}gate_logits"], allowed)


def gradients(
    name: str, target: str, case: Case, out: Tensor, leaves: Mapping[str, Tensor], inputs: Mapping[str, Tensor]
) -> Iterator[Compared]:
    """Gradients of sum(y * grad_r) with respect to parameters and inputs."""
    if "grad_r" not in case:
        return
    (out * as_tensor(case["grad_r"])).sum().backward()
    for key, given in inputs.items():
        if f"grad_{key}" in case and given.grad is not None:
            value = case[f"grad_{key}"]
            yield off(name, target, f"gradient of {key}", given.grad, value, GRADIENT * size(value))
    yield from parameter_gradients(name, target, case, leaves)


def parameter_gradients(name: str, target: str, case: Case, leaves: Mapping[str, Tensor]) -> Iterator[Compared]:
    """Recorded gradients, tables perhaps by their first rows only, and which parameters have none."""
    recorded = {key: f"grad/{key}" if f"grad/{key}" in case else key for key in leaves}
    recorded = {key: at for key, at in recorded.items() if at in case}
    for key, at in recorded.items():
        value, leaf = case[at], leaves[key]
        found = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        allowed = GRADIENT * max(float(np.abs(value).max(initial=0)), 1e-3)
        yield off(name, target, f"gradient of {key}", found[: len(value)], value, allowed)
    if "params_without_gradient" in case:
        # Parameters that the released code has and never uses need not be among the recorded ones; a gradient of zeros
        # is as good as none (an expert that nobody chose).
        without = {str(key) for key in case["params_without_gradient"]} & set(leaves)
        moved = {key for key, leaf in leaves.items() if leaf.grad is not None and bool(leaf.grad.any())}
        still = {key for key, at in recorded.items() if not np.any(case[at])}
        error = float(len(without & moved) + len(set(leaves) - without - moved - still))
        yield Compared(case=name, target=target, what="parameters without gradient", error=error, allowed=0)
