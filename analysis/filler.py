"""How many slots hold units that did not ask for them: the filler of the authors' released code."""

import numpy as np
import pandas as pd

from analysis.columns import reason_column, share, site_columns
from analysis.counts import count_by_expert
from uoe_model.trace import RoutingTrace

NO_SLOT = "no slot of this site is in use"


def filler_share(trace: RoutingTrace) -> pd.DataFrame:
    """Count the slots in use at every site, and those of them that hold filler.

    Args:
        trace: any valid trace; only sources that fill free slots have filler.

    Returns:
        One row per site, sorted by site_id; no rows if the trace has no units:

        - site_id (int16), layer (int16), block (str), site_name (str)
        - kept (int64): slots of patches that asked for them; filler (int64): slots of others
        - filler_share (float64): filler / (kept + filler), 0 to 1; NaN without slots in use
        - reason (str): why it is NaN; "" if it is not
    """
    sites = np.arange(trace.num_sites if trace.num_units else 0)
    counts = count_by_expert(trace)
    kept, filler = np.zeros(len(sites), dtype=np.int64), np.zeros(len(sites), dtype=np.int64)
    np.add.at(kept, counts.site_row, counts.kept)
    np.add.at(filler, counts.site_row, counts.filler)
    used = kept + filler
    columns = site_columns(trace, sites)
    columns |= {
        "kept": kept,
        "filler": filler,
        "filler_share": share(filler, used.astype(np.float64)),
        "reason": reason_column(len(sites), [(used == 0, NO_SLOT)]),
    }
    return pd.DataFrame(columns)
