"""The numbers of one run, one per row, each beside what the model's test set and chance would give."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.balance import NOTHING_REQUESTED, UNEVENNESS, chance_unevenness, load_balance
from analysis.columns import BoolArray, FloatArray, text_column
from analysis.confidence import router_entropy
from analysis.counts import Counts, ExpertCounts, count_by_expert
from analysis.drops import dropped_units
from analysis.glossary import TERMS
from analysis.reference import (
    FILLS_SLOTS,
    NEVER_FULL,
    ReferenceRates,
    binomial_band,
    idle_band,
    is_expert_choice,
    quantile_band,
    reference_rates,
)
from analysis.tables import chosen_sites
from analysis.utilisation import NOTHING_KEPT
from uoe_model.trace import RoutingTrace

NOTHING_TO_DROP = "nothing was requested of an expert that can be full"
NOT_IN_REFERENCE = "no reference: a reference load holds counts of requests only"
CONFIDENCE_TERMS = ("entropy", "entropy_share", "effective_experts", "margin")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """One row of the summary; what is unknown is NaN and the note says why."""

    term: str
    value: float
    reference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    note: str = ""


def summary(trace: RoutingTrace, site_ids: Sequence[int] | None = None) -> pd.DataFrame:
    """Sum a run up in one number per term, over all its sites or some of them.

    Counts are sums over sites; `drop_share`, `dropped_unit_share`, `unrouted_unit_share` and `utilisation` are ratios
    of such sums; entropy, margin and loss are means over units (and sites), `load_cv`, `max_over_mean` and
    `balance_loss` over sites.

    Args:
        trace: any valid trace.
        site_ids: sites to sum up, None for all.

    Returns:
        One row per number, in reading order; no rows without units or sites:

        - term (str): its key in `analysis.glossary.TERMS`
        - value (float64); unit (str): what it counts or measures
        - reference (float64): the same on the model's test set, for an input of this size; NaN if unknown
        - low, high (float64): 95% chance band around the reference, both ends included (assumption:
          `analysis.reference`); NaN if unknown
        - note (str): why something is NaN; "" if nothing is
    """
    sites = np.array(chosen_sites(trace, site_ids), dtype=np.int64)
    counts = count_by_expert(trace)
    numbers: list[Number] = []
    if trace.num_units and len(sites):
        rates = reference_rates(trace, counts)
        chosen = np.isin(counts.site_row, sites)
        numbers = [
            *_sizes(trace, len(sites)),
            *_loads(counts, rates, chosen),
            *_units_lost(trace, sites),
            _idle_experts(trace, counts, rates, chosen),
            *_balance(trace, counts, rates, sites),
            *_confidence(trace, sites),
            _loss(trace),
        ]
    each = np.arange(len(numbers))
    return pd.DataFrame(
        {
            "term": text_column([number.term for number in numbers], each),
            "value": np.array([number.value for number in numbers], dtype=np.float64),
            "unit": text_column([TERMS[number.term].unit for number in numbers], each),
            "reference": np.array([number.reference for number in numbers], dtype=np.float64),
            "low": np.array([number.low for number in numbers], dtype=np.float64),
            "high": np.array([number.high for number in numbers], dtype=np.float64),
            "note": text_column([number.note for number in numbers], each),
        }
    )


def _sizes(trace: RoutingTrace, num_sites: int) -> list[Number]:
    note = "the size of the input, which has no reference"
    sizes = {
        "units": trace.num_units,
        "patches": int(trace.units.first_of_patch().sum()),
        "examples": trace.num_examples,
        "sites": num_sites,
    }
    return [Number(term=term, value=float(size), note=note) for term, size in sizes.items()]


def _loads(counts: ExpertCounts, rates: ReferenceRates, chosen: BoolArray) -> list[Number]:
    """Requested, load, dropped, drop share and utilisation: what the test set's drop rates make of these requests."""
    requested, kept, slots = counts.requested[chosen], counts.kept[chosen], counts.slots[chosen]
    total, limited = int(requested.sum()), ~np.isnan(slots)
    expected, low, high = _dropped_by_chance(requested, rates.drop[chosen], limited)
    note = ""
    if np.isnan(expected):
        note = _why_unknown(rates, chosen) if requested[limited].any() else NOTHING_TO_DROP
    dropped = total - int(kept.sum())
    numbers = [
        Number(term="requested", value=float(total), note="follows from the size of the input"),
        Number(
            term="load",
            value=float(kept.sum()),
            reference=total - expected,
            low=total - high,
            high=total - low,
            note=note,
        ),
        Number(term="dropped", value=float(dropped), reference=expected, low=low, high=high, note=note),
    ]
    if total:
        value, reference, low_share, high_share = (number / total for number in (dropped, expected, low, high))
        numbers.append(
            Number(term="drop_share", value=value, reference=reference, low=low_share, high=high_share, note=note)
        )
    else:
        numbers.append(Number(term="drop_share", value=np.nan, note=NOTHING_REQUESTED))
    if not slots[limited].sum():
        return [*numbers, Number(term="utilisation", value=np.nan, note=NEVER_FULL)]
    asked, room = int(requested[limited].sum()), float(slots[limited].sum())
    return [
        *numbers,
        Number(
            term="utilisation",
            value=float(kept[limited].sum()) / room,
            reference=(asked - expected) / room,
            low=(asked - high) / room,
            high=(asked - low) / room,
            note=note,
        ),
    ]


