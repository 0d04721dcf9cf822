"""The unit table of a run: where every token stands in its text, and every cell in its picture."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from uoe_model.bundle import Bundle
from uoe_model.capture import patch_ids
from uoe_model.errors import InputError
from uoe_model.inference import text_tokenizer
from uoe_model.processors.image import PreparedImage, cell_boxes
from uoe_model.processors.text import EncodedText, Frame, context_windows, encode, frame_of, token_texts
from uoe_model.processors.text_input import check_text
from uoe_model.scoring import Predicted
from uoe_model.trace import UnitTable, text_column

CLASS_TOKEN: Final = "[CLS]"
"""Text of the unit that stands before the cells of a picture in some models."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CutText:
    """A text as consecutive examples of at most the model's context, each framed by special tokens.

    Attributes:
        frame: what stands before and after each example's own tokens; for a language model, its begin token before.
        windows: the tokens of each example. examples: int64, their ids with the frame.
    """

    encoded: EncodedText
    frame: Frame
    windows: tuple[slice, ...]
    examples: tuple[NDArray[np.int64], ...]


def cut_text(bundle: Bundle, text: str) -> CutText:
    """Encode and cut a text.

    Raises:
        InputError: empty or too long text, or one of which the tokenizer keeps nothing.
        CheckpointError: the bundle holds no text model.
    """
    tokenizer = text_tokenizer(bundle)
    encoded = encode(tokenizer, check_text(text))
    frame = frame_of(tokenizer, needs_begin=bundle.config.is_causal)
    if not len(encoded):
        raise InputError(f"The tokenizer of {bundle.name} leaves nothing of this text: give other characters.")
    windows = context_windows(len(encoded), bundle.config.max_position_embeddings - len(frame))
    examples = tuple(frame.around(encoded.token_ids[window]) for window in windows)
    return CutText(encoded=encoded, frame=frame, windows=windows, examples=examples)


def text_units(bundle: Bundle, cut: CutText, generated: list[int], predicted: Predicted) -> UnitTable:
    """The units of a text and of its continuation, which belongs to the last example.

    Args:
        predicted: over all of them.
    """
    tokenizer, encoded, windows = text_tokenizer(bundle), cut.encoded, cut.windows
    before, after = (_special(tokenizer, ids) for ids in (cut.frame.before, cut.frame.after))
    text: list[str] = []
    special: list[bool] = []
    token_id: list[NDArray[np.int32]] = []
    start: list[NDArray[np.int32]] = []
    end: list[NDArray[np.int32]] = []
    for window in windows:
        inner = (encoded.token_ids[window], encoded.char_start[window], encoded.char_end[window])
        for column, *framed in zip((token_id, start, end), before.columns, inner, after.columns, strict=True):
            column += framed
        text += [*before.texts, *encoded.pieces[window], *after.texts]
        size = window.stop - window.start
        special += [True] * len(before.texts) + [False] * size + [True] * len(after.texts)
    lengths = [len(example) for example in cut.examples]
    lengths[-1] += len(generated)
    phase = ["prefill"] * len(text) + ["decode"] * len(generated)
    text += token_texts(tokenizer, generated)
    token_id.append(np.asarray(generated, dtype=np.int32))
    for spans in (start, end):
        spans.append(np.full(len(generated), -1))
    special += [False] * len(generated)
    count = len(text)
    return UnitTable(
        **_unit_ids(lengths, bundle),
        modality=text_column(["text"] * count),
        token_id=np.concatenate(token_id).astype(np.int32),
        text=text_column(text),
        char_start=np.concatenate(start).astype(np.int32),
        char_end=np.concatenate(end).astype(np.int32),
        grid_row=np.full(count, -1, dtype=np.int16),
        grid_col=np.full(count, -1, dtype=np.int16),
        **_boxes(np.full((count, 4), np.nan, dtype=np.float32)),
        phase=text_column(phase),
        is_special=np.asarray(special, dtype=np.bool_),
        label=text_column([""] * count),
        output_token_id=predicted.token_id,
        output_text=text_column(_output_texts(tokenizer, predicted.token_id.tolist())),
        output_probability=predicted.probability,
        loss=predicted.loss,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Special:
    """Special tokens of one end of an example: their texts, and ids, starts and ends, which stand nowhere."""

    texts: tuple[str, ...]
    columns: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


def _special(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> _Special:
    nowhere = np.full(len(ids), -1, dtype=np.int32)
    return _Special(texts=token_texts(tokenizer, ids), columns=(np.asarray(ids, dtype=np.int32), nowhere, nowhere))


def image_units(bundle: Bundle, prepared: PreparedImage) -> UnitTable:
    """The cells of a picture, row by row; before them the class token, if the model has one."""
    grid, has_class = bundle.config.grid_size, bundle.config.class_token
    cells = np.arange(-int(has_class), grid * grid)  # -1: the class token, which stands nowhere in the picture
    row, col = (np.where(cells < 0, -1, place).astype(np.int16) for place in (cells // grid, cells % grid))
    boxes = cell_boxes(prepared.mapping, grid).astype(np.float32)
    boxes = np.concatenate([np.full((int(has_class), 4), np.nan, dtype=np.float32), boxes])
    nothing = text_column([""] * len(cells))
    return UnitTable(
        **_unit_ids([len(cells)], bundle),
        modality=text_column(["image"] * len(cells)),
        token_id=np.full(len(cells), -1, dtype=np.int32),
        text=text_column([CLASS_TOKEN if cell < 0 else "" for cell in cells]),
        char_start=np.full(len(cells), -1, dtype=np.int32),
        char_end=np.full(len(cells), -1, dtype=np.int32),
        grid_row=row,
        grid_col=col,
        **_boxes(boxes),
        phase=text_column(["prefill"] * len(cells)),
        is_special=cells < 0,
        label=nothing,
        output_token_id=np.full(len(cells), -1, dtype=np.int32),
        output_text=nothing,
        output_probability=np.full(len(cells), np.nan, dtype=np.float32),
        loss=np.full(len(cells), np.nan, dtype=np.float32),
    )


def _output_texts(tokenizer: PreTrainedTokenizerFast, token_ids: Sequence[int]) -> Sequence[str]:
    """Guessed tokens as text; "" where a text encoder guesses none."""
    return token_texts(tokenizer, token_ids) if all(one >= 0 for one in token_ids) else [""] * len(token_ids)


def _unit_ids(lengths: list[int], bundle: Bundle) -> dict[str, NDArray[Any]]:
    """The columns that say where a unit stands, for consecutive examples of these lengths."""
    example_id = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    position = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    patch_len = bundle.config.router_config("mlp").patch_len
    return {
        "unit_id": np.arange(len(position), dtype=np.int32),
        "example_id": example_id,
        "patch_id": patch_ids(example_id, position, patch_len),
        "position": position,
    }


def _boxes(box_N4: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """The four edges of every unit's box as columns."""
    return {f"box_{edge}": box_N4[:, column].copy() for column, edge in enumerate(("x0", "y0", "x1", "y1"))}
