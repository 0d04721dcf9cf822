"""What a language model says about a text: losses and guesses of whole examples, and a continuation."""

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uoe_model.bundle import Bundle
from uoe_model.cache import UoECache
from uoe_model.capture import SiteDecisions, join, to_host
from uoe_model.decision import NOBODY, RoutingDecision
from uoe_model.generation import GenerationSettings
from uoe_model.inference import text_tokenizer
from uoe_model.outputs import UoEEncoderOutput
from uoe_model.processors.text import token_texts
from uoe_model.router import RoutingOverrides
from uoe_model.watch import UNWATCHED, Watch, check_cancelled

WINDOWS_PER_CALL: Final = 4
"""Examples of a long text that run together."""

MOST_LOGITS: Final = 1 << 26
"""Next-token logits of one call, 256 MB, unless one example alone has more: fewer examples of a large vocabulary."""

LOGITS_AT_ONCE: Final = 1 << 24
"""Logits that are turned into probabilities at once, which bounds the memory for copies of them."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predicted:
    """What the model says after each unit: its best guess, and the loss of what really came (NaN if nothing did)."""

    token_id: NDArray[np.int32]
    probability: NDArray[np.float32]
    loss: NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """Consecutive examples, all their units routed.

    Attributes:
        logits_V: of a language model, after the very last unit. pooled_GD: of a text encoder, one vector per example.
    """

    decisions: tuple[SiteDecisions, ...]
    predicted: Predicted
    logits_V: Tensor | None = None
    pooled_GD: Tensor | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Continued:
    """An example with its continuation, and the tokens of the latter."""

    token_ids: list[int]
    scored: Scored


def score_examples(
    bundle: Bundle,
    examples: Sequence[NDArray[np.int64]],
    overrides: RoutingOverrides | None,
    *,
    watch: Watch = UNWATCHED,
) -> list[Scored]:
    """Run examples without a cache, a few at a time.

    Raises:
        Cancelled: between two calls of the model.
    """
    parts: list[Scored] = []
    per_call = examples_per_call(examples, bundle.config.vocab_size)
    for start in range(0, len(examples), per_call):
        check_cancelled(watch)
        watch.report("reading", start, len(examples))
        rows = examples[start : start + per_call]
        input_ids, mask = pad_examples(rows, bundle.device)
        out = bundle.model(input_ids=input_ids, attention_mask=mask, routing=overrides)
        decisions = to_host(out.decisions, mask.flatten().nonzero().squeeze(1))
        if isinstance(out, UoEEncoderOutput):
            nothing = _predict_nothing(int(mask.sum()))
            parts.append(Scored(decisions=decisions, predicted=nothing, pooled_GD=out.pooler_output))
            continue
        parts.append(
            Scored(
                decisions=decisions,
                predicted=_predict(out.logits, input_ids, mask),
                # A copy, so that the logits of all the other units need not be kept.
                logits_V=out.logits[len(rows) - 1, len(rows[-1]) - 1].clone(),
            )
        )
    watch.report("reading", len(examples), len(examples))
    return parts


def join_scored(parts: Sequence[Scored]) -> Scored:
    """Put consecutive examples together."""
    columns = {
        field.name: np.concatenate([getattr(part.predicted, field.name) for part in parts])
        for field in dataclasses.fields(Predicted)
    }
    pooled = [part.pooled_GD for part in parts if part.pooled_GD is not None]
    return Scored(
        decisions=join([part.decisions for part in parts]),
        predicted=Predicted(**columns),
        logits_V=parts[-1].logits_V,
        pooled_GD=torch.cat(pooled) if pooled else None,
    )


def examples_per_call(examples: Sequence[NDArray[np.int64]], vocab_size: int) -> int:
    """How many examples run together: `WINDOWS_PER_CALL`, or as many as `MOST_LOGITS` allow, at least one."""
    most = max((len(example) for example in examples), default=1) * vocab_size
    return min(max(MOST_LOGITS // most, 1), WINDOWS_PER_CALL)


def pad_examples(rows: Sequence[NDArray[np.int64]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask (B, T) of examples, padded on the right."""
    width = max(len(row) for row in rows)
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for row, ids in enumerate(rows):
        input_ids[row, : len(ids)] = torch.from_numpy(ids)
        mask[row, : len(ids)] = 1
    return input_ids.to(device), mask.to(device)


