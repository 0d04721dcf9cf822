"""How sure every router was about every unit: entropy, effective experts and margin of its probabilities."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.columns import FloatArray, reason_column
from analysis.tables import chosen_sites
from uoe_model.trace import RoutingTrace

NO_LOGITS = "the trace holds no router logits of this site"
ONE_EXPERT = "a site with one expert has nothing to choose"


def router_probabilities(logits_NE: npt.NDArray[np.float32]) -> FloatArray:
    """Softmax over all experts, in float64."""
    shifted_NE = logits_NE.astype(np.float64) - logits_NE.max(axis=1, keepdims=True)
    weight_NE = np.exp(shifted_NE)
    return np.asarray(weight_NE / weight_NE.sum(axis=1, keepdims=True), dtype=np.float64)


def entropy_and_margin(logits_NE: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    """(N,) entropy in nats and margin of every row of logits; the margin is NaN with one expert."""
    p_NE = router_probabilities(logits_NE)
    log_p_NE = np.log(p_NE, out=np.zeros_like(p_NE), where=p_NE > 0)
    entropy_N = np.asarray(-(p_NE * log_p_NE).sum(axis=1), dtype=np.float64)
    experts = p_NE.shape[1]
    if experts == 1:
        return entropy_N, np.full(len(p_NE), np.nan)
    top_NE = np.partition(p_NE, experts - 2, axis=1)
    return entropy_N, np.asarray(top_NE[:, -1] - top_NE[:, -2], dtype=np.float64)


def missing_logits(trace: RoutingTrace) -> str:
    """Why the trace holds no router logits, in the words of whoever recorded it if they said so."""
    return trace.run.notes.get("router_logits") or NO_LOGITS


def router_entropy(trace: RoutingTrace, site_ids: Sequence[int] | None = None) -> pd.DataFrame:
    """Measure how undecided each router was about each unit.

    Uses the softmax over all experts of the site, before top-k and capacity. With `expert_choice` these are the
    probabilities by which experts pick, so the numbers describe the unit's tie to the experts although the margin
    decides nothing. With selection `expert`, and for patches longer than one unit, the units that were decided
    together repeat one value.

    Args:
        trace: any valid trace.
        site_ids: sites to include, None for all; the order is always that of the trace.

    Returns:
        One row per (site, unit), sorted by both:

        - site_id (int16), unit_id (int32)
        - entropy (float64): -sum of p ln p, nats, 0 to ln(num_experts)
        - entropy_share (float64): entropy / ln(num_experts), 0 to 1; NaN with one expert
        - effective_experts (float64): exp(entropy), 1 to num_experts
        - margin (float64): largest minus second largest probability, 0 to 1; NaN with one expert
        - reason (str): why values are NaN (all of them without router logits); "" if none is
    """
    sites, units = np.array(chosen_sites(trace, site_ids), dtype=np.int64), trace.num_units
    num_experts, has_logits = trace.sites.num_experts[sites], np.isin(sites, list(trace.router_logits))
    entropy_SN, share_SN, margin_SN = (np.full((len(sites), units), np.nan) for _ in range(3))
    for row in np.flatnonzero(has_logits):
        entropy_SN[row], margin_SN[row] = entropy_and_margin(trace.router_logits[int(sites[row])])
        if num_experts[row] > 1:
            share_SN[row] = entropy_SN[row] / np.log(int(num_experts[row]))
    return pd.DataFrame(
        {
            "site_id": np.repeat(trace.sites.site_id[sites], units),
            "unit_id": np.tile(trace.units.unit_id, len(sites)),
            "entropy": entropy_SN.ravel(),
            "entropy_share": share_SN.ravel(),
            "effective_experts": np.exp(entropy_SN.ravel()),
            "margin": margin_SN.ravel(),
            "reason": reason_column(
                len(sites) * units,
                [
                    (np.repeat(~has_logits, units), missing_logits(trace)),
                    (np.repeat(has_logits & (num_experts == 1), units), ONE_EXPERT),
                ],
            ),
        }
    )
