"""Does learning the routes help? Twins of one seed, one with its routers frozen at random, trained alike and compared.

    python -m uoe_model.training twins image --data DIR --output DIR --seeds 0 1 --max-steps 2000

Twins share initial weights, batches and steps. What is missing in the output folder is trained, what was interrupted
is resumed, what is finished is only compared; the result is printed and stored as twins.json.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from uoe_model.errors import ConfigError
from uoe_model.training.bootstrap import Bootstrap
from uoe_model.training.checkpoints import checkpoint_steps
from uoe_model.training.evaluation import DEFAULT_SIZES, METRICS, Sizes, describe, load_subject
from uoe_model.training.loop import Limits, Trainer
from uoe_model.training.model_card import TWIN_RESULTS, render_twins, write_card
from uoe_model.training.probes import Losses
from uoe_model.training.settings import Kind, Training, default_settings, load_settings
from uoe_model.training.tasks import build_task

ROUTERS: Final = ("learned", "frozen")


def run_twins(arguments: Sequence[str]) -> dict[str, Any]:
    """Train and compare as the command line says."""
    options = _parser().parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    kind: Kind = options.kind
    settings = default_settings(kind) if options.config is None else load_settings(kind, options.config)
    if options.max_steps is not None:
        settings = dataclasses.replace(settings, steps=options.max_steps)
    for seed in options.seeds:
        for routers in ROUTERS:
            own = dataclasses.replace(settings, seed=seed, frozen_routers=routers == "frozen")
            train_twin(own, options.data, options.output, run_folder(options.output, routers, seed))
    sizes = dataclasses.replace(DEFAULT_SIZES[kind], value=1, lookup=1)
    if options.test_examples is not None:
        sizes = dataclasses.replace(sizes, test=options.test_examples)
    result = compare(kind, options.output, options.data, seeds=options.seeds, steps=settings.steps, sizes=sizes)
    folders = [options.output] if options.write is None else [options.output, options.write]
    for folder in folders:
        (folder / TWIN_RESULTS).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        if (folder / METRICS).is_file():
            write_card(folder, json.loads((folder / METRICS).read_text(encoding="utf-8")))
    print(render_twins(result))  # noqa: T201  (a command's output)
    return result


def run_folder(output: Path, routers: str, seed: int) -> Path:
    """Where one of the runs stands."""
    return output / f"{routers}-seed{seed}"


def train_twin(settings: Training, data: Path, shared: Path, folder: Path) -> None:
    """Train one run to the end of its schedule, unless it is there already.

    Args:
        settings: of this run.
        data: the demo data.
        shared: folder of the decoded data and the tokenizer, the same for all runs.
        folder: of this run.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    steps = checkpoint_steps(folder / "checkpoints")
    if steps:
        stored = type(settings).load(folder / "training_config.json")
        if stored != settings:
            raise ConfigError(f"{folder} holds a run with other settings: choose another --output, or remove it")
        if steps[-1] >= settings.steps:
            return
    trainer = Trainer(settings, build_task(settings, data, shared), folder, resume=bool(steps))
    trainer.run(Limits())
    if trainer.step < settings.steps:
        raise SystemExit(f"{folder}: interrupted at step {trainer.step}; the same command goes on from there")


def compare(kind: Kind, output: Path, data: Path, *, seeds: Sequence[int], steps: int, sizes: Sizes) -> dict[str, Any]:
    """Test losses of finished twins, learned minus frozen, per seed.

    Returns:
        kind, dataset, steps, seeds (seed, learned, frozen, difference, and its 95% paired interval over images or
        documents) and the mean difference over seeds, in nats per image or token.
    """
    rows: list[dict[str, Any]] = []
    dataset = ""
    for seed in seeds:
        losses: dict[str, Losses] = {}
        for routers in ROUTERS:
            subject = load_subject(kind, run_folder(output, routers, seed) / "final", data, sizes)
            losses[routers] = subject.test.losses(subject.model)
            dataset = describe(subject)
        learned, frozen = losses["learned"], losses["frozen"]
        low, high = Bootstrap(learned, seed=seed).interval(learned.sums - frozen.sums)
        row = {"seed": seed, "learned": learned.mean, "frozen": frozen.mean, "difference": learned.mean - frozen.mean}
        rows.append(row | {"low": low, "high": high})
    mean = float(np.mean([row["difference"] for row in rows]))
    return {"kind": kind, "dataset": dataset, "steps": steps, "seeds": rows, "mean": mean}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uoe_model.training twins",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=("image", "text"), help="which model")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds images/ and text/")
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--config", type=Path, help="settings of all runs; the shipped ones by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="one pair of twins each")
    parser.add_argument("--max-steps", type=int, help="length of the schedule, instead of the settings' steps")
    parser.add_argument("--test-examples", type=int, help="test images, or windows per domain, to compare on")
    parser.add_argument("--threads", type=int, help="processor threads for torch")
    parser.add_argument("--write", type=Path, help="evaluated checkpoint folder whose card shall show this")
    return parser
