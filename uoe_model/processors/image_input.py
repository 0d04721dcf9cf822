"""Pictures as a visitor gives them: bytes or a path in, an upright RGB picture or one clear sentence out.

Needs Pillow and NumPy only.
"""

import dataclasses
import io
import re
import struct
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from uoe_model.errors import InputError, first_line
from uoe_model.processors.signatures import describe_content
from uoe_model.processors.text_input import shorten_name

MAX_IMAGE_BYTES: Final = 25_000_000
"""Largest file of a picture that is opened unless the caller says otherwise."""

MAX_IMAGE_PIXELS: Final = 50_000_000
"""Most pixels of a picture that are decoded (about 150 MB as RGB) unless the caller says otherwise."""

# Drawings that need an interpreter, containers without a decoder of their own, and film.
_NOT_RASTER: Final = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})

# What Pillow is known to raise on damaged EXIF data.
_EXIF_ERRORS: Final = (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OpenedImage:
    """A decoded picture.

    Attributes:
        image: RGB, upright.
        file_format: Pillow's name of the format, for instance `JPEG`; empty for pictures made in memory.
        notes: sentences about what was done that a visitor would not expect.
    """

    image: Image.Image
    file_format: str
    notes: tuple[str, ...]


def open_image(
    source: bytes | Path,
    *,
    max_bytes: int = MAX_IMAGE_BYTES,
    max_pixels: int = MAX_IMAGE_PIXELS,
    name: str = "",
) -> Image.Image:
    """Open a picture as upright RGB: `read_image` without the notes."""
    return read_image(source, max_bytes=max_bytes, max_pixels=max_pixels, name=name).image


def read_image(
    source: bytes | Path,
    *,
    max_bytes: int = MAX_IMAGE_BYTES,
    max_pixels: int = MAX_IMAGE_PIXELS,
    name: str = "",
) -> OpenedImage:
    """Open a picture in any raster format Pillow reads; its content decides, not the file's extension.

    Limits are checked before anything is decoded. Of an animation or a file with several pages the first frame is
    taken. Colour profiles are not applied.

    Args:
        source: the file's content, or its path.
        max_bytes: largest file that is read.
        max_pixels: largest width times height that is decoded.
        name: subject of the error sentence; the path's name, or `The picture`, when empty.

    Raises:
        InputError: the file is missing, empty, too large, damaged, or no raster picture.
    """
    subject = shorten_name(name or (source.name if isinstance(source, Path) else "The picture"))
    data = _read(source, max_bytes=max_bytes, subject=subject)
    try:
        # Not as a context manager: `load` closes what it needs no longer, and an upright copy is returned.
        image = Image.open(io.BytesIO(data), formats=_raster_formats())
        _check_size(image.size, max_pixels=max_pixels, subject=subject)
        file_format = image.format or ""
        # Asked without counting the frames, which would read a hostile file to its end.
        has_more_frames = bool(getattr(image, "is_animated", False))
        image.load()
        # Some formats learn their size only while decoding.
        _check_size(image.size, max_pixels=max_pixels, subject=subject)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))
        count = f"{int(pixels.group()):,}" if pixels else "too many"
        raise InputError(_too_many_pixels(subject, f"{count} pixels", max_pixels)) from error
    except UnidentifiedImageError as error:
        raise InputError(_not_a_picture(subject, data)) from error
    except MemoryError as error:
        raise InputError(f"{subject} does not fit into memory: make it smaller and try again.") from error
    except InputError:
        raise
    except Exception as error:  # a reader may raise anything on a damaged or hostile file
        raise InputError(f"{subject} is damaged or incomplete ({_reason(error)}): save it again and retry.") from error
    notes = (f"{subject} has several frames; the first one is used.",) if has_more_frames else ()
    return dataclasses.replace(upright_rgb(image, notes=notes, subject=subject), file_format=file_format)


