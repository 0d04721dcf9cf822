"""The paper's claim at our scale: one small configuration, routed in different ways or not at all, over seeds.

    python -m uoe_model.training comparison image --data DIR --output DIR --seeds 0 1 2 --workers 2

Every run takes the same number of steps on the same batches of its seed. What is missing in the output folder is
trained, what was interrupted is resumed, what is finished is only measured, and what is measured only collected; the
result is comparison.json, with the logs of all runs beside it (logs-KIND.csv). A longer table: --max-steps.
"""

import argparse
import csv
import dataclasses
import itertools
import json
import logging
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers.utils.logging import disable_progress_bar

from uoe_model.errors import ConfigError
from uoe_model.training.bootstrap import Bootstrap
from uoe_model.training.comparison_measure import load_test_set, measure_run
from uoe_model.training.comparison_time import time_steps
from uoe_model.training.metrics import read_metrics
from uoe_model.training.probes import Losses
from uoe_model.training.settings import Kind, Training, load_settings
from uoe_model.training.twins import train_twin
from uoe_model.training.variants import NOT_CAUSAL, VARIANTS, variant_settings, variants_of

RESULT: Final = "comparison.json"
STEP_TIMES: Final = "step_seconds.json"
DIGITS: Final = 6
"""Significant digits of stored numbers: more would be noise, and the file is committed."""

TEST_EXAMPLES: Final[dict[Kind, int]] = {"image": 10_000, "text": 100}
VALUE_EXAMPLES: Final[dict[Kind, int]] = {"image": 1_000, "text": 12}
UNTIMED: Final = "not measured: that takes a machine that does nothing else (--time-steps)"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one command does.

    Attributes:
        base: settings before the variant and the seed change them.
        test, value: test examples for quality and for dependence; see `load_test_set`.
        threads: of torch, in every worker.
    """

    kind: Kind
    base: Training
    data: Path
    output: Path
    test: int
    value: int
    threads: int

    def folder(self, variant: str, seed: int) -> Path:
        """Where a run stands."""
        return self.output / f"{variant}-seed{seed}"

    def settings(self, variant: str, seed: int) -> Training:
        """What a run is trained with."""
        return variant_settings(self.base, self.kind, variant, seed)


def run_comparison(arguments: Sequence[str]) -> dict[str, Any]:
    """Train, measure and collect as the command line says."""
    options = _parser().parse_args(arguments)
    kind: Kind = options.kind
    config = Path(__file__).parent / f"comparison_{kind}.json" if options.config is None else options.config
    base = load_settings(kind, config)
    if options.max_steps is not None:
        base = dataclasses.replace(base, steps=options.max_steps)
    plan = Plan(
        kind=kind,
        base=base,
        data=options.data,
        output=options.output,
        test=options.test_examples or TEST_EXAMPLES[kind],
        value=options.value_examples or VALUE_EXAMPLES[kind],
        threads=options.threads,
    )
    variants = options.variants or variants_of(kind)
    runs = [(variant, seed) for seed in options.seeds for variant in variants]
    for variant, seed in runs:
        plan.settings(variant, seed)  # raises before anything is trained
    if not options.only_collect:
        _finish_all(plan, runs, workers=options.workers)
    if options.time_steps:
        torch.set_num_threads(plan.threads)
        settings = {variant: plan.settings(variant, options.seeds[0]) for variant in variants}
        timed = time_steps(settings, plan.data, plan.output, rounds=options.time_steps)
        (plan.output / STEP_TIMES).write_text(json.dumps(timed, indent=1) + "\n", encoding="utf-8")
    result = collect(plan)
    plan.output.mkdir(parents=True, exist_ok=True)
    (plan.output / RESULT).write_text(json.dumps(_rounded(result), indent=1) + "\n", encoding="utf-8")
    write_logs(plan, plan.output / f"logs-{kind}.csv")
    for run in result["runs"]:
        print(f"{run['variant']} seed {run['seed']}: test loss {run['loss']:.4f}")  # noqa: T201  (a command's output)
    return result


def _finish_all(plan: Plan, runs: Sequence[tuple[str, int]], *, workers: int) -> None:
    if workers < 1:
        raise ConfigError(f"--workers {workers} must be at least 1")
    if workers == 1:
        torch.set_num_threads(plan.threads)
        for variant, seed in runs:
            finish(plan, variant, seed)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(plan.threads,)) as pool:
        # The first run alone writes what all share: the tokenizer and the decoded data.
        pool.submit(finish, plan, *runs[0]).result()
        for future in [pool.submit(finish, plan, variant, seed) for variant, seed in runs[1:]]:
            future.result()


def _start_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    disable_progress_bar()


def finish(plan: Plan, variant: str, seed: int) -> None:
    """Train a run to its end and measure it, as far as that was not done before.

    Raises:
        ConfigError: its folder holds a run with other settings.
    """
    folder, settings = plan.folder(variant, seed), plan.settings(variant, seed)
    train_twin(settings, plan.data, plan.output, folder)
    if _stored(plan, variant, seed) is not None:
        return
    data = load_test_set(settings, plan.kind, plan.data, plan.output / "tokenizer", test=plan.test, value=plan.value)
    run, losses = measure_run(variant, settings, folder, data)
    logger.info("%s seed %d: test loss %.4f", variant, seed, run["loss"])
    np.savez(folder / "test_losses.npz", sums=losses.sums, counts=losses.counts, clusters=losses.clusters)
    evaluation = {"sizes": [plan.test, plan.value], "steps": settings.steps, "dataset": data.name, "run": run}
    (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n", encoding="utf-8")


def _stored(plan: Plan, variant: str, seed: int) -> dict[str, Any] | None:
    """What `finish` wrote, if it measured the same on the same."""
    path = plan.folder(variant, seed) / "evaluation.json"
    if not path.is_file():
        return None
    evaluation: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    is_same = evaluation["sizes"] == [plan.test, plan.value] and evaluation["steps"] == plan.base.steps
    return evaluation if is_same else None


def collect(plan: Plan) -> dict[str, Any]:
    """Everything that was measured in the output folder.

    Returns:
        kind, dataset, steps, batch_size, units_per_step, variants (name, and the reason why there is none), runs (see
        `measure_run`), and differences: variant, baseline (`dense`; for `data` also `frozen`), seed, difference (test
        loss, nats per image or token), low, high (95% paired, over images or documents); step_seconds (see
        `time_steps`, and the reason why there are none).
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    losses: dict[tuple[str, int], Losses] = {}
    dataset = ""
    for variant, folder in itertools.product(VARIANTS, sorted(plan.output.glob("*-seed*"))):
        name, _, number = folder.name.rpartition("-seed")
        if name != variant or not number.isdecimal():
            continue
        stored = _stored(plan, variant, int(number))
        if stored is None:
            continue
        found[variant, int(number)], dataset = stored["run"], stored["dataset"]
        with np.load(folder / "test_losses.npz", allow_pickle=False) as file:
            losses[variant, int(number)] = Losses(**{key: file[key] for key in ("sums", "counts", "clusters")})
    differences = []
    for variant, seed in found:
        for baseline in ("dense", "frozen") if variant == "data" else ("dense",):
            if variant != baseline and (baseline, seed) in found:
                own, other = losses[variant, seed], losses[baseline, seed]
                low, high = Bootstrap(own, seed=seed).interval(own.sums - other.sums)
                row = {"variant": variant, "baseline": baseline, "seed": seed, "difference": own.mean - other.mean}
                differences.append(row | {"low": low, "high": high})
    config = plan.base.build_config()
    units = config.grid_size**2 if plan.kind == "image" else config.max_position_embeddings
    possible = variants_of(plan.kind)
    return {
        "kind": plan.kind,
        "dataset": dataset,
        "steps": plan.base.steps,
        "batch_size": plan.base.batch_size,
        "units_per_example": units,
        "value_examples": plan.value,
        "variants": [
            {"variant": name, "reason": "" if name in possible else "not causal" if name in NOT_CAUSAL else "unknown"}
            for name in VARIANTS
        ],
        "runs": list(found.values()),
        "differences": differences,
        "step_seconds": _step_times(plan),
    }


