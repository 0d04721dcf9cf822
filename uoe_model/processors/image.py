"""The image processor of image models; importing this module registers it with transformers' Auto classes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from transformers import AutoImageProcessor, BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from typing_extensions import TypedDict

from uoe_model.config import UoEConfig
from uoe_model.errors import ConfigError, InputError
from uoe_model.processors.crop import FITS, CropMapping, Fit, apply_mapping, build_mapping, cell_boxes
from uoe_model.processors.image_input import (
    MAX_IMAGE_BYTES,
    MAX_IMAGE_PIXELS,
    OpenedImage,
    open_image,
    read_image,
    upright_rgb,
)

__all__ = [
    "MAX_DISPLAY_SIDE",
    "MAX_IMAGE_BYTES",
    "MAX_IMAGE_PIXELS",
    "CropMapping",
    "ImageLike",
    "OpenedImage",
    "PreparedImage",
    "UoEImageProcessor",
    "cell_boxes",
    "open_image",
    "read_image",
]

MAX_DISPLAY_SIDE: Final = 2048
"""Longest side in pixels of the copy that is kept for display."""

CIFAR10_MEAN: Final = (0.4914, 0.4822, 0.4465)
CIFAR10_STD: Final = (0.2470, 0.2435, 0.2616)

ImageLike: TypeAlias = Image.Image | npt.NDArray[Any] | bytes | Path
"""One picture: Pillow's, a uint8 array (height, width[, channels]), a file's content, or its path."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PreparedImage:
    """One picture, ready for the model and for the page.

    Attributes:
        pixel_values: float32 (3, image_size, image_size), normalised.
        model_pixels: uint8 (image_size, image_size, 3), what the model sees.
        display_pixels: uint8 (height, width, 3), the upright original, longest side at most `MAX_DISPLAY_SIDE`.
        mapping: from the model's input to the original's pixels and back.
    """

    pixel_values: npt.NDArray[np.float32]
    model_pixels: npt.NDArray[np.uint8]
    display_pixels: npt.NDArray[np.uint8]
    mapping: CropMapping


class UoEImageProcessorOptions(TypedDict, total=False):
    """What `from_pretrained` may override."""

    image_size: int
    fit: Fit
    image_mean: Sequence[float]
    image_std: Sequence[float]
    grid_size: int


