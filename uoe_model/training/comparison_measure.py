"""What the comparison measures of one finished run: quality, loss by position, cost, drops, dependence on routes."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from uoe_model.config import BLOCKS, UoEConfig
from uoe_model.errors import CheckpointError
from uoe_model.processors.text import load_tokenizer
from uoe_model.replacements import (
    TARGETS,
    BalancedRandom,
    Permuted,
    ReplacedRoutes,
    Replacement,
    Untrained,
    draw_seed,
    target_sites,
    untrained_weights,
)
from uoe_model.training.bootstrap import Bootstrap
from uoe_model.training.cost import multiply_adds, parameter_counts
from uoe_model.training.export import TRAINING_RUN
from uoe_model.training.image_data import Normalisation
from uoe_model.training.probes import ImageProbe, Losses, TextProbe, image_test_set, text_probe
from uoe_model.training.settings import ImageTraining, Kind, Training
from uoe_model.training.site_counts import SiteCounter, SiteCounts, site_name
from uoe_model.training.switch import model_class, untrained_switch_weights
from uoe_model.training.text_data import load_documents
from uoe_model.training.text_examples import TextExample, cut_examples, domain_rates

REPLACED_BY: Final = ("balanced_random", "permuted", "untrained_router")
"""Replacements of routes that the comparison measures; see `uoe_model.replacements`."""

POSITIONS: Final = (0, 8, 32, 64, 128, 256)
"""Borders of the buckets of position: of the predicting token, the first one of a window being 0."""

NO_ROUTES: Final = "nothing is routed here"
IS_UNTRAINED: Final = "these routers are the untrained ones, so nothing would change"
ONE_PATCH: Final = "an example is routed as a whole, so there is nothing to permute within it"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TestSet:
    """The test data of a comparison, the same for all runs.

    Attributes:
        test: for quality, positions, drops. value: for dependence, which runs it some thirty times.
        domains: of the text.
    """

    kind: Kind
    test: ImageProbe | TextProbe
    value: ImageProbe | TextProbe
    domains: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is, in words."""
        if isinstance(self.test, ImageProbe):
            return f"CIFAR-10 test, first {len(self.test.images):,} images"
        return f"eight-domain text, test, {len(self.test.examples):,} windows"


def load_test_set(settings: Training, kind: Kind, data: Path, tokenizer: Path, *, test: int, value: int) -> TestSet:
    """Read the test data.

    Args:
        settings: of any run of the comparison.
        tokenizer: its folder (text only).
        test, value: images (from the first on), or windows per domain (evenly spaced).
    """
    config = settings.build_config()
    if isinstance(settings, ImageTraining):
        scale = Normalisation(mean=settings.image_mean, std=settings.image_std)
        probe = image_test_set(data, scale, grid_size=config.grid_size, limit=test)
        part = dataclasses.replace(probe, images=probe.images.part(0, min(value, len(probe.images))))
        return TestSet(kind=kind, test=probe, value=part, domains=())
    documents = load_documents(data / "text" / "test.parquet", load_tokenizer(tokenizer))
    cut = [cut_examples(documents, context=config.max_position_embeddings, limit=limit) for limit in (test, value)]
    return TestSet(
        kind=kind,
        test=text_probe(documents, cut[0]),
        value=text_probe(documents, cut[1]),
        domains=documents.domains,
    )


