"""One input through one model: text or an image in, a `RunResult` out."""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from uoe_model.bundle import Bundle, load_bundle
from uoe_model.capture import build_trace, first_units, join, patch_ids, to_host
from uoe_model.errors import CheckpointError, ConfigError, DeviceError
from uoe_model.kernels.backend import BACKEND
from uoe_model.modeling import UoEForCausalLM, UoEForImageClassification
from uoe_model.processors.image import ImageLike, cell_boxes
from uoe_model.processors.text import context_windows, encode, token_texts
from uoe_model.processors.text_input import check_text
from uoe_model.result import Candidate, ClassPrediction, ImageInput, RunResult, TextInput, TextPrediction
from uoe_model.router import RoutingOverrides
from uoe_model.scoring import Predicted, generate_greedily, score_examples
from uoe_model.trace import UnitTable, text_column

__all__ = ["Bundle", "load_bundle", "run_image", "run_image_on", "run_text", "run_text_on"]

NUM_CANDIDATES: Final = 10


def run_text(
    folder: Path | str,
    text: str,
    *,
    name: str = "text",
    overrides: RoutingOverrides | None = None,
    max_new_tokens: int = 0,
    device: str = "auto",
) -> RunResult:
    """Run a text through the model of a checkpoint folder; see `run_text_on`."""
    bundle = load_bundle(folder, device)
    return run_text_on(bundle, text, name=name, overrides=overrides, max_new_tokens=max_new_tokens)


def run_image(
    folder: Path | str,
    image: ImageLike,
    *,
    name: str = "image",
    overrides: RoutingOverrides | None = None,
    device: str = "auto",
) -> RunResult:
    """Run an image through the model of a checkpoint folder; see `run_image_on`."""
    return run_image_on(load_bundle(folder, device), image, name=name, overrides=overrides)


def run_text_on(
    bundle: Bundle,
    text: str,
    *,
    name: str = "text",
    overrides: RoutingOverrides | None = None,
    max_new_tokens: int = 0,
) -> RunResult:
    """Run a text, and continue it greedily if asked.

    Every example starts with the model's begin token, which is a unit of its own. A text longer than the context
    runs as consecutive examples; capacity starts anew in each. The continuation belongs to the last example and ends
    with its context.

    Raises:
        InputError: empty or too long text. CheckpointError: the bundle holds no text model.
        ConfigError: overrides that do not fit, or a negative max_new_tokens. DeviceError: out of memory.
    """
    if bundle.kind != "text" or bundle.tokenizer is None or not isinstance(bundle.model, UoEForCausalLM):
        raise CheckpointError(f"{bundle.name} is no text model: choose one for text, or upload an image.")
    if max_new_tokens < 0:
        raise ConfigError(f"max_new_tokens={max_new_tokens} must be 0 or more")
    text = check_text(text)
    started = time.perf_counter()
    tokenizer, context = bundle.tokenizer, bundle.config.max_position_embeddings
    encoded = encode(tokenizer, text)
    windows = context_windows(len(encoded), context - 1)
    bos = int(tokenizer.bos_token_id)
    examples = [np.concatenate([[bos], encoded.token_ids[window]]).astype(np.int64) for window in windows]
    with _on_device(bundle):
        encoded_at = time.perf_counter()
        decisions, predicted, logits_V = score_examples(bundle, examples, overrides)
        generated: list[int] = []
        if max_new_tokens:
            room = min(max_new_tokens, context - len(examples[-1]))
            last = generate_greedily(bundle, examples[-1], room, overrides)
            generated, logits_V = last.token_ids, last.logits_V
            keep = sum(len(example) for example in examples[:-1])
            decisions = join([first_units(decisions, keep), last.decisions])
            predicted = predicted.first(keep).then(last.predicted)
        forward_at = time.perf_counter()
    units = _text_units(tokenizer, encoded, windows, generated, predicted, bundle)
    notes = {"router_input": "patch" if bundle.config.router_config("mlp").patch_len > 1 else "unit"}
    if max_new_tokens > len(generated):
        notes["continuation"] = (
            f"{len(generated)} of {max_new_tokens} tokens: the last example's context of {context} is full, or the "
            "model ended the text"
        )
    record = _record(bundle, "text", hashlib.sha256(text.encode()).hexdigest(), notes)
    timings = {"encode": encoded_at - started, "forward": forward_at - encoded_at}
    trace = build_trace(
        bundle.config,
        overrides,
        units,
        decisions,
        bundle.reference,
        record | {"timings_ms": _milliseconds(timings)},
    )
    # After the text's own last token comes nothing, or what the model itself wrote, which is no part of the text.
    losses = predicted.loss[: sum(len(example) for example in examples) - 1]
    known = losses[np.isfinite(losses)].astype(np.float64)
    prediction = TextPrediction(
        next_candidates=_candidates(tokenizer, logits_V),
        continuation=str(tokenizer.decode(generated, clean_up_tokenization_spaces=False)) if generated else "",
        mean_loss=float(known.mean()) if len(known) else float("nan"),
        bits_per_byte=float(known.sum() / np.log(2) / len(text.encode())) if len(known) else float("nan"),
    )
    timings["capture"] = time.perf_counter() - forward_at
    return RunResult(
        trace=trace,
        prediction=prediction,
        input=TextInput(text=text, name=name),
        timings_ms=_milliseconds(timings),
    )


