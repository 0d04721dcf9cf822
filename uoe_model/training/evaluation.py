"""Every number of a model card, measured anew from the weights of a checkpoint folder."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from uoe_model.config import BLOCKS, UoEConfig
from uoe_model.errors import CheckpointError
from uoe_model.modeling import UoEForCausalLM, UoEForImageClassification
from uoe_model.processors.image import UoEImageProcessor
from uoe_model.processors.text import load_tokenizer
from uoe_model.replacements import untrained_weights
from uoe_model.router import RoutingOverrides
from uoe_model.training.bootstrap import Bootstrap
from uoe_model.training.cost import multiply_adds, parameter_counts
from uoe_model.training.export import TRAINING_CONFIG, TRAINING_RUN
from uoe_model.training.image_data import Normalisation
from uoe_model.training.probes import (
    ImageProbe,
    Losses,
    Probe,
    TextProbe,
    held_out_images,
    image_test_set,
    text_probe,
)
from uoe_model.training.routing_value import routing_values
from uoe_model.training.settings import Kind
from uoe_model.training.site_counts import SiteCounter, SiteCounts, reference_json
from uoe_model.training.text_data import load_documents
from uoe_model.training.text_examples import cut_examples, domain_rates

REFERENCE: Final = "routing_reference.json"
METRICS: Final = "metrics.json"

Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much of the test data is used.

    Attributes:
        test: images (from the first on), or windows per domain (evenly spaced), for quality and routing counts.
        value: likewise for the routing-value table, which runs the test set some forty times.
        lookup: images held out of training, or windows per domain of the training text, that the lookup is learned on.
    """

    test: int
    value: int
    lookup: int


DEFAULT_SIZES: Final[dict[Kind, Sizes]] = {
    "image": Sizes(test=10_000, value=2_000, lookup=2_000),
    "text": Sizes(test=100, value=8, lookup=24),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A checkpoint, and the data it is measured on."""

    kind: Kind
    folder: Path
    model: PreTrainedModel
    config: UoEConfig
    test: ImageProbe | TextProbe
    value: Probe
    lookup: Probe
    domains: tuple[str, ...]


def load_subject(kind: Kind, folder: Path, data: Path, sizes: Sizes) -> Subject:
    """Load the model in float32 and cut the test data as its context or grid asks.

    Raises:
        CheckpointError: the folder holds no checkpoint of this kind.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is no checkpoint: it has no config.json")
    load = _image_subject if kind == "image" else _text_subject
    try:
        return load(folder, data, sizes)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} cannot be loaded as the checkpoint of a model for {kind}: {error}") from error


def describe(subject: Subject) -> str:
    """What the test set is, in words."""
    if isinstance(subject.test, ImageProbe):
        return f"CIFAR-10 test, first {len(subject.test.images):,} images"
    return f"eight-domain text, test, {len(subject.test.examples):,} windows"


def measure(subject: Subject, looked_up: Mapping[int, Tensor], *, report: Report = lambda line: None) -> dict[str, Any]:
    """All numbers of the model card, ready for JSON.

    Args:
        looked_up: routes of the replacement (d), see `learn_lookup`.
    """
    model = subject.model
    config = subject.config
    counter = SiteCounter(config)
    predicted: list[Tensor] = []

    def watch(numbers: list[int], valid_BT: Tensor, output: Any) -> None:
        counter.watch(numbers, valid_BT, output)
        if subject.kind == "image":
            predicted.append(output.logits.argmax(dim=1).cpu())

    report("quality and routing counts on the test set")
    losses = subject.test.losses(model, watch=watch)
    counts = counter.counts()
    report("quality without capacity")
    free = subject.test.losses(model, make_routing=lambda keys_BT: RoutingOverrides(capacity_factor=None))
    low, high = Bootstrap(losses, seed=0).interval(losses.sums - free.sums)
    quality, quality_free = _quality(subject, losses), _quality(subject, free)
    if subject.kind == "image":
        quality |= _classification(subject, torch.cat(predicted))
    report("dependence on the routes")
    base, rows = routing_values(
        model,
        config.site_configs(),
        test=subject.value,
        looked_up=looked_up,
        untrained=untrained_weights(model, subject.folder),
        report=report,
    )
    units = config.grid_size**2 if subject.kind == "image" else config.max_position_embeddings
    kept_share: dict[str, float] = {
        block: _kept_share(counts[offset :: len(BLOCKS)]) for offset, block in enumerate(BLOCKS)
    }
    cost = multiply_adds(config, units=units, kept_share=kept_share)
    return {
        "kind": subject.kind,
        "model": subject.folder.name,
        "weights": _weights(subject.folder),
        "quality": quality,
        "without_capacity": quality_free,
        "cost_of_drops": {"loss_change": losses.mean - free.mean, "low": low, "high": high},
        "sites": [_site(site) for site in counts],
        "parameters": parameter_counts(model, config),
        "multiply_adds_per_unit": [dataclasses.asdict(row) for row in cost],
        "routing_value_loss": base,
        "routing_value": [{"model": subject.folder.name} | dataclasses.asdict(row) for row in rows],
        "reference": reference_json(counts, quality["dataset"]),
        "training_run": _read_json(subject.folder / TRAINING_RUN),
        "training_config": _read_json(subject.folder / TRAINING_CONFIG),
        "config": config.to_diff_dict(),
    }