def _predict(logits_BTV: Tensor, input_ids: Tensor, mask: Tensor) -> Predicted:
    """Best guess after each unit that is not padding, and the loss of the unit that follows in its row."""
    following_N = F.pad(input_ids[:, 1:], (0, 1)).flatten()
    known_N = F.pad(mask[:, 1:], (0, 1)).flatten() != 0
    parts = []
    rows = max(LOGITS_AT_ONCE // logits_BTV.shape[-1], 1)
    for start in range(0, len(following_N), rows):
        here = slice(start, start + rows)
        log_p_NV = logits_BTV.flatten(0, 1)[here].float().log_softmax(-1)
        best = log_p_NV.max(-1)
        loss_N = -log_p_NV.gather(-1, following_N[here].unsqueeze(-1)).squeeze(-1)
        parts.append((best.indices, best.values.exp(), loss_N.masked_fill(~known_N[here], float("nan"))))
    real_N = mask.flatten() != 0
    flat = [torch.cat(column)[real_N].cpu().numpy() for column in zip(*parts, strict=True)]
    return Predicted(
        token_id=flat[0].astype(np.int32), probability=flat[1].astype(np.float32), loss=flat[2].astype(np.float32)
    )


def _predict_nothing(num_units: int) -> Predicted:
    """A text encoder guesses no tokens."""
    unknown = np.full(num_units, np.nan, dtype=np.float32)
    return Predicted(token_id=np.full(num_units, -1, dtype=np.int32), probability=unknown, loss=unknown)


def continue_example(
    bundle: Bundle,
    example: NDArray[np.int64],
    settings: GenerationSettings,
    overrides: RoutingOverrides | None,
    *,
    watch: Watch = UNWATCHED,
) -> Continued:
    """Read an example and continue it, one cached step a token; the last token is fed too, so its routes are known.

    Raises:
        Cancelled: between two steps.
    """
    model, tokenizer = bundle.model, text_tokenizer(bundle)
    room = min(settings.max_new_tokens, bundle.config.max_position_embeddings - len(example))
    generator = torch.Generator().manual_seed(settings.seed)
    named = model.config.eos_token_id if settings.stop_at_eos else None
    ends = set(named) if isinstance(named, list | tuple) else {named}  # some models have several
    cache = UoECache()
    step = torch.from_numpy(example)[None].to(bundle.device)
    token_ids: list[int] = []
    all_logits: list[Tensor] = []
    while True:
        check_cancelled(watch)
        out = model(input_ids=step, past_key_values=cache, routing=overrides)
        all_logits.append(out.logits[0])
        if token_ids and watch is not UNWATCHED:
            [text] = token_texts(tokenizer, token_ids[-1:])
            watch.token(text, _first_kept(out.decisions))
        watch.report("generating", len(token_ids), room)
        if len(token_ids) == room:
            break
        token = choose_token(all_logits[-1][-1], settings, generator)
        if token in ends:
            break
        token_ids.append(token)
        step = torch.tensor([[token]], device=bundle.device)
    ids = torch.cat([torch.from_numpy(example), torch.tensor(token_ids, dtype=torch.long)])[None].to(bundle.device)
    scored = Scored(
        decisions=to_host(cache.decisions()),
        predicted=_predict(torch.cat(all_logits)[None], ids, torch.ones_like(ids)),
        logits_V=all_logits[-1][-1].clone(),
    )
    return Continued(token_ids=token_ids, scored=scored)


def choose_token(logits_V: Tensor, settings: GenerationSettings, generator: torch.Generator) -> int:
    """The next token: the most probable one, or one drawn as the settings say.

    Args:
        generator: on the host, where the draw is made, so that it is the same wherever the logits come from.
    """
    if not settings.draws:
        return int(logits_V.argmax())
    logits_V = logits_V.double().cpu()
    # The largest becomes 0 first: nothing overflows, however low the temperature is.
    p_V = ((logits_V - logits_V.max()) / settings.temperature).softmax(-1)
    p_V, token_V = p_V.sort(descending=True, stable=True)
    p_V = p_V[: settings.top_k or None]
    reached_V = p_V.cumsum(-1)
    num_kept = int((reached_V - p_V < settings.top_p * reached_V[-1]).sum())
    draw = torch.rand((), generator=generator, dtype=torch.float64) * reached_V[num_kept - 1]
    place = int(torch.searchsorted(reached_V[:num_kept], draw, right=True))
    return int(token_V[min(place, num_kept - 1)])


def _first_kept(decisions: Sequence[RoutingDecision]) -> tuple[int, ...]:
    """Of the last unit, at every site: the expert it prefers among those that kept it, or `NOBODY`."""
    firsts = []
    for decision in decisions:
        kept_K = decision.kept_NK[-1]
        first = kept_K.int().argmax()
        firsts.append(torch.where(kept_K[first], decision.expert_NK[-1, first], NOBODY))
    return tuple(torch.stack(firsts).tolist())
