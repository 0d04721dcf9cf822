"""How a continuation is drawn: impossible settings are refused, draws repeat by seed and follow the probabilities."""

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch

from tests.uoe_model.bundles import CONTEXT, assert_checks_pass, assert_rows, rows_of, run_alone, text_bundle, tokenizer
from uoe_model.errors import ConfigError
from uoe_model.generation import GenerationSettings
from uoe_model.result import RunResult
from uoe_model.router import RoutingOverrides
from uoe_model.run import run_text_on
from uoe_model.scoring import choose_token

TEXT = "The lazy fox."


def settings(**changes: Any) -> GenerationSettings:
    return GenerationSettings(**({"max_new_tokens": 6, "temperature": 1.0} | changes))


def written(result: RunResult) -> list[int]:
    units = result.trace.units
    ids: list[int] = units.token_id[units.phase == "decode"].tolist()
    return ids


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens=-1 must be 0 or more"),
        ({"max_new_tokens": 2.0}, "max_new_tokens=2.0 must be 0 or more, and a whole number"),
        ({"temperature": -0.1}, "temperature=-0.1 must lie in 0..100"),
        ({"temperature": math.nan}, "temperature=nan must lie"),
        ({"top_p": 0}, "top_p=0 must be above 0 and at most 1"),
        ({"top_p": 1.01}, "top_p=1.01 must be above 0"),
        ({"top_k": -3}, "top_k=-3 must be 0 or more"),
        ({"seed": True}, "seed=True must be 0 or more"),
        ({"seed": 2**63}, "must be below"),
        ({"stop_at_eos": 1}, "stop_at_eos=1 must be true or false"),
    ],
)
def test_settings_that_cannot_be_name_the_value(changes, sentence):
    with pytest.raises(ConfigError) as caught:
        settings(**changes)
    assert sentence in str(caught.value)


def test_all_problems_of_settings_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        settings(max_new_tokens=-1, temperature=-2, top_p=0, top_k=-3, seed=-4, stop_at_eos=None)
    for name in ("max_new_tokens=-1", "temperature=-2", "top_p=0", "top_k=-3", "seed=-4", "stop_at_eos=None"):
        assert name in str(caught.value)


def test_a_number_of_tokens_is_given_once():
    with pytest.raises(ConfigError, match="given both"):
        run_text_on(text_bundle(), TEXT, max_new_tokens=2, generation=settings())


# One draw ------------------------------------------------------------------------------------------------------------


def allowed_slowly(logits: list[float], temperature: float, top_k: int, top_p: float) -> dict[int, float]:
    """Probability of every token that may be drawn, by the definition."""
    weights = [math.exp((value - max(logits)) / temperature) for value in logits]
    order = sorted(range(len(logits)), key=lambda token: -weights[token])[: top_k or len(logits)]
    total, reached = sum(weights[token] for token in order), 0.0
    kept = []
    for token in order:
        if reached >= top_p * total:
            break
        kept.append(token)
        reached += weights[token]
    return {token: weights[token] / reached for token in kept}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 3.0},
        {"top_k": 3},
        {"top_p": 0.6},
        {"top_p": 0.05},
        {"temperature": 2.0, "top_k": 5, "top_p": 0.7},
    ],
    ids=str,
)
def test_draws_follow_the_probabilities_of_what_may_be_drawn(changes):
    chosen = settings(**changes)
    logits = [random.Random(7).gauss(0, 1.5) for _ in range(8)]
    logits = [value + 0.37 * place for place, value in enumerate(logits)]
    expected = allowed_slowly(logits, chosen.temperature, chosen.top_k, chosen.top_p)
    generator, draws = torch.Generator().manual_seed(1), 4000
    counts = Counter(choose_token(torch.tensor(logits), chosen, generator) for _ in range(draws))
    assert set(counts) <= set(expected)
    for token, p in expected.items():
        spread = 4.5 * math.sqrt(p * (1 - p) / draws)
        assert counts[token] / draws == pytest.approx(p, abs=spread + 1e-9), token


