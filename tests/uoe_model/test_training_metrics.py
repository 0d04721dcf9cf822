"""The numbers of a running training, and how a run is paused."""

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.uoe_model.models import build_classifier
from tests.uoe_model.training_data import image_settings, write_data
from uoe_model.training.checkpoints import checkpoint_steps
from uoe_model.training.loop import Limits, Trainer
from uoe_model.training.memory import keep_freed_memory
from uoe_model.training.metrics import MetricsFile, RunningMeans, dropped_shares, read_metrics
from uoe_model.training.tasks import ImageTask


def test_means_start_anew_after_they_are_taken():
    means = RunningMeans()
    for value in (1.0, 2.0):
        means.add({"loss": torch.tensor(value)})
    assert means.take() == {"loss": 1.5}
    means.add({"loss": torch.tensor(7.0)})
    assert means.take() == {"loss": 7.0}


def test_a_resumed_file_loses_the_rows_after_the_checkpoint(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    before = MetricsFile(path, resumed_step=0)
    for step in (10, 20, 30):
        before.append({"step": step, "loss": step / 7})
    after = MetricsFile(path, resumed_step=20)
    assert [row["step"] for row in read_metrics(path)] == ["10", "20"]
    after.append({"step": 25, "loss": 1.0})
    assert [row["loss"] for row in read_metrics(path)] == ["1.42857", "2.85714", "1"]


def test_dropped_shares_pool_the_sites_of_a_block():
    model = build_classifier()
    decisions = model(pixel_values=torch.randn(3, 3, 8, 8, dtype=torch.float64)).decisions
    shares = dropped_shares(decisions)
    for block, sites in (("attention", decisions[0::2]), ("mlp", decisions[1::2])):
        asked = sum(site.expert_NK.numel() for site in sites)
        kept = sum(int(site.kept_NK.sum()) for site in sites)
        assert 0 < shares[f"dropped_share_{block}"].item() == pytest.approx(1 - kept / asked)


class Interrupted(ImageTask):
    """Sends this process a signal in the middle of its third step."""

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step)


def test_a_signal_ends_the_run_after_the_step_with_a_checkpoint(tmp_path: Path):
    data = write_data(tmp_path / "data")
    output = tmp_path / "run"
    before = signal.getsignal(signal.SIGTERM)
    trainer = Trainer(image_settings(), Interrupted(image_settings(), data, output), output, resume=False)
    trainer.run(Limits())
    assert trainer.step == 3
    assert checkpoint_steps(output / "checkpoints")[-1] == 3
    assert signal.getsignal(signal.SIGTERM) == before


def test_time_that_is_up_ends_the_run(tmp_path: Path):
    data = write_data(tmp_path / "data")
    output = tmp_path / "run"
    trainer = Trainer(image_settings(), ImageTask(image_settings(), data, output), output, resume=False)
    trainer.run(Limits(max_seconds=0.0))
    assert trainer.step == 1


def test_keeping_memory_is_no_error_anywhere():
    assert keep_freed_memory() in (True, False)
