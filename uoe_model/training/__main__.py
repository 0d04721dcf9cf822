"""`python -m uoe_model.training image|text --data DIR` trains and evaluates; `twins`, `comparison` compare."""

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from uoe_model.errors import UoEError
from uoe_model.replacements import save_lookup_routes
from uoe_model.training.comparison import run_comparison
from uoe_model.training.evaluation import DEFAULT_SIZES, Sizes, load_subject, measure
from uoe_model.training.loop import Limits, Trainer
from uoe_model.training.memory import keep_freed_memory
from uoe_model.training.model_card import (
    render_parameters,
    render_routing_value,
    render_tables,
    render_twins,
    stored_twins,
    write_card,
)
from uoe_model.training.routing_value import learn_lookup
from uoe_model.training.settings import Training, default_settings, load_settings
from uoe_model.training.tasks import build_task
from uoe_model.training.twins import run_twins

PRETRAINED = Path(__file__).parents[1] / "pretrained"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; user errors become one sentence on stderr."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    keep_freed_memory()
    disable_progress_bar()
    try:
        if arguments[:1] == ["twins"]:
            run_twins(arguments[1:])
        elif arguments[:1] == ["comparison"]:
            run_comparison(arguments[1:])
        else:
            train_or_evaluate(_parser().parse_args(arguments))
    except UoEError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def train_or_evaluate(options: argparse.Namespace) -> None:
    """Do what the options say."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.evaluate:
        evaluate(options)
    else:
        train(options)


def train(options: argparse.Namespace) -> None:
    """Train as the options say."""
    output = options.output or Path("runs") / options.kind
    settings = chosen_settings(options, output)
    task = build_task(settings, options.data, output)
    trainer = Trainer(settings, task, output, resume=options.resume)
    trainer.run(Limits(stop_after=options.stop_after, max_seconds=options.max_seconds))


def evaluate(options: argparse.Namespace) -> None:
    """Measure every number of the model card and print it; with --write, store it beside the weights."""
    folder = options.checkpoint or PRETRAINED / f"uoe-{options.kind}"
    sizes = DEFAULT_SIZES[options.kind]
    sizes = Sizes(
        test=options.test_examples or sizes.test,
        value=options.value_examples or sizes.value,
        lookup=sizes.lookup,
    )
    report = logging.getLogger(__name__).info
    subject = load_subject(options.kind, folder, options.data, sizes)
    report("routes by token id or grid cell")
    looked_up = learn_lookup(subject.model, len(subject.config.site_configs()), subject.lookup)
    metrics = measure(subject, looked_up, report=report)
    print(render_tables(metrics), render_routing_value(metrics), render_parameters(metrics), sep="\n\n")
    twins = stored_twins(folder)
    if twins is not None:
        print("\nStored, not measured now (the twins' weights are not shipped; `twins` trains them again):", end="\n\n")
        print(render_twins(twins))
    if options.write:
        write_card(folder, metrics)
        save_lookup_routes(looked_up, folder)


def chosen_settings(options: argparse.Namespace, output: Path) -> Training:
    """The settings of the file, of the resumed run, or the shipped ones, with the options' changes."""
    stored = output / "training_config.json"
    if options.config is not None:
        settings = load_settings(options.kind, options.config)
    elif options.resume and stored.is_file():
        settings = load_settings(options.kind, stored)
    else:
        settings = default_settings(options.kind)
    changes = {"seed": options.seed, "steps": options.max_steps, "device": options.device}
    changes = {name: value for name, value in changes.items() if value is not None}
    if options.frozen_routers:
        changes["frozen_routers"] = True
    return dataclasses.replace(settings, **changes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m uoe_model.training", description=__doc__)
    parser.add_argument("kind", choices=("image", "text"), help="which model")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds images/ and text/")
    parser.add_argument("--output", type=Path, help="where the run is written; runs/image or runs/text by default")
    parser.add_argument("--config", type=Path, help="JSON file of all hyper-parameters; the shipped one by default")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output folder")
    parser.add_argument("--seed", type=int, help="of weights and data order")
    parser.add_argument("--frozen-routers", action="store_true", help="routers keep their random initial weights")
    parser.add_argument("--max-steps", type=int, help="length of the schedule, instead of the settings' steps")
    parser.add_argument("--stop-after", type=int, help="pause after this step of the schedule; --resume goes on")
    parser.add_argument("--max-seconds", type=float, help="pause after this time; --resume goes on")
    parser.add_argument("--threads", type=int, help="processor threads for torch")
    parser.add_argument("--evaluate", action="store_true", help="measure a checkpoint on the test set instead")
    parser.add_argument("--checkpoint", type=Path, help="folder to evaluate; the bundled checkpoint by default")
    parser.add_argument("--write", action="store_true", help="store what --evaluate measured in the checkpoint folder")
    parser.add_argument("--test-examples", type=int, help="images, or windows per domain, for --evaluate")
    parser.add_argument("--value-examples", type=int, help="likewise for its routing-value table")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="instead of the settings' device")
    return parser


if __name__ == "__main__":
    sys.exit(main())
