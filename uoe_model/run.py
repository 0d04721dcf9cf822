"""One input through one model: text or an image in, a `RunResult` out."""

import hashlib
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from uoe_model.bundle import Bundle, load_bundle
from uoe_model.capture import build_trace, to_host
from uoe_model.errors import ConfigError
from uoe_model.generation import GenerationSettings
from uoe_model.inference import inference_on, picture_processor, text_tokenizer
from uoe_model.kernels.backend import pick_backend
from uoe_model.processors.image import ImageLike
from uoe_model.processors.text import token_texts
from uoe_model.result import (
    Candidate,
    ClassPrediction,
    EmbeddingPrediction,
    ImageInput,
    Prediction,
    RunResult,
    TextInput,
    TextPrediction,
)
from uoe_model.router import RoutingOverrides
from uoe_model.scoring import Scored, continue_example, join_scored, score_examples
from uoe_model.units import CutText, cut_text, image_units, text_units
from uoe_model.watch import UNWATCHED, Watch, check_cancelled

__all__ = ["Bundle", "load_bundle", "run_image", "run_image_on", "run_text", "run_text_on"]

NUM_CANDIDATES: Final = 10


def run_text(
    folder: Path | str,
    text: str,
    *,
    name: str = "text",
    overrides: RoutingOverrides | None = None,
    max_new_tokens: int = 0,
    generation: GenerationSettings | None = None,
    device: str = "auto",
    watch: Watch = UNWATCHED,
) -> RunResult:
    """Run a text through the model of a checkpoint folder; see `run_text_on`."""
    return run_text_on(
        load_bundle(folder, device),
        text,
        name=name,
        overrides=overrides,
        max_new_tokens=max_new_tokens,
        generation=generation,
        watch=watch,
    )


def run_image(
    folder: Path | str,
    image: ImageLike,
    *,
    name: str = "image",
    overrides: RoutingOverrides | None = None,
    device: str = "auto",
    watch: Watch = UNWATCHED,
) -> RunResult:
    """Run an image through the model of a checkpoint folder; see `run_image_on`."""
    return run_image_on(load_bundle(folder, device), image, name=name, overrides=overrides, watch=watch)


def run_text_on(
    bundle: Bundle,
    text: str,
    *,
    name: str = "text",
    overrides: RoutingOverrides | None = None,
    max_new_tokens: int = 0,
    generation: GenerationSettings | None = None,
    watch: Watch = UNWATCHED,
) -> RunResult:
    """Run a text, and continue it if asked.

    Every example starts with the model's begin token, which is a unit of its own. A text longer than the context
    runs as consecutive examples; capacity starts anew in each. The continuation belongs to the last example and ends
    with its context.

    Args:
        max_new_tokens: the short way to ask for a greedy continuation.
        generation: how the text is continued; instead of max_new_tokens.
        watch: is told how far the run is, and may cancel it between calls of the model.

    Raises:
        InputError: empty or too long text. CheckpointError: the bundle holds no text model.
        ConfigError: overrides or settings that do not fit. DeviceError: out of memory. Cancelled: by the watch.
    """
    if generation is not None and max_new_tokens:
        raise ConfigError("max_new_tokens and generation are given both: give the number within generation")
    settings = GenerationSettings(max_new_tokens=max_new_tokens) if generation is None else generation
    started = time.perf_counter()
    cut = cut_text(bundle, text)
    with inference_on(bundle):
        encoded_at = time.perf_counter()
        if settings.max_new_tokens and not bundle.config.is_causal:
            raise ConfigError(f"{bundle.name} is a text encoder and cannot continue a text: set max_new_tokens to 0")
        alone = cut.examples[:-1] if settings.max_new_tokens else cut.examples
        parts = score_examples(bundle, alone, overrides, watch=watch)
        generated: list[int] = []
        if settings.max_new_tokens:
            last = continue_example(bundle, cut.examples[-1], settings, overrides, watch=watch)
            generated = last.token_ids
            parts.append(last.scored)
        scored = join_scored(parts)
        forward_at = time.perf_counter()
        check_cancelled(watch)
        watch.report("recording", 0, 1)
        timings = {"encode": encoded_at - started, "forward": forward_at - encoded_at}
        record = _record(bundle, "text", hashlib.sha256(text.encode()).hexdigest())
        record["notes"] |= _text_notes(bundle, settings, generated)
        trace = build_trace(
            bundle.config,
            overrides,
            text_units(bundle, cut, generated, scored.predicted),
            scored.decisions,
            bundle.reference,
            record | {"seed": settings.seed if settings.draws else None, "timings_ms": _milliseconds(timings)},
        )
        prediction = _text_prediction(bundle, cut, generated, scored)
    timings["capture"] = time.perf_counter() - forward_at
    watch.report("recording", 1, 1)
    return RunResult(
        trace=trace,
        prediction=prediction,
        input=TextInput(text=text, name=name),
        timings_ms=_milliseconds(timings),
    )


