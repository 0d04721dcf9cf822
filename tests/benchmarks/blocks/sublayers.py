"""The MLP sublayer alone, from the gather to the combine, in every form that is compared; the routing is given.

All forms share weights. Biases are zero: grouped products take none, and a separate addition would slow them down.
"""

import dataclasses
from collections.abc import Callable
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.blocks.variants import Prepared, Setting, draw_weights
from uoe_model.decision import UNLIMITED, RaggedSlots, RoutingDecision
from uoe_model.dispatch import SlotTable, build_slot_table
from uoe_model.kernels import backend, plain_mlp
from uoe_model.kernels.backend import use_backend
from uoe_model.router import decide

Routing = Literal["even", "random"]

OURS_AGAIN: Final = "union again"
"""The A/A control of this sublayer."""

PRODUCTS_TRITON: Final = "two products, Triton"


class ExpertWeights(nn.Module):
    """w1 (E, D, F), b1 (E, F), w2 (E, F, D); F the hidden units of one expert."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        experts, width, hidden = setting.mlp_experts, setting.width, setting.hidden // setting.mlp_experts
        self.w1 = nn.Parameter(torch.empty(experts, width, hidden))
        self.b1 = nn.Parameter(torch.zeros(experts, hidden), requires_grad=False)
        self.w2 = nn.Parameter(torch.empty(experts, hidden, width))
        draw_weights(self)
        nn.init.zeros_(self.b1)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SortedRows:
    """Requests in the order of their experts, as grouped products want them.

    Attributes:
        order_R: int64, index into the flattened (N, K) of each row. unit_R: int64, its unit.
        end_E: int32, where each expert's rows end. used_R1: bool (R, 1); None: all rows are of a kept request.
    """

    order_R: Tensor
    unit_R: Tensor
    end_E: Tensor
    used_R1: Tensor | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RoutedRows:
    """Where the units of a case go: one decision, and what each form makes of it beforehand.

    Attributes:
        decision: with slots where Triton runs.
        gate_NK: of the decision, float32 as routers give it; a leaf that takes a gradient.
    """

    decision: RoutingDecision
    num_experts: int
    gate_NK: Tensor
    table: SlotTable
    sorted: SortedRows

    @property
    def kept_rows(self) -> int:
        """Rows that experts process."""
        return self.sorted.order_R.shape[0]


Sublayer = Callable[[Tensor, ExpertWeights, RoutedRows], Tensor]
"""(x (N, D), weights, routing) -> output (N, D)."""


def route(setting: Setting, kind: Routing, device: torch.device) -> RoutedRows:
    """`even`: every expert the same number of units, none dropped. `random`: by random logits and our capacity."""
    config, layout = setting.config().router_config("mlp"), Prepared(setting, device, torch.float32).layout
    generator = torch.Generator().manual_seed(3)
    units, experts, top_k = setting.batch * setting.length, setting.mlp_experts, setting.mlp_top_k
    logits_NE = torch.randn(units, experts, generator=generator).to(device)
    if kind == "random":
        decision = decide(logits_NE, config, layout)
    else:
        first_N = torch.randperm(units, generator=generator).to(device) % experts
        steps_K = torch.arange(top_k, device=device) * (experts // top_k)
        expert_NK = (first_N.unsqueeze(1) + steps_K) % experts
        decision = RoutingDecision(
            logits_NE=logits_NE,
            expert_NK=expert_NK,
            gate_NK=logits_NE.softmax(-1).gather(1, expert_NK),
            kept_NK=torch.ones_like(expert_NK, dtype=torch.bool),
            capacity_G=torch.full_like(layout.patches_G, UNLIMITED),
        )
    if backend.pick_backend(device, torch.float32) == "triton":
        decision = dataclasses.replace(decision, slots=_slots(decision, experts))
    rows = sort_rows(decision, experts)
    kept = int(rows.end_E[-1])
    return RoutedRows(
        decision=decision,
        num_experts=experts,
        gate_NK=decision.gate_NK.clone().requires_grad_(),
        table=build_slot_table(decision, experts, None),
        sorted=SortedRows(order_R=rows.order_R[:kept], unit_R=rows.unit_R[:kept], end_E=rows.end_E, used_R1=None),
    )


def sort_rows(decision: RoutingDecision, num_experts: int) -> SortedRows:
    """Sort all requests by expert, dropped ones last, without waiting for the device."""
    expert_NK = decision.expert_NK.masked_fill(~decision.kept_NK, num_experts)
    expert_R, order_R = expert_NK.flatten().sort(stable=True)
    ids_E = torch.arange(num_experts, device=expert_R.device)
    return SortedRows(
        order_R=order_R,
        unit_R=order_R // expert_NK.shape[1],
        end_E=torch.searchsorted(expert_R, ids_E, right=True).to(torch.int32),
        used_R1=(expert_R < num_experts).unsqueeze(1),
    )


def _slots(decision: RoutingDecision, num_experts: int) -> RaggedSlots:
    from uoe_model.kernels.triton_slots import slots_of_decision

    return slots_of_decision(decision, num_experts, None)


def on_plain(x_ND: Tensor, weights: ExpertWeights, rows: RoutedRows) -> Tensor:
    """Ours in plain PyTorch: padded per expert."""
    return plain_mlp.expert_mlp(x_ND, rows.gate_NK, weights.w1, weights.b1, weights.w2, None, "gelu", rows.table)


def on_triton(x_ND: Tensor, weights: ExpertWeights, rows: RoutedRows) -> Tensor:
    """Ours in Triton: ragged."""
    decision = dataclasses.replace(rows.decision, gate_NK=rows.gate_NK)
    with use_backend("triton"):
        return backend.expert_mlp(x_ND, decision, weights.w1, weights.b1, weights.w2, None, "gelu")


def grouped_then_add(x_ND: Tensor, weights: ExpertWeights, rows: RoutedRows) -> Tensor:
    """Two grouped products over the sorted rows; weighted rows are added to their units one by one."""
    return _add_rows(x_ND, grouped_rows(x_ND, weights, rows.sorted), rows.gate_NK, rows.sorted)


def sorted_grouped_then_add(x_ND: Tensor, weights: ExpertWeights, rows: RoutedRows) -> Tensor:
    """The same with the sort inside, of all requests: what a router without tables would need."""
    order = sort_rows(rows.decision, rows.num_experts)
    y_RD = _masked(grouped_rows(x_ND, weights, order), order)
    return _add_rows(x_ND, y_RD, rows.gate_NK, order)


def grouped_then_sum(x_ND: Tensor, weights: ExpertWeights, rows: RoutedRows) -> Tensor:
    """As ScatterMoE combines (arXiv 2403.08245): a buffer of one row per (unit, choice), then gates times buffer."""
    y_RD = grouped_rows(x_ND, weights, rows.sorted)
    units, top_k = rows.gate_NK.shape
    buffer = y_RD.new_zeros(units * top_k, y_RD.shape[1]).index_copy(0, rows.sorted.order_R, y_RD)
    return torch.bmm(rows.gate_NK.to(y_RD.dtype).unsqueeze(1), buffer.view(units, top_k, -1)).squeeze(1)


def grouped_rows(x_ND: Tensor, weights: ExpertWeights, order: SortedRows) -> Tensor:
    """Expert outputs (R, D) of sorted rows; those after the last expert's end hold anything.

    On a GPU such rows are left as they were found, in the gradients too: both are masked, so that they reach nobody.
    """
    rows_RD = _masked(x_ND.index_select(0, order.unit_R), order)
    hidden_RF = F.gelu(_masked(F.grouped_mm(rows_RD, weights.w1, offs=order.end_E), order))
    return F.grouped_mm(hidden_RF, weights.w2, offs=order.end_E)


def _masked(rows_RX: Tensor, order: SortedRows) -> Tensor:
    return rows_RX if order.used_R1 is None else rows_RX.masked_fill(~order.used_R1, 0)


def _add_rows(x_ND: Tensor, y_RD: Tensor, gate_NK: Tensor, order: SortedRows) -> Tensor:
    weighted = y_RD * gate_NK.to(y_RD.dtype).flatten().index_select(0, order.order_R).unsqueeze(1)
    return torch.zeros_like(x_ND).index_add(0, order.unit_R, weighted)


SUBLAYERS: Final[dict[str, Sublayer]] = {
    "union": on_plain,
    OURS_AGAIN: on_plain,
    "union, Triton": on_triton,
    "grouped_mm, index_add": grouped_then_add,
    "grouped_mm, sort included": sorted_grouped_then_add,
    "grouped_mm, row per choice": grouped_then_sum,
}


def products(setting: Setting, rows: RoutedRows, weights: ExpertWeights) -> dict[str, Callable[[], object]]:
    """The two products alone, on rows and hidden units that lie ready: padded per expert, grouped, and ragged.

    Triton's first product gathers its rows.
    """
    x_ND = torch.randn(setting.batch * setting.length, setting.width, device=weights.w1.device, dtype=weights.w1.dtype)
    hidden = weights.w1.shape[2]
    padded_ESD = x_ND.index_select(0, rows.table.unit_S).view(setting.mlp_experts, -1, setting.width)
    padded_ESF = torch.randn(*padded_ESD.shape[:2], hidden, device=x_ND.device, dtype=x_ND.dtype)
    sorted_RD = x_ND.index_select(0, rows.sorted.unit_R)
    sorted_RF = torch.randn(rows.kept_rows, hidden, device=x_ND.device, dtype=x_ND.dtype)
    end_E = rows.sorted.end_E
    return {
        "two products, bmm": lambda: (torch.bmm(padded_ESD, weights.w1), torch.bmm(padded_ESF, weights.w2)),
        "two products, grouped_mm": lambda: (
            F.grouped_mm(sorted_RD, weights.w1, offs=end_E),
            F.grouped_mm(sorted_RF, weights.w2, offs=end_E),
        ),
        PRODUCTS_TRITON: lambda: _triton_products(x_ND, sorted_RF, weights, rows),
    }


def _triton_products(x_ND: Tensor, hidden_RF: Tensor, weights: ExpertWeights, rows: RoutedRows) -> object:
    with use_backend("triton"):
        from uoe_model.kernels.triton_products import expert_product

    slots = rows.decision.slots or _slots(rows.decision, rows.num_experts)
    first, _ = expert_product(x_ND, weights.w1, slots, gather=True)
    return first, expert_product(hidden_RF, weights.w2, slots, gather=False)


def loop_sublayer(x_ND: Tensor, weights: ExpertWeights, rows: RoutedRows) -> Tensor:
    """What all forms are checked against: expert after expert, in float64."""
    x_ND, w1, w2 = (value.double() for value in (x_ND, weights.w1, weights.w2))
    out, decision = torch.zeros_like(x_ND), rows.decision
    for expert in range(rows.num_experts):
        unit_n, choice_n = ((decision.expert_NK == expert) & decision.kept_NK).nonzero(as_tuple=True)
        y = F.gelu(x_ND[unit_n] @ w1[expert]) @ w2[expert]
        out.index_add_(0, unit_n, y * rows.gate_NK.double()[unit_n, choice_n].unsqueeze(1))
    return out
