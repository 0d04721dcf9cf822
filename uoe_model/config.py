"""What a Union-of-Experts model is made of: one router configuration per kind of block, and the model's own."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final, Literal

from transformers import PreTrainedConfig

from uoe_model.errors import ConfigError

Selection = Literal["data", "expert_choice", "expert"]
Admission = Literal["score", "position"]
Gate = Literal["mean_one", "probability", "one"]
Block = Literal["attention", "mlp"]

BLOCKS: Final[tuple[Block, ...]] = ("attention", "mlp")
"""The routed blocks of one layer, in site order."""

MINIMUM_CAUSAL_CAPACITY: Final = 4
"""Patches every expert may keep at once under `position` admission, however short the text is."""

MAXIMUM_CAPACITY_FACTOR: Final = 1000
"""Far above what leaves any expert a limit; keeps capacities within 32 bits."""

_LEAST: Final[Mapping[str, int]] = {
    "vocab_size": 0,
    "hidden_size": 1,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 1,
    "max_position_embeddings": 2,
    "image_size": 1,
    "grid_size": 1,
    "num_channels": 1,
}
_FLAGS: Final = ("is_causal", "embedding_norm", "final_norm", "router_bias", "class_token")
_OPTIONAL: Final = ("num_key_value_heads", "head_dim")
_NOT_NEGATIVE: Final = ("router_aux_loss_coef", "router_z_loss_coef", "router_init_std", "initializer_range")
_POSITIVE: Final = ("norm_eps", "rope_theta")

_ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "selection": ("data", "expert_choice", "expert"),
    "admission": ("score", "position"),
    "gate": ("mean_one", "probability", "one"),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RouterConfig:
    """How the router of one site chooses experts.

    Attributes:
        selection: `data` (each patch requests its top-k experts), `expert_choice` (each expert picks its best
            patches) or `expert` (one decision per example; the chosen experts take all its units).
        num_experts: E, equal slices of the dense block.
        num_experts_per_tok: k, 1..E: experts requested per patch (`data`), per example (`expert`), or on average
            per patch (`expert_choice`).
        capacity_factor: f; an expert takes at most ceil(f * k * patches / E) patches of one example. None: never full.
        admission: who gets a slot when more patches ask than fit: the higher probability (`score`) or the earlier
            patch (`position`, the only causal one).
        gate: weight of an expert's output: `mean_one` (k * p / sum of requested p), `probability` (p) or `one`.
        gate_keys: whether attention experts add ln(gate) to a unit's key logits.
        patch_len: consecutive units routed together.
    """

    selection: Selection = "data"
    num_experts: int
    num_experts_per_tok: int
    capacity_factor: float | None = None
    admission: Admission = "score"
    gate: Gate = "mean_one"
    gate_keys: bool = False
    patch_len: int = 1

    def __post_init__(self) -> None:
        problems = [
            f"{field}={getattr(self, field)!r} must be one of {', '.join(allowed)}"
            for field, allowed in _ALLOWED.items()
            if getattr(self, field) not in allowed
        ]
        most = self.num_experts if _is_whole(self.num_experts, 1) else math.inf
        if math.isinf(most):
            problems.append(f"num_experts={self.num_experts!r} must be a whole number of at least 1")
        if not _is_whole(self.num_experts_per_tok, 1) or self.num_experts_per_tok > most:
            problems.append(
                f"num_experts_per_tok={self.num_experts_per_tok!r} must lie in 1..num_experts={self.num_experts!r}"
            )
        factor = self.capacity_factor
        if factor is not None and not (_is_number(factor) and 0 < factor <= MAXIMUM_CAPACITY_FACTOR):
            problems.append(
                f"capacity_factor={factor!r} must be a number above 0 and at most {MAXIMUM_CAPACITY_FACTOR}, "
                "or null for no limit"
            )
        if not _is_whole(self.patch_len, 1):
            problems.append(f"patch_len={self.patch_len!r} must be a whole number of at least 1")
        if self.selection == "expert" and self.capacity_factor is not None:
            problems.append("selection='expert' takes whole examples and has no capacity: set capacity_factor to null")
        if self.selection == "expert_choice" and self.admission == "position":
            problems.append(
                "selection='expert_choice' looks at all patches before it picks, which is never causal, so "
                "admission='position' does not apply: set admission='score', or selection='data' for a causal model"
            )
        if problems:
            raise ConfigError("RouterConfig: " + "; ".join(problems))

    @property
    def is_causal(self) -> bool:
        """Whether no decision depends on later units."""
        return self.selection == "data" and self.admission == "position"

    @property
    def trains_router(self) -> bool:
        """Whether gates carry a gradient to the router: `one` never does, `mean_one` is constant at k = 1."""
        return self.gate != "one" and not (self.gate == "mean_one" and self.num_experts_per_tok == 1)


class UoEConfig(PreTrainedConfig):
    """Configuration of a Union-of-Experts transformer (arXiv 2503.02495, repaired; see the README for deviations).

    Args:
        hidden_size: D. num_attention_heads: H, shared equally by the attention experts.
        num_key_value_heads: with fewer than H, each serves a run of H / this many heads (arXiv 2305.13245); experts
            share them equally too. None: H. head_dim: width of a head. None: D / H.
        intermediate_size: F, hidden units of the MLP, shared equally by the MLP experts.
        hidden_act: `gelu` (exact), `gelu_tanh` (its approximation by tanh) or `swiglu`.
        norm_type: `rms` or `layer`. norm_position: `pre`, before a block, or `post`, after its residual sum.
        embedding_norm: whether embeddings are normed too. final_norm: whether the last hidden states are.
        router_bias: whether routers add a bias to their logits.
        pooling: one vector of an example, for classifiers and text encoders: the `mean` of its units, or its first
            unit (`cls`). class_token: whether a learned unit stands before the cells of a picture.
        position_embedding: `rotary` (on q and k, at original positions) or `learned` (added to the input).
        is_causal: text models that predict the next token; needs `data` selection with `position` admission.
        attention_router: fields of `RouterConfig` for the attention sites; mlp_router: for the MLP sites.
        router_aux_loss_coef: weight of the load-balancing loss, summed over sites.
        router_z_loss_coef: weight of the router z-loss, summed over sites.
        balance_scope: `batch` balances load over everything in a batch, `sequence` within each example.
        router_init_std: standard deviation of the routers' initial weights.
        image_size: side of the square input in pixels; grid_size: cells per side after the stem.
        stem_channels: output channels of the stem's convolutions; empty for plain non-overlapping patches.

    Raises:
        ConfigError: fields that contradict each other, all named together.
    """

    model_type = "uoe"

    def __init__(
        self,
        vocab_size: int = 8192,
        hidden_size: int = 128,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        intermediate_size: int = 512,
        hidden_act: str = "gelu",
        norm_eps: float = 1e-6,
        norm_type: str = "rms",
        norm_position: str = "pre",
        embedding_norm: bool = False,
        final_norm: bool = True,
        router_bias: bool = False,
        pooling: str = "mean",
        class_token: bool = False,
        max_position_embeddings: int = 512,
        position_embedding: str = "rotary",
        rope_theta: float = 10_000.0,
        is_causal: bool = True,
        attention_router: Mapping[str, Any] | None = None,
        mlp_router: Mapping[str, Any] | None = None,
        router_aux_loss_coef: float = 0.01,
        router_z_loss_coef: float = 0.001,
        balance_scope: str = "batch",
        router_init_std: float = 0.02,
        initializer_range: float = 0.02,
        tie_word_embeddings: bool = True,
        image_size: int = 32,
        grid_size: int = 8,
        num_channels: int = 3,
        stem_channels: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.norm_eps = norm_eps
        self.norm_type = norm_type
        self.norm_position = norm_position
        self.embedding_norm = embedding_norm
        self.final_norm = final_norm
        self.router_bias = router_bias
        self.pooling = pooling
        self.class_token = class_token
        self.max_position_embeddings = max_position_embeddings
        self.position_embedding = position_embedding
        self.rope_theta = rope_theta
        self.is_causal = is_causal
        admission = "position" if is_causal else "score"
        default = {"num_experts": 4, "num_experts_per_tok": 2, "capacity_factor": 1.5, "admission": admission}
        self.attention_router = dict(attention_router or default)
        self.mlp_router = dict(mlp_router or default)
        self.router_aux_loss_coef = router_aux_loss_coef
        self.router_z_loss_coef = router_z_loss_coef
        self.balance_scope = balance_scope
        self.router_init_std = router_init_std
        self.initializer_range = initializer_range
        self.image_size = image_size
        self.grid_size = grid_size
        self.num_channels = num_channels
        self.stem_channels = list(stem_channels or [])
        kwargs.setdefault("use_cache", is_causal)
        kwargs["tie_word_embeddings"] = tie_word_embeddings
        super().__init__(**kwargs)
        self._check()

    def router_config(self, block: Block) -> RouterConfig:
        """The routing of one kind of block; the same in every layer."""
        fields = self.attention_router if block == "attention" else self.mlp_router
        unknown = set(fields) - {field.name for field in dataclasses.fields(RouterConfig)}
        if unknown:
            raise ConfigError(f"UoEConfig: {block}_router has unknown fields {sorted(unknown)}")
        missing = {"num_experts", "num_experts_per_tok"} - set(fields)
        if missing:
            raise ConfigError(f"UoEConfig: {block}_router lacks {', '.join(sorted(missing))}")
        return RouterConfig(**fields)

    @property
    def key_value_heads(self) -> int:
        """Key/value heads of a layer."""
        return self.num_attention_heads if self.num_key_value_heads is None else self.num_key_value_heads

    @property
    def head_width(self) -> int:
        """Width of a head of q, k and v."""
        return self.hidden_size // self.num_attention_heads if self.head_dim is None else self.head_dim

    def site_configs(self) -> tuple[RouterConfig, ...]:
        """One router configuration per site: layer 0 attention, layer 0 mlp, layer 1 attention, ..."""
        return tuple(self.router_config(block) for _ in range(self.num_hidden_layers) for block in BLOCKS)

    def label_names(self) -> tuple[str, ...]:
        """The classes of an image model, by class id."""
        names = self.id2label or {}
        return tuple(str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0])))

    def _check(self) -> None:
        problems = self._number_problems()
        if problems:
            raise ConfigError("UoEConfig: " + "; ".join(problems))
        routers = {block: self.router_config(block) for block in BLOCKS}
        multiples = [
            ("num_attention_heads", self.num_attention_heads, "num_key_value_heads", self.key_value_heads),
            ("num_key_value_heads", self.key_value_heads, "attention experts", routers["attention"].num_experts),
            ("intermediate_size", self.intermediate_size, "mlp experts", routers["mlp"].num_experts),
        ]
        if self.head_dim is None:
            multiples.append(("hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads))
        for name, size, divisor_name, divisor in multiples:
            if size % divisor:
                problems.append(f"{name}={size} must be a multiple of {divisor_name}={divisor}")
        for name, value, allowed in (
            ("hidden_act", self.hidden_act, ("gelu", "gelu_tanh", "swiglu")),
            ("norm_type", self.norm_type, ("rms", "layer")),
            ("norm_position", self.norm_position, ("pre", "post")),
            ("pooling", self.pooling, ("mean", "cls")),
            ("position_embedding", self.position_embedding, ("rotary", "learned")),
            ("balance_scope", self.balance_scope, ("batch", "sequence")),
        ):
            if value not in allowed:
                problems.append(f"{name}={value!r} must be one of {', '.join(allowed)}")
        if self.position_embedding == "rotary" and self.head_width % 2:
            problems.append(f"rotary positions need an even head width, not {self.head_width}")
        for block, router in routers.items():
            if self.is_causal and not router.is_causal:
                problems.append(
                    f"{block}_router: a causal model needs selection='data' with admission='position', "
                    f"not {router.selection!r} with {router.admission!r}"
                )
            if router.gate == "mean_one" and router.num_experts_per_tok == 1:
                problems.append(
                    f"{block}_router: gate='mean_one' with num_experts_per_tok=1 is always 1 and gives the router no "
                    "gradient: use gate='probability', or gate='one' for a frozen router"
                )
        if self.class_token and self.vocab_size:
            problems.append("class_token=true is for pictures: the tokenizer of a text model adds its own")
        if routers["attention"].patch_len != routers["mlp"].patch_len:
            problems.append("attention_router and mlp_router must have the same patch_len")
        if problems:
            raise ConfigError("UoEConfig: " + "; ".join(problems))

    def _number_problems(self) -> list[str]:
        """What cannot be computed with; a config.json may hold anything."""
        problems = [
            f"{name}={getattr(self, name)!r} must be a whole number of at least {least}"
            for name, least in _LEAST.items()
            if not _is_whole(getattr(self, name), least)
        ]
        problems += [
            f"{name}={getattr(self, name)!r} must be null or a whole number of at least 1"
            for name in _OPTIONAL
            if getattr(self, name) is not None and not _is_whole(getattr(self, name), 1)
        ]
        for name in (*_NOT_NEGATIVE, *_POSITIVE):
            value, bound = getattr(self, name), "above 0" if name in _POSITIVE else "not below 0"
            if not _is_number(value) or value < 0 or (name in _POSITIVE and value == 0):
                problems.append(f"{name}={value!r} must be a number {bound}")
        if not all(_is_whole(channels, 1) for channels in self.stem_channels):
            problems.append(f"stem_channels={self.stem_channels!r} must be whole numbers of at least 1")
        for name in _FLAGS:
            if type(getattr(self, name)) is not bool:
                problems.append(f"{name}={getattr(self, name)!r} must be true or false")
        return problems


def _is_whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)
