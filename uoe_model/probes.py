"""What other routing would cost on one input: losses of forward passes, without a trace.

For a text the loss is that of its tokens. A picture has no label here, so its loss is measured against the class that
the unchanged model answers: it says how far a change moves the model from its own answer, not from the right one.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uoe_model.bundle import Bundle, Kind
from uoe_model.config import RouterConfig
from uoe_model.errors import CheckpointError, ConfigError
from uoe_model.inference import inference_on, picture_processor, text_tokenizer
from uoe_model.processors.image import ImageLike
from uoe_model.replacements import (
    CAPACITIES,
    REPLACEMENTS,
    TARGETS,
    BalancedRandom,
    LookedUp,
    Permuted,
    ReplacedRoutes,
    Replacement,
    Untrained,
    draw_seed,
    lookup_routes,
    target_sites,
    untrained_weights,
)
from uoe_model.router import RoutingOverrides
from uoe_model.scoring import examples_per_call, pad_examples
from uoe_model.units import cut_text
from uoe_model.watch import UNWATCHED, Watch, check_cancelled

Content: TypeAlias = str | ImageLike
"""A text, or one picture."""

LOSS_OF: Final[Mapping[Kind, str]] = {
    "text": "nats per token: minus ln probability of the text's own tokens",
    "image": "nats: minus ln probability of the class that the unchanged model answers, since the picture has no label",
}
"""What the losses of this file are of."""

_NO_TARGET: Final = -100


class LossChange(NamedTuple):
    """Loss under a change, and by how much that is more than under the unchanged model."""

    loss: float
    loss_change: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Batch:
    """What one call of the model takes, and what it should predict.

    Attributes:
        keys_BT: int64, lookup keys of the units. targets: int64, one per row of the flattened logits, -100: none.
    """

    arguments: Mapping[str, Tensor]
    keys_BT: Tensor
    targets: Tensor


def loss_changes(
    bundle: Bundle, content: Content, changes: Mapping[str, RoutingOverrides], *, watch: Watch = UNWATCHED
) -> dict[str, LossChange]:
    """Measure the loss of one input under each of several changes; see `LOSS_OF`.

    Raises:
        InputError, CheckpointError: the input cannot be used with this model.
        ConfigError: a change that does not fit it. DeviceError: out of memory. Cancelled: by the watch.
    """
    with inference_on(bundle):
        batches = _prepare(bundle, content)
        watch.report("measuring", 0, 1 + len(changes))
        unchanged = _loss(bundle, batches, None, watch)
        found: dict[str, LossChange] = {}
        for done, (name, overrides) in enumerate(changes.items(), start=1):
            watch.report("measuring", done, 1 + len(changes))
            loss = _loss(bundle, batches, overrides, watch)
            found[name] = LossChange(loss=loss, loss_change=loss - unchanged)
    watch.report("measuring", 1 + len(changes), 1 + len(changes))
    return found


def input_routing_value(
    bundle: Bundle, content: Content, *, draws: int = 5, seed: int = 0, watch: Watch = UNWATCHED
) -> list[dict[str, Any]]:
    """Measure how much the loss of one input depends on the learned routes, by replacing them.

    Args:
        draws: of the random replacements. seed: equal seeds give equal draws on one device.

    Returns:
        One record for every replacement, block and capacity, in the order of `REPLACEMENTS`, `TARGETS`, `CAPACITIES`:

        - model: name of the checkpoint
        - replacement, block (attention, mlp, both), capacity (as trained, none: never full in both terms)
        - loss_change: mean over draws of the loss with replaced routes, minus that with learned ones; None: unknown
        - low, high: smallest and largest over draws; None where nothing is drawn
        - draws: how many; 1 where nothing is drawn, 0 where nothing is known
        - reason: why loss_change is unknown, else ""

    Raises:
        InputError, CheckpointError: the input cannot be used with this model.
        ConfigError: draws below 1. DeviceError: out of memory. Cancelled: by the watch.
    """
    if type(draws) is not int or draws < 1:
        raise ConfigError(f"draws={draws!r} must be a whole number of at least 1")
    configs = bundle.config.site_configs()
    plans = [
        (replacement, block, *_replacements(bundle, replacement, block, configs, draws, seed))
        for replacement in REPLACEMENTS
        for block in TARGETS
    ]
    total = len(CAPACITIES) * (1 + sum(len(routes) for _, _, routes, _ in plans))
    done = 0
    losses: dict[tuple[str, str, str], list[float]] = {}
    with inference_on(bundle):
        batches = _prepare(bundle, content)
        for capacity in CAPACITIES:
            is_limited = capacity == "as trained"
            watch.report("measuring", done, total)
            base = _loss(bundle, batches, None if is_limited else RoutingOverrides(capacity_factor=None), watch)
            done += 1
            for replacement, block, routes, _ in plans:
                changed = losses.setdefault((replacement, block, capacity), [])
                for make in routes:
                    watch.report("measuring", done, total)
                    routing = ReplacedRoutes(make(), target_sites(block, len(configs)), limited=is_limited)
                    changed.append(_loss(bundle, batches, routing, watch) - base)
                    done += 1
    watch.report("measuring", done, total)
    return [
        _record(bundle.name, replacement, block, capacity, losses[replacement, block, capacity], reason)
        for replacement, block, _, reason in plans
        for capacity in CAPACITIES
    ]


def _record(
    model: str, replacement: str, block: str, capacity: str, changes: Sequence[float], reason: str
) -> dict[str, Any]:
    is_drawn = replacement in ("balanced_random", "permuted") and not reason
    return {
        "model": model,
        "replacement": replacement,
        "block": block,
        "capacity": capacity,
        "loss_change": float(np.mean(changes)) if changes else None,
        "low": min(changes) if is_drawn else None,
        "high": max(changes) if is_drawn else None,
        "draws": len(changes),
        "reason": reason,
    }


def _replacements(
    bundle: Bundle, replacement: str, block: str, configs: tuple[RouterConfig, ...], draws: int, seed: int
) -> tuple[list[Callable[[], Replacement]], str]:
    """What makes each draw of a replacement anew, or nothing and the reason why it cannot be made."""
    seeds = [draw_seed(seed, draw) for draw in range(draws)]
    if replacement == "permuted":
        return [functools.partial(Permuted, seed) for seed in seeds], ""
    try:
        if replacement == "lookup":
            tables = lookup_routes(configs, bundle.folder)
            return [functools.partial(LookedUp, tables)], ""
        if replacement == "untrained_router":
            weights = untrained_weights(bundle.model, bundle.folder)
            return [functools.partial(Untrained, weights)], ""
        dealt = {site: configs[site] for site in target_sites(block, len(configs))}
        BalancedRandom(dealt, seed=0)
        return [functools.partial(BalancedRandom, dealt, seed) for seed in seeds], ""
    except (CheckpointError, ConfigError) as error:
        return [], str(error)


def _prepare(bundle: Bundle, content: Content) -> list[_Batch]:
    return _text_batches(bundle, content) if isinstance(content, str) else [_picture_batch(bundle, content)]


def _text_batches(bundle: Bundle, text: str) -> list[_Batch]:
    text_tokenizer(bundle)
    if not bundle.config.is_causal:
        raise CheckpointError(f"{bundle.name} is a text encoder: it predicts nothing, so there is no loss to change.")
    examples = cut_text(bundle, text).examples
    batches = []
    per_call = examples_per_call(examples, bundle.config.vocab_size)
    for start in range(0, len(examples), per_call):
        input_ids, mask = pad_examples(examples[start : start + per_call], bundle.device)
        following = F.pad(input_ids.masked_fill(mask == 0, _NO_TARGET)[:, 1:], (0, 1), value=_NO_TARGET)
        arguments = {"input_ids": input_ids, "attention_mask": mask}
        batches.append(_Batch(arguments=arguments, keys_BT=input_ids, targets=following.flatten()))
    return batches


def _picture_batch(bundle: Bundle, image: ImageLike) -> _Batch:
    """The picture, with the unchanged model's own answer as the target."""
    prepared = picture_processor(bundle).prepare(image)
    pixels = torch.from_numpy(prepared.pixel_values.copy())[None].to(bundle.device)
    answer = bundle.model(pixel_values=pixels).logits.argmax(-1)
    cells_BT = torch.arange(bundle.config.grid_size**2, device=bundle.device)[None]
    return _Batch(arguments={"pixel_values": pixels}, keys_BT=cells_BT, targets=answer)


def _loss(
    bundle: Bundle, batches: Sequence[_Batch], routing: RoutingOverrides | ReplacedRoutes | None, watch: Watch
) -> float:
    """Mean nats per target."""
    total, count = 0.0, 0
    for batch in batches:
        check_cancelled(watch)
        overrides = routing(batch.keys_BT) if isinstance(routing, ReplacedRoutes) else routing
        logits = bundle.model(**batch.arguments, routing=overrides).logits
        nats = F.cross_entropy(logits.flatten(0, -2).float(), batch.targets, ignore_index=_NO_TARGET, reduction="none")
        total += float(nats.double().sum())
        count += int((batch.targets != _NO_TARGET).sum())
    return total / count
