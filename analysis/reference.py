"""What an input of this size would show by chance: the model's own load on its test set, and 95% bands around it.

The assumption behind every band: each patch decides by itself, with the probabilities of the test set. (At a site of
selection `expert` whole examples decide, so they are the independent draws.) Neighbouring patches of a real text or
picture resemble each other and drops come in runs, so real inputs leave the band more often than 1 time in 20. A value
inside the band is what chance alone would give; a value outside says that this input differs from the average test
patch, not that something is broken. The test set itself is taken as known without error. Where a run has another
capacity factor than the test set had, what the experts kept there says nothing, and the reference is unknown.
"""

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special  # not scipy.stats, which takes longer to import than the rest of the page together

from analysis.columns import BoolArray, FloatArray, share
from analysis.counts import Counts, ExpertCounts
from uoe_model.trace import RoutingTrace

TAILS: Final = (0.025, 0.975)
"""Quantiles that bound every chance band: 95% lie between them, ends included."""

CHANCE_DRAWS: Final = 1000
CHANCE_SEED: Final = 0
DRAWN_ONE_BY_ONE: Final = 256
"""Decisions times experts up to which chance loads are drawn decision by decision."""

NO_REFERENCE: Final = "the model has no reference load"
SITE_UNKNOWN: Final = "the reference load does not hold this site"
REFERENCE_EMPTY: Final = "the reference load saw no patches"
REFERENCE_KEPT_NOTHING: Final = "the reference load kept nothing at this site"
OTHER_TOP_K: Final = "the reference load was measured with another number of experts per patch"
OTHER_CAPACITY: Final = "the reference load was measured with another capacity factor"
FILLS_SLOTS: Final = "each expert picks a fixed number of patches, so its load has no chance band"
NEVER_FULL: Final = "experts are never full in this run"

