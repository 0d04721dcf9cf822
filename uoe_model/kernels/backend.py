"""Which implementation of the experts runs. The only file that asks what hardware is there."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Final, Literal

import torch
from torch import Tensor

from uoe_model.config import RouterConfig
from uoe_model.decision import RaggedSlots, RoutingDecision
from uoe_model.dispatch import build_slot_table
from uoe_model.errors import ConfigError
from uoe_model.kernels import plain_attention, plain_mlp
from uoe_model.kernels.head_shape import HeadShape, Rotation
from uoe_model.kernels.plain_attention import AttentionRows, project_slots
from uoe_model.kernels.plain_mlp import activate
from uoe_model.kernels.plain_rows import compute_dtype, weighted_sum
from uoe_model.layout import RoutingLayout

__all__ = [
    "AttentionRows",
    "Backend",
    "HeadShape",
    "Rotation",
    "activate",
    "choose_backend",
    "compute_dtype",
    "expert_attention",
    "expert_mlp",
    "pick_backend",
    "pick_device",
    "project_slots",
    "route",
    "use_backend",
    "weighted_sum",
]

Backend = Literal["plain", "triton"]
"""Plain PyTorch, the definition of correct, runs everywhere; Triton on GPUs, in float32, float16 and bfloat16."""

_TRITON_TYPES: Final = (torch.float32, torch.float16, torch.bfloat16)

_wanted: ContextVar[Backend | Literal["auto"]] = ContextVar("backend", default="auto")


@contextmanager
def use_backend(name: Backend | Literal["auto"]) -> Iterator[None]:
    """Choose the implementation inside a `with`; `auto`, as everywhere else, is Triton where there is a GPU for it.

    Raises:
        ConfigError: `triton` where neither a GPU nor Triton's interpreter is.
    """
    before = _wanted.get()
    choose_backend(name)
    try:
        yield
    finally:
        _wanted.set(before)


def choose_backend(name: Backend | Literal["auto"]) -> None:
    """The same for the rest of this thread."""
    if name == "triton" and not (_has_triton() and (torch.cuda.is_available() or _is_interpreted())):
        raise ConfigError("backend triton needs a CUDA device and the package triton: choose plain, or auto")
    _wanted.set(name)


def pick_backend(device: torch.device, dtype: torch.dtype) -> Backend:
    """What runs tensors of this kind."""
    wanted = _wanted.get()
    if wanted == "plain" or dtype not in _TRITON_TYPES:
        return "plain"
    is_there = _is_able(device) if device.type == "cuda" else wanted == "triton" and _is_interpreted()
    return "triton" if is_there and _has_triton() else "plain"


@cache
def _is_able(device: torch.device) -> bool:
    """Whether Triton knows this GPU: NVIDIA's from Ampere on, or AMD's."""
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _is_interpreted() -> bool:
    """Whether Triton was told to run kernels on a CPU: slow, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def pick_device(wanted: str = "auto") -> torch.device:
    """The device to run on: `auto` is the first CUDA GPU, else the CPU (Apple GPUs lack the float64 of positions)."""
    if wanted != "auto":
        return torch.device(wanted)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def route(logits_ME: Tensor, config: RouterConfig, layout: RoutingLayout) -> RoutingDecision | None:
    """The decision of a router whose rules a kernel knows, along with its slots; None where plain PyTorch decides."""
    if config.selection == "expert_choice" or not layout.num_units:
        return None
    if pick_backend(logits_ME.device, logits_ME.dtype) == "plain":
        return None
    from uoe_model.kernels import triton_router

    return triton_router.route(logits_ME, config, layout)


def expert_mlp(
    x_ND: Tensor,
    decision: RoutingDecision,
    w1_EDF: Tensor,
    b1_EF: Tensor,
    w2_EFD: Tensor,
    b2_D: Tensor | None,
    act: str,
) -> Tensor:
    """Gated sum over each unit's kept experts of act(x W1 + b1) W2 (N, D), and b2 once where any expert kept.

    Args:
        decision: over the units of `x_ND`. w1_EDF: SwiGLU holds gate columns, then up columns.
    """
    num_experts = w1_EDF.shape[0]
    if pick_backend(x_ND.device, x_ND.dtype) == "triton" and x_ND.shape[0]:
        from uoe_model.kernels import triton_mlp

        slots = _slots(decision, num_experts, None)
        chosen = decision.expert_NK.contiguous(), decision.kept_NK.contiguous(), slots
        return triton_mlp.expert_mlp(x_ND, decision.gate_NK.float(), w1_EDF, b1_EF, w2_EFD, b2_D, act, *chosen)
    table = build_slot_table(decision, num_experts, None)
    return plain_mlp.expert_mlp(x_ND, decision.gate_NK, w1_EDF, b1_EF, w2_EFD, b2_D, act, table)


def expert_attention(
    x_ND: Tensor,
    decision: RoutingDecision,
    layout: RoutingLayout,
    w_qkv_EDC: Tensor,
    b_qkv_EC: Tensor,
    w_o_EWD: Tensor,
    b_o_D: Tensor | None,
    shape: HeadShape,
    rotation: Rotation | None,
    *,
    causal: bool,
    gate_keys: bool,
    keep_rows: bool = False,
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """Gated sum over each unit's kept experts of their attention's output (N, D), b_o once where any expert kept.

    A unit attends, within the expert, to the kept units of its own example; to itself and earlier ones if `causal`.
    With `gate_keys` ln(gate) of the key's unit is added to its logit.

    Args:
        decision, layout: of the units of `x_ND`.
        w_qkv_EDC: columns as in `HeadShape.columns`. w_o_EWD: rows are the q heads' outputs.
        rotation: of q and k, halves of a head paired; None: no rotation.
        keep_rows: whether keys and values by unit are wanted too (`AttentionRows.by_unit`); they carry no gradient.
    """
    num_experts = w_qkv_EDC.shape[0]
    if pick_backend(x_ND.device, x_ND.dtype) == "triton" and x_ND.shape[0]:
        from uoe_model.kernels import triton_attention

        slots = _slots(decision, num_experts, layout)
        chosen = decision.expert_NK.contiguous(), decision.kept_NK.contiguous(), slots
        out_ND, qkv_RC = triton_attention.expert_attention(
            x_ND,
            decision.gate_NK.float(),
            w_qkv_EDC,
            b_qkv_EC,
            w_o_EWD,
            b_o_D,
            shape,
            rotation,
            *chosen,
            causal=causal,
            gate_keys=gate_keys,
        )
        if not keep_rows:
            return out_ND, None
        return out_ND, triton_attention.keys_and_values(qkv_RC, decision.expert_NK, decision.kept_NK, shape, slots)
    table = build_slot_table(decision, num_experts, layout)
    out_ND, rows = plain_attention.expert_attention(
        x_ND,
        decision.gate_NK,
        w_qkv_EDC,
        b_qkv_EC,
        w_o_EWD,
        b_o_D,
        shape,
        rotation,
        table,
        causal=causal,
        gate_keys=gate_keys,
        keep_rows=keep_rows,
    )
    return out_ND, None if rows is None else rows.by_unit()


def _slots(decision: RoutingDecision, num_experts: int, layout: RoutingLayout | None) -> RaggedSlots:
    """Those of the router, else made from the decision; without a layout all units are one example."""
    if decision.slots is not None:
        return decision.slots
    from uoe_model.kernels.triton_slots import slots_of_decision

    return slots_of_decision(decision, num_experts, layout)
