"""What the training loop needs to know about a kind of model: its batches, its loss, its validation, its files."""

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from uoe_model.processors.image import UoEImageProcessor
from uoe_model.processors.text import build_tokenizer, load_tokenizer
from uoe_model.training.image_data import Normalisation, augment, epoch_indices, load_images, seeded_generator
from uoe_model.training.probes import ImageProbe, text_probe
from uoe_model.training.settings import ImageTraining, TextTraining, Training
from uoe_model.training.switch import model_class
from uoe_model.training.text_data import TextBatches, load_documents, read_texts
from uoe_model.training.text_examples import cut_examples, domain_rates


class Task(Protocol):
    """One kind of model and its data."""

    def build_model(self) -> PreTrainedModel:
        """A new model; its weights come from torch's global generator."""

    def batch(self, step: int) -> dict[str, Tensor]:
        """The model's arguments at a step, labels included, a function of the seed and the step alone."""

    def loss(self, output: Any, batch: dict[str, Tensor]) -> Tensor:
        """What is minimised."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Numbers on held-out data, for a model in evaluation mode."""

    def save_processor(self, folder: Path) -> None:
        """Write the tokenizer or the image processor."""


class ImageTask:
    """Classify the pictures of images/cifar10-train.parquet."""

    def __init__(self, settings: ImageTraining, data: Path, output: Path) -> None:
        self._settings = settings
        images = load_images(data / "images" / "cifar10-train.parquet", cache=output / "data")
        held_out = settings.validation_images
        self._train = images.part(0, len(images) - held_out)
        self._validation = images.part(len(images) - held_out, len(images))
        self._normalisation = Normalisation(mean=settings.image_mean, std=settings.image_std)

    def build_model(self) -> PreTrainedModel:
        config = self._settings.build_config()
        config.id2label = dict(enumerate(self._train.names))
        config.label2id = {name: number for number, name in config.id2label.items()}
        return model_class("image", self._settings.mlp_block)(config)

    def batch(self, step: int) -> dict[str, Tensor]:
        settings = self._settings
        picked = epoch_indices(len(self._train), batch_size=settings.batch_size, step=step, seed=settings.seed)
        pixels = augment(
            self._train.pixels[picked],
            seeded_generator(settings.seed, 2, step),
            padding=settings.crop_padding,
            flip=settings.flip,
        )
        return {"pixel_values": self._normalisation.apply(pixels), "labels": self._train.labels[picked]}

    def loss(self, output: Any, batch: dict[str, Tensor]) -> Tensor:
        loss: Tensor = output.loss
        if not self._settings.label_smoothing:
            return loss
        smoothed = nn.functional.cross_entropy(
            output.logits.float(), batch["labels"], label_smoothing=self._settings.label_smoothing
        )
        cross_entropy: Tensor = output.cross_entropy
        return loss - cross_entropy + smoothed

    def validate(self, model: nn.Module) -> dict[str, float]:
        correct: list[Tensor] = []

        def watch(numbers: list[int], valid_BT: Tensor, output: Any) -> None:
            del valid_BT
            correct.append(output.logits.argmax(dim=1).cpu() == self._validation.labels[numbers])

        grid = ImageProbe(
            images=self._validation,
            normalisation=self._normalisation,
            num_keys=self._settings.build_config().grid_size ** 2,
        )
        losses = grid.losses(model, watch=watch)
        return {"loss": losses.mean, "accuracy": float(torch.cat(correct).double().mean())}

    def save_processor(self, folder: Path) -> None:
        config = self._settings.build_config()
        processor = UoEImageProcessor(
            image_size=config.image_size,
            fit="crop",
            image_mean=list(self._settings.image_mean),
            image_std=list(self._settings.image_std),
            grid_size=config.grid_size,
        )
        processor.save_pretrained(folder)


class TextTask:
    """Predict the next token of text/train.parquet."""

    def __init__(self, settings: TextTraining, data: Path, output: Path) -> None:
        self._settings = settings
        config = settings.build_config()
        context = config.max_position_embeddings
        self._tokenizer = self._load_tokenizer(data, output / "tokenizer", config.vocab_size, context)
        train, valid = (
            load_documents(data / "text" / f"{name}.parquet", self._tokenizer, cache=output / "data")
            for name in ("train", "valid")
        )
        self._batches = TextBatches(train, context=context, batch_size=settings.batch_size, seed=settings.seed)
        self._domains = valid.domains
        examples = cut_examples(valid, context=context, limit=settings.validation_windows)
        self._validation = text_probe(valid, examples)

    @staticmethod
    def _load_tokenizer(data: Path, folder: Path, vocab_size: int, context: int) -> PreTrainedTokenizerFast:
        if not folder.is_dir():
            texts = read_texts(data / "text" / "train.parquet").texts
            build_tokenizer(texts, vocab_size=vocab_size, context_length=context).save_pretrained(folder)
        return load_tokenizer(folder)

    def build_model(self) -> PreTrainedModel:
        config = self._settings.build_config()
        config.bos_token_id = config.eos_token_id = self._tokenizer.bos_token_id
        config.pad_token_id = self._tokenizer.pad_token_id
        return model_class("text", self._settings.mlp_block)(config)

    def batch(self, step: int) -> dict[str, Tensor]:
        return self._batches.batch(step)

    def loss(self, output: Any, batch: dict[str, Tensor]) -> Tensor:
        del batch
        loss: Tensor = output.loss
        return loss

    def validate(self, model: nn.Module) -> dict[str, float]:
        losses = self._validation.losses(model)
        rates = domain_rates(losses.sums, self._validation.examples, self._domains)
        numbers = {f"bits_per_byte_{name}": bits for name, (bits, _) in rates.items()}
        macro = {
            "loss": sum(nats for _, nats in rates.values()) / len(rates),
            "bits_per_byte": sum(bits for bits, _ in rates.values()) / len(rates),
        }
        return macro | numbers

    def save_processor(self, folder: Path) -> None:
        self._tokenizer.save_pretrained(folder)


def build_task(settings: Training, data: Path, output: Path) -> Task:
    """The task that belongs to these settings."""
    if isinstance(settings, ImageTraining):
        return ImageTask(settings, data, output)
    if isinstance(settings, TextTraining):
        return TextTask(settings, data, output)
    raise TypeError(f"no task for {type(settings).__name__}")
