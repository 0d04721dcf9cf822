"""Entropy, effective experts and margin of one unit's logits, term by term."""

import math

from tests.oracles.records import Records


def probabilities(logits: list[float]) -> list[float]:
    top = max(logits)
    weights = [math.exp(logit - top) for logit in logits]
    return [weight / math.fsum(weights) for weight in weights]


def router_entropy(records: Records) -> list[dict[str, object]]:
    result: list[dict[str, object]] = []
    for site in records.sites:
        for unit in records.units:
            row: dict[str, object] = {"site_id": site.site_id, "unit_id": unit.unit_id}
            row |= dict.fromkeys(("entropy", "entropy_share", "effective_experts", "margin"), math.nan)
            if site.site_id in records.logits:
                p = probabilities(records.logits[site.site_id][unit.unit_id])
                entropy = -math.fsum(one * math.log(one) for one in p if one > 0)
                row |= {"entropy": entropy, "effective_experts": math.exp(entropy)}
                if len(p) > 1:
                    first, second, *_ = sorted(p, reverse=True)
                    row |= {"entropy_share": entropy / math.log(len(p)), "margin": first - second}
            result.append(row)
    return result
