"""The unit table of a run: where every token stands in its text, and every cell in its picture."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uoe_model.bundle import Bundle
from uoe_model.capture import patch_ids
from uoe_model.inference import text_tokenizer
from uoe_model.processors.image import PreparedImage, cell_boxes
from uoe_model.processors.text import EncodedText, context_windows, encode, token_texts
from uoe_model.processors.text_input import check_text
from uoe_model.scoring import Predicted
from uoe_model.trace import UnitTable, text_column


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CutText:
    """A text as consecutive examples of at most the model's context, each begun by the begin token.

    Attributes:
        windows: the tokens of each example. examples: int64, their ids with the begin token before them.
    """

    encoded: EncodedText
    windows: tuple[slice, ...]
    examples: tuple[NDArray[np.int64], ...]


def cut_text(bundle: Bundle, text: str) -> CutText:
    """Encode and cut a text.

    Raises:
        InputError: empty or too long text. CheckpointError: the bundle holds no text model.
    """
    tokenizer = text_tokenizer(bundle)
    encoded = encode(tokenizer, check_text(text))
    windows = context_windows(len(encoded), bundle.config.max_position_embeddings - 1)
    begin = [int(tokenizer.bos_token_id)]
    examples = tuple(np.concatenate([begin, encoded.token_ids[window]]).astype(np.int64) for window in windows)
    return CutText(encoded=encoded, windows=windows, examples=examples)


def text_units(bundle: Bundle, cut: CutText, generated: list[int], predicted: Predicted) -> UnitTable:
    """The units of a text and of its continuation, which belongs to the last example.

    Args:
        predicted: over all of them.
    """
    tokenizer, encoded, windows = text_tokenizer(bundle), cut.encoded, cut.windows
    bos_text = token_texts(tokenizer, [int(tokenizer.bos_token_id)])[0]
    token_id, text, start, end, special = [], [], [], [], []
    for window in windows:
        size = window.stop - window.start
        token_id += [np.asarray([tokenizer.bos_token_id]), encoded.token_ids[window]]
        text += [bos_text, *encoded.pieces[window]]
        start += [np.asarray([-1]), encoded.char_start[window]]
        end += [np.asarray([-1]), encoded.char_end[window]]
        special += [True] + [False] * size
    lengths = [window.stop - window.start + 1 for window in windows]
    lengths[-1] += len(generated)
    phase = ["prefill"] * len(text) + ["decode"] * len(generated)
    text += token_texts(tokenizer, generated)
    token_id.append(np.asarray(generated, dtype=np.int64))
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
        output_text=text_column(token_texts(tokenizer, predicted.token_id.tolist())),
        output_probability=predicted.probability,
        loss=predicted.loss,
    )


def image_units(bundle: Bundle, prepared: PreparedImage) -> UnitTable:
    """The cells of a picture, row by row."""
    grid = bundle.config.grid_size
    cells = np.arange(grid * grid)
    nothing = text_column([""] * len(cells))
    return UnitTable(
        **_unit_ids([len(cells)], bundle),
        modality=text_column(["image"] * len(cells)),
        token_id=np.full(len(cells), -1, dtype=np.int32),
        text=nothing,
        char_start=np.full(len(cells), -1, dtype=np.int32),
        char_end=np.full(len(cells), -1, dtype=np.int32),
        grid_row=(cells // grid).astype(np.int16),
        grid_col=(cells % grid).astype(np.int16),
        **_boxes(cell_boxes(prepared.mapping, grid).astype(np.float32)),
        phase=text_column(["prefill"] * len(cells)),
        is_special=np.zeros(len(cells), dtype=np.bool_),
        label=nothing,
        output_token_id=np.full(len(cells), -1, dtype=np.int32),
        output_text=nothing,
        output_probability=np.full(len(cells), np.nan, dtype=np.float32),
        loss=np.full(len(cells), np.nan, dtype=np.float32),
    )


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
