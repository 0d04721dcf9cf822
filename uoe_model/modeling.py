"""The Union-of-Experts transformer, from input to logits: read this file first."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import initialization as init

from uoe_model.attention import SMHA, rotary_angles
from uoe_model.cache import CacheStep, UoECache, begin_step
from uoe_model.config import UoEConfig
from uoe_model.decision import RoutingDecision
from uoe_model.errors import ConfigError, InputError
from uoe_model.layout import RoutingLayout, build_layout
from uoe_model.losses import load_balancing_loss, next_token_loss, router_z_loss
from uoe_model.mlp import UoME
from uoe_model.outputs import UoEEncoderOutput, UoEModelOutput, UoEOutput
from uoe_model.router import Router, RoutingOverrides
from uoe_model.stem import ImageStem


def build_norm(config: UoEConfig) -> nn.Module:
    """A norm over the width, of the configured kind."""
    kind = nn.RMSNorm if config.norm_type == "rms" else nn.LayerNorm
    return kind(config.hidden_size, eps=config.norm_eps)


class Block(nn.Module):
    """One layer: two routed blocks, each with a residual around it and its norm before it (or after the sum)."""

    def __init__(self, config: UoEConfig, layer: int) -> None:
        super().__init__()
        self.norms_first = config.norm_position == "pre"
        self.norm_attention = build_norm(config)
        self.attention = SMHA(config, layer)
        self.norm_mlp = build_norm(config)
        self.mlp = UoME(config, layer)

    def forward(
        self,
        x_ND: Tensor,
        layout: RoutingLayout,
        rotation: tuple[Tensor, Tensor] | None,
        overrides: RoutingOverrides | None,
        step: CacheStep | None,
    ) -> tuple[Tensor, RoutingDecision, RoutingDecision]:
        """x + SMHA(norm(x)), then x + UoME(norm(x)); or norm(x + SMHA(x)), then norm(x + UoME(x))."""
        if not self.norms_first:
            y_ND, attention_decision = self.attention(x_ND, layout, rotation, overrides, step)
            x_ND = self.norm_attention(x_ND + y_ND)
            y_ND, mlp_decision = self.mlp(x_ND, layout, overrides, step)
            return self.norm_mlp(x_ND + y_ND), attention_decision, mlp_decision
        y_ND, attention_decision = self.attention(self.norm_attention(x_ND), layout, rotation, overrides, step)
        x_ND = x_ND + y_ND
        y_ND, mlp_decision = self.mlp(self.norm_mlp(x_ND), layout, overrides, step)
        return x_ND + y_ND, attention_decision, mlp_decision


class UoEPreTrainedModel(PreTrainedModel):
    """Loading, saving and initial weights."""

    config: UoEConfig
    config_class = UoEConfig
    base_model_prefix = "model"
    _no_split_modules = ["Block"]  # noqa: RUF012  (transformers reads a list)
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        std = self.config.initializer_range
        deep = std / (2 * self.config.num_hidden_layers) ** 0.5
        if isinstance(module, Router):
            init.normal_(module.weight, std=self.config.router_init_std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, SMHA):
            init.normal_(module.w_qkv, std=std)
            init.normal_(module.w_o, std=deep)
            init.zeros_(module.b_qkv)
            init.zeros_(module.b_o)
        elif isinstance(module, UoME):
            init.normal_(module.w1, std=std)
            init.normal_(module.w2, std=deep)
            init.zeros_(module.b1)
            init.zeros_(module.b2)
        elif isinstance(module, ImageStem):
            init.normal_(module.position, std=std)


class UoEModel(UoEPreTrainedModel):
    """Embeddings (unless the config is for images), blocks and final norm; alone it is a text encoder."""

    def __init__(self, config: UoEConfig) -> None:
        super().__init__(config)
        self.embed: nn.Module | None = None
        if config.vocab_size:
            self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        learned = config.position_embedding == "learned" and config.vocab_size
        self.embed_position = nn.Embedding(config.max_position_embeddings, config.hidden_size) if learned else None
        self.norm_embedding = build_norm(config) if config.embedding_norm else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = build_norm(config) if config.final_norm else nn.Identity()
        self.patch_len = config.router_config("attention").patch_len
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module | None:  # type: ignore[override]
        """The token embeddings; None in a model of images."""
        return self.embed

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embeddings."""
        self.embed = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: UoECache | None = None,
        routing: RoutingOverrides | None = None,
        **_: Any,
    ) -> UoEEncoderOutput:
        """Hidden states and a pooled embedding; see `UoEForCausalLM.forward` for the arguments."""
        out = self.encode(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            past_key_values=past_key_values,
            routing=routing,
        )
        layout, hidden_ND = out.layout, out.last_hidden_state
        return UoEEncoderOutput(
            last_hidden_state=layout.spread(hidden_ND).view(layout.num_rows, layout.row_length, -1),
            pooler_output=self.pool(hidden_ND, layout),
            decisions=tuple(decision.spread(layout) for decision in out.decisions),
            past_key_values=past_key_values,
        )

    def pool(self, hidden_ND: Tensor, layout: RoutingLayout) -> Tensor:
        """One vector per example (G, D): its first unit, or the mean of its units."""
        if self.config.pooling == "cls":
            return hidden_ND[layout.position_N == 0]
        total_GD = hidden_ND.new_zeros(layout.num_groups, hidden_ND.shape[1]).index_add(0, layout.group_N, hidden_ND)
        return total_GD / torch.bincount(layout.group_N, minlength=layout.num_groups).unsqueeze(1)

    def encode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: UoECache | None = None,
        routing: RoutingOverrides | None = None,
    ) -> UoEModelOutput:
        """Run all blocks over the valid units; see `UoEForCausalLM.forward` for the arguments."""
        given = inputs_embeds if input_ids is None else input_ids
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise InputError("UoEModel: pass either input_ids or inputs_embeds")
        shape, device = given.shape[:2], given.device
        step = None
        if past_key_values is not None:
            if document_ids is not None:
                raise InputError("document_ids: packed documents cannot be continued from a cache")
            step = begin_step(past_key_values, _valid(attention_mask, shape, past_key_values, device), self.patch_len)
            layout = step.layout
        else:
            layout = build_layout(_valid(attention_mask, shape, None, device), self.patch_len, document_ids)
        x_ND = layout.select(given)
        if input_ids is not None:
            if self.embed is None:
                raise InputError("UoEModel: a model without a vocabulary takes inputs_embeds, not input_ids")
            x_ND = self.embed(x_ND)
        rotation = self.rotation(layout, x_ND.dtype)
        if self.embed_position is not None:
            if int(layout.position_N.max()) >= self.config.max_position_embeddings:
                raise InputError(
                    f"input is longer than the {self.config.max_position_embeddings} learned positions: cut it"
                )
            x_ND = x_ND + self.embed_position(layout.position_N)
        if self.norm_embedding is not None:
            x_ND = self.norm_embedding(x_ND)
        decisions: list[RoutingDecision] = []
        for block in self.blocks:
            x_ND, attention_decision, mlp_decision = block(x_ND, layout, rotation, routing, step)
            decisions += [attention_decision.without_slots(), mlp_decision.without_slots()]
        return UoEModelOutput(last_hidden_state=self.norm(x_ND), decisions=tuple(decisions), layout=layout)

    def rotation(self, layout: RoutingLayout, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """cos and sin of the rotary positions of all units; None if positions are learned."""
        if self.config.position_embedding != "rotary":
            return None
        return rotary_angles(layout.position_N, self.config.head_width, self.config.rope_theta, dtype)

    def router_losses(self, out: UoEModelOutput) -> tuple[Tensor, Tensor]:
        """Load-balancing loss and z-loss, each the mean over sites."""
        balance, z = [], []
        for decision, config in zip(out.decisions, self.config.site_configs(), strict=True):
            loss = load_balancing_loss(decision, config, out.layout, scope=self.config.balance_scope)
            balance += [] if loss is None else [loss]
            z.append(router_z_loss(decision, out.layout))
        zero = out.last_hidden_state.new_zeros(())
        return torch.stack(balance).mean() if balance else zero, torch.stack(z).mean()


class UoEForCausalLM(UoEPreTrainedModel, GenerationMixin):
    """Predicts the next token."""

    _tied_weights_keys = {"lm_head.weight": "model.embed.weight"}  # noqa: RUF012  (transformers reads a dict)

    def __init__(self, config: UoEConfig) -> None:
        super().__init__(config)
        if not config.is_causal:
            raise ConfigError("UoEForCausalLM needs is_causal=True")
        if not config.vocab_size:
            raise ConfigError("UoEForCausalLM needs a vocabulary, not vocab_size=0")
        self.model = UoEModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: UoECache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        routing: RoutingOverrides | None = None,
        **_: Any,
    ) -> UoEOutput:
        """Logits for the token after each position.

        Args:
            input_ids: int64 (B, T). attention_mask: (B, T) or, with a cache, (B, all columns); 0 is padding, at any
                side. It is never routed and changes nobody's output.
            position_ids: accepted for `generate`; positions always follow from the mask and the documents.
            document_ids: int (B, T): several documents in one row. Attention, positions and admission start anew at
                each of them, and the first token of a document is not predicted from the one before.
            labels: int64 (B, T), shifted inside; -100 is ignored.
            past_key_values: a `UoECache`; given or not, `use_cache=True` returns one.
            logits_to_keep: only the last positions' logits (0: all).
            routing: overrides of this call.

        Raises:
            InputError: rows without tokens, or packed documents with a cache.
        """
        if past_key_values is not None and not isinstance(past_key_values, UoECache):
            raise ConfigError(f"past_key_values must be a UoECache, not {type(past_key_values).__name__}")
        if past_key_values is None and use_cache:
            past_key_values = UoECache()
        out = self.model.encode(
            input_ids=input_ids,
            attention_mask=attention_mask,
            document_ids=document_ids,
            inputs_embeds=inputs_embeds,
            past_key_values=past_key_values,
            routing=routing,
        )
        hidden_BTD = out.layout.spread(out.last_hidden_state)
        hidden_BTD = hidden_BTD.view(out.layout.num_rows, out.layout.row_length, -1)
        logits = self.lm_head(hidden_BTD[:, -logits_to_keep:] if logits_to_keep else hidden_BTD)
        result = UoEOutput(
            logits=logits,
            decisions=tuple(decision.spread(out.layout) for decision in out.decisions),
            past_key_values=past_key_values,
        )
        if labels is not None:
            if attention_mask is not None:
                padding = attention_mask[:, -labels.shape[1] :] == 0
                # Neither is padding predicted, nor is anything predicted from padding.
                labels = labels.masked_fill(padding | F.pad(padding[:, :-1], (1, 0)), -100)
            _add_losses(result, self.model, out, next_token_loss(logits, labels, document_ids))
        return result

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *_: Any
    ) -> bool:
        """Generation starts from a `UoECache`, since keys depend on who kept them; says whether it made one."""
        is_wanted = model_kwargs.get("past_key_values") is None and generation_config.use_cache is not False
        if is_wanted:
            model_kwargs["past_key_values"] = UoECache()
        return is_wanted


