"""Images for training: decoded once, cropped and mirrored as tensors, the same batch for the same seed and step."""

import dataclasses
import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from uoe_model.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelledImages:
    """Decoded pictures of one size.

    Attributes:
        pixels: uint8 (images, channels, height, width).
        labels: int64 (images,).
        names: one per class.
    """

    pixels: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> "LabelledImages":
        """The images start..stop-1."""
        return LabelledImages(pixels=self.pixels[start:stop], labels=self.labels[start:stop], names=self.names)


def load_images(path: Path, *, cache: Path | None = None) -> LabelledImages:
    """Decode a Parquet file with the columns image (encoded bytes), label and label_name.

    Args:
        path: the Parquet file.
        cache: folder that keeps the decoded pixels under a name with the file's digest.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; --data must be the folder that holds images/ and text/")
    table = pq.read_table(path, columns=["image", "label", "label_name"])
    labels = np.asarray(table["label"], dtype=np.int64)
    named = dict(zip(labels.tolist(), table["label_name"].to_pylist(), strict=True))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    stored = None if cache is None else cache / f"{path.stem}-{digest}.npy"
    if stored is not None and stored.is_file():
        pixels = np.load(stored)
    else:
        encoded = table["image"].to_pylist()
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded])
        pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        if stored is not None:
            stored.parent.mkdir(parents=True, exist_ok=True)
            np.save(stored, pixels)
    return LabelledImages(
        pixels=torch.from_numpy(pixels),
        labels=torch.from_numpy(labels),
        names=tuple(named[label] for label in sorted(named)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """Mean and standard deviation per channel, of pixel values in 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, pixels_BCHW: Tensor) -> Tensor:
        """uint8 pixels to the model's float32 input."""
        mean_CHW = torch.tensor(self.mean).view(-1, 1, 1)
        std_CHW = torch.tensor(self.std).view(-1, 1, 1)
        return (pixels_BCHW.float() / 255 - mean_CHW) / std_CHW


def augment(pixels_BCHW: Tensor, generator: torch.Generator, *, padding: int, flip: bool) -> Tensor:
    """A random crop of every zero-padded image, mirrored at random; shape and dtype stay."""
    num, _, height, width = pixels_BCHW.shape
    padded = torch.nn.functional.pad(pixels_BCHW, (padding,) * 4)
    top_B = torch.randint(2 * padding + 1, (num,), generator=generator)
    left_B = torch.randint(2 * padding + 1, (num,), generator=generator)
    mirror_B = torch.randint(2, (num,), generator=generator).bool() & flip
    columns_W = torch.arange(width)
    columns_BW = torch.where(mirror_B[:, None], columns_W.flip(0), columns_W) + left_B[:, None]
    rows_BH = torch.arange(height) + top_B[:, None]
    images_B = torch.arange(num)
    cropped_BHWC = padded[images_B[:, None, None], :, rows_BH[:, :, None], columns_BW[:, None, :]]
    return cropped_BHWC.permute(0, 3, 1, 2)


def seeded_generator(seed: int, *numbers: int) -> torch.Generator:
    """A random generator that depends on the seed and the numbers only, so that no state needs to be stored."""
    text = ":".join(str(number) for number in (seed, *numbers))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def epoch_indices(num: int, *, batch_size: int, step: int, seed: int) -> Tensor:
    """Which of `num` examples make the batch of this step; every epoch is a new permutation, none is cut short."""
    first = step * batch_size
    picked: list[Tensor] = []
    while batch_size:
        epoch, offset = divmod(first, num)
        order = torch.randperm(num, generator=seeded_generator(seed, 0, epoch))[offset : offset + batch_size]
        picked.append(order)
        first += len(order)
        batch_size -= len(order)
    return torch.cat(picked)
