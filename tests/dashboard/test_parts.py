"""Settings, catalogue and words, each alone."""

import json
import shutil
from pathlib import Path

import pytest

from dashboard.models import Catalogue, find_models
from dashboard.settings import BACKEND_VARIABLE, MODELS_VARIABLE, Settings, read_settings
from dashboard.widgets.words import plain_markdown, write_number


def find(folder: Path) -> Catalogue:
    return find_models(Settings(bundled=folder / "nothing here", models_dir=folder, problem=""))


def test_models_come_from_the_command_line_or_else_from_the_environment() -> None:
    environ = {MODELS_VARIABLE: "/from/environment"}
    assert read_settings(["dashboard/app.py", "--models", "/mine"], environ).models_dir == Path("/mine")
    assert read_settings(["dashboard/app.py"], environ).models_dir == Path("/from/environment")
    assert read_settings(["dashboard/app.py"], {}).models_dir is None


def test_experts_are_computed_in_plain_pytorch_where_that_is_asked_for() -> None:
    environ = {BACKEND_VARIABLE: "plain"}
    assert read_settings(["dashboard/app.py"], {}).backend == "auto"
    assert read_settings(["dashboard/app.py"], environ).backend == "plain"
    assert read_settings(["dashboard/app.py", "--backend", "auto"], environ).backend == "auto"
    unknown = read_settings(["dashboard/app.py"], {BACKEND_VARIABLE: "cuda"})
    assert unknown.backend == "auto"
    assert BACKEND_VARIABLE in unknown.problem
    assert "triton" in read_settings(["app.py", "--backend", "triton"], {}).problem


def test_a_mistyped_option_is_said_on_the_page() -> None:
    assert "--model x" in read_settings(["app.py", "--model", "x"], {}).problem
    assert read_settings(["pytest", "--model", "x"], {}).problem == ""


def test_a_folder_of_folders_and_a_checkpoint_itself_both_work(models_dir: Path) -> None:
    assert [model.label for model in find(models_dir).models] == ["tiny-image", "tiny-text"]
    assert [model.kind for model in find(models_dir / "tiny-text").models] == ["text"]


def test_a_namesake_of_a_bundled_model_is_told_apart(models_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(models_dir / "tiny-text", tmp_path / "mine" / "tiny-text")
    found = find_models(Settings(bundled=models_dir, models_dir=tmp_path / "mine", problem=""))
    assert [model.label for model in found.models] == ["tiny-image", "tiny-text", "tiny-text (mine)"]


def test_the_bundled_models_are_listed_once(models_dir: Path) -> None:
    found = find_models(Settings(bundled=models_dir, models_dir=models_dir, problem=""))
    assert [model.label for model in found.models] == ["tiny-image", "tiny-text"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "holds no JSON object"),
        ('{"model_type": "t5"}', "no 'uoe' model"),
        ('{"model_type": "bert"}', "has no .safetensors file: save the dense model"),
        ('{"model_type": "uoe"}', "has no model.safetensors"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_one_sentence(tmp_path: Path, config: str, words: str) -> None:
    folder = tmp_path / "models" / "odd"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config)
    [problem] = find(tmp_path / "models").problems
    assert words in problem
    assert problem.startswith("odd ")


def test_a_config_that_lacks_something_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "uoe", "is_causal": True}))
    (folder / "model.safetensors").write_bytes(b"")
    [problem] = find(tmp_path).problems
    assert "num_hidden_layers" in problem


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    assert find(tmp_path / "gone").problems == (
        "gone is no folder: give the folder of your checkpoints after --models.",
    )


@pytest.mark.parametrize("text", ["**a** _b_", "[x](y)", ":red[x]", "$x$", "<b>", "a|b", "# x", "`c`", "1. x", "&amp;"])
def test_no_text_becomes_markup(text: str) -> None:
    escaped = plain_markdown(text)
    assert escaped.replace("\\", "") == text
    for letter in set(text) & set("*_[]():$<>|#`.&;"):
        assert escaped.count(f"\\{letter}") == text.count(letter)


def test_numbers_are_written_by_their_unit() -> None:
    assert write_number(float("nan"), "share") == "–"
    assert write_number(0.1234, "share") == "12.3 %"
    assert write_number(12345.0, "patches") == "12,345"
    assert write_number(1.5, "experts") == "1.5"
    assert write_number(1.23456, "nats") == "1.235"
