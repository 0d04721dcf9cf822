"""Running a bundle: what kind of input it takes, on its device, with memory errors as sentences."""

import contextlib
from collections.abc import Iterator

import torch
from transformers import PreTrainedTokenizerFast

from uoe_model.bundle import Bundle
from uoe_model.errors import CheckpointError, DeviceError, is_out_of_memory
from uoe_model.processors.image import UoEImageProcessor


def text_tokenizer(bundle: Bundle) -> PreTrainedTokenizerFast:
    """The tokenizer of a text model.

    Raises:
        CheckpointError: it is a model of another kind.
    """
    if bundle.kind != "text" or bundle.tokenizer is None:
        raise CheckpointError(f"{bundle.name} is no text model: choose one for text, or upload an image.")
    return bundle.tokenizer


def picture_processor(bundle: Bundle) -> UoEImageProcessor:
    """The image processor of an image model.

    Raises:
        CheckpointError: it is a model of another kind.
    """
    if bundle.kind != "image" or bundle.image_processor is None:
        raise CheckpointError(f"{bundle.name} is no image model: choose one for images, or type a text.")
    return bundle.image_processor


@contextlib.contextmanager
def inference_on(bundle: Bundle) -> Iterator[None]:
    """Compute without gradients.

    Raises:
        DeviceError: the device or the host ran out of memory.
    """
    try:
        with torch.inference_mode():
            yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"{bundle.device} has not enough memory for this input with {bundle.name}: shorten the input, or wait "
            "until other runs are finished and try again."
        ) from error
