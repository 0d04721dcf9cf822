"""The authors' released classifier as a source of runs: what it kept, dropped and filled, as a routing trace."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from uoe_model.errors import InputError
from uoe_model.reference.blocks import How, Routed
from uoe_model.reference.checkpoint import load_reference
from uoe_model.reference.classifier import Classified, ReferenceClassifier
from uoe_model.reference.quirks import CLASSIFIER_QUIRKS, Quirks, TieRule
from uoe_model.result import ClassPrediction, RunResult, TextInput
from uoe_model.sources.reference_trace import build_reference_trace
from uoe_model.watch import UNWATCHED, Watch, check_cancelled

__all__ = [
    "CLASSIFIER_QUIRKS",
    "Quirks",
    "ReferenceClassifier",
    "TieRule",
    "load_reference",
    "parse_ids",
    "released_effects",
    "run_reference",
    "untrained_routers",
]

MAX_EXAMPLES: Final = 32
"""Examples of one batch, as in the released training."""


def parse_ids(text: str, model: ReferenceClassifier) -> tuple[tuple[int, ...], ...]:
    """Read token ids: one example a line, ids apart by spaces or commas; 0 is padding and may only end a line.

    Raises:
        InputError: no ids, too many, or something that is none.
    """
    examples = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        strange = next((word for word in words if not (word.isascii() and word.isdigit())), None)
        if strange is not None:
            raise InputError(
                f"Line {number}: {strange[:20]!r} is no token id. This model reads ids, whole numbers from 1 to "
                f"{model.vocab_size - 1}, one example a line."
            )
        ids = [int(word) if len(word) < 9 else 10**9 for word in words]
        while ids and ids[-1] == 0:
            ids.pop()
        if not ids or min(ids) < 1 or max(ids) >= model.vocab_size:
            raise InputError(
                f"Line {number}: token ids must lie in 1..{model.vocab_size - 1} (0 is padding at its end)."
            )
        if len(ids) > model.length:
            raise InputError(f"Line {number} has {len(ids)} ids: the model reads at most {model.length}.")
        examples.append(tuple(ids))
    if not examples:
        raise InputError("There are no token ids: type whole numbers, one example a line.")
    if len(examples) > MAX_EXAMPLES:
        raise InputError(f"{len(examples)} examples: at most {MAX_EXAMPLES} run in one batch.")
    return tuple(examples)


def run_reference(
    model: ReferenceClassifier,
    examples: Sequence[Sequence[int]],
    *,
    quirks: Quirks | None = None,
    ties: TieRule = "lowest",
    names: Sequence[str] | None = None,
    watch: Watch = UNWATCHED,
) -> tuple[RunResult, ...]:
    """Classify examples in one batch, padded to the model's full length, as the released code does.

    Args:
        examples: token ids of each, without padding.
        quirks: switches; as released by default.
        ties: which units fill free slots; `lowest` is the same on every machine.
        names: of the examples.

    Returns:
        One run per example. Its trace holds the units of that example: with `routed_padding` also the padding, which is
        routed as everything else and marked special; capacities are those of the batch.

    Raises:
        InputError: ids that the model cannot read. Cancelled: by the watch.
    """
    quirks = Quirks() if quirks is None else quirks
    started = time.perf_counter()
    ids_BS, mask_BS = pad_ids(model, examples)
    watch.report("reading", 0, 1)
    with torch.inference_mode():
        found = model(ids_BS, mask_BS, How(quirks=quirks, ties=ties))
    forward_at = time.perf_counter()
    check_cancelled(watch)
    watch.report("recording", 0, len(examples))
    runs = []
    for row, example in enumerate(examples):
        forward_ms = 1000 * (forward_at - started)
        trace = build_reference_trace(model, example, found, mask_BS, row, quirks, ties, forward_ms)
        name = names[row] if names is not None else f"example {row}"
        probabilities = found.logits_BV[row].double().softmax(-1).numpy()
        runs.append(
            RunResult(
                trace=trace,
                prediction=ClassPrediction(
                    labels=tuple(map(str, range(model.num_classes))), probabilities=probabilities
                ),
                input=TextInput(text=" ".join(map(str, example)), name=name),
                timings_ms=dict(trace.run.timings_ms),
            )
        )
        watch.report("recording", row + 1, len(examples))
    return tuple(runs)


def pad_ids(model: ReferenceClassifier, examples: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, S) at the model's full length."""
    ids_BS = torch.zeros(len(examples), model.length, dtype=torch.long)
    for row, example in enumerate(examples):
        if not 1 <= len(example) <= model.length:
            raise InputError(f"an example has {len(example)} token ids: the model reads 1 to {model.length}.")
        ids_BS[row, : len(example)] = torch.tensor(example)
    return ids_BS, (ids_BS != 0).long()


