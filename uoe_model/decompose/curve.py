"""What fewer experts cost a decomposed model: its error against all experts, for calibrated, random and best routes."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from uoe_model.checkpoint_json import ROUTES, SCOPES
from uoe_model.decompose.calibrate import Batch, blocks_of, body_of, encode, expert_norms
from uoe_model.layout import RoutingLayout
from uoe_model.modeling import UoEForCausalLM, UoEForImageClassification
from uoe_model.outputs import UoEModelOutput
from uoe_model.router import ReplaceLogits, RoutingOverrides
from uoe_model.scoring import LOGITS_AT_ONCE
from uoe_model.watch import Watch, check_cancelled


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Answer:
    """Hidden states of one batch, and what the model makes of them (see `_answer_of`)."""

    hidden_ND: Tensor
    pooled_GD: Tensor
    loss_sum: float
    num_targets: int
    classes: Tensor | None


def steps_of(attention_experts: int, mlp_experts: int, scope: str) -> list[tuple[int, int]]:
    """Numbers of chosen experts (attention, MLP) from 1 to all; where both change, in equal shares, rounded up."""
    if scope == "attention":
        return [(k, mlp_experts) for k in range(1, attention_experts + 1)]
    if scope == "mlp":
        return [(attention_experts, k) for k in range(1, mlp_experts + 1)]
    most = max(attention_experts, mlp_experts)
    pairs = [(-(-k * attention_experts // most), -(-k * mlp_experts // most)) for k in range(1, most + 1)]
    return list(dict.fromkeys(pairs))


@torch.no_grad()
def measure_curve(
    model: PreTrainedModel, batches: Sequence[Batch], watch: Watch, *, chosen: tuple[int, int], seed: int = 0
) -> list[dict[str, Any]]:
    """Measure every number of chosen experts, with routes made in each of the `ROUTES`.

    Args:
        model: private to the caller: its routers' k is changed and put back. batches: not those it was calibrated on.
        chosen: the numbers (attention, MLP) that the model will run with, measured in any case.

    Returns:
        One record per scope, step and routes:

        - scope (both, attention, mlp), attention_top_k, mlp_top_k, routes
        - hidden_error: root of the summed squared difference of all final hidden states from those with all experts,
          over that of the latter, 0 if equal
        - cosine: mean cosine of the examples' pooled vectors with those of all experts
        - loss: nats per token of a language model, else None
        - agreement: share of examples whose class stays that of all experts, of a classifier, else None
    """
    attention, mlp = (model.config.router_config(block).num_experts for block in ("attention", "mlp"))
    plan = [
        (scope, a, m, routes)
        for scope in SCOPES
        for a, m in _with(chosen, steps_of(attention, mlp, scope), scope)
        for routes in (ROUTES if (a, m) != (attention, mlp) else ROUTES[:1])
    ]
    with _chosen(model, attention, mlp):
        dense = [_answer(model, batch, None) for batch in batches]
    rows = []
    for done, (scope, a, m, routes) in enumerate(plan):
        check_cancelled(watch)
        watch.report("measuring", done, len(plan))
        replace = _replacement(model, routes, seed)
        overrides = None if replace is None else RoutingOverrides(replace_logits=replace)
        with _chosen(model, a, m):
            found = [_answer(model, batch, overrides) for batch in batches]
        record = {"scope": scope, "attention_top_k": a, "mlp_top_k": m, "routes": routes}
        rows.append(record | _compare(found, dense))
    watch.report("measuring", len(plan), len(plan))
    return rows


def _with(chosen: tuple[int, int], steps: list[tuple[int, int]], scope: str) -> list[tuple[int, int]]:
    return sorted({*steps, chosen}) if scope == "both" else steps


def _answer(model: PreTrainedModel, batch: Batch, overrides: RoutingOverrides | None) -> _Answer:
    out = encode(model, batch, overrides)
    hidden_ND, layout = out.last_hidden_state, out.layout
    pooled_GD = body_of(model).pool(hidden_ND, layout)
    loss_sum, num_targets, classes = 0.0, 0, None
    if isinstance(model, UoEForCausalLM):
        loss_sum, num_targets = _text_loss(model, batch["input_ids"], out)
    elif isinstance(model, UoEForImageClassification):
        classes = model.classifier(pooled_GD).argmax(-1)
    return _Answer(
        hidden_ND=hidden_ND, pooled_GD=pooled_GD, loss_sum=loss_sum, num_targets=num_targets, classes=classes
    )


def _text_loss(model: UoEForCausalLM, input_ids: Tensor, out: UoEModelOutput) -> tuple[float, int]:
    """Nats of every unit that follows another one of its example."""
    ids_N = out.layout.select(input_ids)
    follows = out.layout.group_N[1:] == out.layout.group_N[:-1]
    hidden_ND, next_N = out.last_hidden_state[:-1][follows], ids_N[1:][follows]
    rows = max(LOGITS_AT_ONCE // model.config.vocab_size, 1)
    loss = 0.0
    for start in range(0, len(next_N), rows):
        logits = model.lm_head(hidden_ND[start : start + rows])
        loss += float(F.cross_entropy(logits.float(), next_N[start : start + rows], reduction="sum"))
    return loss, len(next_N)


def _compare(found: Sequence[_Answer], dense: Sequence[_Answer]) -> dict[str, float | None]:
    off = sum(float((a.hidden_ND - b.hidden_ND).double().square().sum()) for a, b in zip(found, dense, strict=True))
    size = sum(float(b.hidden_ND.double().square().sum()) for b in dense)
    cosines = [F.cosine_similarity(a.pooled_GD, b.pooled_GD) for a, b in zip(found, dense, strict=True)]
    targets = sum(answer.num_targets for answer in found)
    same = [a.classes == b.classes for a, b in zip(found, dense, strict=True) if a.classes is not None]
    return {
        "hidden_error": (off / size) ** 0.5 if size else 0.0,
        "cosine": float(torch.cat(cosines).double().mean()),
        "loss": sum(answer.loss_sum for answer in found) / targets if targets else None,
        "agreement": float(torch.cat(same).double().mean()) if same else None,  # type: ignore[arg-type]
    }


def _replacement(model: PreTrainedModel, routes: str, seed: int) -> ReplaceLogits | None:
    if routes == "calibrated":
        return None
    if routes == "random":
        generator = torch.Generator().manual_seed(seed)
        return lambda site, logits_ME, layout, x_MD: torch.randn(logits_ME.shape, generator=generator).to(logits_ME)

    def longest(site: int, logits_ME: Tensor, layout: RoutingLayout, x_MD: Tensor) -> Tensor:
        return expert_norms(model, site, x_MD, layout).to(logits_ME.dtype)

    return longest


class _chosen:
    """The model's routers choose so many experts inside the block."""

    def __init__(self, model: PreTrainedModel, attention: int, mlp: int) -> None:
        self._routers = [block.router for block in blocks_of(model)]
        self._counts = [attention, mlp]
        self._before = [router.config for router in self._routers]

    def __enter__(self) -> None:
        for site, router in enumerate(self._routers):
            router.config = dataclasses.replace(router.config, num_experts_per_tok=self._counts[site % 2])

    def __exit__(self, *_: object) -> None:
        for router, config in zip(self._routers, self._before, strict=True):
            router.config = config


def each_record(rows: Sequence[dict[str, Any]], **wanted: Any) -> Iterator[dict[str, Any]]:
    """Records with these values."""
    return (row for row in rows if all(row[name] == value for name, value in wanted.items()))
