"""Cached generation equals the full pass, and the cache carries every step's decisions."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.uoe_model.models import (
    CAUSAL_VARIANTS,
    assert_same_decisions,
    build_lm,
    causal_router,
    dropped,
    pad,
    tokens,
    units_of,
)
from uoe_model.cache import UoECache
from uoe_model.errors import ConfigError, InputError
from uoe_model.modeling import UoEForCausalLM, UoEOutput
from uoe_model.router import RoutingOverrides

GREEDY = {"do_sample": False, "max_new_tokens": 14, "eos_token_id": None, "pad_token_id": 1}


def build(**router: Any) -> UoEForCausalLM:
    fields = causal_router(capacity_factor=0.4, **router)
    return build_lm(attention_router=fields, mlp_router=fields | {"gate_keys": False, "num_experts": 8})


def feed(model: UoEForCausalLM, ids: Tensor, sizes: list[int], cache: UoECache | None = None, **kwargs: Any) -> Tensor:
    """Logits of all columns, fed in chunks through one cache."""
    cache = UoECache() if cache is None else cache
    parts = [model(input_ids=part, past_key_values=cache, **kwargs).logits for part in ids.split(sizes, dim=1)]
    return torch.cat(parts, 1)


def assert_equal_pass(cache: UoECache, full: UoEOutput) -> None:
    """The cache carries what one pass over everything decides."""
    carried = cache.decisions()
    assert len(carried) == len(full.decisions)
    for actual, expected in zip(carried, full.decisions, strict=True):
        assert_same_decisions(actual, expected)
        assert torch.equal(actual.capacity_G, expected.capacity_G)


@pytest.mark.parametrize("variant", CAUSAL_VARIANTS, ids=str)
@pytest.mark.parametrize("sizes", [[1] * 45, [17, 1, 1, 3, 5, 18], [45]], ids=["one-by-one", "chunks", "at-once"])
@torch.no_grad()
def test_a_cached_pass_equals_the_full_pass(sizes, variant):
    model, ids, cache = build(**variant), tokens(2, 45), UoECache()
    full = model(input_ids=ids)
    assert all(dropped(decision) > 0 for decision in full.decisions)
    logits = feed(model, ids, sizes, cache)
    torch.testing.assert_close(logits, full.logits, rtol=0, atol=1e-11)
    assert_equal_pass(cache, full)


@pytest.mark.parametrize("patch_len", [1, 4])
@torch.no_grad()
def test_every_call_returns_the_decisions_of_its_own_units(patch_len):
    model, ids, cache = build(patch_len=patch_len), tokens(2, 45), UoECache()
    full = model(input_ids=ids)
    start = 0
    for part in ids.split([30, 1, 14], dim=1):
        out = model(input_ids=part, past_key_values=cache)
        columns = torch.arange(start, start + part.shape[1])
        start += part.shape[1]
        for decision, everything in zip(out.decisions, full.decisions, strict=True):
            assert_same_decisions(decision, units_of(everything, torch.cat([columns, columns + 45])))


@pytest.mark.parametrize("position", ["rotary", "learned"])
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_a_cached_pass_of_padded_rows_equals_the_full_pass(side, position):
    router = causal_router(patch_len=4, gate_keys=True, capacity_factor=0.4)
    model = build_lm(attention_router=router, mlp_router=router, position_embedding=position)
    ids, mask = pad([tokens(30), tokens(50, seed=1), tokens(43, seed=2)], side)
    full = model(input_ids=ids, attention_mask=mask)
    cache, start, parts = UoECache(), 0, []
    for part in ids.split([22, 9, 1, 1, 17], dim=1):
        start += part.shape[1]
        parts.append(model(input_ids=part, attention_mask=mask[:, :start], past_key_values=cache).logits)
    real = mask.bool()
    torch.testing.assert_close(torch.cat(parts, 1)[real], full.logits[real], rtol=0, atol=1e-11)
    assert_equal_pass(cache, full)


@torch.no_grad()
def greedy_by_full_passes(model: UoEForCausalLM, ids: Tensor, steps: int, **kwargs: Any) -> Tensor:
    for _ in range(steps):
        ids = torch.cat([ids, model(input_ids=ids, **kwargs).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return ids


@pytest.mark.parametrize("variant", CAUSAL_VARIANTS, ids=str)
def test_greedy_generation_equals_full_passes(variant):
    model, ids = build(**variant), tokens(2, 33)
    out = model.generate(ids, **GREEDY, return_dict_in_generate=True)
    assert torch.equal(out.sequences, greedy_by_full_passes(model, ids, 14))
    # The last token was chosen but never read.
    assert_equal_pass(out.past_key_values, model(input_ids=out.sequences[:, :-1]))
    assert torch.equal(model.generate(ids, **GREEDY, use_cache=False), out.sequences)


def test_generation_from_left_padded_prompts_equals_each_alone():
    model, rows = build(patch_len=4), [tokens(30), tokens(41, seed=1), tokens(7, seed=2)]
    ids, mask = pad(rows, "left")
    together = model.generate(ids, attention_mask=mask, **GREEDY)
    for generated, row in zip(together, rows, strict=True):
        assert torch.equal(generated[41:], model.generate(row[None], **GREEDY)[0, len(row) :])


@pytest.mark.parametrize("patch_len", [1, 4])
def test_beam_search_with_a_cache_equals_beam_search_without(patch_len):
    model, ids = build(patch_len=patch_len, gate_keys=True), tokens(2, 33)
    beams = {
        **GREEDY,
        "num_beams": 4,
        "num_return_sequences": 3,
        "return_dict_in_generate": True,
        "output_scores": True,
    }
    cached, full = model.generate(ids, **beams), model.generate(ids, **beams, use_cache=False)
    assert torch.equal(cached.sequences, full.sequences)
    torch.testing.assert_close(cached.sequences_scores, full.sequences_scores)
    assert cached.beam_indices[:, :14].unique().numel() > 2, "beams never changed places: the test shows nothing"


@torch.no_grad()
def test_reordered_rows_continue_from_where_they_came():
    model, ids, cache = build(patch_len=4), tokens(3, 38), UoECache()
    feed(model, ids, [38], cache)
    order = torch.tensor([2, 0, 0])
    cache.reorder_cache(order)
    more = torch.cat([ids[order], tokens(3, 9, seed=4)], 1)
    full = model(input_ids=more)
    torch.testing.assert_close(feed(model, more[:, 38:], [1, 8], cache), full.logits[:, 38:], rtol=0, atol=1e-11)
    assert_equal_pass(cache, full)


@torch.no_grad()
def test_rows_can_be_repeated_and_selected():
    model, ids, cache = build(), tokens(2, 38), UoECache()
    feed(model, ids, [38], cache)
    cache.batch_repeat_interleave(2)
    assert_equal_pass(cache, model(input_ids=ids.repeat_interleave(2, 0)))
    cache.batch_select_indices(torch.tensor([3]))
    assert_equal_pass(cache, model(input_ids=ids[1:]))


@pytest.mark.parametrize("patch_len", [1, 4])
@torch.no_grad()
def test_a_cropped_cache_has_forgotten_what_was_cropped(patch_len):
    model, ids = build(patch_len=patch_len), tokens(2, 50)
    for removed, new in itertools.product((1, 6, 30), (1, 7)):
        cache = UoECache()
        feed(model, ids, [45, 5], cache)
        cache.crop(-removed)
        kept = 50 - removed
        assert cache.get_seq_length() == kept
        assert_equal_pass(cache, model(input_ids=ids[:, :kept]))
        other = torch.cat([ids[:, :kept], tokens(2, new, seed=9)], 1)
        full = model(input_ids=other)
        torch.testing.assert_close(
            feed(model, other[:, kept:], [new], cache), full.logits[:, kept:], rtol=0, atol=1e-11
        )
        assert_equal_pass(cache, full)


def test_generation_follows_the_overrides_of_its_call():
    model, ids = build(), tokens(1, 33)
    for overrides in (RoutingOverrides(capacity_factor=None), RoutingOverrides(num_experts_per_tok=1)):
        generated = model.generate(ids, **GREEDY, routing=overrides)
        assert torch.equal(generated, greedy_by_full_passes(model, ids, 14, routing=overrides))
        assert not torch.equal(generated, model.generate(ids, **GREEDY)), "choose a seed where it matters"


def test_what_a_cache_cannot_do_is_an_error():
    model, cache = build(), UoECache()
    model(input_ids=tokens(1, 8), past_key_values=cache)
    with pytest.raises(ConfigError, match=r"crop\(3\)"):
        cache.crop(3)
    with pytest.raises(ConfigError, match=r"crop\(-9\)"):
        cache.crop(-9)
    with pytest.raises(InputError, match="document"):
        model(input_ids=tokens(1, 2), document_ids=torch.zeros(1, 2), past_key_values=cache)
    with pytest.raises(InputError, match="attention_mask"):
        model(input_ids=tokens(1, 2), attention_mask=torch.ones(1, 2), past_key_values=cache)
