"""Test sets that a model is measured on: the loss of every example, under the model's own or other routes."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from uoe_model.router import RoutingOverrides
from uoe_model.training.image_data import LabelledImages, Normalisation, load_images
from uoe_model.training.text_data import Documents
from uoe_model.training.text_examples import TextExample, example_batches, token_losses

MakeRouting = Callable[[Tensor], RoutingOverrides | None]
"""From the lookup keys of a batch (B, T): token ids, or numbers of grid cells."""

Watch = Callable[[list[int], Tensor, Any], None]
"""Sees the numbers of a batch's examples, which units are valid (B, T), and the model's output."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """Loss of every example.

    Attributes:
        sums: float64, nats summed over what is predicted of an example.
        counts: int64, how many predictions that are (1 per image, tokens of a text).
        clusters: int64, which examples belong together (an image by itself; the pieces of one document).
    """

    sums: FloatArray
    counts: IntArray
    clusters: IntArray

    @property
    def mean(self) -> float:
        """Nats per prediction."""
        return float(self.sums.sum() / self.counts.sum())


class Probe(Protocol):
    """A set of examples with known answers."""

    @property
    def num_keys(self) -> int:
        """Lookup keys lie in 0..num_keys-1."""

    def losses(
        self, model: nn.Module, *, make_routing: MakeRouting | None = None, watch: Watch | None = None
    ) -> Losses:
        """Run the model, in evaluation mode, on every example."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImageProbe:
    """Pictures to classify; the lookup key of a unit is its grid cell."""

    images: LabelledImages
    normalisation: Normalisation
    num_keys: int
    batch_size: int = 125

    @torch.no_grad()
    def losses(
        self, model: nn.Module, *, make_routing: MakeRouting | None = None, watch: Watch | None = None
    ) -> Losses:
        """Run the model, in evaluation mode, on every image."""
        sums = np.zeros(len(self.images))
        device = _device(model)
        for start in range(0, len(self.images), self.batch_size):
            part = self.images.part(start, start + self.batch_size)
            keys_BT = torch.arange(self.num_keys, device=device).expand(len(part), -1)
            routing = None if make_routing is None else make_routing(keys_BT)
            output = model(pixel_values=self.normalisation.apply(part.pixels).to(device), routing=routing)
            nats_B = nn.functional.cross_entropy(output.logits.double().cpu(), part.labels, reduction="none")
            sums[start : start + len(part)] = nats_B.numpy()
            if watch is not None:
                watch(list(range(start, start + len(part))), torch.ones_like(keys_BT, dtype=torch.bool), output)
        numbers = np.arange(len(sums))
        return Losses(sums=sums, counts=np.ones_like(numbers), clusters=numbers)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TextProbe:
    """Pieces of documents, every token predicted; the lookup key of a unit is its token id."""

    examples: tuple[TextExample, ...]
    document_names: tuple[str, ...]
    bos_token_id: int
    num_keys: int
    batch_size: int = 8

    @torch.no_grad()
    def losses(
        self, model: nn.Module, *, make_routing: MakeRouting | None = None, watch: Watch | None = None
    ) -> Losses:
        """Run the model, in evaluation mode, on every piece."""
        sums = np.zeros(len(self.examples))
        device = _device(model)
        batches = example_batches(self.examples, bos_token_id=self.bos_token_id, batch_size=self.batch_size)
        for numbers, on_host in batches:
            arguments = {name: value.to(device) for name, value in on_host.items()}
            routing = None if make_routing is None else make_routing(arguments["input_ids"])
            output = model(**arguments, routing=routing)
            sums[numbers] = token_losses(output.logits, arguments).double().sum(dim=1).cpu().numpy()
            if watch is not None:
                watch(numbers, arguments["attention_mask"] != 0, output)
        names = [self.document_names[example.document] for example in self.examples]
        return Losses(
            sums=sums,
            counts=np.asarray([len(example.token_ids) for example in self.examples], dtype=np.int64),
            clusters=np.unique(names, return_inverse=True)[1].astype(np.int64),
        )


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def image_test_set(data: Path, normalisation: Normalisation, *, grid_size: int, limit: int | None = None) -> ImageProbe:
    """The first images (all by default) of CIFAR-10's test set."""
    images = load_images(data / "images" / "cifar10-test.parquet")
    images = images.part(0, len(images) if limit is None else limit)
    return ImageProbe(images=images, normalisation=normalisation, num_keys=grid_size**2)


def held_out_images(data: Path, normalisation: Normalisation, *, grid_size: int, number: int) -> ImageProbe:
    """The last images of the training file: those that training leaves out."""
    images = load_images(data / "images" / "cifar10-train.parquet")
    images = images.part(len(images) - number, len(images))
    return ImageProbe(images=images, normalisation=normalisation, num_keys=grid_size**2)


def text_probe(documents: Documents, examples: list[TextExample]) -> TextProbe:
    """Examples cut from these documents."""
    return TextProbe(
        examples=tuple(examples),
        document_names=documents.names,
        bos_token_id=documents.bos_token_id,
        num_keys=len(documents.token_bytes),
    )
