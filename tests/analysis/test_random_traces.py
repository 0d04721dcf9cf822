"""The random traces hold what statistics go wrong on; otherwise agreement with an oracle would prove little."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.analysis.random_traces import random_traces
from tests.oracles import chance
from tests.oracles.drops import fate_of_units
from tests.oracles.load import expert_load
from tests.oracles.records import FILLER, Records

KINDS: dict[str, Callable[[Records], bool]] = {
    "no units": lambda records: not records.units,
    "one unit": lambda records: len(records.units) == 1,
    "several examples": lambda records: len(records.examples) > 1,
    "patches of several units": lambda records: any(not unit.leads_patch for unit in records.units),
    "dropped assignments": lambda records: any(row["dropped"] for row in expert_load(records)),
    "idle experts": lambda records: any(row["is_idle"] for row in expert_load(records)),
    "experts that drop whatever they are asked for": lambda records: any(
        row["is_idle"] and row["requested"] for row in expert_load(records)
    ),
    "filler": lambda records: any(row.status == FILLER for row in records.rows),
    "unrouted units": lambda records: any("unrouted" in fate_of_units(records, s.site_id) for s in records.sites),
    "dropped units": lambda records: any("dropped" in fate_of_units(records, s.site_id) for s in records.sites),
    "ties": lambda records: any(len(set(row)) < len(row) for rows in records.logits.values() for row in rows),
    "a site without logits": lambda records: bool(records.units) and len(records.logits) < len(records.sites),
    "one expert": lambda records: any(site.num_experts == 1 for site in records.sites),
    "no reference": lambda records: records.test_set is None,
    "a reference": lambda records: any(chance.is_usable(records, site) for site in records.sites),
    "a reference with another k": lambda records: (
        records.test_set is not None and any(not chance.is_usable(records, site) for site in records.sites)
    ),
    "a reference with another capacity factor": lambda records: (
        records.noted_factors is not None
        and any(chance.is_usable(records, site) for site in records.sites)
        and any(not chance.is_usable(records, site) for site in records.sites)
    ),
    "limited experts": lambda records: any(slots >= 0 for slots in records.capacity.values()),
    "unlimited experts": lambda records: any(slots < 0 for slots in records.capacity.values()),
    "unlimited experts with a reference that drops": lambda records: any(
        chance.is_usable(records, site) and chance.is_never_full(records, site) and records.units != []
        for site in records.sites
    ),
    "examples of different lengths at a site that chooses once": lambda records: (
        len({records.patches_of(example) for example in records.examples}) > 1
        and any(site.selection == "expert" and chance.is_usable(records, site) for site in records.sites)
    ),
    "a load outside its band": lambda records: any(
        not math.isnan(float(str(row["reference_low"])))
        and not float(str(row["reference_low"])) <= int(str(row["load"])) <= float(str(row["reference_high"]))
        for row in expert_load(records)
    ),
    **{
        f"selection {selection}": lambda records, selection=selection: any(
            site.selection == selection and records.units for site in records.sites
        )
        for selection in ("data", "expert_choice", "expert")
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_random_traces_hold_every_kind(kind):
    assert sum(KINDS[kind](records) for _, records in random_traces()) >= 3


def test_random_traces_are_the_same_in_every_run():
    trace, records = random_traces()[0]
    assert len(records.units) == trace.num_units
    assert np.array_equal(trace.assignments.unit_id, [row.unit.unit_id for row in records.rows])
