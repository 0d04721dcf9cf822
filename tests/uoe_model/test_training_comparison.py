"""The comparison end to end on synthetic data: trained and measured once, collected, and right."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.uoe_model.training_data import image_settings, text_settings, write_data
from uoe_model.training.__main__ import main
from uoe_model.training.comparison_measure import IS_UNTRAINED, NO_ROUTES, ONE_PATCH, load_test_set, measure_run
from uoe_model.training.metrics import read_metrics
from uoe_model.training.variants import VARIANTS, variant_settings, variants_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both kinds, all variants, one seed, two steps."""
    output = tmp_path_factory.mktemp("comparison")
    image_settings(milestones=()).save(output / "image.json")
    text_settings(milestones=()).save(output / "text.json")
    for kind in ("image", "text"):
        assert main(command(kind, data, output)) == 0
    return output


def command(kind: str, data: Path, output: Path, *more: str) -> list[str]:
    given = ["comparison", kind, "--data", str(data), "--output", str(output / kind)]
    given += ["--config", str(output / f"{kind}.json"), "--max-steps", "2", "--seeds", "0"]
    return [*given, "--test-examples", "9", "--value-examples", "5", *more]


def result_of(output: Path, kind: str) -> dict:
    return json.loads((output / kind / "comparison.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["image", "text"])
def test_every_variant_is_there_with_its_cost_or_the_reason_why_not(kind: str, finished: Path):
    result = result_of(finished, kind)
    assert [run["variant"] for run in result["runs"]] == list(variants_of(kind))
    reasons = {entry["variant"]: entry["reason"] for entry in result["variants"]}
    assert list(reasons) == list(VARIANTS)
    missing = {"expert_choice", "expert"} if kind == "text" else set()
    assert {name for name, reason in reasons.items() if reason == "not causal"} == missing
    cost = {run["variant"]: {row["part"]: row for row in run["multiply_adds"]} for run in result["runs"]}
    assert cost["dense"]["routers"]["requested"] == 0
    assert cost["data"]["total"]["kept"] < cost["data"]["total"]["requested"] < cost["dense"]["total"]["requested"]
    assert cost["switch"]["attention projections"] == cost["dense"]["attention projections"]
    assert cost["switch"]["mlp"]["requested"] == pytest.approx(cost["data"]["mlp"]["requested"])
    if kind == "image":  # each of 8 experts takes ceil(0.6 * 2 * 16 / 8) = 3 of 16 cells; 1.5 experts a cell, not 2
        assert cost["expert_choice"]["mlp"]["kept"] == cost["expert_choice"]["mlp"]["requested"]
        assert cost["expert_choice"]["mlp"]["requested"] == 0.75 * cost["data"]["mlp"]["requested"]
        sums = "attention scores and sums"
        assert cost["expert"][sums]["requested"] == pytest.approx(2 * cost["data"][sums]["requested"])


@pytest.mark.parametrize("kind", ["image", "text"])
def test_dependence_is_there_for_every_site_or_says_why_not(kind: str, finished: Path):
    targets = [f"L{layer}.{block}" for layer in (0, 1) for block in ("attention", "mlp")]
    for run in result_of(finished, kind)["runs"]:
        rows = {(row["target"], row["replacement"]): row for row in run["dependence"]}
        assert list(dict.fromkeys(target for target, _ in rows)) == [*targets, "attention", "mlp", "both"]
        for (target, replacement), row in rows.items():
            reason = ""
            if run["variant"] == "dense" or (run["variant"] == "switch" and target.endswith("attention")):
                reason = NO_ROUTES
            elif run["variant"] == "frozen" and replacement == "untrained_router":
                reason = IS_UNTRAINED
            elif run["variant"] == "expert" and replacement == "permuted":
                reason = ONE_PATCH
            assert row["reason"] == reason
            assert (row["loss_change"] is None) == (reason != "")
            if not reason:
                assert row["low"] <= row["loss_change"] <= row["high"]
        sites = [drop["site"] for drop in run["drops"]]
        assert sites == ([] if run["variant"] == "dense" else targets[1::2] if run["variant"] == "switch" else targets)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_differences_are_those_of_the_losses(kind: str, finished: Path):
    result = result_of(finished, kind)
    loss = {run["variant"]: run["loss"] for run in result["runs"]}
    pairs = [(row["variant"], row["baseline"]) for row in result["differences"]]
    assert ("data", "frozen") in pairs
    assert {variant for variant, baseline in pairs if baseline == "dense"} == set(loss) - {"dense"}
    for row in result["differences"]:
        expected = loss[row["variant"]] - loss[row["baseline"]]
        assert row["difference"] == pytest.approx(expected, abs=1e-4)
        assert row["low"] <= row["difference"] <= row["high"]


def test_the_losses_by_position_add_up_to_the_loss(data: Path, finished: Path):
    settings = variant_settings(text_settings(steps=2, milestones=()), "text", "data", 0)
    folder = finished / "text" / "data-seed0"
    test_set = load_test_set(settings, "text", data, finished / "text" / "tokenizer", test=9, value=1)
    run, losses = measure_run("data", settings, folder, test_set)
    assert [row["first"] for row in run["positions"]] == [0, 8]
    tokens = [row["tokens"] for row in run["positions"]]
    assert sum(tokens) == int(losses.counts.sum())
    assert tokens[0] == sum(min(8, len(example.token_ids)) for example in test_set.test.examples)
    assert np.average([row["loss"] for row in run["positions"]], weights=tokens) == pytest.approx(run["loss"])
    assert run["loss"] == pytest.approx(losses.mean)


def test_nothing_is_done_twice_and_the_file_repeats_itself(
    data: Path, finished: Path, capsys: pytest.CaptureFixture[str]
):
    before = (finished / "image" / "comparison.json").read_bytes()
    written = {path: path.stat().st_mtime_ns for path in (finished / "image").glob("*-seed0/**/*") if path.is_file()}
    assert main(command("image", data, finished)) == 0
    assert "dense seed 0" in capsys.readouterr().out
    assert (finished / "image" / "comparison.json").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_steps_are_timed_on_demand_and_kept(data: Path, finished: Path):
    assert result_of(finished, "text")["step_seconds"]["reason"].startswith("not measured")
    assert main(command("text", data, finished, "--time-steps", "2")) == 0
    assert main(command("text", data, finished, "--only-collect")) == 0
    timed = result_of(finished, "text")["step_seconds"]
    assert [row["variant"] for row in timed["rows"]] == list(variants_of("text"))
    assert min(row["step_seconds"] for row in timed["rows"]) > 0
    assert (timed["rounds"], timed["threads"], timed["reason"]) == (2, 1, "")


@pytest.mark.slow
def test_workers_make_the_same_numbers(data: Path, finished: Path, tmp_path: Path):
    image_settings(milestones=()).save(tmp_path / "image.json")
    two = ("--variants", "dense", "data", "--workers", "2")
    assert main(command("image", data, tmp_path, *two)) == 0
    alone = {run["variant"]: run for run in result_of(finished, "image")["runs"]}
    for run in result_of(tmp_path, "image")["runs"]:
        assert run["loss"] == pytest.approx(alone[run["variant"]]["loss"], rel=1e-5)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_the_logs_hold_every_logged_step(kind: str, finished: Path):
    with (finished / kind / f"logs-{kind}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(dict.fromkeys(row["variant"] for row in rows)) == list(variants_of(kind))
    own = [row for row in rows if row["variant"] == "data" and row["loss"]]
    logged = read_metrics(finished / kind / "data-seed0" / "metrics.csv")
    assert [int(float(row["step"])) for row in own] == [int(row["step"]) for row in logged] == [2]
    assert float(own[0]["loss"]) == pytest.approx(float(logged[0]["loss"]), rel=1e-4)
    assert [row["validation_loss"] for row in rows if row["variant"] == "data" and row["validation_loss"]]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--variants", "expert"], "not causal"),
        (["--workers", "0"], "--workers 0"),
        (["--max-steps", "3"], "other settings"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    more: list[str], words: str, data: Path, finished: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(command("text", data, finished, *more)) == 2
    assert words in capsys.readouterr().err