def _dropped_by_chance(requested: Counts, drop_rate: FloatArray, limited: BoolArray) -> tuple[float, float, float]:
    """Expected drops and band: Binomial(requests, mean test-set drop rate of the requests that could be dropped)."""
    asked = limited & (requested > 0)
    trials = int(requested[asked].sum())
    if not trials:
        return np.nan, np.nan, np.nan
    expected = float((requested[asked] * drop_rate[asked]).sum())
    low, high = binomial_band(trials, expected / trials)
    return expected, float(low), float(high)


def _units_lost(trace: RoutingTrace, sites: Counts) -> list[Number]:
    table = dropped_units(trace).iloc[sites]
    pairs = float(table["units"].sum())
    numbers = []
    for plural, share in (("dropped_units", "dropped_unit_share"), ("unrouted_units", "unrouted_unit_share")):
        lost = float(table[plural].sum())
        numbers.append(Number(term=plural, value=lost, note=NOT_IN_REFERENCE))
        numbers.append(Number(term=share, value=lost / pairs, note=NOT_IN_REFERENCE))
    return numbers


def _idle_experts(trace: RoutingTrace, counts: ExpertCounts, rates: ReferenceRates, chosen: BoolArray) -> Number:
    """An expert is idle by chance with (1 - its load per patch) ^ patches; one that picks patches never is."""
    chance = (1.0 - rates.load) ** counts.decisions
    chance = np.where(is_expert_choice(trace)[counts.site_row], 0.0, chance)[chosen]
    expected, low, high = idle_band(chance)
    return Number(
        term="idle_experts",
        value=float(np.count_nonzero(counts.kept[chosen] == 0)),
        reference=expected,
        low=low,
        high=high,
        note="" if np.isfinite(expected) else _why_unknown(rates, chosen),
    )


def _balance(
    trace: RoutingTrace,
    counts: ExpertCounts,
    rates: ReferenceRates,
    sites: Counts,
) -> list[Number]:
    table = load_balance(trace).iloc[sites]
    every_draw = chance_unevenness(counts, rates)
    draws = [every_draw[site] for site in sites]
    chosen = np.isin(counts.site_row, sites)
    numbers = []
    for which, term in enumerate(UNEVENNESS):
        draws_of_sites = [draws_of_site[which] for draws_of_site in draws]
        is_known = bool(table[f"{term}_low"].notna().all())
        low, high = quantile_band(np.mean(draws_of_sites, axis=0)) if is_known else (np.nan, np.nan)
        causes = [] if is_known else [_why_unknown(rates, chosen) or FILLS_SLOTS]
        causes += [NOTHING_KEPT] * bool(table[term].isna().any())
        reference = float(table[f"reference_{term}"].mean(skipna=False))
        value = float(table[term].mean())
        numbers.append(Number(term=term, value=value, reference=reference, low=low, high=high, note="; ".join(causes)))
    known = table["balance_loss"].notna()
    note = "no reference: a reference load holds no probabilities"
    if not known.all():
        note = f"{int(known.sum())} of {len(table)} sites: " + "; ".join(table.loc[~known, "reason"].unique())
    return [*numbers, Number(term="balance_loss", value=float(table["balance_loss"].mean()), note=note)]


def _confidence(trace: RoutingTrace, sites: Counts) -> list[Number]:
    table = router_entropy(trace, sites.tolist())
    numbers = []
    for term in CONFIDENCE_TERMS:
        missing = table.loc[table[term].isna(), "reason"].unique().tolist()
        note = "; ".join(missing) or "no reference: a reference load holds no probabilities"
        numbers.append(Number(term=term, value=float(table[term].mean()), note=note))
    return numbers


def _loss(trace: RoutingTrace) -> Number:
    loss = trace.units.loss.astype(np.float64)
    known = ~np.isnan(loss)
    if not known.any():
        return Number(term="loss", value=np.nan, note="no unit has a loss")
    note = f"over the {int(known.sum())} of {len(loss)} units whose next unit is known; no reference in the trace"
    return Number(term="loss", value=float(loss[known].mean()), note=note)


def _why_unknown(rates: ReferenceRates, chosen: BoolArray) -> str:
    found = [text for mask, text in rates.causes if mask[chosen].any()]
    if not found and rates.never_requested[chosen].any():
        found = ["nobody asked for some of these experts on the test set"]
    return "; ".join(found)
