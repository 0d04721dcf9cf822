"""How kernels are run in tests: on a GPU if there is one, else under Triton's interpreter (`conftest.py`), float32."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from uoe_model.decision import NOBODY, RaggedSlots, RoutingDecision
from uoe_model.layout import RoutingLayout, build_layout

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

LENGTHS = (7, 1, 12)
"""Units of the examples of most tests: an odd number, one, and more than the others."""


def layout_of(lengths: Sequence[int] = LENGTHS, *, patch_len: int = 1, pad_left: bool = False) -> RoutingLayout:
    longest = max(lengths)
    ones = [[1] * length for length in lengths]
    rows = [[0] * (longest - len(row)) + row if pad_left else row + [0] * (longest - len(row)) for row in ones]
    return build_layout(torch.tensor(rows, dtype=torch.bool, device=DEVICE), patch_len)


def randn(*size: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def decision_of(kept: Sequence[Sequence[int]], *, choices: int, seed: int = 3) -> RoutingDecision:
    """Every unit kept by the experts named, with random gates; other choices ask expert 0 in vain."""
    expert_NK = torch.full((len(kept), choices), NOBODY)
    kept_NK = torch.zeros(len(kept), choices, dtype=torch.bool)
    for unit, experts in enumerate(kept):
        for choice, expert in enumerate(experts):
            expert_NK[unit, choice], kept_NK[unit, choice] = expert, True
    gate_NK = (0.3 + torch.rand(len(kept), choices, generator=torch.Generator().manual_seed(seed))) * kept_NK
    return RoutingDecision(
        logits_NE=torch.zeros(len(kept), 1, device=DEVICE),
        expert_NK=expert_NK.to(DEVICE),
        gate_NK=gate_NK.to(DEVICE),
        kept_NK=kept_NK.to(DEVICE),
        capacity_G=torch.zeros(1, dtype=torch.long, device=DEVICE),
    )


def expected_rows(decision: RoutingDecision, num_experts: int, group_N: Tensor) -> dict[tuple[int, int], list[int]]:
    """n * K + k of the kept requests of every (expert, example), found one after the other."""
    choices = decision.expert_NK.shape[1]
    groups = group_N.tolist()
    found: dict[tuple[int, int], list[int]] = {
        (expert, group): [] for expert in range(num_experts) for group in range(max(groups) + 1)
    }
    for unit, (experts, kept) in enumerate(zip(decision.expert_NK.tolist(), decision.kept_NK.tolist(), strict=True)):
        for choice in range(choices):
            if kept[choice]:
                found[experts[choice], groups[unit]].append(unit * choices + choice)
    return found


def check_slots(slots: RaggedSlots, decision: RoutingDecision, num_experts: int, group_N: Tensor) -> None:
    """Rows, their order, the way back, and the bounds that buffers are made by."""
    expected = expected_rows(decision, num_experts, group_N)
    start, first_unit = slots.start_X.tolist(), slots.first_unit_X.tolist()
    row = 0
    for (expert, group), assignments in expected.items():
        batch = expert * slots.num_groups + group
        assert start[batch] == row
        row += len(assignments)
        begin = first_unit[group]
        assert slots.assignment_EN[expert, begin : begin + len(assignments)].tolist() == assignments
        assert slots.place_NK.flatten()[assignments].tolist() == list(range(len(assignments)))
        assert len(assignments) <= slots.longest
    assert start[-1] == row <= slots.max_rows
    largest = max(sum(len(expected[e, g]) for g in range(slots.num_groups)) for e in range(num_experts))
    assert largest <= slots.max_rows_per_expert


@dataclasses.dataclass
class Guards:
    """Memory handed to kernels, with rows before and behind that nobody may touch."""

    taken: list[tuple[Tensor, int, int]] = dataclasses.field(default_factory=list)

    MARGIN = 64

    def empty(self, size: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        count = 1
        for length in size:
            count *= length
        fill = self.fill(dtype)
        whole = torch.full((count + 2 * self.MARGIN,), fill, dtype=dtype, device=device)
        self.taken.append((whole, self.MARGIN, count))
        return whole[self.MARGIN : self.MARGIN + count].view(*size)

    @staticmethod
    def fill(dtype: torch.dtype) -> float:
        return float("nan") if dtype.is_floating_point else 1 if dtype == torch.bool else 77

    def check(self) -> None:
        for whole, margin, count in self.taken:
            around = torch.cat([whole[:margin], whole[margin + count :]])
            untouched = torch.full_like(around, self.fill(whole.dtype))
            assert torch.equal(around.nan_to_num(nan=5.0), untouched.nan_to_num(nan=5.0)), "written beyond a buffer"


@contextmanager
def guarded() -> Iterator[None]:
    """Fill memory that is not written yet with NaN (or 77), and see that nothing beside it is written."""
    guards = Guards()

    real = torch.Tensor.new_empty

    def new_empty(self: Tensor, *size: int, dtype: torch.dtype | None = None, **more: Any) -> Tensor:
        if more:  # the interpreter's own
            return real(self, *size, dtype=dtype, **more)
        return guards.empty(size, dtype or self.dtype, self.device)

    def empty_like(other: Tensor) -> Tensor:
        return guards.empty(other.shape, other.dtype, other.device)

    with mock.patch.object(torch.Tensor, "new_empty", new_empty), mock.patch.object(torch, "empty_like", empty_like):
        yield
    guards.check()


def inside_nan(value: Tensor) -> Tensor:
    """The same numbers with NaN before and behind them in memory, so that what is read beyond shows."""
    whole = torch.full((value.numel() + 128,), float("nan"), dtype=value.dtype, device=value.device)
    part = whole[64 : 64 + value.numel()].view(value.shape)
    part.copy_(value)
    return part


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """As a share of the largest expected number."""
    found, expected = found.detach().to(expected.dtype), expected.detach()
    return float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-30)