def measure_run(variant: str, settings: Training, folder: Path, data: TestSet) -> tuple[dict[str, Any], Losses]:
    """Measure a finished run in float32.

    Args:
        variant: one of `VARIANTS`. settings: of the run. folder: of the run.

    Returns:
        What stands under `runs` in comparison.json, and the loss of every test example.

    Raises:
        CheckpointError: the run left no model that can be loaded.
    """
    final = folder / "final"
    try:
        model = model_class(data.kind, settings.mlp_block).from_pretrained(final, dtype=torch.float32).train(False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{final} cannot be loaded as the {variant} model of this comparison: {error}") from error
    config: UoEConfig = model.config
    counter, correct, by_position = SiteCounter(config), [], _PositionSums(data.test)

    def watch(numbers: list[int], valid_BT: Tensor, output: Any) -> None:
        counter.watch(numbers, valid_BT, output)
        if isinstance(data.test, ImageProbe):
            correct.append(output.logits.argmax(dim=1).cpu() == data.test.images.labels[numbers])
        else:
            by_position.add(numbers, output.logits)

    losses = data.test.losses(model, watch=watch)
    counts = counter.counts()
    quality: dict[str, Any] = {"loss": losses.mean}
    if isinstance(data.test, ImageProbe):
        quality["accuracy"] = float(torch.cat(correct).double().mean())
    else:
        rates = domain_rates(losses.sums, data.test.examples, data.domains)
        quality["bits_per_byte"] = float(np.mean([bits for bits, _ in rates.values()]))
        quality["bits_per_byte_by_domain"] = {name: float(bits) for name, (bits, _) in rates.items()}
        quality["positions"] = by_position.rows()
    run = json.loads((final / TRAINING_RUN).read_text(encoding="utf-8"))
    routed = [router.num_experts > 1 for router in config.site_configs()]
    measured = {
        "variant": variant,
        "seed": settings.seed,
        **quality,
        "parameters": _parameters(model, config),
        "multiply_adds": _multiply_adds(config, counts, data.kind),
        "drops": [_drops(site) for site, is_routed in zip(counts, routed, strict=True) if is_routed],
        "training_seconds": run["seconds"],
        "training_threads": run["threads"],
        "dependence": list(_dependence(model, variant, settings, folder, data)),
    }
    return measured, losses


class _PositionSums:
    """Adds up the loss of predicted tokens by the position that predicts them."""

    def __init__(self, probe: ImageProbe | TextProbe) -> None:
        self._examples: tuple[TextExample, ...] = () if isinstance(probe, ImageProbe) else probe.examples
        self._nats, self._counts = np.zeros(POSITIONS[-1]), np.zeros(POSITIONS[-1], dtype=np.int64)

    def add(self, numbers: list[int], logits_BTV: Tensor) -> None:
        for number, logits_TV in zip(numbers, logits_BTV, strict=True):
            tokens = torch.from_numpy(self._examples[number].token_ids.astype(np.int64)).to(logits_TV.device)
            nats = torch.nn.functional.cross_entropy(logits_TV[: len(tokens)].float(), tokens, reduction="none")
            self._nats[: len(tokens)] += nats.double().cpu().numpy()
            self._counts[: len(tokens)] += 1

    def rows(self) -> list[dict[str, Any]]:
        found = []
        for start, end in itertools.pairwise(POSITIONS):
            tokens = int(self._counts[start:end].sum())
            if tokens:
                loss = float(self._nats[start:end].sum()) / tokens
                found.append({"first": start, "last": end - 1, "tokens": tokens, "loss": loss})
        return found


def _parameters(model: PreTrainedModel, config: UoEConfig) -> dict[str, int]:
    """In all, and used by one unit's requests; a router of one expert has no choice and is not counted."""
    counts = parameter_counts(model, config)
    idle = sum(value.numel() for name, value in model.named_parameters() if "router" in name and value.shape[0] == 1)
    return {"total": counts["total"] - idle, "active": counts["active per unit"] - idle}


def _multiply_adds(config: UoEConfig, counts: list[SiteCounts], kind: Kind) -> list[dict[str, Any]]:
    units = config.grid_size**2 if kind == "image" else config.max_position_embeddings
    asked: dict[str, float] = {}
    kept: dict[str, float] = {}
    for offset, block in enumerate(BLOCKS):
        sites = counts[offset :: len(BLOCKS)]
        requests = int(sum(site.requested.sum() for site in sites))
        slots = sum(site.patches for site in sites) * config.router_config(block).num_experts
        asked[block] = requests / slots
        kept[block] = float(sum(site.kept.sum() for site in sites)) / max(requests, 1)
    rows = multiply_adds(config, units=units, kept_share=kept, requested_share=asked)
    return [{"part": row.part, "requested": row.requested, "kept": row.kept} for row in rows]


def _drops(site: SiteCounts) -> dict[str, Any]:
    return {
        "site": site.name,
        "dropped_assignment_share": site.dropped_share,
        "dropped_unit_share": site.dropped_unit_share,
        "unrouted_unit_share": site.unrouted_units / max(site.patches, 1),
    }


def _dependence(
    model: PreTrainedModel, variant: str, settings: Training, folder: Path, data: TestSet
) -> Iterator[dict[str, Any]]:
    """The change of loss when routes are replaced: at every site alone, in all blocks of a kind, in both kinds."""
    configs = model.config.site_configs()
    sites = {site_name(site): frozenset({site}) for site in range(len(configs))}
    targets = sites | {block: target_sites(block, len(configs)) for block in TARGETS}
    routed = frozenset(site for site, config in enumerate(configs) if config.num_experts > 1)
    learned = data.value.losses(model) if routed else None
    untrained: Mapping[int, Tensor] = {}
    if routed:
        is_switch = settings.mlp_block == "switch"
        untrained = (untrained_switch_weights if is_switch else untrained_weights)(model, folder / "final")
    for target, wanted in targets.items():
        chosen = wanted & routed
        dealt = {site: configs[site] for site in chosen}
        builders: dict[str, Callable[[], Replacement]] = {
            "balanced_random": lambda dealt=dealt: BalancedRandom(dealt, draw_seed(0, 0)),  # type: ignore[misc]
            "permuted": lambda: Permuted(draw_seed(0, 0)),
            "untrained_router": lambda: Untrained(untrained),
        }
        for replacement in REPLACED_BY:
            row: dict[str, Any] = {"replacement": replacement, "target": target}
            reason = ""
            if not chosen:
                reason = NO_ROUTES
            elif variant == "frozen" and replacement == "untrained_router":
                reason = IS_UNTRAINED
            elif variant == "expert" and replacement == "permuted":
                reason = ONE_PATCH
            if reason or learned is None:
                yield row | {"loss_change": None, "low": None, "high": None, "examples": 0, "reason": reason}
                continue
            routing = ReplacedRoutes(builders[replacement](), chosen, limited=True)
            changed = data.value.losses(model, make_routing=routing)
            low, high = Bootstrap(learned, 0).interval(changed.sums - learned.sums)
            change, examples = changed.mean - learned.mean, len(np.unique(learned.clusters))
            yield row | {"loss_change": change, "low": low, "high": high, "examples": examples, "reason": ""}
