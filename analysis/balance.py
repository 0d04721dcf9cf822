"""How evenly every router spread its patches over the experts, against what chance alone does to so small an input."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.columns import FloatArray, reason_column, share, site_columns
from analysis.confidence import missing_logits, router_probabilities
from analysis.counts import ExpertCounts, count_by_expert, site_bounds
from analysis.reference import (
    CHANCE_SEED,
    FILLS_SLOTS,
    ReferenceRates,
    chance_loads,
    is_expert_choice,
    quantile_band,
    reference_rates,
)
from analysis.utilisation import NOTHING_KEPT
from uoe_model.trace import FILLER, RoutingTrace

EVEN_BY_CONSTRUCTION = "experts pick, so requests are even by construction and there is no balance loss"
NOTHING_REQUESTED = "nothing was requested at this site"

UNEVENNESS = ("load_cv", "max_over_mean")


def load_balance(trace: RoutingTrace) -> pd.DataFrame:
    """Measure the balance of every site, over all examples of the trace together.

    The load of a small input is uneven even under a perfectly even router, so `load_cv` and `max_over_mean` come with
    the band that chance gives an input of this size at the test set's rates; the test set's own value is the limit for
    very long inputs. A capacity limits the load of an expert, which the band ignores: measured values below it are
    possible. The balance loss has no reference, as a reference load holds no probabilities.

    Returns:
        One row per site, sorted; no rows if the trace has no units:

        - site_id (int16), layer (int16), block (str), site_name (str)
        - balance_loss (float64): num_experts * sum of f * P over experts; 1 when even. f is the share of requests
          (before capacity), P the mean probability, over patches (over examples with selection `expert`); NaN for
          `expert_choice` and without router logits
        - load_cv (float64): standard deviation / mean of the experts' load; 0 when even; NaN if nothing was kept
        - max_over_mean (float64): largest load / mean load, 1 (even) to num_experts; NaN if nothing was kept
        - reference_load_cv, reference_max_over_mean (float64): the same of the test set's load
        - load_cv_low, load_cv_high, max_over_mean_low, max_over_mean_high (float64): 95% chance bands
        - reason (str): why values are NaN; "" if none is
    """
    counts = count_by_expert(trace)
    rates = reference_rates(trace, counts)
    first = np.flatnonzero(counts.expert_id == 0)
    site = counts.site_row[first]
    columns = site_columns(trace, site)
    columns["balance_loss"] = np.array([_balance_loss(trace, int(row)) for row in site], dtype=np.float64)
    measured = _split(counts, counts.kept.astype(np.float64))
    columns |= dict(zip(UNEVENNESS, _unevenness_per_site(measured), strict=True))
    expected = _unevenness_per_site(_split(counts, rates.load))
    bands = [[quantile_band(draws) for draws in draws_of_site] for draws_of_site in chance_unevenness(counts, rates)]
    fills_slots = is_expert_choice(trace)[site]
    band_S22 = np.array(bands, dtype=np.float64).reshape(len(site), 2, 2)
    band_S22[fills_slots] = np.nan
    for which, name in enumerate(UNEVENNESS):
        columns[f"reference_{name}"] = expected[which]
        columns[f"{name}_low"], columns[f"{name}_high"] = band_S22[:, which, 0], band_S22[:, which, 1]
    has_logits = np.isin(trace.sites.site_id[site], list(trace.router_logits))
    columns["reason"] = reason_column(
        len(site),
        [
            (fills_slots, EVEN_BY_CONSTRUCTION),
            (~has_logits & ~fills_slots, missing_logits(trace)),
            (counts.total(counts.requested)[first] == 0, NOTHING_REQUESTED),
            ((counts.total(counts.kept) == 0)[first], NOTHING_KEPT),
            *((mask[first], text) for mask, text in rates.causes),
            (fills_slots, FILLS_SLOTS),
        ],
    )
    return pd.DataFrame(columns)


def chance_unevenness(counts: ExpertCounts, rates: ReferenceRates) -> list[tuple[FloatArray, FloatArray]]:
    """Seeded draws of (load_cv, max_over_mean) under the reference load, per site; NaN without reference."""
    first = np.flatnonzero(counts.expert_id == 0)
    result = []
    for site, start, load_rate_E in zip(counts.site_row[first], first, _split(counts, rates.load), strict=True):
        if np.isnan(load_rate_E).any():
            result.append((np.full(1, np.nan), np.full(1, np.nan)))
        else:
            rng = np.random.default_rng([CHANCE_SEED, int(site)])
            result.append(unevenness(chance_loads(int(counts.decisions[start]), load_rate_E, rng)))
    return result


def unevenness(load_DE: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(load_cv, max_over_mean) of every row of loads; NaN where a row is all zero."""
    mean_D = load_DE.mean(axis=1)
    return share(load_DE.std(axis=1), mean_D), share(load_DE.max(axis=1), mean_D)


def _unevenness_per_site(loads: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    values_S2 = np.array([[float(value[0]) for value in unevenness(load_E[None])] for load_E in loads])
    values_S2 = values_S2.reshape(len(loads), 2)
    return values_S2[:, 0], values_S2[:, 1]


def _split(counts: ExpertCounts, column: FloatArray) -> list[FloatArray]:
    """A column of the counts as one array of experts per site."""
    starts = np.flatnonzero(counts.expert_id == 0)
    return np.split(column, starts[1:]) if len(starts) else []


def _balance_loss(trace: RoutingTrace, site: int) -> float:
    """E * sum f P of one site (Switch Transformer, arXiv 2101.03961, over all k requests); NaN if it has none."""
    selection = trace.sites.selection[site]
    if selection == "expert_choice" or site not in trace.router_logits:
        return float("nan")
    decides = trace.units.first_of_patch()
    if selection == "expert":
        decides = np.diff(trace.units.example_id, prepend=-1) > 0
    bounds, rows = site_bounds(trace), trace.assignments
    part = slice(bounds[site], bounds[site + 1])
    is_request: npt.NDArray[np.bool_] = decides[rows.unit_id[part]] & (rows.status[part] != FILLER)
    p_NE = router_probabilities(trace.router_logits[site][decides])
    requested_E = np.bincount(rows.expert_id[part][is_request], minlength=p_NE.shape[1])
    share_E = share(requested_E, requested_E.sum())
    return float(p_NE.shape[1] * (share_E * p_NE.mean(axis=0)).sum())