class UoEImageProcessor(BaseImageProcessor):
    """Cuts pictures to the square input of `UoEForImageClassification` and normalises them.

    Needs neither torch nor torchvision, except to return torch tensors. A picture that already has the model's size
    is not resampled: its pixels go through unchanged.

    Args:
        image_size: side of the input in pixels.
        fit: `crop` (largest centred square) or `letterbox` (whole picture, padded with the mean colour).
        image_mean: per channel, of pixels in 0..1; image_std: likewise.
        grid_size: cells per side that the model routes.

    Raises:
        ConfigError: options that contradict each other, all named together.
    """

    valid_kwargs = UoEImageProcessorOptions  # type: ignore[assignment]  # only its keys are read
    model_input_names = ["pixel_values"]  # noqa: RUF012  # declared by the base class

    def __init__(
        self,
        *,
        image_size: int = 32,
        fit: Fit = "crop",
        image_mean: Sequence[float] = CIFAR10_MEAN,
        image_std: Sequence[float] = CIFAR10_STD,
        grid_size: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_size = image_size
        self.fit: Fit = fit
        self.image_mean = [float(value) for value in image_mean]
        self.image_std = [float(value) for value in image_std]
        self.grid_size = grid_size
        problems = []
        if image_size < 1:
            problems.append(f"image_size={image_size} must be at least 1")
        if fit not in FITS:
            problems.append(f"fit={fit!r} must be one of {', '.join(FITS)}")
        if not 1 <= grid_size <= max(image_size, 1):
            problems.append(f"grid_size={grid_size} must lie in 1..image_size={image_size}")
        if len(self.image_mean) != 3 or len(self.image_std) != 3 or not all(value > 0 for value in self.image_std):
            problems.append("image_mean and image_std must hold three numbers each, image_std above 0")
        if problems:
            raise ConfigError("UoEImageProcessor: " + "; ".join(problems))

    def preprocess(
        self,
        images: ImageLike | Sequence[ImageLike],
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare pictures for the model.

        Args:
            images: one picture, a list of them, or a uint8 array (batch, height, width, 3).
            return_tensors: `pt` for torch, `np` or None for NumPy.
            **kwargs: none are known; a picture is never prepared differently from how the model was trained.

        Returns:
            `pixel_values`, float32 (batch, 3, image_size, image_size).

        Raises:
            InputError: no picture, one that cannot be opened, or an array that is not uint8.
            TypeError: an unknown option.
        """
        if kwargs:
            raise TypeError(f"UoEImageProcessor has no options {sorted(kwargs)} in a call: set them when it is made")
        pixels_BHWC = np.stack([self._cut(_as_upright(image))[0] for image in _as_batch(images)])
        return BatchFeature({"pixel_values": self.normalise(pixels_BHWC)}, tensor_type=return_tensors)

    def prepare(self, image: ImageLike) -> PreparedImage:
        """Prepare one picture, and keep what is needed to draw on it.

        Raises:
            InputError: it cannot be opened.
        """
        upright = _as_upright(image)
        model_pixels, mapping = self._cut(upright)
        display = upright
        if max(upright.size) > MAX_DISPLAY_SIDE:
            display = upright.copy()
            display.thumbnail((MAX_DISPLAY_SIDE, MAX_DISPLAY_SIDE), Image.Resampling.BICUBIC)
        columns = (self.normalise(model_pixels[np.newaxis])[0], model_pixels, np.array(display, dtype=np.uint8))
        for column in columns:
            column.setflags(write=False)
        return PreparedImage(
            pixel_values=columns[0], model_pixels=columns[1], display_pixels=columns[2], mapping=mapping
        )

    def normalise(self, pixels_BHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Turn uint8 pixels (B, height, width, 3) into the model's float32 (B, 3, height, width).

        By table, one entry per channel and byte: the same pixel gives the same float wherever it is prepared.
        """
        pixels_BCHW = np.moveaxis(np.asarray(pixels_BHWC), -1, 1)
        table = self._byte_values()
        values_BCHW = np.empty(pixels_BCHW.shape, dtype=np.float32)
        for channel, values in enumerate(table):
            values_BCHW[:, channel] = values[pixels_BCHW[:, channel]]
        return values_BCHW

    def _byte_values(self) -> npt.NDArray[np.float32]:
        """float32 (3, 256): what the model gets for each channel and byte, in the arithmetic of its training."""
        shares = np.arange(256, dtype=np.float32) / np.float32(255)
        mean, std = (
            np.asarray(values, dtype=np.float32)[:, np.newaxis] for values in (self.image_mean, self.image_std)
        )
        values: npt.NDArray[np.float32] = (shares - mean) / std
        return values

    def _cut(self, upright: Image.Image) -> tuple[npt.NDArray[np.uint8], CropMapping]:
        """What the model sees of a picture, uint8 (image_size, image_size, 3), and where that lies."""
        mapping = build_mapping(*upright.size, image_size=self.image_size, fit=self.fit)
        red, green, blue = (min(255, max(0, round(255.0 * value))) for value in self.image_mean)
        return np.array(apply_mapping(upright, mapping, fill=(red, green, blue)), dtype=np.uint8), mapping


def _as_batch(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """One picture or several, as a list of at least one."""
    if isinstance(images, Image.Image | bytes | Path | str):
        return [images]
    if not isinstance(images, list | tuple):
        pixels = np.asarray(images)
        if pixels.ndim != 4:
            return [pixels]
        images = list(pixels)
    if not images:
        raise InputError("There is no picture: give at least one.")
    return list(images)


def _as_upright(image: ImageLike) -> Image.Image:
    """One picture of any accepted kind as upright RGB."""
    if isinstance(image, bytes | Path):
        return open_image(image)
    if isinstance(image, Image.Image):
        return upright_rgb(image).image
    if isinstance(image, str):
        raise InputError("A picture is given as an image, as bytes or as a Path, not as a string: wrap it in Path().")
    pixels = np.asarray(image)
    is_picture = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if pixels.dtype != np.uint8 or not is_picture or 0 in pixels.shape:
        raise InputError(
            f"An array of {pixels.dtype} with shape {pixels.shape} is no picture: "
            "give uint8 with shape (height, width) or (height, width, 1, 3 or 4)."
        )
    return upright_rgb(Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)).image


AutoImageProcessor.register(
    UoEConfig, image_processor_classes={"pil": UoEImageProcessor, "torchvision": UoEImageProcessor}, exist_ok=True
)