def upright_rgb(image: Image.Image, *, notes: tuple[str, ...] = (), subject: str = "The picture") -> OpenedImage:
    """Turn a decoded picture the way its EXIF orientation says and convert it to RGB, transparency over white.

    Raises:
        InputError: there are no pixels, or Pillow cannot convert the picture's colours.
    """
    added: list[str] = []
    if min(image.size) < 1:
        raise InputError(f"{subject} is {image.width} x {image.height} pixels: it needs at least one.")
    try:
        image = ImageOps.exif_transpose(image)
    except _EXIF_ERRORS:
        added.append(f"{subject} has unreadable EXIF data; it is shown as stored.")
    try:
        if image.mode == "I" or image.mode == "F" or image.mode.startswith("I;16"):
            image = _stretch_to_bytes(image, added, subject)
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            image = Image.new("RGBA", rgba.size, "white")
            image.alpha_composite(rgba)
        rgb = image.convert("RGB")
    except (KeyError, ValueError, OSError) as error:
        raise InputError(
            f"{subject} has colours that cannot be converted to RGB (mode {image.mode}): save it as an RGB PNG."
        ) from error
    rgb.info = {}  # no metadata that could turn the picture a second time
    return OpenedImage(image=rgb, file_format="", notes=(*notes, *added))


def _read(source: bytes | Path, *, max_bytes: int, subject: str) -> bytes:
    """The file's content, after its size was checked."""
    try:
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        if size > max_bytes:
            raise InputError(f"{subject} has {size:,} bytes; at most {max_bytes:,} are opened: make it smaller.")
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise InputError(f"{subject} cannot be read ({error.strerror or error}): check the file.") from error
    if not data:
        raise InputError(f"{subject} is an empty file: choose a picture.")
    return data


def _check_size(size: tuple[int, int], *, max_pixels: int, subject: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise InputError(_too_many_pixels(subject, f"{width:,} x {height:,} = {width * height:,} pixels", max_pixels))


def _too_many_pixels(subject: str, size: str, max_pixels: int) -> str:
    return f"{subject} has {size}; at most {max_pixels:,} are opened: make it smaller, 1,000 x 1,000 is plenty."


def _not_a_picture(subject: str, data: bytes) -> str:
    description = describe_content(data)
    advice = "choose a picture such as JPEG, PNG or WebP"
    if "picture" in description and "HEIC" not in description:
        return f"{subject} begins like {description}, but is damaged or incomplete: save it again and retry."
    if description == "plain text":
        return f"{subject} holds plain text, not a picture: {advice}, or use the text input."
    if description:
        return f"{subject} is {description}, which cannot be opened here: save it as JPEG or PNG and try again."
    return f"{subject} is no picture in a known format: {advice}."


def _reason(error: BaseException) -> str:
    """What the reader complained about, in one short line."""
    return shorten_name(first_line(error))


def _raster_formats() -> list[str]:
    """Pillow's formats that hold still raster pictures."""
    Image.init()
    return [name for name in Image.ID if name not in _NOT_RASTER]


def _stretch_to_bytes(image: Image.Image, notes: list[str], subject: str) -> Image.Image:
    """Bring 16-bit, 32-bit and floating-point greys to 0..255; Pillow's own conversion would cut them off."""
    values = np.asarray(image)
    finite = values[np.isfinite(values)] if image.mode == "F" else values
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    natural = 1.0 if image.mode == "F" else 65535.0
    if low >= 0.0 and high <= natural:
        low, high = 0.0, natural
    else:
        notes.append(f"{subject} has values from {low:g} to {high:g}; they are stretched to black..white.")
    pixels = np.empty(values.shape, dtype=np.uint8)
    for row, row_values in enumerate(values):  # by row: doubles of a whole picture would take gigabytes
        known = np.nan_to_num(row_values.astype(np.float64), nan=low, posinf=high, neginf=low)
        pixels[row] = np.floor((known - low) / ((high - low) or 1.0) * 255.0 + 0.5)
    return Image.fromarray(pixels)
