"""What a routing trace costs: a forward that discards its decisions against one that copies or traces them.

    python -m tests.benchmarks.bench_capture [--quick] [--device cpu] [--threads N] [--repetitions N] [--output FOLDER]

Four variants of one call run in random order within every repetition, in one process: `discard`, `discard again` (the
A/A control: what this machine shows where nothing differs), `stack` (decisions copied to the host) and `trace`
(copied, and made into a validated trace). Ratios are medians of ratios within a repetition. `isolated` are the added
parts alone, without the forward beside them: the reliable numbers where they are small. `trace` then is without
`stack`, and `units` is the part of it that makes and checks the table of units. Its texts and boxes are given: they
come from the tokenizer and the picture, whatever is captured.

The models have the configurations of the bundled ones and random weights.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.machine import NOISY, RESULTS, ROOT, BusyOthers, read_machine
from uoe_model.capture import build_trace, patch_ids, to_host
from uoe_model.config import UoEConfig
from uoe_model.modeling import UoEForCausalLM, UoEForImageClassification
from uoe_model.trace import RoutingTrace, UnitTable, text_column

SCHEMA_VERSION = 1

VARIANTS = ("discard", "discard again", "stack", "trace")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Case:
    """One model and one input: examples of equal length."""

    name: str
    config: UoEConfig
    model: UoEForCausalLM | UoEForImageClassification
    inputs: Mapping[str, torch.Tensor]
    columns: Mapping[str, Any]  # of its UnitTable
    examples: int

    @property
    def num_units(self) -> int:
        """Units of all examples."""
        return len(self.columns["unit_id"])


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure, print the table, and write the JSON it was printed from."""
    parser = argparse.ArgumentParser(description="What a routing trace costs.")
    parser.add_argument("--quick", action="store_true", help="five repetitions of the small inputs only")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    rows = []
    sys.stdout.write(_line("case", "units", "discard ms", *VARIANTS[1:], "stack us", "units us", "trace us", "noise"))
    for build in _cases(quick=options.quick):
        row = measure(build(device), device, 5 if options.quick else options.repetitions)
        rows.append(row)
        sys.stdout.write(_printed(row))
    record = _machine(device) | {"repetitions": 5 if options.quick else options.repetitions, "rows": rows}
    options.output.mkdir(parents=True, exist_ok=True)
    path: Path = options.output / f"capture-{record['device'].lower().replace(' ', '-')}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{path}\n")
    return path


def _cases(*, quick: bool) -> list[Callable[[torch.device], Case]]:
    small = [lambda device: text_case("text", 1, 256, device), lambda device: image_case("image", 4, device)]
    large = [
        lambda device: text_case("text", 4, 512, device),
        lambda device: text_case("text, long context", 1, 2048, device),
        lambda device: image_case("image", 32, device),
    ]
    return small if quick else [*small, *large]


def text_case(name: str, examples: int, length: int, device: torch.device) -> Case:
    """Random tokens for the bundled language model's configuration, with a context that holds them."""
    settings = json.loads((ROOT / "uoe_model" / "training" / "text.json").read_text(encoding="utf-8"))["model"]
    config = UoEConfig(**settings | {"max_position_embeddings": max(length, settings["max_position_embeddings"])})
    torch.manual_seed(0)
    model = UoEForCausalLM(config).to(device).eval()  # type: ignore[arg-type]
    input_ids = torch.randint(2, config.vocab_size, (examples, length), device=device)
    count = examples * length
    start = np.tile(np.arange(length, dtype=np.int32) * 4, examples)
    columns = _unit_columns(config, examples, length) | {
        "modality": text_column(["text"] * count),
        "token_id": input_ids.flatten().cpu().numpy().astype(np.int32),
        "text": text_column(f" w{index % 997}" for index in range(count)),
        "char_start": start,
        "char_end": start + np.int32(4),
        "output_token_id": np.zeros(count, dtype=np.int32),
        "output_text": text_column(f" w{index % 991}" for index in range(count)),
        "output_probability": np.full(count, 0.5, dtype=np.float32),
        "loss": np.full(count, 2.5, dtype=np.float32),
    }
    inputs = {"input_ids": input_ids}
    return Case(name=name, config=config, model=model, inputs=inputs, columns=columns, examples=examples)


def image_case(name: str, examples: int, device: torch.device) -> Case:
    """Random pixels for the bundled image model's configuration."""
    settings = json.loads((ROOT / "uoe_model" / "training" / "image.json").read_text(encoding="utf-8"))
    config = UoEConfig(**settings["model"] | {"num_labels": 10})
    torch.manual_seed(0)
    model = UoEForImageClassification(config).to(device).eval()  # type: ignore[arg-type]
    pixels = torch.randn(examples, config.num_channels, config.image_size, config.image_size, device=device)
    cells = np.tile(np.arange(config.grid_size**2), examples)
    side = config.image_size / config.grid_size
    row, column = cells // config.grid_size, cells % config.grid_size
    columns = _unit_columns(config, examples, config.grid_size**2) | {
        "modality": text_column(["image"] * len(cells)),
        "grid_row": row.astype(np.int16),
        "grid_col": column.astype(np.int16),
        "box_x0": (side * column).astype(np.float32),
        "box_y0": (side * row).astype(np.float32),
        "box_x1": (side * (column + 1)).astype(np.float32),
        "box_y1": (side * (row + 1)).astype(np.float32),
    }
    inputs = {"pixel_values": pixels}
    return Case(name=name, config=config, model=model, inputs=inputs, columns=columns, examples=examples)


