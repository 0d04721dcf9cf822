"""What routers are fitted and measured on: unlabelled texts or pictures as calls of the model, some held out."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from uoe_model.decompose.calibrate import Batch
from uoe_model.decompose.dense import DenseModel
from uoe_model.errors import CheckpointError
from uoe_model.processors.image import ImageLike, UoEImageProcessor
from uoe_model.processors.text import context_windows, encode, frame_of
from uoe_model.processors.text_input import MAX_TEXT_BYTES, check_text
from uoe_model.scoring import pad_examples

Example = NDArray[Any]
"""Token ids int64 (T,), or pixel values float32 (channels, height, width)."""

MAX_CALIBRATION_UNITS: Final = 8192
"""Units of text or picture cells that routers are fitted on; a quarter more is held out to measure on."""

CALIBRATION_CONTEXT: Final = 256
"""Longest example of calibration text, in tokens."""

EXAMPLES_PER_BATCH: Final = 4
HELD_OUT_EVERY: Final = 5
_MOST_UNITS: Final = MAX_CALIBRATION_UNITS * HELD_OUT_EVERY // (HELD_OUT_EVERY - 1)


def prepare_inputs(
    dense: DenseModel,
    processor: PreTrainedTokenizerFast | UoEImageProcessor,
    texts: Sequence[str],
    images: Sequence[ImageLike],
) -> tuple[list[Batch], list[Batch]]:
    """Make the calls to fit on and the calls to measure on, which share no example.

    Every fifth example is held out, and the second of fewer than five. A text counts as far as its share of
    `MAX_CALIBRATION_UNITS` reaches.

    Raises:
        InputError: a text or a picture that cannot be run. CheckpointError: a context too short for any text.
    """
    if isinstance(processor, UoEImageProcessor):
        most = max(_MOST_UNITS // (dense.config["grid_size"] ** 2 + 1), 2)
        examples: list[Example] = [processor.prepare(image).pixel_values for image in images[:most]]
    else:
        examples = _text_examples(dense, processor, texts)
    first = min(len(examples) - 1, 1)
    held_out = examples[first::HELD_OUT_EVERY] if len(examples) > 1 else []
    fitted = [example for place, example in enumerate(examples) if place % HELD_OUT_EVERY != first or not held_out]
    return _batches(fitted), _batches(held_out)


def units_of(batch: Batch, dense: DenseModel) -> int:
    """Units of a call that are not padding; of a picture its cells and its class token."""
    if "attention_mask" in batch:
        return int(batch["attention_mask"].sum())
    return len(batch["pixel_values"]) * (int(dense.config["grid_size"]) ** 2 + 1)


def _text_examples(dense: DenseModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[Example]:
    """Token ids of consecutive examples, framed as the model sees them."""
    frame = frame_of(tokenizer, needs_begin=bool(dense.config["is_causal"]))
    room = min(CALIBRATION_CONTEXT, dense.config["max_position_embeddings"]) - len(frame)
    if room < 1:
        raise CheckpointError(f"{dense.name}: its context holds nothing but special tokens.")
    examples: list[Example] = []
    left = _MOST_UNITS
    for place, text in enumerate(texts):
        ids = encode(tokenizer, check_text(text, max_chars=MAX_TEXT_BYTES)).token_ids
        share = -(-left // (len(texts) - place))
        for window in context_windows(min(len(ids), share), room):
            examples.append(frame.around(ids[window]))
            left -= window.stop - window.start
    return examples


def _batches(examples: Sequence[Example]) -> list[Batch]:
    batches: list[Batch] = []
    for start in range(0, len(examples), EXAMPLES_PER_BATCH):
        rows = examples[start : start + EXAMPLES_PER_BATCH]
        if rows[0].ndim == 3:
            batches.append({"pixel_values": torch.from_numpy(np.stack(rows))})
        else:
            ids, mask = pad_examples(rows, torch.device("cpu"))
            batches.append({"input_ids": ids, "attention_mask": mask})
    return batches
