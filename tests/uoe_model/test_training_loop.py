"""The training loop: resumed runs equal uninterrupted ones, frozen routers stay, what is exported loads."""

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.uoe_model.training_data import image_settings, text_settings, write_data
from uoe_model.errors import CheckpointError, ConfigError
from uoe_model.modeling import UoEForCausalLM, UoEForImageClassification
from uoe_model.replacements import UNTRAINED_ROUTERS
from uoe_model.training.checkpoints import (
    checkpoint_steps,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from uoe_model.training.loop import Limits, Trainer
from uoe_model.training.optimiser import AveragedWeights, build_optimizer
from uoe_model.training.settings import Training
from uoe_model.training.tasks import build_task


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def train(
    settings: Training, data: Path, output: Path, *, resume: bool = False, stop_after: int | None = None
) -> Trainer:
    trainer = Trainer(settings, build_task(settings, data, output), output, resume=resume)
    trainer.run(Limits(stop_after=stop_after))
    return trainer


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_equal(actual: Any, expected: Any) -> None:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(actual, expected)
    elif isinstance(expected, Mapping):
        assert list(actual) == list(expected)
        for name in expected:
            if name != "seconds":
                assert_equal(actual[name], expected[name])
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for left, right in zip(actual, expected, strict=True):
            assert_equal(left, right)
    else:
        assert actual == expected


@pytest.mark.parametrize(
    "settings",
    [
        image_settings(matrix_optimizer="muon"),
        image_settings(matrix_optimizer="adamw", ema_decay=0.0),
        text_settings(matrix_optimizer="muon"),
    ],
    ids=["image-muon", "image-adamw", "text-muon"],
)
def test_three_steps_and_three_resumed_equal_six(settings: Training, data: Path, tmp_path: Path) -> None:
    train(settings, data, tmp_path / "through")
    train(settings, data, tmp_path / "paused", stop_after=3)
    torch.rand(7)  # whatever the process did meanwhile
    train(settings, data, tmp_path / "paused", resume=True)
    through, paused = (load_checkpoint(tmp_path / name / "checkpoints") for name in ("through", "paused"))
    assert through["step"] == 6
    assert_equal(paused, through)
    for file in ("metrics.csv", "validation.csv"):
        rows = [rows_of(tmp_path / name / file) for name in ("through", "paused")]
        assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    assert rows_of(tmp_path / "paused" / "validation.csv")[-1]["loss"] == rows[0][-1]["loss"]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(data: Path, tmp_path: Path) -> None:
    runs = [
        train(dataclasses.replace(image_settings(), seed=seed), data, tmp_path / name, stop_after=2)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    states = [run.model.state_dict() for run in runs]
    assert_equal(states[1], states[0])
    assert not torch.equal(states[2]["classifier.weight"], states[0]["classifier.weight"])


def test_frozen_routers_stay_and_learned_ones_move(data: Path, tmp_path: Path) -> None:
    for frozen in (True, False):
        output = tmp_path / str(frozen)
        trainer = train(image_settings(frozen_routers=frozen), data, output, stop_after=3)
        untrained = load_file(output / UNTRAINED_ROUTERS)
        assert len(untrained) == 4
        for name, before in untrained.items():
            assert torch.equal(trainer.model.get_parameter(name), before) == frozen
        assert trainer.model.config.router_aux_loss_coef == (0 if frozen else 0.01)


def test_twins_start_alike_and_see_the_same_batches(data: Path, tmp_path: Path) -> None:
    settings = (text_settings(), text_settings(frozen_routers=True))
    trainers = [
        Trainer(item, build_task(item, data, tmp_path / str(number)), tmp_path / str(number), resume=False)
        for number, item in enumerate(settings)
    ]
    assert_equal(trainers[0].model.state_dict(), trainers[1].model.state_dict())
    assert_equal(trainers[0].task.batch(5), trainers[1].task.batch(5))


def test_what_is_exported_loads_in_float32_and_equals_the_averaged_weights(data: Path, tmp_path: Path) -> None:
    trainer = train(text_settings(), data, tmp_path, stop_after=4)
    final = tmp_path / "final"
    model = UoEForCausalLM.from_pretrained(final)
    assert model.dtype == torch.float32
    stored = load_file(final / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert "lm_head.weight" not in stored
    assert model.lm_head.weight is model.model.embed.weight
    assert trainer.average is not None
    for name, value in trainer.average.state.items():
        assert torch.equal(model.state_dict()[name], value.half().float()), name
    for name in ("tokenizer.json", UNTRAINED_ROUTERS, "training_config.json", "training_run.json"):
        assert (final / name).is_file()
    assert type(trainer.settings).load(final / "training_config.json") == trainer.settings


def test_an_image_export_has_its_processor_and_class_names(data: Path, tmp_path: Path) -> None:
    train(image_settings(weights_dtype="bfloat16"), data, tmp_path, stop_after=1)
    model = UoEForImageClassification.from_pretrained(tmp_path / "final")
    assert model.config.id2label == {0: "cat", 1: "ship", 2: "tree"}
    assert (tmp_path / "final" / "preprocessor_config.json").is_file()


def test_the_newest_checkpoints_and_the_milestones_stay(data: Path, tmp_path: Path) -> None:
    train(image_settings(milestones=(0.3,)), data, tmp_path)
    assert checkpoint_steps(tmp_path / "checkpoints") == [2, 5, 6]
    prune_checkpoints(tmp_path / "checkpoints", keep=1, milestones=())
    assert checkpoint_steps(tmp_path / "checkpoints") == [6]


def test_a_folder_with_a_run_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    train(image_settings(), data, tmp_path, stop_after=1)
    with pytest.raises(ConfigError, match="--resume"):
        Trainer(image_settings(), build_task(image_settings(), data, tmp_path), tmp_path, resume=False)


def test_nothing_to_resume_and_broken_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to resume"):
        load_checkpoint(tmp_path)
    path = save_checkpoint(tmp_path, 3, {"step": 3})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)


def test_only_matrices_decay_and_frozen_routers_have_no_optimizer(data: Path, tmp_path: Path) -> None:
    settings = text_settings(matrix_optimizer="adamw", frozen_routers=True, weight_decay=0.25)
    trainer = Trainer(settings, build_task(settings, data, tmp_path), tmp_path, resume=False)
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    groups = build_optimizer(trainer.model, settings).param_groups
    decayed = {names[id(p)].rpartition(".")[2] for g in groups if g["weight_decay"] == 0.25 for p in g["params"]}
    plain = {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    assert decayed == {"w_qkv", "w_o", "w1", "w2"}
    assert "model.embed.weight" in plain
    assert not any("router" in name for name in plain)


def test_the_average_is_the_weighted_sum_and_is_taken_off_again() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0)
        average = AveragedWeights(model, decay=0.75)
        model.weight.fill_(4)
        average.update(model, step=1000)
        model.weight.fill_(8)
        average.update(model, step=1001)
    with average.applied_to(model):
        assert model.weight.item() == 0.75 * 1 + 0.25 * 8
    assert model.weight.item() == 8
