"""The dependence table: changes that must be zero are, and intervals are what they say."""

import itertools

import numpy as np
import pytest
import torch

from tests.uoe_model.models import build_classifier, build_lm
from uoe_model.replacements import CAPACITIES, REPLACEMENTS, TARGETS
from uoe_model.router import Router
from uoe_model.training.bootstrap import Bootstrap
from uoe_model.training.image_data import LabelledImages, Normalisation
from uoe_model.training.probes import ImageProbe, Losses, TextProbe
from uoe_model.training.routing_value import learn_lookup, routing_values
from uoe_model.training.text_examples import TextExample


def image_probe(number: int, seed: int = 0) -> ImageProbe:
    generator = torch.Generator().manual_seed(seed)
    images = LabelledImages(
        pixels=torch.randint(0, 256, (number, 3, 8, 8), dtype=torch.uint8, generator=generator),
        labels=torch.randint(0, 3, (number,), generator=generator),
        names=("a", "b", "c"),
    )
    scale = Normalisation(mean=(0.5,) * 3, std=(0.25,) * 3)
    return ImageProbe(images=images, normalisation=scale, num_keys=16, batch_size=5)


def text_probe(number: int, seed: int = 0) -> TextProbe:
    generator = np.random.default_rng(seed)
    examples = tuple(
        TextExample(token_ids=generator.integers(2, 29, size), document=place, domain=0, num_bytes=2 * int(size))
        for place, size in enumerate(generator.integers(10, 30, number))
    )
    names = tuple(f"document {place // 2}" for place in range(number))
    return TextProbe(examples=examples, document_names=names, bos_token_id=0, num_keys=29, batch_size=3)


def own_weights(model: torch.nn.Module) -> dict[int, torch.Tensor]:
    return {m.site_id: m.weight.detach().clone() for m in model.modules() if isinstance(m, Router)}


@pytest.mark.parametrize("kind", ["image", "text"])
def test_the_table_is_complete_and_an_unmoved_router_makes_no_difference(kind: str):
    if kind == "image":
        model, test, lookup = build_classifier(dtype=torch.float32), image_probe(12), image_probe(9, seed=1)
    else:
        model, test, lookup = build_lm(dtype=torch.float32), text_probe(7), text_probe(5, seed=1)
    configs = model.config.site_configs()
    looked_up = learn_lookup(model, len(configs), lookup)
    base, rows = routing_values(model, configs, test=test, looked_up=looked_up, untrained=own_weights(model))
    assert [(row.capacity, row.replacement, row.block) for row in rows] == list(
        itertools.product(CAPACITIES, REPLACEMENTS, TARGETS)
    )
    assert base["as trained"] == pytest.approx(test.losses(model).mean)
    assert base["none"] != base["as trained"]
    for row in rows:
        assert row.examples == (12 if kind == "image" else 4)
        if row.replacement == "untrained_router":
            assert row.loss_change == pytest.approx(0, abs=1e-5)
        else:
            assert row.low < row.high
            assert abs(row.loss_change) > 1e-4


def test_the_table_repeats_itself():
    model = build_classifier(dtype=torch.float32)
    first, second = (
        routing_values(
            model,
            model.config.site_configs(),
            test=image_probe(6),
            looked_up=learn_lookup(model, len(model.config.site_configs()), image_probe(4, seed=1)),
            untrained=own_weights(model),
        )
        for _ in range(2)
    )
    assert first == second


def test_the_interval_is_that_of_the_mean_over_clusters():
    generator = np.random.default_rng(0)
    difference = generator.normal(0.3, 1.0, 1000)
    counts = np.ones(1000, dtype=np.int64)
    alone = Losses(sums=difference, counts=counts, clusters=np.arange(1000))
    low, high = Bootstrap(alone, seed=1).interval(difference)
    half = 1.96 * difference.std() / 1000**0.5
    assert low == pytest.approx(difference.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(difference.mean() + half, abs=0.1 * half)
    # Each of 250 clusters holds the same number four times: no more is known than from 250 examples.
    repeated = np.repeat(difference[:250], 4)
    grouped = Losses(sums=repeated, counts=counts, clusters=np.repeat(np.arange(250), 4))
    low, high = Bootstrap(grouped, seed=1).interval(repeated)
    assert high - low == pytest.approx(2 * 1.96 * difference[:250].std() / 250**0.5, rel=0.1)


def test_long_examples_weigh_more():
    losses = Losses(sums=np.zeros(2), counts=np.array([1, 3]), clusters=np.array([0, 0]))
    assert Bootstrap(losses, seed=0).interval(np.array([1.0, 3.0])) == (1.0, 1.0)


def test_pieces_of_one_document_are_one_cluster_and_every_token_is_counted():
    probe = text_probe(7)
    losses = probe.losses(build_lm(dtype=torch.float32))
    assert losses.clusters.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert losses.counts.tolist() == [len(example.token_ids) for example in probe.examples]


def test_a_loss_does_not_depend_on_the_batch():
    model = build_lm()
    together, alone = (
        TextProbe(
            examples=text_probe(7).examples,
            document_names=text_probe(7).document_names,
            bos_token_id=0,
            num_keys=29,
            batch_size=size,
        ).losses(model)
        for size in (7, 1)
    )
    np.testing.assert_allclose(together.sums, alone.sums, rtol=1e-5)
