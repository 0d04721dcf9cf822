import json
import math
from pathlib import Path

import pytest

from analysis.comparison import (
    comparison_dependence,
    comparison_differences,
    comparison_positions,
    comparison_runs,
    comparison_table,
    load_comparison,
)
from tests.analysis.comparisons import VARIANTS, make_comparison
from tests.analysis.tables_equal import assert_dtypes, assert_rows
from tests.oracles import comparison as oracle
from uoe_model.errors import CheckpointError

EMPTY = {"variants": [], "runs": [], "differences": []}


@pytest.mark.parametrize("kind", ["image", "text"])
@pytest.mark.parametrize("number", range(3))
def test_the_table_is_that_of_the_slow_loop(kind: str, number: int):
    result = make_comparison(kind, number=number)
    assert_rows(comparison_table(result), oracle.comparison_table(result))


@pytest.mark.parametrize("kind", ["image", "text"])
def test_dependence_is_that_of_the_slow_loop(kind: str):
    result = make_comparison(kind)
    assert_rows(comparison_dependence(result), oracle.comparison_dependence(result))


def test_by_hand_two_seeds():
    result = make_comparison(seeds=(4, 9))
    dense = [run for run in result["runs"] if run["variant"] == "dense"]
    dense[0]["loss"], dense[1]["loss"] = 1.0, 2.0
    row = comparison_table(result).iloc[0]
    assert (row["variant"], row["runs"]) == ("dense", 2)
    assert (row["test_loss"], row["test_loss_low"], row["test_loss_high"]) == (1.5, 1.0, 2.0)
    assert row["test_loss_sd"] == pytest.approx(math.sqrt(0.5))
    assert math.isnan(row["drop_share_mlp"])


def test_what_was_not_run_says_why_and_has_no_numbers():
    table = comparison_table(make_comparison("text")).set_index("variant")
    assert table.loc["expert", "reason"] == "not causal"
    assert math.isnan(table.loc["expert", "test_loss"])
    assert table.loc["expert", "runs"] == 0
    assert table.loc["data", "reason"] == ""


def test_rows_stand_in_the_order_of_the_variants_then_the_seeds():
    result = make_comparison()
    result["runs"].reverse()
    result["differences"].reverse()
    runs = comparison_runs(result)
    assert runs["variant"].tolist() == [name for name in VARIANTS for _ in range(1 if name == "switch" else 3)]
    assert runs["seed"].tolist() == [0, 1, 2] * 5 + [0]
    differences = comparison_differences(result)
    assert differences["baseline"].tolist() == ["dense"] * 3 + ["frozen"] * 3
    assert differences["seed"].tolist() == [0, 1, 2] * 2
    wanted = {(row["baseline"], row["seed"]): row["difference"] for row in result["differences"]}
    assert differences["test_loss_difference"].tolist() == [wanted[key] for key in sorted(wanted)]


def test_losses_by_position_are_of_text_alone():
    assert comparison_positions(make_comparison("image")).empty
    result = make_comparison("text")
    table = comparison_positions(result)
    assert list(zip(table["position_start"], table["position_end"], strict=True))[:2] == [(0, 8), (8, 32)]
    losses = [run["positions"][1]["loss"] for run in result["runs"] if run["variant"] == "data"]
    row = table[(table["variant"] == "data") & (table["position_start"] == 8)].iloc[0]
    assert row["loss"] == pytest.approx(sum(losses) / 3)
    assert (row["low"], row["high"]) == (min(losses), max(losses))


@pytest.mark.parametrize("result", [EMPTY, make_comparison("text")])
def test_columns_and_dtypes(result: dict):
    numbers = ("test_loss", "test_loss_low", "test_loss_high", "test_loss_sd", "accuracy", "bits_per_byte")
    numbers += ("requested_multiply_adds", "kept_multiply_adds", "parameters", "active_parameters")
    numbers += ("drop_share_attention", "drop_share_mlp", "training_seconds", "step_seconds")
    floats = dict.fromkeys(numbers, "float64")
    assert_dtypes(comparison_table(result), variant="str", runs="int64", **floats, reason="str")
    assert_dtypes(comparison_runs(result), variant="str", seed="int64", test_loss="float64")
    change = dict.fromkeys(("test_loss_difference", "low", "high"), "float64")
    assert_dtypes(comparison_differences(result), variant="str", baseline="str", seed="int64", **change)
    words = dict.fromkeys(("variant", "replacement", "target"), "str")
    change = dict.fromkeys(("loss_change", "low", "high"), "float64")
    assert_dtypes(comparison_dependence(result), **words, **change, runs="int64", reason="str")
    places = {"position_start": "int64", "position_end": "int64"}
    losses = dict.fromkeys(("loss", "low", "high"), "float64")
    assert_dtypes(comparison_positions(result), variant="str", **places, **losses)


def test_a_file_is_read_back(tmp_path: Path):
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(make_comparison()))
    assert load_comparison(path) == make_comparison()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "it is a list"),
        ("no json", "no readable comparison"),
        ('{"kind": "image"}', "dataset is missing; steps is missing"),
        (json.dumps(make_comparison() | {"runs": [{"variant": "data"}]}), "run 0 lacks seed"),
    ],
)
def test_another_file_is_refused_in_one_sentence(content: str, words: str, tmp_path: Path):
    path = tmp_path / "comparison.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=words):
        load_comparison(path)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("analysis.comparison.LARGEST_FILE", 10)
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(make_comparison()))
    with pytest.raises(CheckpointError, match="at most 10"):
        load_comparison(path)
