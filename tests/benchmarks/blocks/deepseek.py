"""A block in the style of DeepSeek-V3 (arXiv 2412.19437), built from the classes of transformers."""

from typing import Final, Literal

import torch
from torch import Tensor, nn
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3DecoderLayer, DeepseekV3RotaryEmbedding

from tests.benchmarks.blocks.variants import Prepared, Setting

HIDDEN_MULTIPLE: Final = 8
"""Hidden units per expert are a multiple of this: grouped products need rows of whole 16 bytes."""


def expert_hidden(setting: Setting) -> int:
    """Hidden units of one SwiGLU expert with which the MLP does as many multiply-adds per unit as ours.

    Ours: k experts of two matrices with F / E hidden units. Theirs: k routed experts and a shared one, of three
    matrices each. So 3 (k + 1) h = 2 k F / E, rounded to `HIDDEN_MULTIPLE`: with F 4096 and E 16 h is 136 for top-4
    (0.4 % less work than ours) and 152 for top-8 (0.2 % more).
    """
    top_k = setting.mlp_top_k
    exact = 2 * top_k * setting.hidden / setting.mlp_experts / (3 * (top_k + 1))
    return max(round(exact / HIDDEN_MULTIPLE), 1) * HIDDEN_MULTIPLE


def deepseek_config(setting: Setting, attention: Literal["sdpa", "eager"]) -> DeepseekV3Config:
    """Width, heads, experts and top-k of a case.

    Attention is latent, with V3's ranks in proportion to a head (768 / 256 at a head of 64). Query and key are as wide
    as the value, half of it rotated, so that flash attention applies and scores cost what those of the dense block do
    (V3's are 1.5 times as wide). Experts come in one group: limits on groups spread load over machines.
    """
    head = setting.width // setting.attention_experts
    return DeepseekV3Config(
        hidden_size=setting.width,
        num_attention_heads=setting.attention_experts,
        num_key_value_heads=setting.attention_experts,
        qk_nope_head_dim=head // 2,
        qk_rope_head_dim=head // 2,
        v_head_dim=head,
        q_lora_rank=12 * head,
        kv_lora_rank=4 * head,
        n_routed_experts=setting.mlp_experts,
        num_experts_per_tok=setting.mlp_top_k,
        n_shared_experts=1,
        moe_intermediate_size=expert_hidden(setting),
        n_group=1,
        topk_group=1,
        first_k_dense_replace=0,
        num_hidden_layers=1,
        max_position_embeddings=setting.length,
        vocab_size=8,
        attn_implementation=attention,
        experts_implementation="grouped_mm",
    )


class DeepseekBlock(nn.Module):
    """One causal decoder layer: fused attention (`sdpa`) or scores in memory (`eager`); experts by grouped products."""

    def __init__(self, setting: Setting, attention: Literal["sdpa", "eager"]) -> None:
        super().__init__()
        config = deepseek_config(setting, attention)
        self.needs_mask = attention == "eager"
        self.layer = DeepseekV3DecoderLayer(config, layer_idx=0)
        positions = torch.arange(setting.length).unsqueeze(0)
        cos, sin = DeepseekV3RotaryEmbedding(config)(torch.zeros(1), positions)
        self.cos, self.sin = nn.Buffer(cos, persistent=False), nn.Buffer(sin, persistent=False)

    def forward(self, x_BTD: Tensor, given: Prepared) -> Tensor:
        """Output (B, T, D)."""
        mask = given.causal_mask if self.needs_mask else None
        out: Tensor = self.layer(x_BTD, attention_mask=mask, position_embeddings=(self.cos, self.sin))
        return out
