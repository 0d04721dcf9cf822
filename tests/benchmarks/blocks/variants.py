"""One transformer block in every form that is compared, all with the same width, heads and hidden units."""

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uoe_model.attention import rotary_angles
from uoe_model.config import UoEConfig
from uoe_model.decision import RoutingDecision
from uoe_model.kernels.backend import Backend, use_backend
from uoe_model.kernels.plain_attention import rotate
from uoe_model.layout import RoutingLayout, build_layout
from uoe_model.mlp import UoME
from uoe_model.modeling import Block
from uoe_model.reference import blocks as released
from uoe_model.reference.blocks import How


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Sizes and routing of a case.

    Attributes:
        batch, length: B and S. width, hidden: D and F of the dense block.
        attention_experts, attention_top_k, mlp_experts, mlp_top_k: of the routed blocks; as many heads as experts.
        capacity_factor: None: never full. patch_len: units routed together.
    """

    name: str
    batch: int
    length: int
    width: int = 256
    hidden: int = 1024
    attention_experts: int = 8
    attention_top_k: int = 4
    mlp_experts: int = 8
    mlp_top_k: int = 2
    capacity_factor: float | None = 1.0
    causal: bool = True
    gate_keys: bool = False
    patch_len: int = 1

    def config(self) -> UoEConfig:
        """Configuration of our block."""
        common = {
            "capacity_factor": self.capacity_factor,
            "admission": "position" if self.causal else "score",
            "patch_len": self.patch_len,
        }
        return UoEConfig(
            vocab_size=8,
            hidden_size=self.width,
            num_hidden_layers=1,
            num_attention_heads=self.attention_experts,
            intermediate_size=self.hidden,
            is_causal=self.causal,
            max_position_embeddings=max(self.length, 2),
            attention_router=common
            | {
                "num_experts": self.attention_experts,
                "num_experts_per_tok": self.attention_top_k,
                "gate_keys": self.gate_keys,
            },
            mlp_router=common | {"num_experts": self.mlp_experts, "num_experts_per_tok": self.mlp_top_k},
        )


class Prepared:
    """What every block of a case gets: the layout and the rotary angles."""

    def __init__(self, setting: Setting, device: torch.device, dtype: torch.dtype) -> None:
        self.setting = setting
        valid = torch.ones(setting.batch, setting.length, dtype=torch.bool, device=device)
        self.layout: RoutingLayout = build_layout(valid, setting.patch_len)
        head = setting.width // setting.attention_experts
        cos, sin = rotary_angles(self.layout.position_N, head, 10_000.0, dtype)
        self.rotation = (cos, sin)
        self.grid_rotation = (cos[: setting.length], sin[: setting.length])

    @cached_property
    def causal_mask(self) -> Tensor:
        """(1, 1, T, T), added to scores: for blocks that have no other way to be causal."""
        cos = self.rotation[0]
        hidden = torch.full((self.setting.length,) * 2, -torch.inf, device=cos.device, dtype=cos.dtype)
        return hidden.triu_(1)[None, None]


class DenseAttention(nn.Module):
    """Multi-head attention with rotary positions; `fused`, or with scores in memory as the paper's baselines have."""

    def __init__(self, setting: Setting, kind: Literal["fused", "materialised"]) -> None:
        super().__init__()
        self.heads, self.causal, self.kind = setting.attention_experts, setting.causal, kind
        self.qkv = nn.Linear(setting.width, 3 * setting.width)
        self.out = nn.Linear(setting.width, setting.width)

    def forward(self, x_BTD: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Output (B, T, D)."""
        batch, length, width = x_BTD.shape
        q, k, v = self.qkv(x_BTD).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, *rotation), rotate(k, *rotation)
        if self.kind == "fused":
            heads = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            if self.causal:
                hidden = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
                scores = scores.masked_fill(hidden, -torch.inf)
            heads = scores.softmax(-1) @ v
        out: Tensor = self.out(heads.transpose(1, 2).reshape(batch, length, width))
        return out


class DenseBlock(nn.Module):
    """Pre-norm block of attention and MLP (GELU)."""

    def __init__(self, setting: Setting, kind: Literal["fused", "materialised"] = "fused") -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(setting.width) for _ in range(2))
        self.attention = DenseAttention(setting, kind)
        self.mlp = nn.Sequential(
            nn.Linear(setting.width, setting.hidden), nn.GELU(), nn.Linear(setting.hidden, setting.width)
        )

    def forward(self, x_BTD: Tensor, given: Prepared) -> Tensor:
        """Output (B, T, D)."""
        x_BTD = x_BTD + self.attention(self.norms[0](x_BTD), given.grid_rotation)
        out: Tensor = x_BTD + self.mlp(self.norms[1](x_BTD))
        return out


class RoutedMLPBlock(nn.Module):
    """Dense fused attention and our routed MLP: the shape of a conventional mixture of experts."""

    def __init__(self, setting: Setting, backend: Backend = "plain") -> None:
        super().__init__()
        self.backend = backend
        self.norms = nn.ModuleList(nn.RMSNorm(setting.width) for _ in range(2))
        self.attention = DenseAttention(setting, "fused")
        self.mlp = UoME(setting.config(), 0)

    def forward(self, x_BTD: Tensor, given: Prepared) -> Tensor:
        """Output (B, T, D)."""
        x_BTD = x_BTD + self.attention(self.norms[0](x_BTD), given.grid_rotation)
        with use_backend(self.backend):
            y_ND, _ = self.mlp(self.norms[1](x_BTD).flatten(0, 1), given.layout)
        out: Tensor = x_BTD + y_ND.view_as(x_BTD)
        return out


class UnionBlock(nn.Module):
    """Our block, on the kernels of one backend."""

    def __init__(self, setting: Setting, backend: Backend = "plain") -> None:
        super().__init__()
        self.backend = backend
        self.block = Block(setting.config(), 0)

    def forward(self, x_BTD: Tensor, given: Prepared) -> Tensor:
        """Output (B, T, D)."""
        out, _, _ = self.decide(x_BTD, given)
        return out

    def decide(self, x_BTD: Tensor, given: Prepared) -> tuple[Tensor, RoutingDecision, RoutingDecision]:
        """Output (B, T, D), and the decisions of attention and MLP."""
        with use_backend(self.backend):
            out, *decisions = self.block(x_BTD.flatten(0, 1), given.layout, given.rotation, None, None)
        return out.view_as(x_BTD), *decisions


class LoopBlock(nn.Module):
    """Our block's routing and weights, computed expert after expert and example after example, with index_add."""

    def __init__(self, block: UnionBlock) -> None:
        super().__init__()
        self.block = block.block

    def forward(self, x_BTD: Tensor, given: Prepared) -> Tensor:
        """Output (B, T, D)."""
        x_ND = x_BTD.flatten(0, 1)
        x_ND = x_ND + self._attend(self.block.norm_attention(x_ND), given)
        return (x_ND + self._mlp(self.block.norm_mlp(x_ND), given)).view_as(x_BTD)

    def _attend(self, x_ND: Tensor, given: Prepared) -> Tensor:
        block, shape = self.block.attention, self.block.attention.shape
        decision = block.router(x_ND, given.layout, causal=block.is_causal)
        out = torch.zeros_like(x_ND)
        for expert, unit_n, gate_n in _rows(decision):
            for group in range(given.layout.num_groups):
                inside = given.layout.group_N[unit_n] == group
                rows, gate = unit_n[inside], gate_n[inside]
                if not len(rows):
                    continue
                qkv = x_ND[rows] @ block.w_qkv[expert] + block.b_qkv[expert]
                q, k, v = qkv.view(len(rows), 3, shape.heads, shape.width).permute(1, 2, 0, 3)
                cos, sin = (part[rows] for part in given.rotation)
                q, k = rotate(q, cos, sin), rotate(k, cos, sin)
                bias = gate.log().expand(len(rows), -1) if block.gate_keys else None
                if bias is not None and block.is_causal:
                    bias = bias.masked_fill(torch.ones_like(bias, dtype=torch.bool).triu(1), -torch.inf)
                causal = block.is_causal and bias is None
                heads = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=bias, is_causal=causal)[0]
                y = heads.transpose(0, 1).flatten(1) @ block.w_o[expert]
                out = out.index_add(0, rows, y * gate.unsqueeze(1))
        return out + decision.kept_NK.any(-1, keepdim=True) * block.b_o

    def _mlp(self, x_ND: Tensor, given: Prepared) -> Tensor:
        block = self.block.mlp
        decision = block.router(x_ND, given.layout, causal=block.is_causal)
        out = torch.zeros_like(x_ND)
        for expert, rows, gate in _rows(decision):
            y = F.gelu(x_ND[rows] @ block.w1[expert] + block.b1[expert]) @ block.w2[expert]
            out = out.index_add(0, rows, y * gate.unsqueeze(1))
        return out + decision.kept_NK.any(-1, keepdim=True) * block.b2


