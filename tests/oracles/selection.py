"""Slow and obvious: which units a selection lights."""

from analysis.selection import Selection
from uoe_model.trace import DROPPED, FILLER, KEPT, RoutingTrace


def lit_units(trace: RoutingTrace, selection: Selection) -> list[bool]:
    rows, lit = trace.assignments, []
    for unit in range(trace.num_units):
        own = [row for row in range(len(rows)) if rows.unit_id[row] == unit and rows.site_id[row] == selection.site_id]
        kept = [int(rows.expert_id[row]) for row in own if rows.status[row] == KEPT]
        dropped = [row for row in own if rows.status[row] == DROPPED]
        asked = [row for row in own if rows.status[row] != FILLER]
        if not asked:
            status = "unrouted"
        elif not kept:
            status = "dropped"
        else:
            status = "partly dropped" if dropped else "kept"
        is_expert = not selection.experts or any(expert in kept for expert in selection.experts)
        lit.append(is_expert and (selection.status is None or selection.status == status))
    return lit