def run_image_on(
    bundle: Bundle, image: ImageLike, *, name: str = "image", overrides: RoutingOverrides | None = None
) -> RunResult:
    """Classify an image; its units are the cells of the model's grid, row by row.

    Raises:
        InputError: no picture that can be opened. CheckpointError: the bundle holds no image model.
        ConfigError: overrides that do not fit. DeviceError: out of memory.
    """
    processor, model = bundle.image_processor, bundle.model
    if bundle.kind != "image" or processor is None or not isinstance(model, UoEForImageClassification):
        raise CheckpointError(f"{bundle.name} is no image model: choose one for images, or type a text.")
    started = time.perf_counter()
    prepared = processor.prepare(image)
    with _on_device(bundle):
        pixels = torch.from_numpy(prepared.pixel_values.copy())[None].to(bundle.device)
        prepared_at = time.perf_counter()
        out = model(pixel_values=pixels, routing=overrides)
        probabilities = out.logits[0].double().softmax(-1).cpu().numpy()
        decisions = to_host(out.decisions)
        forward_at = time.perf_counter()
    grid = bundle.config.grid_size
    cells = np.arange(grid * grid)
    boxes = cell_boxes(prepared.mapping, grid).astype(np.float32)
    nothing = text_column([""] * len(cells))
    units = UnitTable(
        **_unit_ids([len(cells)], bundle),
        modality=text_column(["image"] * len(cells)),
        token_id=np.full(len(cells), -1, dtype=np.int32),
        text=nothing,
        char_start=np.full(len(cells), -1, dtype=np.int32),
        char_end=np.full(len(cells), -1, dtype=np.int32),
        grid_row=(cells // grid).astype(np.int16),
        grid_col=(cells % grid).astype(np.int16),
        **_boxes(boxes),
        phase=text_column(["prefill"] * len(cells)),
        is_special=np.zeros(len(cells), dtype=np.bool_),
        label=nothing,
        output_token_id=np.full(len(cells), -1, dtype=np.int32),
        output_text=nothing,
        output_probability=np.full(len(cells), np.nan, dtype=np.float32),
        loss=np.full(len(cells), np.nan, dtype=np.float32),
    )
    digest = hashlib.sha256(np.ascontiguousarray(prepared.model_pixels).tobytes()).hexdigest()
    timings = {"prepare": prepared_at - started, "forward": forward_at - prepared_at}
    record = _record(bundle, "image", digest, {}) | {"timings_ms": _milliseconds(timings)}
    trace = build_trace(bundle.config, overrides, units, decisions, bundle.reference, record)
    timings["capture"] = time.perf_counter() - forward_at
    return RunResult(
        trace=trace,
        prediction=ClassPrediction(labels=bundle.config.label_names(), probabilities=probabilities),
        input=ImageInput(
            pixels=prepared.display_pixels,
            model_pixels=prepared.model_pixels,
            name=name,
            fit=prepared.mapping.fit,
            original_width=prepared.mapping.original_width,
            original_height=prepared.mapping.original_height,
        ),
        timings_ms=_milliseconds(timings),
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


def _text_units(
    tokenizer: PreTrainedTokenizerFast,
    encoded: Any,
    windows: tuple[slice, ...],
    generated: list[int],
    predicted: Predicted,
    bundle: Bundle,
) -> UnitTable:
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


def _candidates(tokenizer: PreTrainedTokenizerFast, logits_V: Tensor) -> tuple[Candidate, ...]:
    """The most probable next tokens, by the softmax over the whole vocabulary."""
    top = logits_V.double().softmax(-1).topk(min(NUM_CANDIDATES, logits_V.shape[-1]))
    ids = top.indices.tolist()
    texts = token_texts(tokenizer, ids)
    return tuple(
        Candidate(token_id=token_id, text=text, probability=probability)
        for token_id, text, probability in zip(ids, texts, top.values.tolist(), strict=True)
    )


@contextlib.contextmanager
def _on_device(bundle: Bundle) -> Iterator[None]:
    """Inference on the bundle's device; running out of memory becomes a sentence."""
    try:
        with torch.inference_mode():
            yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(bundle) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise _out_of_memory(bundle) from error


def _out_of_memory(bundle: Bundle) -> DeviceError:
    return DeviceError(
        f"{bundle.device} has not enough memory for this input with {bundle.name}: shorten the input, or wait until "
        "other runs are finished and try again."
    )


def _record(bundle: Bundle, kind: str, input_digest: str, notes: dict[str, str]) -> dict[str, Any]:
    return {
        "source": "uoe",
        "model": bundle.name,
        "revision": "",
        "weights_digest": bundle.weights_digest,
        "adapter": f"uoe_model.run.{kind}",
        "dtype": str(bundle.model.dtype).removeprefix("torch."),
        "device": str(bundle.device),
        "backend": BACKEND,
        "seed": None,
        "library_versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
        "input_digest": input_digest,
        "notes": {"training": bundle.training, **notes},
    }


def _milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: 1000 * value for name, value in seconds.items()}