def _unit_columns(config: UoEConfig, examples: int, length: int) -> dict[str, Any]:
    """A UnitTable's columns with nothing but ids in them."""
    count = examples * length
    example_id = np.repeat(np.arange(examples, dtype=np.int32), length)
    position = np.tile(np.arange(length, dtype=np.int32), examples)
    nothing = np.full(count, -1, dtype=np.int32)
    no_place = np.full(count, np.nan, dtype=np.float32)
    return {
        "unit_id": np.arange(count, dtype=np.int32),
        "example_id": example_id,
        "patch_id": patch_ids(example_id, position, config.router_config("mlp").patch_len),
        "position": position,
        "token_id": nothing,
        "text": text_column([""] * count),
        "char_start": nothing,
        "char_end": nothing,
        "grid_row": nothing.astype(np.int16),
        "grid_col": nothing.astype(np.int16),
        **{f"box_{edge}": no_place for edge in ("x0", "y0", "x1", "y1")},
        "phase": text_column(["prefill"] * count),
        "is_special": np.zeros(count, dtype=np.bool_),
        "label": text_column([""] * count),
        "output_token_id": nothing,
        "output_text": text_column([""] * count),
        "output_probability": no_place,
        "loss": no_place,
    }


def measure(case: Case, device: torch.device, repetitions: int) -> dict[str, Any]:
    """Time all variants of one case; times in milliseconds, isolated ones in microseconds."""
    record = dict.fromkeys(("revision", "weights_digest", "dtype", "input_digest"), "")
    record |= {
        "source": "uoe",
        "model": case.name,
        "adapter": "bench_capture",
        "device": str(device),
        "backend": "plain",
    }
    fields = record | {"seed": 0, "library_versions": {}, "timings_ms": {}, "notes": {}}

    def forward() -> Any:
        with torch.inference_mode():
            return case.model(**case.inputs)

    def build(decisions: Any) -> RoutingTrace:
        return build_trace(case.config, None, UnitTable(**case.columns), decisions, None, fields)

    calls: dict[str, Callable[[], object]] = {
        "discard": lambda: forward().logits,
        "discard again": lambda: forward().logits,
        "stack": lambda: to_host(forward().decisions),
        "trace": lambda: build(to_host(forward().decisions)),
    }
    output = forward()
    host = to_host(output.decisions)
    trace = build(host)
    failed = [check.name for check in trace.run.self_check if not check.passed]
    if failed or len(trace.units) != case.num_units:
        raise SystemExit(f"{case.name}: the trace does not hold ({', '.join(failed) or 'units'})")
    for call in (*calls.values(), *calls.values(), *calls.values()):
        _seconds(call, device)

    order = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    others = BusyOthers()
    for _ in range(repetitions):
        for index in order.permutation(len(VARIANTS)):
            name = VARIANTS[index]
            seconds[name].append(_seconds(calls[name], device))
    busy = others.cores()
    isolated = {
        "stack": lambda: to_host(output.decisions),
        "units": lambda: UnitTable(**case.columns),
        "trace": lambda: build(host),
    }
    alone = {name: statistics.median(_seconds(call, device) for _ in range(30)) for name, call in isolated.items()}
    base = statistics.median(seconds["discard"])
    return {
        "case": case.name,
        "units": case.num_units,
        "examples": case.examples,
        "sites": len(case.config.site_configs()),
        "assignments": len(trace.assignments),
        "median_ms": {name: 1e3 * statistics.median(values) for name, values in seconds.items()},
        "min_ms": {name: 1e3 * min(values) for name, values in seconds.items()},
        "ratio": {name: _ratio(seconds[name], seconds["discard"]) for name in VARIANTS[1:]},
        "isolated_us": {name: 1e6 * value for name, value in alone.items()},
        "isolated_percent": {name: 100 * value / base for name, value in alone.items()},
        "others_cores": busy,
        "noisy": busy is not None and busy > NOISY,
    }


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call; on a GPU until all of it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _ratio(values: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Median, 10% and 90% quantile of the ratios within each repetition."""
    ratios = np.asarray(values) / np.asarray(base)
    low, median, high = np.quantile(ratios, [0.1, 0.5, 0.9]).tolist()
    return {"median": median, "p10": low, "p90": high}


def _machine(device: torch.device) -> dict[str, Any]:
    """What was measured on, and what was measured."""
    is_cuda = device.type == "cuda"
    return read_machine("torch", "numpy") | {
        "schema": SCHEMA_VERSION,
        "device": torch.cuda.get_device_name(device) if is_cuda else f"cpu {torch.get_num_threads()} threads",
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if is_cuda else None,
    }


def _line(*cells: str) -> str:
    widths = (20, 6, 11, 22, 22, 22, 16, 9, 16, 6)
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() + "\n"


def _printed(row: Mapping[str, Any]) -> str:
    """One case: ratios to `discard` as change in percent (10% and 90% quantile); isolated cost with its share."""
    changes = [
        "{:+.1f}% ({:+.1f}..{:+.1f})".format(*(100 * (row["ratio"][name][key] - 1) for key in ("median", "p10", "p90")))
        for name in VARIANTS[1:]
    ]
    alone = row["isolated_us"]
    shares = row["isolated_percent"]
    return _line(
        row["case"],
        f"{row['units']:,}",
        f"{row['median_ms']['discard']:.2f}",
        *changes,
        f"{alone['stack']:.0f} ({shares['stack']:.2f}%)",
        f"{alone['units']:.0f}",
        f"{alone['trace']:.0f} ({shares['trace']:.2f}%)",
        "noisy" if row["noisy"] else "",
    )


if __name__ == "__main__":
    main()