Causes = list[tuple[BoolArray, str]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceRates:
    """The test set's rates for the rows of an `ExpertCounts`; NaN where unknown.

    Attributes:
        load: probability that a patch ends up in the expert's load: kept / patches of the reference, or
            requested / patches where this run never fills an expert.
        drop: probability that a request finds the expert full; unknown where this run never fills an expert.
        share: load over the sum of the site's loads.
        never_requested: the test set never asked for the expert, so that its drop rate is unknown.
        causes: (rows, why rates are unknown there).
    """

    load: FloatArray
    drop: FloatArray
    share: FloatArray
    never_requested: BoolArray
    causes: Causes


def reference_rates(trace: RoutingTrace, counts: ExpertCounts) -> ReferenceRates:
    """Look up the test set's rates for every row of the counts."""
    unknown = np.full(len(counts.site_row), np.nan)
    table = trace.reference
    if table is None:
        never, everywhere = np.zeros(len(unknown), dtype=np.bool_), np.ones(len(unknown), dtype=np.bool_)
        causes = [(everywhere, NO_REFERENCE)]
        return ReferenceRates(load=unknown, drop=unknown, share=unknown, never_requested=never, causes=causes)
    sites = trace.sites
    shape = (len(sites), int(sites.num_experts.max(initial=0)))
    requested_SE, kept_SE, patches_SE = (np.full(shape, np.nan) for _ in range(3))
    for matrix_SE, column in ((requested_SE, table.requested), (kept_SE, table.kept), (patches_SE, table.patches)):
        matrix_SE[table.site_id, table.expert_id] = column
    patches_S = patches_SE[:, 0] if shape[1] else np.zeros(shape[0])
    is_absent_S = np.isnan(patches_S)
    is_other_k_S = (
        (sites.selection != "expert_choice")
        & (patches_S > 0)
        & (np.abs(np.nansum(requested_SE, axis=1) - patches_S * sites.top_k) > patches_S / 2)
    )
    is_other_capacity_S = ~is_absent_S & _has_other_capacity(trace)
    is_unusable_SE = (is_absent_S | is_other_k_S | is_other_capacity_S)[:, None]
    cell = (counts.site_row, counts.expert_id)
    requested, kept, patches = (
        np.where(is_unusable_SE, np.nan, matrix)[cell] for matrix in (requested_SE, kept_SE, patches_SE)
    )
    load = share(np.where(counts.is_unlimited, requested, kept), patches)
    total = counts.total(load)
    return ReferenceRates(
        load=load,
        drop=np.where(counts.is_unlimited, np.nan, share(requested - kept, requested)),
        share=share(load, total),
        never_requested=requested == 0,
        causes=[
            (is_absent_S[counts.site_row], SITE_UNKNOWN),
            ((patches_S == 0)[counts.site_row], REFERENCE_EMPTY),
            (is_other_k_S[counts.site_row], OTHER_TOP_K),
            (is_other_capacity_S[counts.site_row], OTHER_CAPACITY),
            (total == 0, REFERENCE_KEPT_NOTHING),
        ],
    )


def reference_factors(trace: RoutingTrace) -> FloatArray:
    """(sites,) capacity factor with which the reference load was measured; NaN = never full.

    A run with other factors than its model's own notes these as `reference_capacity_factor`.
    """
    own = trace.sites.capacity_factor
    try:
        noted = np.array(trace.run.notes["reference_capacity_factor"].split(), dtype=np.float64)
    except (KeyError, ValueError):
        return own
    return noted if len(noted) == len(own) else own


def _has_other_capacity(trace: RoutingTrace) -> BoolArray:
    """(sites,) sites whose factor was changed so that the reference does not apply.

    Without a capacity the requests of the reference still do, unless experts pick: then picks depend on it as well.
    """
    run, reference = trace.sites.capacity_factor, reference_factors(trace)
    is_other = (run != reference) & ~(np.isnan(run) & np.isnan(reference))
    return np.asarray(is_other & (~np.isnan(run) | is_expert_choice(trace)), dtype=np.bool_)


def binomial_band(trials: npt.ArrayLike, probability: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Central 95% of Binomial(trials, probability).

    Returns:
        low, high (float64, whole numbers): the smallest counts whose cumulative probability reaches 2.5% and 97.5%;
        a count from low to high, both included, happens at least 95% of the time. NaN where the probability is.
    """
    broadcast = np.broadcast_arrays(np.asarray(trials, np.int64), np.asarray(probability, np.float64))
    low, high = (_binomial_quantile(tail, *broadcast) for tail in TAILS)
    return low, high


def _binomial_quantile(tail: float, trials: Counts, probability: FloatArray) -> FloatArray:
    """Smallest count whose cumulative probability reaches a tail; NaN where the probability is."""
    # The inverse between whole numbers lands within one of the answer; it has none for p = 0, p = 1 and no trials.
    found = np.nan_to_num(np.ceil(special.bdtrik(tail, trials.astype(np.float64), probability)))
    count = np.clip(found, 0, trials)
    is_beyond = (count > 0) & (special.bdtr(np.maximum(count - 1, 0), trials, probability) >= tail)
    count = np.where(is_beyond, count - 1, count)
    is_short = (count < trials) & (special.bdtr(count, trials, probability) < tail)
    count = np.where(is_short, count + 1, count)
    count = np.where(probability == 0, 0.0, np.where(probability == 1, trials, count))
    return np.where(np.isnan(probability), np.nan, count)


def load_band(trace: RoutingTrace, counts: ExpertCounts, rates: ReferenceRates) -> tuple[FloatArray, FloatArray]:
    """95% chance band of the load of every row, in patches, never above the slots; NaN for expert choice.

    At a site of selection `expert` the draws are examples, each worth the mean number of patches per example.
    """
    probability = np.where(is_expert_choice(trace)[counts.site_row], np.nan, rates.load)
    low, high = binomial_band(counts.decisions, probability)
    patches_per_decision = share(counts.patches, counts.decisions)
    return (
        at_most(low * patches_per_decision, counts.slots),
        at_most(high * patches_per_decision, counts.slots),
    )


def is_expert_choice(trace: RoutingTrace) -> BoolArray:
    """(sites,) sites where experts pick patches."""
    return np.asarray(trace.sites.selection == "expert_choice", dtype=np.bool_)


def at_most(value: FloatArray, limit: FloatArray) -> FloatArray:
    """The smaller of the two; a NaN limit is no limit, a NaN value stays NaN."""
    return np.where(np.isnan(limit), value, np.minimum(value, limit))


def idle_band(probability_idle: FloatArray) -> tuple[float, float, float]:
    """Mean and central 95% of how many of several experts are idle, each independently with its own probability."""
    if np.isnan(probability_idle).any():
        return np.nan, np.nan, np.nan
    chance_of_count = np.ones(1)
    for probability in probability_idle.tolist():
        chance_of_count = np.convolve(chance_of_count, [1.0 - probability, probability])
    cumulative = np.cumsum(chance_of_count) + 1e-12  # a quantile reached up to rounding counts as reached
    low, high = (float(np.searchsorted(cumulative, tail)) for tail in TAILS)
    return float(probability_idle.sum()), low, high


def chance_loads(decisions: int, load_rate_E: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw the loads that one site's experts would have by chance, every expert with its own rate per decision.

    A small input is drawn decision by decision. For a larger one every load is drawn as Binomial(decisions, rate); as
    the number of requests is in truth always the same, the draws are then shifted to the expected total (each expert
    takes a part of the shift in proportion to its variance) and widened by sqrt(E / (E - 1)), which gives every expert
    its binomial variance back (Hajek's approximation of sampling without replacement).

    Returns:
        (CHANCE_DRAWS, E) float64, at least 0.
    """
    experts = len(load_rate_E)
    if decisions * experts <= DRAWN_ONE_BY_ONE:
        return _chance_loads_one_by_one(decisions, load_rate_E, rng)
    expected_E, variance_E = decisions * load_rate_E, decisions * load_rate_E * (1.0 - load_rate_E)
    deviation_DE = rng.binomial(decisions, load_rate_E, size=(CHANCE_DRAWS, experts)) - expected_E
    if experts > 1 and variance_E.sum() > 0:
        deviation_DE -= deviation_DE.sum(axis=1, keepdims=True) * (variance_E / variance_E.sum())
        deviation_DE *= np.sqrt(experts / (experts - 1))
    return np.maximum(expected_E + deviation_DE, 0.0)


def _chance_loads_one_by_one(decisions: int, load_rate_E: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Every decision takes the experts whose stretch of a line, in random order, holds u, u + 1, ... (systematic
    sampling): each expert with exactly its rate, and always the same number of experts if the rates sum to one.
    """
    order_DME = rng.random((CHANCE_DRAWS, decisions, len(load_rate_E))).argsort(axis=2)
    end_DME = rng.random((CHANCE_DRAWS, decisions, 1)) + np.cumsum(load_rate_E[order_DME], axis=2)
    marks_DME = np.floor(end_DME) - np.floor(end_DME - load_rate_E[order_DME])
    taken_DME = np.zeros_like(marks_DME)
    np.put_along_axis(taken_DME, order_DME, marks_DME, axis=2)
    return np.asarray(taken_DME.sum(axis=1), dtype=np.float64)


def quantile_band(draws: FloatArray) -> tuple[float, float]:
    """Central 95% of the draws that have a value; NaN if none has."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, TAILS)
    return float(low), float(high)