def _image_subject(folder: Path, data: Path, sizes: Sizes) -> Subject:
    model = UoEForImageClassification.from_pretrained(folder, dtype=torch.float32).train(False)
    processor = UoEImageProcessor.from_pretrained(folder)
    normalisation = Normalisation(mean=tuple(processor.image_mean), std=tuple(processor.image_std))
    grid = model.config.grid_size
    return Subject(
        kind="image",
        folder=folder,
        model=model,
        config=model.config,
        test=image_test_set(data, normalisation, grid_size=grid, limit=sizes.test),
        value=image_test_set(data, normalisation, grid_size=grid, limit=sizes.value),
        lookup=held_out_images(data, normalisation, grid_size=grid, number=sizes.lookup),
        domains=(),
    )


def _text_subject(folder: Path, data: Path, sizes: Sizes) -> Subject:
    model = UoEForCausalLM.from_pretrained(folder, dtype=torch.float32).train(False)
    tokenizer = load_tokenizer(folder)
    context = model.config.max_position_embeddings
    test = load_documents(data / "text" / "test.parquet", tokenizer)
    train = load_documents(data / "text" / "train.parquet", tokenizer)
    return Subject(
        kind="text",
        folder=folder,
        model=model,
        config=model.config,
        test=text_probe(test, cut_examples(test, context=context, limit=sizes.test)),
        value=text_probe(test, cut_examples(test, context=context, limit=sizes.value)),
        lookup=text_probe(train, cut_examples(train, context=context, limit=sizes.lookup)),
        domains=test.domains,
    )


def _quality(subject: Subject, losses: Losses) -> dict[str, Any]:
    if isinstance(subject.test, ImageProbe):
        return {"dataset": describe(subject), "images": len(subject.test.images), "loss": losses.mean}
    examples = subject.test.examples
    rates = domain_rates(losses.sums, examples, subject.domains)
    rows: list[dict[str, Any]] = []
    for name, (bits, nats) in rates.items():
        chosen = [example for example in examples if subject.domains[example.domain] == name]
        rows.append(
            {
                "domain": name,
                "documents": len({subject.test.document_names[example.document] for example in chosen}),
                "windows": len(chosen),
                "tokens": sum(len(example.token_ids) for example in chosen),
                "bytes": sum(example.num_bytes for example in chosen),
                "bits_per_byte": bits,
                "perplexity": float(np.exp(nats)),
            }
        )
    return {
        "dataset": describe(subject),
        "domains": rows,
        "loss": float(np.mean([nats for _, nats in rates.values()])),
        "bits_per_byte": float(np.mean([bits for bits, _ in rates.values()])),
        "perplexity": float(np.exp(np.mean([nats for _, nats in rates.values()]))),
    }


def _classification(subject: Subject, predicted_N: Tensor) -> dict[str, Any]:
    assert isinstance(subject.test, ImageProbe)
    labels_N, names = subject.test.images.labels, subject.test.images.names
    cells = torch.bincount(labels_N * len(names) + predicted_N, minlength=len(names) ** 2)
    confusion = cells.view(len(names), len(names)).numpy()
    right = confusion.diagonal()
    accuracy = float(right.sum() / confusion.sum())
    half = 1.96 * (accuracy * (1 - accuracy) / confusion.sum()) ** 0.5
    return {
        "accuracy": accuracy,
        "accuracy_low": accuracy - half,
        "accuracy_high": accuracy + half,
        "labels": list(names),
        "confusion": confusion.tolist(),
        "recall": (right / confusion.sum(axis=1).clip(1)).tolist(),
        "precision": (right / confusion.sum(axis=0).clip(1)).tolist(),
    }


def _kept_share(sites: list[SiteCounts]) -> float:
    return float(sum(site.kept.sum() for site in sites) / max(sum(site.requested.sum() for site in sites), 1))


def _site(site: SiteCounts) -> dict[str, Any]:
    shares = site.kept / max(site.kept.sum(), 1)
    return {
        "site": site.name,
        "load_share": shares.tolist(),
        "load_cv": site.load_cv,
        "within_example_load_cv": site.within_cv,
        "dropped_assignment_share": site.dropped_share,
        "dropped_unit_share": site.dropped_unit_share,
        "unrouted_units": site.unrouted_units,
        "entropy": site.entropy,
        "entropy_share": site.entropy / float(np.log(len(shares))) if len(shares) > 1 else 0.0,
    }


def _weights(folder: Path) -> dict[str, Any]:
    path = folder / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        stored = sorted({file.get_slice(name).get_dtype() for name in file.keys()})  # noqa: SIM118  (no mapping)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file_bytes": path.stat().st_size, "sha256": digest, "stored_as": stored}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return fields
