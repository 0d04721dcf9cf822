"""What other routing costs on one input: losses equal loops over logits, records are complete and repeat themselves."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.uoe_model.bundles import LONG_TEXT, examples_of_text, image_bundle, picture, run_alone, text_bundle
from tests.uoe_model.models import causal_router, free_router
from tests.uoe_model.watching import Recorder
from uoe_model.bundle import Bundle
from uoe_model.errors import Cancelled, CheckpointError, ConfigError, DeviceError, InputError
from uoe_model.probes import LOSS_OF, input_routing_value, loss_changes
from uoe_model.replacements import (
    CAPACITIES,
    LOOKUP_ROUTES,
    REPLACEMENTS,
    TARGETS,
    UNTRAINED_ROUTERS,
    BalancedRandom,
    Permuted,
    lookup_routes,
    save_lookup_routes,
)
from uoe_model.router import Router, RoutingOverrides
from uoe_model.run import run_image_on, run_text_on
from uoe_model.units import cut_text

CHANGES = {
    "capacity": RoutingOverrides(capacity_factor=None),
    "k": RoutingOverrides(num_experts_per_tok=4, sites=frozenset({0, 2})),
    "nothing": RoutingOverrides(),
}


def text_loss_slowly(bundle: Bundle, text: str, overrides: RoutingOverrides | None) -> float:
    """Mean nats per token of the text, token by token, every example by itself."""
    examples, losses = examples_of_text(text), []
    for ids, output in zip(examples, run_alone(bundle, examples, overrides), strict=True):
        for place, token in enumerate(ids[1:]):
            logits = output.logits[0, place].tolist()
            losses.append(math.log(sum(math.exp(value) for value in logits)) - logits[token])
    return sum(losses) / len(losses)


def with_untrained(bundle: Bundle, folder: Path, change: float) -> Bundle:
    """The bundle in a folder that ships initial routers: its own weights, some of them scaled by `change`."""
    weights = {
        f"{name}.weight": (module.weight * (change if module.site_id % 2 else 1)).detach().contiguous()
        for name, module in bundle.model.named_modules()
        if isinstance(module, Router)
    }
    save_file(weights, folder / UNTRAINED_ROUTERS)
    return dataclasses.replace(bundle, folder=folder)


def by_key(records: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(one["replacement"], one["block"], one["capacity"]): one for one in records}


# Changes of the routing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["The lazy fox.", "The", LONG_TEXT], ids=["short", "one token", "many examples"])
def test_losses_of_a_text_are_those_of_its_tokens(text):
    bundle = text_bundle()
    unchanged = text_loss_slowly(bundle, text, None)
    found = loss_changes(bundle, text, CHANGES)
    assert list(found) == list(CHANGES)
    for name, overrides in CHANGES.items():
        expected = text_loss_slowly(bundle, text, overrides)
        assert found[name].loss == pytest.approx(expected, rel=1e-5)
        assert found[name].loss_change == pytest.approx(expected - unchanged, abs=1e-5)
        run = run_text_on(bundle, text, overrides=overrides)
        assert found[name].loss == pytest.approx(run.prediction.mean_loss, rel=1e-5)
    assert found["nothing"].loss_change == 0


def test_the_loss_of_a_picture_is_that_of_the_unchanged_models_answer():
    bundle, image = image_bundle(), picture(seed=3)
    answer = int(run_image_on(bundle, image).prediction.probabilities.argmax())
    found = loss_changes(bundle, image, CHANGES)
    own = -math.log(run_image_on(bundle, image).prediction.probabilities[answer])
    for name, overrides in CHANGES.items():
        loss = -math.log(run_image_on(bundle, image, overrides=overrides).prediction.probabilities[answer])
        assert found[name] == pytest.approx((loss, loss - own), abs=1e-5)
    assert found["capacity"].loss_change != 0
    assert "class that the unchanged model answers" in LOSS_OF["image"]


def test_what_cannot_be_measured_is_a_sentence(monkeypatch):
    with pytest.raises(ConfigError, match="num_experts_per_tok=9"):
        loss_changes(text_bundle(), "The", {"k": RoutingOverrides(num_experts_per_tok=9)})
    with pytest.raises(InputError, match="empty"):
        loss_changes(text_bundle(), "", {})
    with pytest.raises(CheckpointError, match="no text model"):
        input_routing_value(image_bundle(), "The")
    with pytest.raises(CheckpointError, match="no image model"):
        input_routing_value(text_bundle(), picture())
    with pytest.raises(ConfigError, match="draws=0"):
        input_routing_value(text_bundle(), "The", draws=0)

    def fail(**_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    bundle = text_bundle()
    monkeypatch.setattr(bundle.model, "forward", fail)
    for measure in (lambda: loss_changes(bundle, "The", {}), lambda: input_routing_value(bundle, "The")):
        with pytest.raises(DeviceError, match="not enough memory"):
            measure()


# What routing buys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "image"])
def test_the_records_are_complete_and_routers_that_training_did_not_move_cost_nothing(kind, tmp_path):
    bundle, content = (text_bundle(), LONG_TEXT) if kind == "text" else (image_bundle(), picture())
    records = input_routing_value(with_untrained(bundle, tmp_path, 1.0), content, draws=3)
    keys = [(one["replacement"], one["block"], one["capacity"]) for one in records]
    assert keys == list(itertools.product(REPLACEMENTS, TARGETS, CAPACITIES))
    for one in records:
        assert one["model"] == "tiny"
        if one["replacement"] == "lookup":
            assert (one["loss_change"], one["draws"]) == (None, 0)
            assert "routes cannot be looked up" in one["reason"]
            continue
        assert one["reason"] == ""
        if one["replacement"] == "untrained_router":
            assert one["loss_change"] == pytest.approx(0, abs=1e-6)
            assert (one["low"], one["high"], one["draws"]) == (None, None, 1)
        else:
            assert one["draws"] == 3
            assert one["low"] < one["loss_change"] < one["high"]


def test_looked_up_routes_are_those_of_the_stored_tables(tmp_path):
    bundle = with_untrained(text_bundle(), tmp_path, 1.0)
    configs, keys = bundle.config.site_configs(), bundle.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    tables = {site: torch.randn(keys, one.num_experts, generator=generator) for site, one in enumerate(configs)}
    save_lookup_routes(tables, bundle.folder)
    stored = lookup_routes(configs, bundle.folder)
    for site, table in tables.items():
        torch.testing.assert_close(stored[site], table.half().float(), rtol=0, atol=0)
    records = by_key(input_routing_value(bundle, "The quick fox", draws=1))
    found = records["lookup", "both", "as trained"]
    assert (found["draws"], found["reason"], found["low"]) == (1, "", None)
    ids = cut_text(bundle, "The quick fox").examples[0]
    losses = []
    for looked_up in (None, stored):

        def replace(site_id, logits_ME, layout, router_input_MD, looked_up=looked_up):
            return logits_ME if looked_up is None else looked_up[site_id][torch.from_numpy(ids)]

        with torch.inference_mode():
            logits = bundle.model(
                input_ids=torch.from_numpy(ids)[None], routing=RoutingOverrides(replace_logits=replace)
            ).logits[0]
        losses.append(torch.nn.functional.cross_entropy(logits[:-1], torch.from_numpy(ids)[1:]).item())
    assert found["loss_change"] == pytest.approx(losses[1] - losses[0], abs=1e-5)


@pytest.mark.parametrize("damage", ["missing site", "other width", "no safetensors"])
def test_tables_of_another_model_are_unknown_with_a_reason(tmp_path, damage):
    bundle = with_untrained(text_bundle(), tmp_path, 1.0)
    configs = bundle.config.site_configs()
    tables = {site: torch.zeros(9, one.num_experts) for site, one in enumerate(configs)}
    if damage == "missing site":
        tables.pop(1)
    elif damage == "other width":
        tables[1] = torch.zeros(9, 99)
    save_lookup_routes(tables, bundle.folder)
    if damage == "no safetensors":
        (bundle.folder / LOOKUP_ROUTES).write_bytes(b"no")
    record = by_key(input_routing_value(bundle, "The", draws=1))["lookup", "mlp", "none"]
    assert record["loss_change"] is None
    assert LOOKUP_ROUTES in record["reason"]


def test_changes_are_means_over_draws_that_a_loop_makes_too():
    bundle, text, draws = text_bundle(), "The quick fox sat on the wall. " * 2, 4
    records = by_key(input_routing_value(bundle, text, draws=draws, seed=2))
    configs = bundle.config.site_configs()
    for capacity, block in itertools.product(CAPACITIES, TARGETS):
        factor = {} if capacity == "as trained" else {"capacity_factor": None}
        sites = {"attention": [0, 2], "mlp": [1, 3], "both": [0, 1, 2, 3]}[block]
        base = text_loss_slowly(bundle, text, RoutingOverrides(**factor))
        for replacement in ("balanced_random", "permuted"):
            changes = []
            for draw in range(draws):
                number = 2000 + draw
                if replacement == "permuted":
                    made = Permuted(number)
                else:
                    made = BalancedRandom({site: configs[site] for site in sites}, number)

                def replace(site_id, logits, layout, router_input, made=made, sites=sites):
                    return made(site_id, logits, layout, router_input) if site_id in sites else logits

                # One call for all examples, as draws go on from one to the next within it.
                changes.append(_padded_loss(bundle, text, RoutingOverrides(**factor, replace_logits=replace)) - base)
            found = records[replacement, block, capacity]
            assert found["loss_change"] == pytest.approx(np.mean(changes), abs=1e-5)
            assert (found["low"], found["high"]) == pytest.approx((min(changes), max(changes)), abs=1e-5)


def _padded_loss(bundle: Bundle, text: str, overrides: RoutingOverrides) -> float:
    examples = examples_of_text(text)
    assert len(examples) <= 4
    ids = torch.zeros(len(examples), max(map(len, examples)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, example in enumerate(examples):
        ids[row, : len(example)], mask[row, : len(example)] = torch.tensor(example), 1
    with torch.inference_mode():
        p = bundle.model(input_ids=ids, attention_mask=mask, routing=overrides).logits.log_softmax(-1)
    losses = [-p[row, place, token] for row, ids in enumerate(examples) for place, token in enumerate(ids[1:])]
    return float(sum(losses) / len(losses))


def test_draws_repeat_themselves_by_seed():
    bundle = text_bundle()
    first, again, other = (input_routing_value(bundle, "The lazy fox.", draws=2, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert by_key(first)["permuted", "both", "none"] != by_key(other)["permuted", "both", "none"]


def test_initial_routers_change_only_the_block_that_training_moved(tmp_path):
    bundle = with_untrained(text_bundle(), tmp_path, -1.0)
    records = by_key(input_routing_value(bundle, LONG_TEXT, draws=1))
    assert records["untrained_router", "attention", "as trained"]["loss_change"] == pytest.approx(0, abs=1e-6)
    assert abs(records["untrained_router", "mlp", "as trained"]["loss_change"]) > 1e-3


def test_what_is_not_there_is_unknown_and_says_why(tmp_path):
    records = by_key(input_routing_value(text_bundle(), "The", draws=1))
    assert "tiny has no untrained_routers.safetensors" in records["untrained_router", "mlp", "none"]["reason"]
    (tmp_path / UNTRAINED_ROUTERS).write_bytes(b"no tensors")
    damaged = dataclasses.replace(text_bundle(), folder=tmp_path)
    record = by_key(input_routing_value(damaged, "The", draws=1))["untrained_router", "mlp", "none"]
    assert "cannot be read" in record["reason"]
    assert str(tmp_path) not in record["reason"]
    assert record["loss_change"] is None


@pytest.mark.parametrize("kind", ["text", "image"])
def test_experts_that_cannot_be_dealt_evenly_leave_the_deal_unknown_there_alone(kind):
    if kind == "text":
        bundle, content = text_bundle(mlp_router=causal_router(num_experts_per_tok=3)), "The lazy fox."
    else:
        bundle, content = image_bundle(mlp_router=free_router(num_experts_per_tok=3)), picture()
    records = by_key(input_routing_value(bundle, content, draws=1))
    for capacity in CAPACITIES:
        assert records["balanced_random", "attention", capacity]["loss_change"] is not None
        for block in ("mlp", "both"):
            record = records["balanced_random", block, capacity]
            assert (record["loss_change"], record["low"], record["draws"]) == (None, None, 0)
            assert "num_experts=4 to be a multiple of num_experts_per_tok=3" in record["reason"]


# Watched -------------------------------------------------------------------------------------------------------------


def test_measurements_report_every_pass_and_can_be_cancelled():
    watch = Recorder()
    loss_changes(text_bundle(), "The", CHANGES, watch=watch)
    assert watch.reports == [("measuring", done, 4) for done in range(5)]
    watch = Recorder()
    input_routing_value(text_bundle(), "The", draws=2, watch=watch)
    passes = 2 * (1 + 2 * 3 * 2)  # with and without capacity: learned routes, and two kinds at three targets twice
    assert watch.reports == [("measuring", done, passes) for done in range(passes + 1)]
    assert watch.asked == passes
    for cancel_at in (1, 7, passes):
        with pytest.raises(Cancelled):
            input_routing_value(text_bundle(), "The", draws=2, watch=Recorder(cancel_at=cancel_at))
    with pytest.raises(Cancelled):
        loss_changes(text_bundle(), "The", CHANGES, watch=Recorder(cancel_at=2))
