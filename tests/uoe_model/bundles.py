"""Bundles around tiny random models, made without a folder, and what their routers said, gathered by slow loops."""

import functools
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from tests.traces import assert_traces_equal
from tests.uoe_model.models import build_classifier, build_lm
from uoe_model.bundle import Bundle
from uoe_model.modeling import UoEOutput
from uoe_model.processors.image import UoEImageProcessor
from uoe_model.processors.text import build_tokenizer
from uoe_model.router import RoutingOverrides
from uoe_model.trace import DROPPED, KEPT, RoutingTrace
from uoe_model.trace_io import load_trace, save_trace

CONTEXT = 24
LINES = ("The quick brown fox jumps over the lazy dog.", "Ten small experts sat on a wall.", "naïve 漢字 text")
LONG_TEXT = "The quick expert sat on the lazy wall. Ten small dogs jump over 漢字, naïve text! " * 4

Row = tuple[int, int, int, int, bool, float, float]
"""Site, unit, rank, expert, kept, gate, probability."""


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(LINES, vocab_size=320, context_length=CONTEXT)


def text_bundle(*, seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any) -> Bundle:
    """A language model with a context of 24 tokens; in float64, so that no decision hangs on rounding."""
    fields = {"vocab_size": len(tokenizer()), "max_position_embeddings": CONTEXT} | changes
    return _bundle(build_lm(seed=seed, dtype=dtype, **fields), "text")


def image_bundle(*, seed: int = 0, **changes: Any) -> Bundle:
    """A classifier of 8 x 8 pictures over 4 x 4 cells, named as its labels."""
    labels = {0: "cat", 1: "ship", 2: "tree"}
    fields = {"id2label": labels, "label2id": {name: index for index, name in labels.items()}} | changes
    return _bundle(build_classifier(seed=seed, dtype=torch.float32, **fields), "image")


def _bundle(model: Any, kind: Any) -> Bundle:
    return Bundle(
        folder=Path("tiny"),
        name="tiny",
        kind=kind,
        model=model,
        tokenizer=tokenizer() if kind == "text" else None,
        image_processor=UoEImageProcessor(image_size=8, grid_size=4) if kind == "image" else None,
        reference=None,
        weights_digest="0" * 64,
        training="untrained",
        device=torch.device("cpu"),
    )


def picture(width: int = 8, height: int = 8, seed: int = 0) -> np.ndarray:
    """Random pixels; the model of `image_bundle` sees an 8 x 8 picture as it is."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def examples_of_text(text: str) -> list[list[int]]:
    """Token ids of the consecutive examples of a text, each begun by the begin token."""
    ids = tokenizer()(text, add_special_tokens=False)["input_ids"]
    examples = []
    while ids:
        examples.append([tokenizer().bos_token_id, *ids[: CONTEXT - 1]])
        ids = ids[CONTEXT - 1 :]
    return examples


def run_alone(bundle: Bundle, examples: Sequence[Sequence[int]], overrides: RoutingOverrides | None) -> list[UoEOutput]:
    """Every example by itself, without padding and without a cache."""
    with torch.inference_mode():
        return [bundle.model(input_ids=torch.tensor([list(ids)]), routing=overrides) for ids in examples]


def rows_of(outputs: Sequence[UoEOutput]) -> list[Row]:
    """Every request of consecutive examples, one by one, in the order of a trace."""
    rows: list[Row] = []
    for site_id in range(len(outputs[0].decisions)):
        unit_id = 0
        for output in outputs:
            decision = output.decisions[site_id]
            for logits, experts, kept, gates in zip(
                decision.logits_NE.tolist(),
                decision.expert_NK.tolist(),
                decision.kept_NK.tolist(),
                decision.gate_NK.tolist(),
                strict=True,
            ):
                total = sum(math.exp(value) for value in logits)
                rank = 0
                for expert, is_kept, gate in zip(experts, kept, gates, strict=True):
                    if expert >= 0:
                        rows.append((site_id, unit_id, rank, expert, is_kept, gate, math.exp(logits[expert]) / total))
                        rank += 1
                unit_id += 1
    return rows


def assert_rows(trace: RoutingTrace, rows: Sequence[Row]) -> None:
    """The trace's assignments are these requests, in this order; gates and probabilities to float32."""
    found = trace.assignments
    columns = (found.site_id, found.unit_id, found.rank, found.expert_id)
    ids = list(zip(*(column.tolist() for column in columns), strict=True))
    assert ids == [row[:4] for row in rows]
    assert set(found.status.tolist()) <= {KEPT, DROPPED}
    assert (found.status == KEPT).tolist() == [row[4] for row in rows]
    np.testing.assert_allclose(found.gate, [row[5] for row in rows], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.score, [row[6] for row in rows], rtol=1e-5, atol=1e-7)


def assert_checks_pass(trace: RoutingTrace) -> None:
    """Every question of the self-check was asked and answered with yes."""
    assert len(trace.run.self_check) == 7
    assert [check for check in trace.run.self_check if not check.passed] == []


def assert_comes_back(trace: RoutingTrace) -> None:
    """The trace is the same after saving and loading, to the bit."""
    stream = io.BytesIO()
    save_trace(trace, stream)
    assert_traces_equal(load_trace(io.BytesIO(stream.getvalue())), trace)