def untrained_routers(model: ReferenceClassifier, examples: Sequence[Sequence[int]]) -> tuple[tuple[str, ...], int]:
    """Which parameters a training step would not move: names without a gradient, and how many have one."""
    leaves = {name: value.clone().requires_grad_() for name, value in model.parameters.items()}
    ids_BS, mask_BS = pad_ids(model, examples)
    found = dataclasses.replace(model, parameters=leaves)(ids_BS, mask_BS, How(ties="lowest"))
    F.cross_entropy(found.logits_BV, torch.zeros(len(examples), dtype=torch.long)).backward()  # type: ignore[no-untyped-call]
    without = tuple(name for name, value in leaves.items() if value.grad is None)
    return without, len(leaves) - len(without)


def released_effects(
    model: ReferenceClassifier, examples: Sequence[Sequence[int]], *, watch: Watch = UNWATCHED
) -> list[dict[str, Any]]:
    """Measure what each quirk does to the first example, one switched off at a time.

    Returns:
        One record as released, one for the example alone instead of in the batch, one per quirk of
        `CLASSIFIER_QUIRKS`, and one with all of them off:

        - change: "as released", "alone", the quirk's name, or "all repaired"
        - logit_change: largest change of a logit against the released batch
        - filler_share: of all slots in use; dropped_share: of all requests; each over all sites of the first example
        - routes_changed: share of its (site, unit) pairs whose set of kept experts differs, over its real units
    """
    plans: list[tuple[str, Sequence[Sequence[int]], Quirks]] = [
        ("as released", examples, Quirks()),
        ("alone", examples[:1], Quirks()),
        *((name, examples, Quirks().without([name])) for name in CLASSIFIER_QUIRKS),
        ("all repaired", examples, Quirks().without(CLASSIFIER_QUIRKS)),
    ]
    records: list[dict[str, Any]] = []
    base: Classified | None = None
    real = len(examples[0])
    for done, (change, batch, quirks) in enumerate(plans):
        check_cancelled(watch)
        watch.report("measuring", done, len(plans))
        with torch.inference_mode():
            found = model(*pad_ids(model, batch), How(quirks=quirks, ties="lowest"))
        base = found if base is None else base
        changed = [
            (_kept_by_unit(site)[0, :real] != _kept_by_unit(before)[0, :real]).any(-1)
            for site, before in zip(found.sites, base.sites, strict=True)
        ]
        filler = sum(int((site.slots.live_EBL & ~site.slots.kept_EBL)[:, 0].sum()) for site in found.sites)
        used = sum(int(site.slots.live_EBL[:, 0].sum()) for site in found.sites)
        requested = sum(int(site.requests.requested_BSE[0].sum()) for site in found.sites)
        kept_requests = sum(int(site.slots.kept_EBL[:, 0].sum()) for site in found.sites)
        records.append(
            {
                "change": change,
                "logit_change": float((found.logits_BV[0] - base.logits_BV[0]).abs().max()),
                "filler_share": filler / used if used else float("nan"),
                "dropped_share": 1 - kept_requests / requested if requested else float("nan"),
                "routes_changed": float(torch.cat(changed).double().mean()),
            }
        )
    watch.report("measuring", len(plans), len(plans))
    return records


def _kept_by_unit(site: Routed) -> Tensor:
    """bool (B, S, E), which experts kept each unit on its own request."""
    shape = site.requests.p_BSE.shape
    kept_EBS = torch.zeros(shape[2], shape[0], shape[1], dtype=torch.bool)
    return kept_EBS.scatter(2, site.slots.ids_EBL, site.slots.kept_EBL).permute(1, 2, 0)