def _step_times(plan: Plan) -> dict[str, Any]:
    path = plan.output / STEP_TIMES
    if not path.is_file():
        return {"rows": [], "reason": UNTIMED}
    timed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return timed | {"reason": ""}


def write_logs(plan: Plan, path: Path) -> None:
    """The training and validation logs of all runs in one CSV file, one row per logged step.

    Columns: variant, seed, step, seconds, units_per_second, loss, cross_entropy, gradient_norm, dropped shares of both
    blocks, validation_loss (empty between validations).
    """
    numbers = ("step", "seconds", "units_per_second", "loss", "cross_entropy", "gradient_norm")
    kept = (*numbers, "dropped_share_attention", "dropped_share_mlp")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["variant", "seed", *kept, "validation_loss"])
        for variant in variants_of(plan.kind):
            for folder in sorted(plan.output.glob(f"{variant}-seed*")):
                if not (folder / "metrics.csv").is_file():
                    continue
                seed = folder.name.rpartition("-seed")[2]
                validation: dict[str, str] = {}
                if (folder / "validation.csv").is_file():
                    validation = {row["step"]: row["loss"] for row in read_metrics(folder / "validation.csv")}
                for row in read_metrics(folder / "metrics.csv"):
                    cells = [f"{float(row[name]):.5g}" for name in kept]
                    writer.writerow([variant, seed, *cells, validation.pop(row["step"], "")])
                for step, loss in validation.items():
                    writer.writerow([variant, seed, step, *[""] * (len(kept) - 1), loss])


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uoe_model.training comparison",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=("image", "text"), help="which model")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds images/ and text/")
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs of this kind")
    parser.add_argument("--config", type=Path, help="settings of all runs; the shipped ones by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the runs")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="all that this kind can be by default")
    parser.add_argument("--max-steps", type=int, help="steps of every run, instead of the settings'")
    parser.add_argument("--test-examples", type=int, help="test images, or windows per domain")
    parser.add_argument("--value-examples", type=int, help="likewise, for the dependence on the routes")
    parser.add_argument("--workers", type=int, default=1, help="runs at the same time")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of every worker")
    parser.add_argument("--time-steps", type=int, help="also time this many steps of each variant, in turn")
    parser.add_argument("--only-collect", action="store_true", help="train and measure nothing more")
    return parser
