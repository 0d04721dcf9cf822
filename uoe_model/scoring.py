"""What a language model says about a text: losses and guesses of whole examples, and a greedy continuation."""

import dataclasses
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uoe_model.bundle import Bundle
from uoe_model.cache import UoECache
from uoe_model.capture import SiteDecisions, join, to_host
from uoe_model.router import RoutingOverrides

WINDOWS_PER_CALL: Final = 4
"""Examples of a long text that run together; bounds the memory for next-token logits."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predicted:
    """What the model says after each unit: its best guess, and the loss of what really came (NaN if nothing did)."""

    token_id: NDArray[np.int32]
    probability: NDArray[np.float32]
    loss: NDArray[np.float32]

    def first(self, count: int) -> "Predicted":
        """The first `count` units."""
        return Predicted(token_id=self.token_id[:count], probability=self.probability[:count], loss=self.loss[:count])

    def then(self, other: "Predicted") -> "Predicted":
        """These units and the others after them."""
        return Predicted(
            token_id=np.concatenate([self.token_id, other.token_id]),
            probability=np.concatenate([self.probability, other.probability]),
            loss=np.concatenate([self.loss, other.loss]),
        )


def score_examples(
    bundle: Bundle, examples: list[NDArray[np.int64]], overrides: RoutingOverrides | None
) -> tuple[tuple[SiteDecisions, ...], Predicted, Tensor]:
    """All examples without a cache; also the logits after the very last unit (V,)."""
    parts, predicted = [], []
    last_V = torch.zeros(0)
    for start in range(0, len(examples), WINDOWS_PER_CALL):
        rows = examples[start : start + WINDOWS_PER_CALL]
        width = max(len(row) for row in rows)
        input_ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for row, ids in enumerate(rows):
            input_ids[row, : len(ids)] = torch.from_numpy(ids)
            mask[row, : len(ids)] = 1
        input_ids, mask = input_ids.to(bundle.device), mask.to(bundle.device)
        out = bundle.model(input_ids=input_ids, attention_mask=mask, routing=overrides)
        parts.append(to_host(out.decisions, mask.flatten().nonzero().squeeze(1)))
        predicted.append(_predict(out.logits, input_ids, mask))
        last_V = out.logits[len(rows) - 1, len(rows[-1]) - 1]
    joined = predicted[0]
    for part in predicted[1:]:
        joined = joined.then(part)
    return join(parts), joined, last_V


def _predict(logits_BTV: Tensor, input_ids: Tensor, mask: Tensor) -> Predicted:
    """Best guess after each unit that is not padding, and the loss of the unit that follows in its row."""
    log_p_BTV = logits_BTV.float().log_softmax(-1)
    best = log_p_BTV.max(-1)
    following = F.pad(input_ids[:, 1:], (0, 1))
    known = F.pad(mask[:, 1:], (0, 1)) != 0
    loss = -log_p_BTV.gather(-1, following.unsqueeze(-1)).squeeze(-1)
    loss = loss.masked_fill(~known, float("nan"))
    real = mask.flatten() != 0
    flat = [part.flatten()[real].cpu().numpy() for part in (best.indices, best.values.exp(), loss)]
    return Predicted(
        token_id=flat[0].astype(np.int32), probability=flat[1].astype(np.float32), loss=flat[2].astype(np.float32)
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Generated:
    """An example and its continuation, every unit of both routed; `logits_V` follow the last one."""

    token_ids: list[int]
    decisions: tuple[SiteDecisions, ...]
    predicted: Predicted
    logits_V: Tensor


def generate_greedily(
    bundle: Bundle, example: NDArray[np.int64], room: int, overrides: RoutingOverrides | None
) -> Generated:
    """Continue greedily, one cached step a token; the last token is fed too, so that its routes are known."""
    model = bundle.model
    cache = UoECache()
    step = torch.from_numpy(example)[None].to(bundle.device)
    token_ids: list[int] = []
    all_logits = []
    while True:
        logits_TV = model(input_ids=step, past_key_values=cache, routing=overrides).logits[0]
        all_logits.append(logits_TV)
        token = int(logits_TV[-1].argmax())
        if len(token_ids) == room or token == model.config.eos_token_id:
            break
        token_ids.append(token)
        step = torch.tensor([[token]], device=bundle.device)
    ids = torch.cat([torch.from_numpy(example), torch.tensor(token_ids, dtype=torch.long)])[None].to(bundle.device)
    return Generated(
        token_ids=token_ids,
        decisions=to_host(cache.decisions()),
        predicted=_predict(torch.cat(all_logits)[None], ids, torch.ones_like(ids)),
        logits_V=all_logits[-1][-1],
    )
