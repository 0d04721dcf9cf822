"""The training loop: the same steps whether it ran through or was interrupted and resumed."""

import contextlib
import dataclasses
import logging
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import PreTrainedModel

from uoe_model.errors import ConfigError
from uoe_model.replacements import UNTRAINED_ROUTERS
from uoe_model.training.checkpoints import checkpoint_steps, load_checkpoint, prune_checkpoints, save_checkpoint
from uoe_model.training.export import export_model
from uoe_model.training.metrics import MetricsFile, RunningMeans, dropped_shares
from uoe_model.training.optimiser import (
    AveragedWeights,
    build_optimizer,
    is_router,
    learning_rate,
    router_weights,
    set_learning_rate,
)
from uoe_model.training.settings import Training
from uoe_model.training.tasks import Task

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When to pause before the schedule ends: after a number of steps in all, or of seconds from now."""

    stop_after: int | None = None
    max_seconds: float | None = None


class Trainer:
    """A model, its optimizer and how far they are."""

    def __init__(self, settings: Training, task: Task, output: Path, *, resume: bool) -> None:
        self.settings = settings
        self.task = task
        self.output = output
        self.device = pick_device(settings.device)
        torch.manual_seed(settings.seed)
        self.model: PreTrainedModel = task.build_model()
        output.mkdir(parents=True, exist_ok=True)
        if not resume:
            if checkpoint_steps(output / "checkpoints"):
                raise ConfigError(f"{output} already holds a training: add --resume, or choose another --output")
            save_file(router_weights(self.model), output / UNTRAINED_ROUTERS)
        for name, parameter in self.model.named_parameters():
            if settings.frozen_routers and is_router(name):
                parameter.requires_grad_(False)
        torch.nn.Module.to(self.model, self.device)
        self.optimizer = build_optimizer(self.model, settings)
        self.average = AveragedWeights(self.model, settings.ema_decay) if settings.ema_decay else None
        self.step = 0
        self.seconds = 0.0
        if resume:
            self._restore(load_checkpoint(output / "checkpoints"))
        settings.save(output / "training_config.json")

    def run(self, limits: Limits) -> None:
        """Train to the end of the schedule or to a limit; write checkpoints and OUTPUT/final on the way."""
        settings = self.settings
        metrics = MetricsFile(self.output / "metrics.csv", resumed_step=self.step)
        validation = MetricsFile(self.output / "validation.csv", resumed_step=self.step)
        last = settings.steps if limits.stop_after is None else min(settings.steps, limits.stop_after)
        began, spent = time.monotonic(), self.seconds
        means, units, logged = RunningMeans(), 0, time.monotonic()
        with (
            _stop_signals() as stopped,
            tqdm(total=settings.steps, initial=self.step, unit="step", mininterval=1) as bar,
        ):
            while self.step < last and not stopped:
                numbers, batch_units = self._train_step()
                means.add(numbers)
                units += batch_units
                self.seconds = spent + time.monotonic() - began
                bar.update()
                if self.step % settings.log_every == 0:
                    row = means.take()
                    rate = units / max(time.monotonic() - logged, 1e-9)
                    row |= {"learning_rate": self.optimizer.param_groups[0]["lr"], "units_per_second": rate}
                    metrics.append({"step": self.step, "seconds": self.seconds} | row)
                    bar.set_postfix({"loss": f"{row['loss']:.3f}", "unit/s": f"{rate:.0f}"})
                    units, logged = 0, time.monotonic()
                if self.step % settings.validate_every == 0 or self.step == settings.steps:
                    row = self.validate()
                    validation.append({"step": self.step, "seconds": self.seconds} | row)
                    words = ", ".join(f"{name} {value:.4f}" for name, value in row.items())
                    bar.write(f"step {self.step}: {words}", file=sys.stderr)
                    logged = time.monotonic()
                if self.step % settings.checkpoint_every == 0 or self.step in settings.milestone_steps():
                    self.save()
                if self.step in settings.milestone_steps():
                    self.export()
                if limits.max_seconds is not None and time.monotonic() - began >= limits.max_seconds:
                    break
        self.save()
        self.export()

    def validate(self) -> dict[str, float]:
        """Numbers on held-out data, with averaged weights if there are any."""
        with self._evaluated_weights():
            return self.task.validate(self.model)

    def save(self) -> None:
        """Write a checkpoint of everything that the next step depends on."""
        state: dict[str, Any] = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state,
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if self.device == "cuda" else [],
        }
        folder = self.output / "checkpoints"
        save_checkpoint(folder, self.step, state)
        prune_checkpoints(folder, keep=self.settings.keep_checkpoints, milestones=self.settings.milestone_steps())

    def export(self) -> None:
        """Write OUTPUT/final: the model as it would be used."""
        with self._evaluated_weights():
            export_model(self.model, self.task, self.settings, self.output, step=self.step, seconds=self.seconds)

    def _train_step(self) -> tuple[dict[str, torch.Tensor], int]:
        settings = self.settings
        self.model.train()
        set_learning_rate(self.optimizer, learning_rate(settings, self.step))
        batch = {name: value.to(self.device) for name, value in self.task.batch(self.step).items()}
        autocast = torch.autocast(self.device, torch.bfloat16, enabled=settings.dtype == "bfloat16")
        with autocast:
            output = self.model(**batch)
            loss = self.task.loss(output, batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)
        numbers = {
            "loss": loss,
            "cross_entropy": output.cross_entropy,
            "balance_loss": output.balance_loss,
            "z_loss": output.z_loss,
            "gradient_norm": norm,
        }
        units = len(output.decisions[0].logits_NE)
        return numbers | dropped_shares(output.decisions), units

    @contextlib.contextmanager
    def _evaluated_weights(self) -> Iterator[None]:
        self.model.eval()
        with contextlib.nullcontext() if self.average is None else self.average.applied_to(self.model):
            yield

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None and state["average"] is not None:
            self.average.load(state["average"])
        torch.set_rng_state(state["rng_cpu"])
        if state["rng_cuda"]:
            torch.cuda.set_rng_state_all(state["rng_cuda"])


def pick_device(wanted: str) -> str:
    """`auto` as a device name."""
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that the step is finished and a checkpoint written."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
