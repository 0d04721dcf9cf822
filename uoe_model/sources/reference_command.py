"""The command line of the released classifier; `python -m uoe_model.reference` starts it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uoe_model.errors import UoEError
from uoe_model.processors.text_input import decode_text
from uoe_model.result import ClassPrediction, RunResult
from uoe_model.sources.reference import CLASSIFIER_QUIRKS, Quirks, load_reference, parse_ids, run_reference
from uoe_model.trace import DROPPED, FILLER, KEPT
from uoe_model.trace_io import save_trace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; user errors become one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m uoe_model.reference", description=main.__doc__)
    parser.add_argument("checkpoint", type=Path, help="the released torch file, such as uoe_listops.model")
    parser.add_argument("--ids", nargs="+", default=[], help="token ids of one example")
    parser.add_argument("--file", type=Path, help="token ids, one example a line: a batch")
    parser.add_argument("--ties", choices=("lowest", "torch"), default="lowest", help="which units fill free slots")
    parser.add_argument(
        "--off", nargs="+", default=[], metavar="QUIRK", help="quirks to repair: " + ", ".join(CLASSIFIER_QUIRKS)
    )
    parser.add_argument("--trace", type=Path, help="save the first example's trace as this zip")
    options = parser.parse_args(arguments)
    try:
        model = load_reference(options.checkpoint)
        text = " ".join(options.ids)
        if options.file is not None:
            text = "\n".join([text, decode_text(options.file.read_bytes(), name=options.file.name)])
        runs = run_reference(model, parse_ids(text, model), quirks=Quirks().without(options.off), ties=options.ties)
        for run in runs:
            _print(run)
        if options.trace is not None:
            save_trace(runs[0].trace, options.trace)
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except UoEError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _print(run: RunResult) -> None:
    prediction, trace = run.prediction, run.trace
    assert isinstance(prediction, ClassPrediction), "a classifier answers with classes"
    best = int(prediction.probabilities.argmax())
    print(f"{run.input.name}: class {prediction.labels[best]} with probability {prediction.probabilities[best]:.4f}")
    print("  probabilities " + " ".join(f"{value:.6f}" for value in prediction.probabilities))
    rows = trace.assignments
    for site_id, name in enumerate(trace.sites.name):
        here = rows.site_id == site_id
        kept, dropped, filler = (int((rows.status[here] == status).sum()) for status in (KEPT, DROPPED, FILLER))
        reached = np.zeros(trace.num_units, dtype=bool)
        reached[rows.unit_id[here & (rows.status == KEPT)]] = True
        print(
            f"  {name}: capacity {trace.capacities.capacity[site_id]}, kept {kept}, dropped {dropped}, filler {filler} "
            f"({filler / max(kept + filler, 1):.1%} of the slots), units that lost every expert {int((~reached).sum())}"
        )
    for check in trace.run.self_check:
        if not check.passed:
            print(f"  SELF-CHECK FAILED: {check.name}: {check.detail}")


if __name__ == "__main__":
    sys.exit(main())