def _rows(decision: object) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Kept units of every expert, ascending, with their gates."""
    kept, experts, gates = decision.kept_NK, decision.expert_NK, decision.gate_NK  # type: ignore[attr-defined]
    for expert in range(int(experts.max()) + 1):
        unit_n, choice_n = ((experts == expert) & kept).nonzero(as_tuple=True)
        yield expert, unit_n, gates[unit_n, choice_n]


class ReleasedBlock(nn.Module):
    """The authors' block (SMHA v3 and MLP v2) as released, written anew in `uoe_model.reference`; not causal."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        a, m, width = setting.attention_experts, setting.mlp_experts, setting.width
        head, hidden = width // a, setting.hidden // m
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2))
        self.setting = setting
        shapes = {
            "a.switch_gate.weight": (a, width),
            "a.switch_gate.bias": (a,),
            "a.W_qkv.weight.0": (a, width, 3 * head),
            "a.W_qkv.bias.0": (a, 1, 3 * head),
            "a.ff.weight.0": (a, head, width),
            "a.ff.bias": (a, width),
            "m.switch_gate.w_gate.weight": (m, width),
            "m.switch_gate.w_gate.bias": (m,),
            "m.linear1.weight.0": (m, width, hidden),
            "m.linear1.bias.0": (m, 1, hidden),
            "m.linear2.weight.0": (m, hidden, width),
            "m.linear2.bias": (m, width),
        }
        self.names = {name: name.replace(".", "_") for name in shapes}
        for name, shape in shapes.items():
            self.register_parameter(self.names[name], nn.Parameter(0.05 * torch.randn(shape)))

    def _of(self, prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): getattr(self, stored)
            for name, stored in self.names.items()
            if name.startswith(prefix)
        }

    def forward(self, x_BTD: Tensor, given: Prepared) -> Tensor:
        """Output (B, T, D)."""
        del given
        setting, mask = self.setting, torch.ones(x_BTD.shape[:2], dtype=torch.long, device=x_BTD.device)
        x_BTD = (
            x_BTD
            + released.attention(
                self.norms[0](x_BTD),
                mask,
                self._of("a."),
                top_k=setting.attention_top_k,
                num_heads=setting.attention_experts,
                how=How(),
            ).out_BSD
        )
        routed = released.mlp_v2(self.norms[1](x_BTD), mask, self._of("m."), top_k=setting.mlp_top_k, how=How())
        return x_BTD + routed.out_BSD


def draw_weights(module: nn.Module) -> None:
    """Random matrices; routers' are larger, so that they decide."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3 if "router" in name else 0.05)


def build_blocks(setting: Setting, *, seed: int = 0) -> dict[str, nn.Module]:
    """Every block with random weights; `loop` shares those of `union`."""
    torch.manual_seed(seed)
    union = UnionBlock(setting)
    draw_weights(union)
    routed = RoutedMLPBlock(setting)
    draw_weights(routed.mlp)
    return {
        "dense": DenseBlock(setting),
        "dense again": DenseBlock(setting),
        "dense, scores in memory": DenseBlock(setting, "materialised"),
        "dense attention, routed MLP": routed,
        "union": union,
        "union, expert by expert": LoopBlock(union),
        "released code": ReleasedBlock(setting),
    }
