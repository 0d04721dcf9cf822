"""Settings of a training run: defaults, JSON, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.uoe_model.training_data import image_settings, text_settings
from uoe_model.errors import ConfigError
from uoe_model.training.optimiser import learning_rate
from uoe_model.training.settings import ImageTraining, TextTraining, default_settings


@pytest.mark.parametrize("kind", ["image", "text"])
def test_shipped_settings_describe_a_model_the_issue_asks_for(kind: str) -> None:
    config = default_settings(kind).build_config()
    assert config.router_config("mlp").num_experts >= 8
    assert config.max_position_embeddings >= 512 or kind == "image"
    assert config.grid_size**2 >= 64 or kind == "text"


@pytest.mark.parametrize("settings", [image_settings(betas=(0.5, 0.75)), text_settings(frozen_routers=True)])
def test_settings_come_back_from_json(settings: ImageTraining | TextTraining, tmp_path: Path) -> None:
    settings.save(tmp_path / "settings.json")
    assert type(settings).load(tmp_path / "settings.json") == settings


def test_an_unknown_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(dataclasses.asdict(text_settings()) | {"learning_speed": 1}), encoding="utf-8")
    with pytest.raises(ConfigError, match="learning_speed"):
        TextTraining.load(path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="steps"):
        TextTraining.load(path)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("steps: 3", encoding="utf-8")
    with pytest.raises(ConfigError, match="JSON"):
        TextTraining.load(path)


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        image_settings(steps=0, ema_decay=1.0, dtype="float8")
    for name in ("steps", "ema_decay", "dtype"):
        assert name in str(caught.value)


def test_frozen_routers_switch_the_router_losses_off() -> None:
    config = image_settings(frozen_routers=True).build_config()
    assert (config.router_aux_loss_coef, config.router_z_loss_coef) == (0, 0)
    assert image_settings().build_config().router_aux_loss_coef > 0


def test_the_learning_rate_rises_then_falls_to_its_floor() -> None:
    settings = image_settings(steps=102, warm_up_steps=2, learning_rate=1.0, final_learning_rate_share=0.1)
    rates = [learning_rate(settings, step) for step in range(103)]
    assert rates[0] == pytest.approx(0.5)
    assert rates[1] == rates[2] == pytest.approx(1.0)
    assert rates[52] == pytest.approx(0.55)
    assert rates[102] == pytest.approx(0.1)
    assert rates[2:] == sorted(rates[2:], reverse=True)
