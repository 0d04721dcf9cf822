"""What models return."""

import dataclasses

from torch import Tensor
from transformers.utils.generic import ModelOutput

from uoe_model.cache import UoECache
from uoe_model.decision import RoutingDecision
from uoe_model.layout import RoutingLayout


@dataclasses.dataclass
class UoEOutput(ModelOutput):
    """What a model with a head returns.

    Attributes:
        loss: cross entropy plus weighted router losses; only with labels.
        logits: (B, T, V) next-token logits, or (B, labels) class logits.
        decisions: one `RoutingDecision` per site, in site order, over the B * T units of this call.
        cross_entropy: nats. balance_loss: mean over sites, 1 when even. z_loss: mean over sites.
        past_key_values: the cache, if one is used.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    decisions: tuple[RoutingDecision, ...] | None = None
    cross_entropy: Tensor | None = None
    balance_loss: Tensor | None = None
    z_loss: Tensor | None = None
    past_key_values: UoECache | None = None


@dataclasses.dataclass
class UoEEncoderOutput(ModelOutput):
    """What a model without a head returns.

    Attributes:
        last_hidden_state: (B, T, D), 0 at padding.
        pooler_output: (B, D), the mean over each row's units or its first unit, as `pooling` of the config says.
        decisions: as in `UoEOutput`.
        past_key_values: the cache, if one is used.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    decisions: tuple[RoutingDecision, ...] | None = None
    past_key_values: UoECache | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UoEModelOutput:
    """Hidden states (N, D) of the valid units, their layout, and the decisions over those units."""

    last_hidden_state: Tensor
    decisions: tuple[RoutingDecision, ...]
    layout: RoutingLayout
