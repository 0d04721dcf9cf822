"""Where a decomposition starts: a dense checkpoint and its tokenizer or image processor, loaded and checked."""

import dataclasses
import re
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from uoe_model.bundle import DAMAGED, loading_quietly
from uoe_model.checkpoint_json import read_json
from uoe_model.decompose.dense import DenseModel
from uoe_model.decompose.families import READERS
from uoe_model.errors import CheckpointError, first_line, is_out_of_memory
from uoe_model.processors.image import UoEImageProcessor
from uoe_model.processors.text import frame_of

Processor = PreTrainedTokenizerFast | UoEImageProcessor

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SENTENCE_POOLING: Final = "1_Pooling/config.json"
"""Where sentence encoders say how they pool."""


def load_source(source: Path | str) -> tuple[DenseModel, Processor]:
    """Load a dense checkpoint in float32, and what prepares its inputs.

    Args:
        source: a folder, or `owner/name` of a hub.

    Raises:
        CheckpointError: it cannot be loaded, is of no family that can be cut, or its parts do not fit together.
    """
    folder = Path(source)
    name = folder.resolve().name if folder.is_dir() else str(source)
    if folder.is_dir():
        read_json(folder / "config.json")  # there, of a size to be read, and JSON
    elif not _HUB_ID.fullmatch(str(source)):
        raise CheckpointError(f"{name} is neither a folder nor a hub id of the form owner/name.")
    dense = _load_dense(source, name)
    return dense, _load_image_processor(source, dense) if dense.kind == "image" else _load_tokenizer(source, dense)


def check_hub_id(source: str) -> None:
    """Refuse what is no hub id, above all a path: a folder of this machine is not for everybody who can type its name.

    Raises:
        CheckpointError: it is no `owner/name`, or there is a folder or file of that name, which would be read instead.
    """
    if not _HUB_ID.fullmatch(source) or Path(source).exists():
        raise CheckpointError(f"{source[:80]!r} is no hub id of the form owner/name.")


def _load_dense(source: Path | str, name: str) -> DenseModel:
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if config.model_type not in READERS:
            raise CheckpointError(
                f"{name} is a {config.model_type!r} model: those that can be cut are {', '.join(sorted(READERS))}."
            )
        class_name, read = READERS[config.model_type]
        with loading_quietly():
            loaded: Any = getattr(transformers, class_name).from_pretrained(
                source,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # told below, by name
                output_loading_info=True,
            )
    except DAMAGED as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{name} cannot be loaded: {first_line(error)}") from error
    model, info = loaded
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    other = sorted(key for key, *_ in info["mismatched_keys"])
    if other:
        raise CheckpointError(
            f"{name} has {len(other)} weights of another shape than in its config.json, for example {other[0]}."
        )
    if missing:
        raise CheckpointError(f"{name} lacks {len(missing)} weights, for example {missing[0]}: it cannot be cut.")
    endless = [key for key, value in model.named_parameters() if not value.isfinite().all()]
    if endless:
        raise CheckpointError(f"{name} has {len(endless)} weights that are not finite, for example {endless[0]}.")
    dense = read(model.eval(), name)
    if dense.kind == "encoder" and _pools_first_token(source):
        return dataclasses.replace(dense, config=dense.config | {"pooling": "cls"})
    return dense


def _pools_first_token(source: Path | str) -> bool:
    """Whether a sentence encoder's vector is that of its first token; without a word on it, it is the mean."""
    try:
        path = cached_file(str(source), _SENTENCE_POOLING)
    except OSError:
        return False
    return path is not None and read_json(Path(path)).get("pooling_mode_cls_token") is True


def _load_tokenizer(source: Path | str, dense: DenseModel) -> PreTrainedTokenizerFast:
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, use_fast=True)
    except Exception as error:  # damaged files make the tokenizers library raise plain Exception
        raise CheckpointError(f"{dense.name}: its tokenizer cannot be read: {first_line(error)}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise CheckpointError(f"{dense.name} has no fast tokenizer, which says where tokens stand in the text.")
    size = dense.config["vocab_size"]
    if len(tokenizer) > size:
        raise CheckpointError(f"{dense.name}: its tokenizer has {len(tokenizer)} tokens, the model {size}.")
    if dense.config["is_causal"] and not frame_of(tokenizer, needs_begin=True).before:
        if tokenizer.eos_token_id is None:
            raise CheckpointError(f"{dense.name}: its tokenizer has neither a begin token nor an end token.")
        tokenizer.bos_token = tokenizer.eos_token  # what stands between documents stands before the first
    return tokenizer


def _load_image_processor(source: Path | str, dense: DenseModel) -> UoEImageProcessor:
    try:
        found = AutoImageProcessor.from_pretrained(source, trust_remote_code=False, backend="pil").to_dict()
    except DAMAGED as error:
        raise CheckpointError(f"{dense.name}: its image processor cannot be read: {first_line(error)}") from error
    if dense.config["num_channels"] != 3:
        raise CheckpointError(f"{dense.name} takes {dense.config['num_channels']} channels, pictures have 3.")
    try:
        mean, std = _normalisation(found)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{dense.name}: rescale_factor, image_mean and image_std of its image processor must be numbers."
        ) from error
    return UoEImageProcessor(
        image_size=dense.config["image_size"], grid_size=dense.config["grid_size"], image_mean=mean, image_std=std
    )


def _normalisation(found: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Mean and deviation, per channel, of pixels in 0..1 that prepare them as (pixel * factor - mean) / deviation."""
    factor = 255 * float(found["rescale_factor"] if found.get("do_rescale", True) else 1)
    if not found.get("do_normalize", True):
        return [0.0] * 3, [1 / factor] * 3
    mean, std = (
        [float(one) for one in (value if isinstance(value, list | tuple) else [value] * 3)]
        for value in (found["image_mean"], found["image_std"])
    )
    return [one / factor for one in mean], [one / factor for one in std]