def test_no_temperature_overflows_and_a_low_one_is_greedy():
    logits = torch.tensor([3e4, -2e4, 2.9e4])
    for temperature in (1e-300, 1e-3, 1.0, 100.0):
        generator = torch.Generator().manual_seed(0)
        assert choose_token(logits, settings(temperature=temperature), generator) in (0, 2)
    assert choose_token(logits, settings(temperature=1e-300), torch.Generator()) == 0


def test_without_temperature_the_most_probable_token_is_taken_and_nothing_is_drawn():
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    greedy = settings(temperature=0.0, top_k=2, top_p=0.1)
    assert choose_token(torch.tensor([0.0, 2.0, 1.0]), greedy, generator) == 1
    assert torch.equal(generator.get_state(), before)


# Whole runs ----------------------------------------------------------------------------------------------------------


def test_a_seed_repeats_its_text_and_other_seeds_write_others():
    bundle = text_bundle()
    torch.manual_seed(0)
    first = run_text_on(bundle, TEXT, generation=settings(seed=5, max_new_tokens=10))
    torch.manual_seed(1)  # nobody else's draws matter
    second = run_text_on(bundle, TEXT, generation=settings(seed=5, max_new_tokens=10))
    assert written(first) == written(second)
    texts = {tuple(written(run_text_on(bundle, TEXT, generation=settings(seed=seed)))) for seed in range(6)}
    assert len(texts) > 3


def test_a_drawn_continuation_is_routed_as_one_full_pass_routes_it():
    bundle, overrides = text_bundle(), RoutingOverrides(capacity_factor=0.4)
    result = run_text_on(bundle, TEXT, generation=settings(seed=2), overrides=overrides)
    ids = result.trace.units.token_id.tolist()
    assert len(written(result)) == 6
    assert_rows(result.trace, rows_of(run_alone(bundle, [ids], overrides)))
    assert_checks_pass(result.trace)


def test_a_trace_says_how_its_continuation_was_made():
    bundle = text_bundle()
    drawn = run_text_on(bundle, TEXT, generation=settings(seed=4, temperature=0.8, top_p=0.9, top_k=40)).trace.run
    assert drawn.seed == 4
    assert drawn.notes["generation"] == (
        "at most 6 tokens, drawn at temperature 0.8, from the 40 most probable, within top-p 0.9, seed 4"
    )
    greedy = run_text_on(bundle, TEXT, max_new_tokens=2).trace.run
    assert greedy.seed is None
    assert greedy.notes["generation"] == "at most 2 tokens, always the most probable one"
    none = run_text_on(bundle, TEXT, generation=settings(max_new_tokens=0)).trace.run
    assert none.seed is None
    assert "generation" not in none.notes


def test_the_end_token_is_like_any_other_if_it_should_not_stop():
    bundle = text_bundle()
    free = written(run_text_on(bundle, TEXT, max_new_tokens=5))
    bundle.model.config.eos_token_id = free[2]
    assert written(run_text_on(bundle, TEXT, max_new_tokens=5)) == free[: free.index(free[2])]
    bundle.model.config.eos_token_id = [bundle.config.vocab_size - 1, free[1]]  # some models have several
    assert written(run_text_on(bundle, TEXT, max_new_tokens=5)) == free[: min(free.index(free[1]), 5)]
    on = run_text_on(bundle, TEXT, generation=settings(max_new_tokens=5, temperature=0.0, stop_at_eos=False))
    assert written(on) == free
    assert on.trace.run.notes["generation"].endswith("not stopping at the end token")


def test_a_prompt_is_read_once_however_it_is_continued(monkeypatch):
    bundle, calls = text_bundle(), []
    forward = bundle.model.forward

    def count(**arguments: Any) -> Any:
        calls.append(tuple(arguments["input_ids"].shape))
        return forward(**arguments)

    monkeypatch.setattr(bundle.model, "forward", count)
    text = "fox " * (CONTEXT + 4)
    lengths = len(tokenizer()(text, add_special_tokens=False)["input_ids"])
    run_text_on(bundle, text, generation=settings(max_new_tokens=3))
    read = [shape for shape in calls if shape[1] > 1]
    assert sum(rows * columns for rows, columns in read) == lengths + sum(rows for rows, _ in read)
    assert [shape for shape in calls if shape[1] == 1] == [(1, 1)] * 3
