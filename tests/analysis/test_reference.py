import dataclasses
import itertools
import random

import numpy as np
import pytest
from scipy import stats

from analysis.balance import unevenness
from analysis.drops import dropped_assignments
from analysis.reference import (
    DRAWN_ONE_BY_ONE,
    OTHER_CAPACITY,
    at_most,
    binomial_band,
    chance_loads,
    idle_band,
    quantile_band,
    reference_factors,
)
from analysis.utilisation import expert_load
from tests.oracles import balance as balance_oracle
from tests.oracles import chance as oracle
from tests.traces import make_reference, make_run, make_trace

TRIALS = (0, 1, 2, 3, 10, 64, 300)
PROBABILITIES = (0.0, 1e-6, 0.01, 0.11, 1 / 3, 0.5, 0.77, 0.999, 1.0, float("nan"))


def test_the_band_equals_the_oracle():
    trials, probabilities = np.array(list(itertools.product(TRIALS, PROBABILITIES))).T
    low, high = binomial_band(trials, probabilities)
    for case in range(len(trials)):
        expected = oracle.binomial_band(int(trials[case]), float(probabilities[case]))
        np.testing.assert_equal((low[case], high[case]), expected)


def test_the_band_of_many_trials_equals_that_of_a_statistics_library():
    rng = np.random.default_rng(0)
    trials = rng.integers(0, 10, 600) ** rng.integers(1, 7, 600)
    probability = np.concatenate([rng.random(300), rng.random(200) * 1e-3, 1 - rng.random(100) * 1e-4])
    for tail, found in zip((0.025, 0.975), binomial_band(trials, probability), strict=True):
        np.testing.assert_array_equal(found, stats.binom.ppf(tail, trials, probability))


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


def with_note(trace, factors):
    return dataclasses.replace(trace, run=make_run(notes={"reference_capacity_factor": factors}))


def test_a_reference_of_another_capacity_factor_is_unknown_and_says_so():
    reference = make_reference({0: [100, 0], 1: [50, 50]}, patches=100)
    text = "L0.mlp: 0>E0 1>E0!; L1.mlp: 0>E0 1>E1"
    trace = make_trace(text, num_experts=2, capacity_factor=1.5, reference=reference)
    load = expert_load(with_note(trace, "1.25 1.5"))
    assert load["reference_load"].isna().tolist() == [True, True, False, False]
    assert OTHER_CAPACITY in load["reason"][0]
    assert load["reason"][2] == ""
    drops = dropped_assignments(with_note(trace, "1.25 1.5"))
    assert np.isnan(drops["reference_drop_share"][0])
    assert OTHER_CAPACITY in drops["reason"][0]


def test_requests_of_the_reference_still_hold_where_a_run_lifts_the_capacity():
    reference = make_reference({0: [50, 50]}, patches=100)
    trace = make_trace("L0.mlp: 0>E0 1>E1", num_experts=2, reference=reference)
    assert expert_load(with_note(trace, "1.5"))["reference_load"].tolist() == [1, 1]
    picked = make_trace("L0.mlp: 0>E0 1>E1", num_experts=2, selection="expert_choice", reference=reference)
    assert expert_load(with_note(picked, "1.5"))["reference_load"].isna().all()


@pytest.mark.parametrize("note", ["", "1.5", "1.5 x", "1.5 1.5 1.5"])
def test_a_note_that_does_not_fit_the_sites_is_no_note(note):
    trace = make_trace("L0.mlp: 0>E0; L1.mlp: 0>E0", num_experts=2, capacity_factor=1.5)
    assert reference_factors(with_note(trace, note)).tolist() == [1.5, 1.5]


def test_quantiles_leave_out_draws_without_a_value():
    assert quantile_band(np.array([np.nan, 2.0, 2.0])) == (2, 2)
    assert np.isnan(quantile_band(np.array([np.nan]))).all()
    low, high = quantile_band(np.arange(1001.0))
    assert (low, high) == (25, 975)


def test_an_unknown_limit_is_no_limit():
    found = at_most(np.array([1.0, 5.0, 5.0, np.nan]), np.array([2.0, 2.0, np.nan, 2.0]))
    np.testing.assert_equal(found, [1, 2, 5, np.nan])
