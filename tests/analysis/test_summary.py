import math

import numpy as np
import pytest

from analysis.balance import load_balance
from analysis.glossary import TERMS
from analysis.reference import FILLS_SLOTS, NEVER_FULL, NO_REFERENCE
from analysis.summary import NOTHING_TO_DROP, summary
from tests.analysis.random_traces import random_traces
from tests.analysis.tables_equal import assert_dtypes, same
from tests.oracles import summary as oracle
from tests.traces import make_reference, make_trace
from uoe_model.trace import ReferenceTable

DRAWN = ("load_cv", "max_over_mean")


def numbers_of(trace, site_ids=None):
    return summary(trace, site_ids).set_index("term")


@pytest.mark.parametrize("every", [1, 2])
def test_summary_equals_the_oracle_on_random_traces(every):
    for trace, records in random_traces():
        site_ids = list(range(trace.num_sites))[::every]
        table = summary(trace, site_ids)
        expected = oracle.summary(records, site_ids)
        assert table["term"].tolist() == list(expected)
        for row in table.to_dict("records"):
            wanted = dict(zip(("value", "reference", "low", "high"), expected[row["term"]], strict=True))
            for name in ("value", "reference") if row["term"] in DRAWN else wanted:
                assert same(row[name], wanted[name]), (row, wanted)


def test_columns_and_dtypes_are_the_documented_ones_also_without_units():
    numbers = {"reference": "float64", "low": "float64", "high": "float64"}
    for trace, _ in random_traces()[:20]:
        assert_dtypes(summary(trace), term="str", value="float64", unit="str", **numbers, note="str")


def test_every_missing_number_has_a_note_and_every_term_is_in_the_glossary():
    for trace, _ in random_traces():
        for row in summary(trace).to_dict("records"):
            unit = TERMS[row["term"]].unit
            assert row["unit"] == unit
            if any(math.isnan(row[name]) for name in ("value", "reference", "low", "high")):
                assert row["note"], row


def test_the_reference_lies_in_its_own_band():
    for trace, _ in random_traces():
        known = summary(trace).dropna(subset=["reference", "low"])
        counts = known[~known["term"].isin(DRAWN)]
        assert (counts["low"] <= counts["reference"].apply(math.ceil) + 1e-9).all()
        assert (counts["reference"] <= counts["high"] + 1 + 1e-9).all()


def test_shares_and_their_bands_by_hand():
    column = {"site_id": np.zeros(2, dtype=np.int16), "expert_id": np.arange(2, dtype=np.int16)}
    counts = {"requested": np.array([500, 500]), "kept": np.array([250, 250]), "patches": np.array([1000, 1000])}
    reference = ReferenceTable(dataset="by hand", **column, **counts)
    units = " ".join(f"{unit}>E0{'!' if unit > 4 else ''}" for unit in range(8))
    numbers = numbers_of(make_trace(f"L0.mlp: {units}", num_experts=2, capacity=8, reference=reference))
    # Of 8 requests half are expected to be dropped; Binomial(8, 1/2) lies in 1..7.
    assert numbers.loc["dropped", ["value", "reference", "low", "high"]].tolist() == [3, 4, 1, 7]
    assert numbers.loc["drop_share", ["value", "reference", "low", "high"]].tolist() == [3 / 8, 4 / 8, 1 / 8, 7 / 8]
    assert numbers.loc["load", ["value", "reference", "low", "high"]].tolist() == [5, 4, 1, 7]
    assert numbers.loc["utilisation", ["value", "reference", "low", "high"]].tolist() == [
        5 / 16,
        4 / 16,
        1 / 16,
        7 / 16,
    ]
    assert numbers.loc["idle_experts", "value"] == 1
    assert numbers.loc["idle_experts", "reference"] == pytest.approx(2 * 0.75**8)


def test_without_a_reference_the_note_says_so():
    numbers = numbers_of(make_trace("L0.mlp: 0>E0 1>E0!", num_experts=2))
    for term in ("load", "dropped", "drop_share", "utilisation", "idle_experts", "load_cv", "max_over_mean"):
        assert numbers.loc[term, "note"] == NO_REFERENCE
        assert math.isnan(numbers.loc[term, "low"])


def test_what_cannot_be_full_has_no_utilisation_and_no_expected_drops():
    reference = make_reference({0: [500, 500]}, patches=1000)
    numbers = numbers_of(make_trace("L0.mlp: 0>E0 1>E0", num_experts=2, reference=reference))
    assert math.isnan(numbers.loc["utilisation", "value"])
    assert numbers.loc["utilisation", "note"] == NEVER_FULL
    assert numbers.loc["dropped", "note"] == NOTHING_TO_DROP


def test_experts_that_pick_are_never_idle_by_chance_and_have_no_band_of_balance():
    reference = make_reference({0: [500, 500]}, patches=1000)
    trace = make_trace("L0.mlp: 0>E0,E1 1", num_experts=2, selection="expert_choice", reference=reference)
    numbers = numbers_of(trace)
    assert numbers.loc["idle_experts", ["reference", "low", "high"]].tolist() == [0, 0, 0]
    assert numbers.loc["load_cv", "note"] == FILLS_SLOTS


def test_bands_of_balance_are_those_of_the_site_if_there_is_one():
    reference = make_reference({0: [250] * 4}, patches=1000)
    trace = make_trace("L0.mlp: 0>E0 1>E1 2>E1 3>E3", num_experts=4, reference=reference)
    row = load_balance(trace).iloc[0]
    for term in DRAWN:
        found = numbers_of(trace).loc[term, ["value", "reference", "low", "high"]].tolist()
        assert found == [row[term], row[f"reference_{term}"], row[f"{term}_low"], row[f"{term}_high"]]


def test_the_mean_over_several_sites_varies_less_by_chance_than_one_site():
    reference = make_reference({site: [250] * 4 for site in range(6)}, patches=1000)
    lines = "\n".join(f"L{layer}.mlp: " + " ".join(f"{u}>E{u % 4}" for u in range(40)) for layer in range(6))
    trace = make_trace(lines, num_experts=4, reference=reference)
    of_six, of_one = (numbers_of(trace, site_ids).loc["load_cv"] for site_ids in (None, [0]))
    assert of_six["high"] - of_six["low"] < 0.7 * (of_one["high"] - of_one["low"])


def test_no_units_or_no_sites_no_rows():
    assert summary(make_trace("L0.mlp:", num_experts=2)).empty
    assert summary(make_trace("L0.mlp: 0>E0", num_experts=2), []).empty