class UoEForImageClassification(UoEPreTrainedModel):
    """Classifies an image from the mean of its cells, or from its class token."""

    main_input_name = "pixel_values"

    def __init__(self, config: UoEConfig) -> None:
        super().__init__(config)
        if config.is_causal:
            raise ConfigError("UoEForImageClassification needs is_causal=False")
        self.stem = ImageStem(config)
        self.model = UoEModel(config)
        self.classifier = nn.Linear(config.hidden_size, len(config.label_names()))
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        routing: RoutingOverrides | None = None,
        **_: Any,
    ) -> UoEOutput:
        """Class logits.

        Args:
            pixel_values: float (B, channels, image_size, image_size), normalised. labels: int64 (B,).
            routing: overrides of this call.
        """
        expected = (self.config.num_channels, self.config.image_size, self.config.image_size)
        if pixel_values.ndim != 4 or tuple(pixel_values.shape[1:]) != expected:
            raise InputError(f"pixel_values: shape {tuple(pixel_values.shape)} must be (batch, {expected})")
        cells_BTD = self.stem(pixel_values)
        out = self.model.encode(inputs_embeds=cells_BTD, routing=routing)
        hidden_BTD = out.last_hidden_state.view(cells_BTD.shape)
        logits = self.classifier(hidden_BTD[:, 0] if self.config.pooling == "cls" else hidden_BTD.mean(1))
        result = UoEOutput(logits=logits, decisions=out.decisions)
        if labels is not None:
            _add_losses(result, self.model, out, F.cross_entropy(logits.float(), labels))
        return result


