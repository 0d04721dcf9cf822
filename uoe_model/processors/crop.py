"""Where a model's square input lies in the picture it came from, in both directions."""

import dataclasses
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from uoe_model.errors import ConfigError, InputError

Fit = Literal["crop", "letterbox"]

FITS: Final[tuple[Fit, ...]] = ("crop", "letterbox")
"""`crop` takes the largest centred square; `letterbox` takes the whole picture and pads the shorter side."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CropMapping:
    """A rectangle of the original picture (source) and the rectangle of the model's input it fills (target).

    All numbers are pixels; a point lies at a pixel's corner, so the picture spans 0..width and 0..height.

    Attributes:
        fit: how the source was chosen.
        original_width: width of the upright original; original_height: its height.
        image_size: side of the model's square input.
        source_left, source_top, source_width, source_height: part of the original that the model sees.
        target_left, target_top, target_width, target_height: part of the model's input that it fills; the rest is
            padding.
    """

    fit: Fit
    original_width: int
    original_height: int
    image_size: int
    source_left: int
    source_top: int
    source_width: int
    source_height: int
    target_left: int
    target_top: int
    target_width: int
    target_height: int

    def to_original(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map boxes (..., 4) as x0, y0, x1, y1 from the model's input to the original; not clipped to it."""
        return (np.asarray(boxes, dtype=np.float64) - self._target_origin) * self._scale + self._source_origin

    def to_model(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map boxes (..., 4) from the original to the model's input; not clipped to it."""
        return (np.asarray(boxes, dtype=np.float64) - self._source_origin) / self._scale + self._target_origin

    @property
    def source_box(self) -> tuple[int, int, int, int]:
        """The part of the original that the model sees, as x0, y0, x1, y1."""
        return (
            self.source_left,
            self.source_top,
            self.source_left + self.source_width,
            self.source_top + self.source_height,
        )

    @property
    def _source_origin(self) -> npt.NDArray[np.float64]:
        return np.array([self.source_left, self.source_top] * 2, dtype=np.float64)

    @property
    def _target_origin(self) -> npt.NDArray[np.float64]:
        return np.array([self.target_left, self.target_top] * 2, dtype=np.float64)

    @property
    def _scale(self) -> npt.NDArray[np.float64]:
        """Original pixels per pixel of the model's input, for x and y."""
        return np.array([self.source_width / self.target_width, self.source_height / self.target_height] * 2)


def build_mapping(width: int, height: int, *, image_size: int, fit: Fit = "crop") -> CropMapping:
    """Decide which part of a picture of `width` x `height` pixels fills which part of the model's input.

    An odd remainder goes to the right and the bottom. A side of the letterbox is never thinner than one pixel.

    Raises:
        ConfigError: an unknown `fit`, or no pixels.
    """
    if fit not in FITS:
        raise ConfigError(f"fit={fit!r} must be one of {', '.join(FITS)}")
    if min(width, height, image_size) < 1:
        raise ConfigError(f"a picture of {width} x {height} for an input of {image_size} pixels has no pixels")
    if fit == "crop":
        side = min(width, height)
        source = ((width - side) // 2, (height - side) // 2, side, side)
        target = (0, 0, image_size, image_size)
    else:
        longest = max(width, height)
        # Rounded half up in whole numbers, so that no platform rounds differently.
        target_width = max(1, (2 * width * image_size + longest) // (2 * longest))
        target_height = max(1, (2 * height * image_size + longest) // (2 * longest))
        source = (0, 0, width, height)
        target = ((image_size - target_width) // 2, (image_size - target_height) // 2, target_width, target_height)
    return CropMapping(
        fit=fit,
        original_width=width,
        original_height=height,
        image_size=image_size,
        source_left=source[0],
        source_top=source[1],
        source_width=source[2],
        source_height=source[3],
        target_left=target[0],
        target_top=target[1],
        target_width=target[2],
        target_height=target[3],
    )


def apply_mapping(image: Image.Image, mapping: CropMapping, *, fill: tuple[int, int, int]) -> Image.Image:
    """Cut and scale an RGB picture to the model's input; pixels are copied, not resampled, when the sizes agree.

    Args:
        image: upright, of the size the mapping was built for.
        mapping: from `build_mapping`.
        fill: colour of the padding.
    """
    if image.size != (mapping.original_width, mapping.original_height):
        raise InputError(
            f"The picture has {image.width} x {image.height} pixels, but its crop was computed for "
            f"{mapping.original_width} x {mapping.original_height}: prepare it again."
        )
    target_size = (mapping.target_width, mapping.target_height)
    if target_size == (mapping.source_width, mapping.source_height):
        part = image.crop(mapping.source_box)
    else:
        part = image.resize(target_size, Image.Resampling.BICUBIC, box=mapping.source_box)
    if target_size == (mapping.image_size, mapping.image_size):
        return part
    canvas = Image.new("RGB", (mapping.image_size, mapping.image_size), fill)
    canvas.paste(part, (mapping.target_left, mapping.target_top))
    return canvas


def cell_boxes(mapping: CropMapping, grid_size: int) -> npt.NDArray[np.float32]:
    """Locate the cells of the model's input in the original picture.

    Args:
        mapping: of the picture.
        grid_size: cells per side.

    Returns:
        float32 (grid_size * grid_size, 4), row by row: x0, y0, x1, y1 in original pixels, clipped to what the model
        sees. A cell that lies wholly in the padding has no place in the picture: NaN.
    """
    if grid_size < 1:
        raise ConfigError(f"grid_size={grid_size} must be at least 1")
    edges = np.arange(grid_size + 1, dtype=np.float64) * (mapping.image_size / grid_size)
    rows, columns = (axis.ravel() for axis in np.indices((grid_size, grid_size)))
    boxes = mapping.to_original(np.stack([edges[columns], edges[rows], edges[columns + 1], edges[rows + 1]], axis=1))
    left, top, right, bottom = mapping.source_box
    boxes = np.clip(boxes, [left, top, left, top], [right, bottom, right, bottom])
    is_empty = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    boxes[is_empty] = np.nan
    return boxes.astype(np.float32)
