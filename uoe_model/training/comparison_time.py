"""How long a training step of every variant takes, all of them in turn in one process."""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from uoe_model.training.loop import pick_device
from uoe_model.training.optimiser import build_optimizer
from uoe_model.training.settings import Training
from uoe_model.training.tasks import Task, build_task


def time_steps(settings: Mapping[str, Training], data: Path, shared: Path, *, rounds: int) -> dict[str, Any]:
    """Median wall time of forward, backward and update, one step of each variant per round, after a round unmeasured.

    In turn, so that what else the machine does meets all variants alike; a ratio between them is worth more than
    the seconds. Only on a machine that does nothing else are the seconds worth anything.

    Args:
        settings: by variant. data: the demo data. shared: folder of the decoded data and the tokenizer.
        rounds: measured steps of each variant.

    Returns:
        rounds, threads, device, and rows: variant, step_seconds.
    """
    steps = {variant: _Step(own, build_task(own, data, shared)) for variant, own in settings.items()}
    seconds: dict[str, list[float]] = {variant: [] for variant in steps}
    for number in range(rounds + 1):
        for variant, step in steps.items():
            spent = step.run(number)
            if number:
                seconds[variant].append(spent)
    rows = [{"variant": variant, "step_seconds": statistics.median(spent)} for variant, spent in seconds.items()]
    device = next(iter(steps.values())).device
    return {"rounds": rounds, "threads": torch.get_num_threads(), "device": device, "rows": rows}


class _Step:
    """A new model and its optimizer."""

    def __init__(self, settings: Training, task: Task) -> None:
        self.device = pick_device(settings.device)
        self._task, self._settings = task, settings
        torch.manual_seed(settings.seed)
        self._model = task.build_model().train()
        nn.Module.to(self._model, self.device)
        self._optimizer = build_optimizer(self._model, settings)

    def run(self, number: int) -> float:
        """Seconds of one step; making the batch is not counted."""
        batch = {name: value.to(self.device) for name, value in self._task.batch(number).items()}
        self._wait()
        began = time.perf_counter()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self._settings.dtype == "bfloat16"):
            loss = self._task.loss(self._model(**batch), batch)
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
