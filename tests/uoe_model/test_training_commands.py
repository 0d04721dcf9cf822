"""The command line end to end on synthetic data: train, evaluate, write a card, compare twins."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.uoe_model.training_data import image_settings, text_settings, write_data
from uoe_model.training.__main__ import main
from uoe_model.training.evaluation import METRICS, Sizes, load_subject
from uoe_model.training.settings import ImageTraining, Training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def settings_file(folder: Path, settings: Training) -> str:
    path = folder / "settings.json"
    settings.save(path)
    return str(path)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_train_then_evaluate_writes_a_card_with_the_printed_numbers(
    kind: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings = image_settings() if kind == "image" else text_settings()
    config = settings_file(tmp_path, settings)
    run = tmp_path / "run"
    assert main([kind, "--data", str(data), "--output", str(run), "--config", config, "--max-steps", "3"]) == 0
    capsys.readouterr()
    final = run / "final"
    command = [kind, "--evaluate", "--data", str(data), "--checkpoint", str(final)]
    assert main([*command, "--write"]) == 0
    printed = capsys.readouterr().out
    card = (final / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense:")
    tables = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(tables) > 20
    assert all(line in card for line in tables)
    metrics = json.loads((final / METRICS).read_text(encoding="utf-8"))
    assert metrics["training_run"]["steps"] == 3
    assert {record["model"] for record in metrics["routing_value"]} == {"final"}
    assert len(metrics["routing_value"]) == 24
    assert json.loads((final / "routing_reference.json").read_text(encoding="utf-8")) == metrics["reference"]
    assert main(command) == 0
    assert capsys.readouterr().out == printed
    assert "not evidence that learning the routes helped" in card


def test_the_confusion_matrix_adds_up(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = settings_file(tmp_path, image_settings())
    run = tmp_path / "run"
    main(["image", "--data", str(data), "--output", str(run), "--config", config, "--stop-after", "1"])
    main(["image", "--evaluate", "--data", str(data), "--checkpoint", str(run / "final"), "--write"])
    quality = json.loads((run / "final" / METRICS).read_text(encoding="utf-8"))["quality"]
    confusion = np.array(quality["confusion"])
    assert confusion.sum(axis=1).tolist() == [4, 4, 4]
    subject = load_subject("image", run / "final", data, Sizes(test=12, value=1, lookup=1))
    with torch.no_grad():
        pixels = subject.test.normalisation.apply(subject.test.images.pixels)
        predicted = subject.model(pixel_values=pixels).logits.argmax(dim=1)
    assert quality["accuracy"] == pytest.approx(float((predicted == subject.test.images.labels).double().mean()))
    assert np.trace(confusion) == int((predicted == subject.test.images.labels).sum())


def test_twins_are_trained_once_and_compared(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = settings_file(tmp_path, image_settings())
    output, run = tmp_path / "twins", tmp_path / "run"
    card = run / "final"
    main(["image", "--data", str(data), "--output", str(run), "--config", config, "--stop-after", "1"])
    main(["image", "--evaluate", "--data", str(data), "--checkpoint", str(card), "--write"])
    assert "Not measured" in (card / "README.md").read_text(encoding="utf-8")
    capsys.readouterr()
    command = ["twins", "image", "--data", str(data), "--output", str(output), "--config", config]
    command += ["--seeds", "0", "3", "--max-steps", "2", "--write", str(card)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    result = json.loads((card / "twins.json").read_text(encoding="utf-8"))
    assert [row["seed"] for row in result["seeds"]] == [0, 3]
    assert printed.strip() in (card / "README.md").read_text(encoding="utf-8")
    for row in result["seeds"]:
        assert row["difference"] == pytest.approx(row["learned"] - row["frozen"])
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["dense_difference"] == pytest.approx(row["learned"] - row["dense"])
        assert row["dense_low"] <= row["dense_difference"] <= row["dense_high"]
    assert result["dense_mean"] == pytest.approx(np.mean([row["dense_difference"] for row in result["seeds"]]))
    trained = {path: path.stat().st_mtime_ns for path in output.glob("*/final/model.safetensors")}
    assert len(trained) == 6
    assert main(command) == 0
    assert capsys.readouterr().out == printed
    assert all(path.stat().st_mtime_ns == before for path, before in trained.items())


def test_a_checkpoint_gets_twins_of_its_own_settings(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = settings_file(tmp_path, image_settings(seed=5))
    run = tmp_path / "run"
    main(["image", "--data", str(data), "--output", str(run), "--config", config, "--max-steps", "2"])
    output = tmp_path / "twins"
    command = ["twins", "image", "--data", str(data), "--output", str(output), "--learned", str(run / "final")]
    assert main([*command, "--twins", "learned", "dense"]) == 0
    assert [folder.name for folder in output.glob("*-seed*")] == ["dense-seed5"]
    result = json.loads((output / "twins.json").read_text(encoding="utf-8"))
    assert [set(row) & {"learned", "frozen", "dense"} for row in result["seeds"]] == [{"learned", "dense"}]
    assert result["steps"] == 2
    stored = ImageTraining.load(output / "dense-seed5" / "training_config.json")
    assert (stored.seed, stored.steps, stored.model["mlp_router"]["num_experts"]) == (5, 2, 1)
    assert "learned minus dense" in capsys.readouterr().out
    assert main([*command, "--seeds", "1"]) == 2
    assert "leave out" in capsys.readouterr().err
    assert main([*command, "--twins", "learned"]) == 2
    assert "at least one" in capsys.readouterr().err


def test_twins_with_other_settings_are_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = settings_file(tmp_path, image_settings())
    command = ["twins", "image", "--data", str(data), "--output", str(tmp_path / "twins"), "--config", config]
    assert main([*command, "--seeds", "0", "--max-steps", "1"]) == 0
    capsys.readouterr()
    assert main([*command, "--seeds", "0", "--max-steps", "2"]) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["image", "--data", "nowhere"], "nowhere"),
        (["text", "--data", "nowhere", "--evaluate", "--checkpoint", "nothing"], "no checkpoint"),
        (["text", "--data", "nowhere", "--config", "none.json"], "none.json"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