def _valid(mask: Tensor | None, shape: torch.Size, cache: UoECache | None, device: torch.device) -> Tensor:
    """bool over all columns, cached ones included."""
    past = None if cache is None else cache.valid_BT
    columns = shape[1] + (0 if past is None else past.shape[1])
    if mask is not None:
        if mask.ndim != 2 or mask.shape != (shape[0], columns):
            raise InputError(f"attention_mask: shape {tuple(mask.shape)} must be ({shape[0]}, {columns})")
        return mask.to(device) != 0
    new = torch.ones(tuple(shape), dtype=torch.bool, device=device)
    return new if past is None else torch.cat([past, new], 1)


def _add_losses(result: UoEOutput, model: UoEModel, out: UoEModelOutput, cross_entropy: Tensor) -> None:
    config = model.config
    result.cross_entropy = cross_entropy
    result.balance_loss, result.z_loss = model.router_losses(out)
    sites = len(out.decisions)
    weighted = config.router_aux_loss_coef * result.balance_loss + config.router_z_loss_coef * result.z_loss
    result.loss = cross_entropy + sites * weighted


AutoConfig.register("uoe", UoEConfig)
AutoModel.register(UoEConfig, UoEModel)
AutoModelForCausalLM.register(UoEConfig, UoEForCausalLM)
AutoModelForImageClassification.register(UoEConfig, UoEForImageClassification)
