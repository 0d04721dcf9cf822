import itertools
import random

import numpy as np
import pytest

from analysis.balance import unevenness
from analysis.reference import (
    DRAWN_ONE_BY_ONE,
    at_most,
    binomial_band,
    chance_loads,
    idle_band,
    quantile_band,
)
from tests.oracles import balance as balance_oracle
from tests.oracles import chance as oracle

TRIALS = (0, 1, 2, 3, 10, 64, 300)
PROBABILITIES = (0.0, 1e-6, 0.01, 0.11, 1 / 3, 0.5, 0.77, 0.999, 1.0, float("nan"))


def test_the_band_equals_the_oracle():
    trials, probabilities = np.array(list(itertools.product(TRIALS, PROBABILITIES))).T
    low, high = binomial_band(trials, probabilities)
    for case in range(len(trials)):
        expected = oracle.binomial_band(int(trials[case]), float(probabilities[case]))
        np.testing.assert_equal((low[case], high[case]), expected)


def test_the_band_holds_at_least_95_percent_and_no_narrower_one_does_from_the_same_low():
    draws = np.random.default_rng(0).binomial(50, 0.3, 200_000)
    low, high = binomial_band(50, 0.3)
    assert np.mean((draws >= low) & (draws <= high)) >= 0.95
    assert np.mean(draws < low) <= 0.025
    assert np.mean(draws > high) <= 0.025


def test_idle_band_equals_the_oracle():
    rng = np.random.default_rng(0)
    for experts in (0, 1, 2, 7, 40):
        chances = rng.random(experts)
        assert idle_band(chances) == pytest.approx(oracle.idle_band(chances.tolist()))
    assert idle_band(np.array([0.0, 1.0, 1.0])) == (2, 2, 2)
    assert np.isnan(idle_band(np.array([0.5, np.nan]))).all()


def choices_of_patches(patches, experts, top_k, draws):
    """Loads of patches that each choose k different experts, all alike; by loops, with another random generator."""
    rng = random.Random(1)
    loads = []
    for _ in range(draws):
        load = [0] * experts
        for _ in range(patches):
            for expert in rng.sample(range(experts), top_k):
                load[expert] += 1
        loads.append(load)
    return loads


@pytest.mark.parametrize(("patches", "experts", "top_k"), [(1, 6, 2), (12, 8, 2), (30, 4, 1), (120, 8, 2), (150, 4, 3)])
def test_chance_loads_are_those_of_patches_that_choose_for_themselves(patches, experts, top_k):
    expected = choices_of_patches(patches, experts, top_k, draws=1000)
    drawn = chance_loads(patches, np.full(experts, top_k / experts), np.random.default_rng(0))
    assert drawn.sum(axis=1) == pytest.approx(patches * top_k, rel=0.02)
    for which, measured in enumerate(unevenness(drawn)):
        values = sorted(balance_oracle.unevenness(load)[which] for load in expected)
        for quantile in (0.025, 0.5, 0.975):
            wanted = values[int(quantile * len(values))]
            assert np.quantile(measured, quantile) == pytest.approx(wanted, rel=0.12, abs=0.01)


@pytest.mark.parametrize("patches", [20, 400])
def test_every_expert_keeps_its_own_rate_and_spread(patches):
    rates = np.array([0.05, 0.3, 0.65, 1.0])
    drawn = chance_loads(patches, rates, np.random.default_rng(3))
    assert (patches * len(rates) <= DRAWN_ONE_BY_ONE) == (patches == 20)
    assert drawn.mean(axis=0) == pytest.approx(patches * rates, rel=0.05)
    assert drawn.std(axis=0)[:3] == pytest.approx(np.sqrt(patches * rates * (1 - rates))[:3], rel=0.25)
    assert drawn[:, 3] == pytest.approx(patches, abs=1e-9)


def test_quantiles_leave_out_draws_without_a_value():
    assert quantile_band(np.array([np.nan, 2.0, 2.0])) == (2, 2)
    assert np.isnan(quantile_band(np.array([np.nan]))).all()
    low, high = quantile_band(np.arange(1001.0))
    assert (low, high) == (25, 975)


def test_an_unknown_limit_is_no_limit():
    found = at_most(np.array([1.0, 5.0, 5.0, np.nan]), np.array([2.0, 2.0, np.nan, 2.0]))
    np.testing.assert_equal(found, [1, 2, 5, np.nan])
