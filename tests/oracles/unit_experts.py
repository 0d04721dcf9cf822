"""Slow and obvious: every expert of every site as one unit met it."""

import math

from uoe_model.trace import DROPPED, FILLER, RoutingTrace


def unit_experts(trace: RoutingTrace, unit_id: int) -> list[tuple[int, int, float, int, str]]:
    """(site, expert, probability, rank, outcome) for all sites and experts."""
    rows, found = trace.assignments, []
    for site in range(trace.num_sites):
        for expert in range(int(trace.sites.num_experts[site])):
            probability, rank, outcome = math.nan, -1, "not requested"
            for row in range(len(rows)):
                is_here = rows.site_id[row] == site and rows.unit_id[row] == unit_id and rows.expert_id[row] == expert
                if is_here:
                    probability, rank = float(rows.score[row]), int(rows.rank[row])
                    outcome = {FILLER: "filler", DROPPED: "dropped"}.get(int(rows.status[row]), "kept")
            if site in trace.router_logits:
                logits = [float(value) for value in trace.router_logits[site][unit_id]]
                total = sum(math.exp(value - max(logits)) for value in logits)
                probability = math.exp(logits[expert] - max(logits)) / total
            found.append((site, expert, probability, rank, outcome))
    return found
