"""The numbers of a run, summed up one row at a time (without the bands that are drawn at random)."""

import math

from tests.oracles import chance
from tests.oracles.balance import load_balance
from tests.oracles.confidence import router_entropy
from tests.oracles.drops import dropped_assignments, dropped_units
from tests.oracles.load import expert_load
from tests.oracles.records import Records, ratio

Number = tuple[float, float, float, float]
"""value, reference, low, high"""


def number(value: object) -> float:
    return float(str(value))


def only(value: float) -> Number:
    return value, math.nan, math.nan, math.nan


def mean_of_known(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def summary(records: Records, site_ids: list[int]) -> dict[str, Number]:
    """Every term with its value, reference and band; the bands of load_cv and max_over_mean are left out."""
    if not records.units or not site_ids:
        return {}
    loads = [row for row in expert_load(records) if row["site_id"] in site_ids]
    drops = [row for row in dropped_assignments(records) if row["site_id"] in site_ids]
    units = [row for row in dropped_units(records) if row["site_id"] in site_ids]
    balance = [row for row in load_balance(records) if row["site_id"] in site_ids]
    confidence = [row for row in router_entropy(records) if row["site_id"] in site_ids]
    requested = sum(number(row["requested"]) for row in loads)
    kept = sum(number(row["load"]) for row in loads)
    expected, asked, room, filled = 0.0, 0, 0.0, 0.0
    for load, drop in zip(loads, drops, strict=True):
        if not math.isnan(number(load["slots"])):
            room += number(load["slots"])
            filled += number(load["load"])
            asked += int(number(load["requested"]))
            if number(load["requested"]) > 0:
                expected += number(load["requested"]) * number(drop["reference_drop_share"])
    low, high = chance.binomial_band(asked, expected / asked) if asked else chance.UNKNOWN
    if not asked:
        expected = math.nan
    idle_chances = []
    for load in loads:
        site = records.sites[int(number(load["site_id"]))]
        rate = chance.load_rate(records, site, int(number(load["expert_id"])))
        chosen = (1 - rate) ** chance.decisions(records, site, None)
        idle_chances.append(0.0 if site.selection == "expert_choice" else chosen)
    pairs = len(records.units) * len(site_ids)
    dropped = sum(number(row["dropped_units"]) for row in units)
    unrouted = sum(number(row["unrouted_units"]) for row in units)
    result = {
        "units": only(len(records.units)),
        "patches": only(records.patches_of(None)),
        "examples": only(len(records.examples)),
        "sites": only(len(site_ids)),
        "requested": only(requested),
        "load": (kept, requested - expected, requested - high, requested - low),
        "dropped": (requested - kept, expected, low, high),
        "drop_share": (ratio(requested - kept, requested), *(ratio(x, requested) for x in (expected, low, high))),
        "utilisation": (ratio(filled, room), *(ratio(asked - x, room) for x in (expected, high, low))),
        "dropped_units": only(dropped),
        "dropped_unit_share": only(dropped / pairs),
        "unrouted_units": only(unrouted),
        "unrouted_unit_share": only(unrouted / pairs),
        "idle_experts": (float(sum(bool(row["is_idle"]) for row in loads)), *chance.idle_band(idle_chances)),
    }
    for term in ("load_cv", "max_over_mean"):
        references = [number(row[f"reference_{term}"]) for row in balance]
        value = mean_of_known([number(row[term]) for row in balance])
        result[term] = (value, math.fsum(references) / len(references), math.nan, math.nan)
    result["balance_loss"] = only(mean_of_known([number(row["balance_loss"]) for row in balance]))
    for term in ("entropy", "entropy_share", "effective_experts", "margin"):
        result[term] = only(mean_of_known([number(row[term]) for row in confidence]))
    result["loss"] = only(mean_of_known([unit.loss for unit in records.units]))
    return result