def run_image_on(
    bundle: Bundle,
    image: ImageLike,
    *,
    name: str = "image",
    overrides: RoutingOverrides | None = None,
    watch: Watch = UNWATCHED,
) -> RunResult:
    """Classify an image; its units are the cells of the model's grid, row by row.

    Raises:
        InputError: no picture that can be opened. CheckpointError: the bundle holds no image model.
        ConfigError: overrides that do not fit. DeviceError: out of memory. Cancelled: by the watch.
    """
    processor = picture_processor(bundle)
    started = time.perf_counter()
    with inference_on(bundle):
        prepared = processor.prepare(image)
        pixels = torch.from_numpy(prepared.pixel_values.copy())[None].to(bundle.device)
        prepared_at = time.perf_counter()
        check_cancelled(watch)
        watch.report("reading", 0, 1)
        out = bundle.model(pixel_values=pixels, routing=overrides)
        probabilities = out.logits[0].double().softmax(-1).cpu().numpy()
        decisions = to_host(out.decisions)
        forward_at = time.perf_counter()
        check_cancelled(watch)
        watch.report("recording", 0, 1)
        digest = hashlib.sha256(np.ascontiguousarray(prepared.model_pixels).tobytes()).hexdigest()
        timings = {"prepare": prepared_at - started, "forward": forward_at - prepared_at}
        record = _record(bundle, "image", digest) | {"timings_ms": _milliseconds(timings)}
        units = image_units(bundle, prepared)
        trace = build_trace(bundle.config, overrides, units, decisions, bundle.reference, record)
    timings["capture"] = time.perf_counter() - forward_at
    watch.report("recording", 1, 1)
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


def _text_notes(bundle: Bundle, settings: GenerationSettings, generated: list[int]) -> dict[str, str]:
    """What a reader of the trace should know about the routers' input and the continuation."""
    notes = {"router_input": "patch" if bundle.config.router_config("mlp").patch_len > 1 else "unit"}
    if settings.max_new_tokens:
        notes["generation"] = settings.describe()
    if settings.max_new_tokens > len(generated):
        notes["continuation"] = (
            f"{len(generated)} of {settings.max_new_tokens} tokens: the last example's context of "
            f"{bundle.config.max_position_embeddings} is full, or the model ended the text"
        )
    return notes


def _text_prediction(bundle: Bundle, cut: CutText, generated: list[int], scored: Scored) -> Prediction:
    if scored.pooled_GD is not None:
        return EmbeddingPrediction(vector=scored.pooled_GD.float().mean(0).cpu().numpy())
    assert scored.logits_V is not None, "a language model has logits"
    tokenizer, loss_N = text_tokenizer(bundle), scored.predicted.loss
    # After the text's own last token comes nothing, or what the model itself wrote, which is no part of the text.
    losses = loss_N[: sum(len(example) for example in cut.examples) - 1]
    known = losses[np.isfinite(losses)].astype(np.float64)
    num_bytes = len(cut.encoded.text.encode())
    return TextPrediction(
        next_candidates=_candidates(tokenizer, scored.logits_V),
        continuation=str(tokenizer.decode(generated, clean_up_tokenization_spaces=False)) if generated else "",
        mean_loss=float(known.mean()) if len(known) else float("nan"),
        bits_per_byte=float(known.sum() / np.log(2) / num_bytes) if len(known) else float("nan"),
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


def _record(bundle: Bundle, kind: str, input_digest: str) -> dict[str, Any]:
    return {
        "source": "uoe",
        "model": bundle.name,
        "revision": "",
        "weights_digest": bundle.weights_digest,
        "adapter": f"uoe_model.run.{kind}",
        "dtype": str(bundle.model.dtype).removeprefix("torch."),
        "device": str(bundle.device),
        "backend": pick_backend(bundle.device, bundle.model.dtype),
        "seed": None,
        "library_versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
        "input_digest": input_digest,
        "notes": {"training": bundle.training},
    }


def _milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: 1000 * value for name, value in seconds.items()}
