import json
import math
import random

import pytest

from analysis.decomposition import decomposition_curve
from tests.analysis.curves import curve_record
from tests.analysis.tables_equal import assert_dtypes, assert_rows
from uoe_model.errors import CheckpointError

ORDER = {"both": 0, "attention": 1, "mlp": 2}
ROUTES = ["calibrated", "random", "longest"]


def slow_rows(record, chosen, in_step):
    """Every record by itself."""
    rows = []
    for row in record["curve"]:
        a, m, scope = row["attention_top_k"], row["mlp_top_k"], row["scope"]
        share = {"both": (a / 2 + m / 4) / 2, "attention": a / 2, "mlp": m / 4}[scope]
        found = {"scope": scope, "attention_top_k": a, "mlp_top_k": m, "attention_experts": 2, "mlp_experts": 4}
        found |= {"expert_share": share, "is_in_step": scope != "both" or (a, m) in in_step}
        found |= {"is_chosen": (a, m) == chosen, "routes": row["routes"]}
        for name in ("hidden_error", "cosine", "loss", "agreement"):
            found[name] = math.nan if row[name] is None else float(row[name])
        rows.append(found)
    return sorted(
        rows,
        key=lambda r: (ORDER[r["scope"]], r["attention_top_k"], r["mlp_top_k"], ROUTES.index(r["routes"])),
    )


@pytest.mark.parametrize("quality", ["loss", "agreement", "cosine"])
def test_rows_are_the_records_in_order(quality):
    record = curve_record(quality)
    random.Random(0).shuffle(record["curve"])
    in_step = {(1, 1), (1, 2), (2, 3), (2, 4)}
    assert_rows(decomposition_curve(record), slow_rows(record, (2, 1), in_step))


@pytest.mark.parametrize("record", [curve_record(), curve_record() | {"curve": []}])
def test_columns_and_dtypes(record):
    counts = dict.fromkeys(("attention_top_k", "mlp_top_k", "attention_experts", "mlp_experts"), "int64")
    flags = dict.fromkeys(("is_in_step", "is_chosen"), "bool")
    numbers = dict.fromkeys(("hidden_error", "cosine", "loss", "agreement"), "float64")
    assert_dtypes(
        decomposition_curve(record), scope="str", **counts, expert_share="float64", **flags, routes="str", **numbers
    )


def test_without_a_number_of_its_own_a_model_runs_with_half_of_its_experts():
    table = decomposition_curve(curve_record(chosen=(None, None)))
    assert {(row.attention_top_k, row.mlp_top_k) for row in table[table["is_chosen"]].itertuples()} == {(1, 2)}


def test_steps_are_those_that_were_measured():
    curve = pytest.importorskip("uoe_model.decompose.curve")
    for attention, mlp in ((2, 4), (4, 2), (3, 3), (3, 8), (5, 7), (1, 6)):
        every = [(a, m) for a in range(1, attention + 1) for m in range(1, mlp + 1)]
        rows = [
            {"scope": "both", "attention_top_k": a, "mlp_top_k": m, "routes": "random", "hidden_error": 0, "cosine": 1}
            for a, m in every
        ]
        table = decomposition_curve({"options": {"attention_experts": attention, "mlp_experts": mlp}, "curve": rows})
        found = [pair for pair, is_in_step in zip(every, table["is_in_step"], strict=True) if is_in_step]
        assert found == curve.steps_of(attention, mlp, "both")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scope": "head"}, "record 0: scope='head' must be one of both, attention, mlp"),
        ({"routes": ["random"]}, r"routes=\['random'\] must be one of calibrated"),
        ({"mlp_top_k": 5}, "mlp_top_k=5 must lie in 1..mlp_experts=4"),
        ({"attention_top_k": True}, "attention_top_k=True must lie in"),
        ({"hidden_error": None}, "hidden_error=None must be a finite number$"),
        ({"loss": "2"}, "loss='2' must be a finite number or null"),
        ({"cosine": math.nan}, "cosine=nan must be a finite number$"),
        ({"agreement": 10**400}, "agreement=1000+ must be a finite number or null"),
    ],
)
def test_a_record_of_something_else_is_named(changes, sentence):
    record = curve_record()
    record["curve"][0] |= changes
    with pytest.raises(CheckpointError, match=sentence):
        decomposition_curve(record)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({}, "options must be an object and curve a list"),
        ({"options": {}, "curve": "rows"}, "options must be an object and curve a list"),
        ({"options": {}, "curve": [1]}, "attention_experts=None must be a count; .*record 0: must be an object"),
        (curve_record() | {"curve": curve_record()["curve"][:1] * 2}, "two records measure the same"),
        (curve_record() | {"curve": [{}] * 9}, "and 46 more"),
    ],
)
def test_what_is_no_record_is_refused(record, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        decomposition_curve(json.loads(json.dumps(record)))
