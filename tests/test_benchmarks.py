"""The benchmarks run at all, and write records of the documented form; nothing here is a statement about speed."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks import bench_block, bench_model
from tests.benchmarks.blocks.variants import Prepared, Setting, build_blocks
from tests.benchmarks.protocol import measure, saved_bytes

TINY = {"batch": 2, "length": 16, "width": 32, "hidden": 64, "attention_experts": 4, "attention_top_k": 2}
FIELDS = {
    "bench",
    "variant",
    "baseline",
    "config",
    "S",
    "B",
    "dtype",
    "direction",
    "median_ms",
    "min_ms",
    "p90_ms",
    "ratio",
    "ratio_p10",
    "ratio_p90",
    "reps",
    "noisy",
}


@pytest.fixture(autouse=True)
def _no_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine does at best takes seconds to find out."""
    for module in (bench_block, bench_model):
        monkeypatch.setattr(module, "rates", lambda device: {"copy": 1.0})
        monkeypatch.setattr(module, "measure", functools.partial(measure_once, measure))


def measure_once(measure: Any, steps: Any, baseline: str, *, repetitions: int, device: torch.device) -> Any:
    return measure(steps, baseline, repetitions=2, device=device)


def test_a_block_benchmark_writes_a_row_per_variant_and_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [Setting(name="tiny", **TINY), Setting(name="tiny", causal=False, **TINY)]
    cases = [(setting, torch.float32) for setting in both] + [(both[0], torch.bfloat16)]
    monkeypatch.setattr(bench_block, "cases", lambda *, quick: cases)
    monkeypatch.setattr(bench_block, "peaks", lambda length, threads: [])
    path = bench_block.main(["--quick", "--device", "cpu", "--threads", "1", "--output", str(tmp_path)])
    record = json.loads(path.read_text())
    assert {"schema", "commit", "cpu", "threads", "torch", "rates", "aa_spread", "gpu", "rows"} <= set(record)
    assert record["gpu"] == "not measured on GPU yet"
    assert all(set(row) >= FIELDS for row in record["rows"])
    released = [row for row in record["rows"] if row["variant"] == "released code"]
    assert len(released) == 2  # forward and both; it is not causal
    ours = [row for row in record["rows"] if row["variant"] == "union"]
    assert [row["dtype"] for row in ours] == ["float32"] * 4 + ["bfloat16"] * 2
    assert all(row["max_err"] < 1e-4 for row in ours[:4])
    assert bench_block._compared(record, record).count("->") == len(record["rows"])


def test_a_model_benchmark_writes_models_routers_and_growth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_model, "LAYERS", 1)
    path = bench_model.main(["--quick", "--device", "cpu", "--threads", "1", "--output", str(tmp_path)])
    rows = json.loads(path.read_text())["rows"]
    assert [row["S"] for row in rows if row["bench"] == "growth" and row["variant"] == "union"] == [64, 128, 256]
    assert all(set(row) >= FIELDS for row in rows)


@pytest.mark.parametrize(
    "setting",
    [
        Setting(name="tiny", **TINY),
        Setting(name="tiny", capacity_factor=None, gate_keys=True, **TINY),
        Setting(name="tiny", causal=False, gate_keys=True, capacity_factor=0.5, **TINY),
    ],
)
@torch.no_grad()
def test_the_loop_that_is_raced_computes_what_our_block_does(setting: Setting) -> None:
    blocks = build_blocks(setting)
    x = torch.randn(2, 16, 32, dtype=torch.float64)
    given = Prepared(setting, torch.device("cpu"), torch.float64)
    ours, loop = (blocks[name].double()(x, given) for name in ("union", "union, expert by expert"))
    torch.testing.assert_close(ours, loop, rtol=0, atol=1e-9)


@torch.no_grad()
def test_both_dense_blocks_compute_the_same() -> None:
    setting = Setting(name="tiny", **TINY)
    blocks = build_blocks(setting)
    fused, scores = blocks["dense"], blocks["dense, scores in memory"]
    scores.load_state_dict(fused.state_dict())
    x, given = torch.randn(2, 16, 32), Prepared(setting, torch.device("cpu"), torch.float32)
    torch.testing.assert_close(fused(x, given), scores(x, given), rtol=0, atol=1e-5)


def test_saved_bytes_count_storages_once_and_no_parameters() -> None:
    linear = torch.nn.Linear(4, 4, bias=False)
    x = torch.randn(3, 4, requires_grad=True)
    assert saved_bytes(lambda: linear(x) * linear(x).exp(), linear) == 3 * 4 * 4 * 3  # x, and both factors
