"""Balance of every site: the loss as a double loop over experts and decisions, unevenness by its definition."""

import math

from tests.oracles import chance
from tests.oracles.confidence import probabilities
from tests.oracles.load import expert_load
from tests.oracles.records import Records, Site, name_columns, ratio


def unevenness(loads: list[float]) -> tuple[float, float]:
    """(standard deviation over mean, maximum over mean)."""
    mean = math.fsum(loads) / len(loads)
    if math.isnan(mean) or mean == 0:
        return math.nan, math.nan
    variance = math.fsum((load - mean) ** 2 for load in loads) / len(loads)
    return math.sqrt(variance) / mean, max(loads) / mean


def balance_loss(records: Records, site: Site) -> float:
    if site.selection == "expert_choice" or site.site_id not in records.logits:
        return math.nan
    deciders = [
        unit for unit in records.units if (unit.leads_example if site.selection == "expert" else unit.leads_patch)
    ]
    requests = [row.expert for row in records.rows_of(site.site_id) if row.is_request and row.unit in deciders]
    total = 0.0
    for expert in range(site.num_experts):
        mean_p = math.fsum(probabilities(records.logits[site.site_id][unit.unit_id])[expert] for unit in deciders)
        total += ratio(requests.count(expert), len(requests)) * mean_p / len(deciders)
    return total * site.num_experts


def load_balance(records: Records) -> list[dict[str, object]]:
    loads = expert_load(records)
    result = []
    for site in records.sites if records.units else []:
        measured = [float(str(row["load"])) for row in loads if row["site_id"] == site.site_id]
        expected = [chance.load_rate(records, site, expert) for expert in range(site.num_experts)]
        load_cv, max_over_mean = unevenness(measured)
        reference_load_cv, reference_max_over_mean = unevenness(expected)
        result.append(
            name_columns(site)
            | {
                "balance_loss": balance_loss(records, site),
                "load_cv": load_cv,
                "max_over_mean": max_over_mean,
                "reference_load_cv": reference_load_cv,
                "reference_max_over_mean": reference_max_over_mean,
            }
        )
    return result
