"""Does learning the routes help? Twins of one seed: learned routers, routers frozen at random, and dense blocks.

    python -m uoe_model.training twins image --data DIR --output DIR --seeds 0 1 --max-steps 2000
    python -m uoe_model.training twins image --data DIR --output DIR --learned uoe_model/pretrained/uoe-image

Twins share batches and steps, the first two also initial weights; the second line trains the twins of a checkpoint.
What is missing in the output folder is trained, what was interrupted is resumed, what is finished is only compared;
the result is printed and stored as twins.json.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from uoe_model.errors import ConfigError
from uoe_model.training.bootstrap import Bootstrap
from uoe_model.training.checkpoints import checkpoint_steps
from uoe_model.training.evaluation import DEFAULT_SIZES, METRICS, Sizes, describe, load_subject
from uoe_model.training.export import TRAINING_CONFIG
from uoe_model.training.loop import Limits, Trainer
from uoe_model.training.model_card import TWIN_RESULTS, render_twins, write_card
from uoe_model.training.probes import Losses
from uoe_model.training.settings import Kind, Training, default_settings, load_settings
from uoe_model.training.tasks import build_task
from uoe_model.training.variants import variant_settings

TWINS: Final = ("learned", "frozen", "dense")
VARIANT_OF: Final = {"learned": "data", "frozen": "frozen", "dense": "dense"}
"""What the variants of the comparison call them."""


def run_twins(arguments: Sequence[str]) -> dict[str, Any]:
    """Train and compare as the command line says."""
    options = _parser().parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    kind: Kind = options.kind
    settings, seeds = _settings_and_seeds(options)
    twins = [name for name in TWINS if name in options.twins]
    folders = {(name, seed): run_folder(options.output, name, seed) / "final" for seed in seeds for name in twins}
    for name, seed in folders:
        if name == "learned" and options.learned is not None:
            folders[name, seed] = options.learned
        else:
            own = variant_settings(settings, kind, VARIANT_OF[name], seed)
            train_twin(own, options.data, options.output, run_folder(options.output, name, seed))
    sizes = dataclasses.replace(DEFAULT_SIZES[kind], value=1, lookup=1)
    if options.test_examples is not None:
        sizes = dataclasses.replace(sizes, test=options.test_examples)
    result = compare(kind, folders, options.data, steps=settings.steps, sizes=sizes)
    for folder in [options.output] if options.write is None else [options.output, options.write]:
        (folder / TWIN_RESULTS).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        if (folder / METRICS).is_file():
            write_card(folder, json.loads((folder / METRICS).read_text(encoding="utf-8")))
    print(render_twins(result))  # noqa: T201  (a command's output)
    return result


def _settings_and_seeds(options: argparse.Namespace) -> tuple[Training, list[int]]:
    """Those of the command line, or of the checkpoint whose twins are wanted."""
    kind: Kind = options.kind
    if "learned" not in options.twins or len(options.twins) < 2:
        raise ConfigError("--twins must name learned and at least one of frozen, dense: the difference is to learned")
    if options.learned is None:
        settings = default_settings(kind) if options.config is None else load_settings(kind, options.config)
        if options.max_steps is not None:
            settings = dataclasses.replace(settings, steps=options.max_steps)
        return settings, options.seeds or [0, 1]
    if options.config is not None or options.max_steps is not None or options.seeds is not None:
        raise ConfigError("--learned takes settings, steps and seed from its checkpoint: leave out the other options")
    settings = load_settings(kind, options.learned / TRAINING_CONFIG)
    return settings, [settings.seed]


def run_folder(output: Path, name: str, seed: int) -> Path:
    """Where one of the runs stands."""
    return output / f"{name}-seed{seed}"


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


def compare(
    kind: Kind, folders: Mapping[tuple[str, int], Path], data: Path, *, steps: int, sizes: Sizes
) -> dict[str, Any]:
    """Test losses of finished twins, learned minus each of the others, per seed.

    Args:
        folders: checkpoint of every twin and seed; the learned one must be among them.

    Returns:
        kind, dataset, steps and seeds: seed, learned; if there is a frozen twin frozen, difference, and its 95% paired
        interval low, high over images or documents; if there is a dense one dense, dense_difference, dense_low,
        dense_high. And the mean differences over seeds, mean and dense_mean, in nats per image or token.
    """
    rows: dict[int, dict[str, Any]] = {}
    learned: dict[int, Losses] = {}
    dataset = ""
    for (name, seed), folder in sorted(folders.items(), key=lambda item: (item[0][1], TWINS.index(item[0][0]))):
        subject = load_subject(kind, folder, data, sizes)
        losses = subject.test.losses(subject.model)
        dataset = describe(subject)
        row = rows.setdefault(seed, {"seed": seed})
        row[name] = losses.mean
        if name == "learned":
            learned[seed] = losses
            continue
        own = learned[seed]
        low, high = Bootstrap(own, seed=seed).interval(own.sums - losses.sums)
        before = "" if name == "frozen" else f"{name}_"
        row |= {f"{before}difference": own.mean - losses.mean, f"{before}low": low, f"{before}high": high}
    result = {"kind": kind, "dataset": dataset, "steps": steps, "seeds": list(rows.values())}
    for before in ("", "dense_"):
        differences = [row[f"{before}difference"] for row in rows.values() if f"{before}difference" in row]
        if differences:
            result[f"{before}mean"] = float(np.mean(differences))
    return result


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
    parser.add_argument("--seeds", type=int, nargs="+", help="twins of each; 0 and 1 by default")
    parser.add_argument("--twins", nargs="+", choices=TWINS, default=list(TWINS), help="which; all by default")
    parser.add_argument("--learned", type=Path, help="checkpoint folder that is the learned twin, trained before")
    parser.add_argument("--max-steps", type=int, help="length of the schedule, instead of the settings' steps")
    parser.add_argument("--test-examples", type=int, help="test images, or windows per domain, to compare on")
    parser.add_argument("--threads", type=int, help="processor threads for torch")
    parser.add_argument("--write", type=Path, help="evaluated checkpoint folder whose card shall show this")
    return parser
