"""What is raced on a GPU computes the right thing on a CPU, and its command runs; nothing here is about speed."""

import functools
import json
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import DeviceType

from analysis.scaling import VARIANTS
from tests.benchmarks import bench_gpu, bench_model, gpu_sections, protocol
from tests.benchmarks.bench_block import TRITON
from tests.benchmarks.blocks import sublayers
from tests.benchmarks.blocks.deepseek import DeepseekBlock, expert_hidden
from tests.benchmarks.blocks.sublayers import SUBLAYERS, ExpertWeights, loop_sublayer, route, sort_rows
from tests.benchmarks.blocks.variants import LoopBlock, Prepared, RoutedMLPBlock, Setting, UnionBlock, draw_weights
from tests.benchmarks.checks import check_block, check_sublayer
from tests.benchmarks.device_counts import NEEDS_CUDA, count, counts_of, peak_bytes, record_graph, why_it_waits
from tests.benchmarks.floor import (
    Device,
    dense_phases,
    expert_flops,
    routed_mlp_phases,
    sublayer_phases,
    union_phases,
)
from tests.benchmarks.gpu_cases import RACED, ROUTED, build_plan, build_raced_blocks, paper_setting
from tests.benchmarks.gpu_tables import printed, row_line, target_lines
from tests.benchmarks.protocol import attempt, rotating, runnable

CPU = torch.device("cpu")
H200 = Device(flops=790e12, bandwidth=4.3e12, number_bytes=2)
TINY = Setting(
    name="tiny", batch=2, length=32, width=64, hidden=128, attention_experts=4, attention_top_k=2, mlp_experts=4
)


def test_the_floor_is_that_of_the_design() -> None:
    floors = {k: sum(union_phases(paper_setting(4096, k), H200).values()) for k in (4, 8)}
    assert floors[4] == pytest.approx(0.62, rel=0.02)
    assert floors[8] == pytest.approx(1.16, rel=0.02)
    assert sum(dense_phases(paper_setting(4096, 4), H200).values()) == pytest.approx(1.76, rel=0.02)


def test_the_phases_are_those_of_the_design() -> None:
    phases = union_phases(paper_setting(4096, 4), H200)
    expected = [31, 16, 74, 36, 66, 109, 16, 87, 87, 94]  # microseconds
    assert [1e3 * value for value in phases.values()] == pytest.approx(expected, abs=0.6)


def test_fewer_rows_lower_the_floor_and_a_sublayer_has_no_residual() -> None:
    setting = paper_setting(4096, 4)
    rows = setting.batch * setting.length * 4
    whole = routed_mlp_phases(setting, H200)
    assert routed_mlp_phases(setting, H200, rows) == whole
    assert sum(routed_mlp_phases(setting, H200, rows // 2).values()) < sum(whole.values())
    assert sublayer_phases(setting, H200, rows)["combine"] < whole["combine"]
    assert expert_flops(setting, rows) == pytest.approx(137e9, rel=0.01)


@pytest.mark.parametrize("routing", ["even", "random"])
@pytest.mark.parametrize("name", SUBLAYERS)
def test_every_form_of_the_mlp_computes_what_a_loop_does(name: str, routing: Any) -> None:
    found = check_sublayer(name, TINY, routing, CPU, torch.float32)
    assert found.largest < 1e-5


@pytest.mark.parametrize("name", SUBLAYERS)
def test_every_form_of_the_mlp_has_the_gradients_of_the_loop(name: str) -> None:
    gradient = torch.randn(TINY.batch * TINY.length, TINY.width)
    found, expected = (_gradients(form, gradient) for form in (SUBLAYERS[name], loop_sublayer))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-5)


def _gradients(form: Any, gradient: Tensor) -> list[Tensor]:
    torch.manual_seed(0)
    weights, rows = ExpertWeights(TINY), route(TINY, "random", CPU)
    x_ND = torch.randn(TINY.batch * TINY.length, TINY.width, requires_grad=True)
    out = form(x_ND, weights, rows)
    return list(torch.autograd.grad(out, [x_ND, weights.w1, weights.w2, rows.gate_NK], gradient.to(out.dtype)))


def test_even_routing_loads_all_experts_alike_and_random_routing_drops() -> None:
    even, random = (route(TINY, kind, CPU) for kind in ("even", "random"))
    per_expert = TINY.batch * TINY.length * TINY.mlp_top_k // TINY.mlp_experts
    assert even.sorted.end_E.diff().tolist() == [per_expert] * (TINY.mlp_experts - 1)
    assert all(len(set(row)) == TINY.mlp_top_k for row in even.decision.expert_NK.tolist())
    assert 0 < random.kept_rows < even.kept_rows == random.decision.kept_NK.numel()
    assert sort_rows(random.decision, TINY.mlp_experts).order_R.shape[0] == even.kept_rows


@torch.no_grad()
def test_a_deepseek_block_computes_the_same_with_either_attention_and_with_a_loop_over_experts() -> None:
    fused, scores = DeepseekBlock(TINY, "sdpa"), DeepseekBlock(TINY, "eager")
    draw_weights(fused)
    scores.load_state_dict(fused.state_dict())
    scores.layer.mlp.experts.config._experts_implementation = "eager"
    assert fused.layer.mlp.experts.config._experts_implementation == "grouped_mm"
    x, given = torch.randn(2, 32, 64), Prepared(TINY, CPU, torch.float32)
    torch.testing.assert_close(fused(x, given), scores(x, given), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_deepseek_block_is_causal(attention: Any) -> None:
    block, given = DeepseekBlock(TINY, attention), Prepared(TINY, CPU, torch.float32)
    draw_weights(block)
    x = torch.randn(2, 32, 64)
    changed = x.clone()
    changed[:, 20:] += 1
    difference = (block(x, given) - block(changed, given)).abs().amax((0, 2))
    assert difference[:20].max() < 1e-5 < difference[20:].min()


@pytest.mark.parametrize("top_k", [4, 8])
def test_a_deepseek_block_has_the_active_multiply_adds_of_our_mlp(top_k: int) -> None:
    setting = paper_setting(64, top_k)
    with torch.device("meta"):
        mlp = DeepseekBlock(setting, "sdpa").layer.mlp
        ours = UnionBlock(setting).block.mlp
    experts = mlp.experts.gate_up_proj[0].numel() + mlp.experts.down_proj[0].numel()
    theirs = top_k * experts + sum(parameter.numel() for parameter in mlp.shared_experts.parameters())
    assert theirs == pytest.approx(top_k * (ours.w1[0].numel() + ours.w2[0].numel()), rel=0.005)
    assert expert_hidden(setting) == {4: 136, 8: 152}[top_k]


@torch.no_grad()
def test_the_block_with_a_routed_mlp_computes_attention_then_the_loop_over_experts() -> None:
    union, routed = UnionBlock(TINY), RoutedMLPBlock(TINY)
    draw_weights(union)
    routed.mlp = union.block.mlp
    x, given = torch.randn(2, 32, 64), Prepared(TINY, CPU, torch.float32)
    between = x + routed.attention(routed.norms[0](x), given.grid_rotation)
    expected = between + LoopBlock(union)._mlp(routed.norms[1](between).flatten(0, 1), given).view_as(x)
    torch.testing.assert_close(routed(x, given), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_blocks_on_triton_compute_what_they_do_in_plain_pytorch() -> None:
    assert check_block(TINY, CPU, torch.float32, "triton").largest < 1e-5
    given, x = Prepared(TINY, CPU, torch.float32), torch.randn(2, 32, 64)
    names = [name for name in RACED if "Triton" in name]
    found = build_raced_blocks(TINY, CPU, torch.float32, names)
    expected = build_raced_blocks(TINY, CPU, torch.float32, ["union" if name == TRITON else ROUTED for name in names])
    assert len(found) == len(expected) == 2
    for (name, block), plain in zip(found.items(), expected.values(), strict=True):
        plain.load_state_dict(block.state_dict())
        torch.testing.assert_close(block(x, given), plain(x, given), rtol=0, atol=1e-5, msg=name)


def test_the_products_alone_that_are_timed_are_those_of_the_experts() -> None:
    rows, weights = route(TINY, "even", CPU), ExpertWeights(TINY)
    steps = sublayers.products(TINY, rows, weights)
    (padded, _), (grouped, _), (ragged, _) = (step() for step in steps.values())
    assert ragged.shape == grouped.shape == (rows.kept_rows, TINY.hidden // TINY.mlp_experts)
    torch.testing.assert_close(ragged, grouped, rtol=0, atol=1e-4)
    torch.testing.assert_close(padded.flatten(0, 1), grouped, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_our_block_passes_its_check_and_a_wrong_one_does_not(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_block(TINY, CPU, dtype, "plain").is_right(dtype)
    right = UnionBlock.forward
    monkeypatch.setattr(UnionBlock, "forward", lambda self, x, given: right(self, x, given) * 1.2)
    assert not check_block(TINY, CPU, dtype, "plain").is_right(dtype)


def test_raced_blocks_have_finite_outputs_and_gradients() -> None:
    given, x = Prepared(TINY, CPU, torch.float32), torch.randn(2, 32, 64)
    names = [name for name in RACED if "Triton" not in name]
    for name, block in build_raced_blocks(TINY, CPU, torch.float32, names).items():
        block(x, given).sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in block.parameters() if parameter.grad is not None), (
            name
        )


def test_the_default_plan_begins_with_what_matters_most_and_bounds_its_tokens() -> None:
    plan, quick = build_plan(quick=False), build_plan(quick=True)
    first = plan.blocks[0]
    assert (first.setting.name, first.setting.length, first.direction) == ("paper scale, top-4", 4096, "forward")
    assert {case.setting.length for case in plan.blocks} == {2**power for power in range(6, 16)}
    assert all(case.setting.batch * case.setting.length <= 32_768 for case in plan.blocks)
    assert len(quick.blocks) < len(plan.blocks) / 5


def test_a_profile_is_summed_up() -> None:
    def event(name: str, kind: DeviceType, microseconds: float = 1.0, *, mark: bool = False) -> Any:
        times = types.SimpleNamespace(elapsed_us=lambda: microseconds)
        return types.SimpleNamespace(name=name, device_type=kind, time_range=times, is_user_annotation=mark)

    found = counts_of(
        [
            event("aten::mm", DeviceType.CPU),
            event("cudaStreamSynchronize", DeviceType.CPU),
            event("cudaDeviceSynchronize", DeviceType.CPU),
            event("gemm", DeviceType.CUDA, 5),
            event("gemm", DeviceType.CUDA, 6),
            event("combine", DeviceType.CUDA, 2),
            event("a range", DeviceType.CUDA, 99, mark=True),
            event("Memcpy DtoH (Device -> Pinned)", DeviceType.CUDA),
            event("Memcpy DtoD (Device -> Device)", DeviceType.CUDA),
            event("Memset (Device)", DeviceType.CUDA),
        ]
    )
    assert (found.kernels, found.copies_to_host, found.waits) == (3, 1, 1)
    assert list(found.kernel_us.items()) == [("gemm", 11), ("combine", 2)]


def test_nothing_is_counted_without_a_device() -> None:
    def step() -> None: ...

    assert count(step, CPU) is peak_bytes(step, CPU) is why_it_waits(step, CPU) is None
    assert record_graph(step, CPU) == (None, NEEDS_CUDA)


def test_what_fails_is_recorded_and_the_rest_still_runs() -> None:
    def too_large() -> None:
        raise torch.OutOfMemoryError("many words")

    def wrong() -> None:
        raise ValueError("first line\nsecond line")

    steps, failed = runnable({"fine": lambda: None, "large": too_large, "wrong": wrong}, CPU)
    assert list(steps) == ["fine"]
    assert failed == {"large": "out of memory", "wrong": "ValueError: first line"}
    assert attempt(lambda: 3, CPU) == (3, None)


def test_inputs_rotate() -> None:
    following = rotating(lambda seed: torch.full((1,), float(seed)), CPU)
    assert [float(following()) for _ in range(2)] == [1, 1]  # one is enough on a CPU


def test_a_sample_on_a_gpu_is_twenty_calls_or_as_many_as_take_as_long() -> None:
    calls = functools.partial(protocol._calls_of_a_sample, device=torch.device("cuda"))
    assert [calls(seconds) for seconds in (1e-4, 2e-3, 0.5)] == [20, 10, 1]


@torch.no_grad()
def test_the_compiled_block_is_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda block, dynamic: block)
    dense, compiled = build_raced_blocks(TINY, CPU, torch.float32, ("dense", "dense, compiled")).values()
    compiled.load_state_dict(dense.state_dict())
    x, given = torch.randn(2, 32, 64), Prepared(TINY, CPU, torch.float32)
    torch.testing.assert_close(compiled(x, given), dense(x, given))


def test_growth_on_a_gpu_has_every_variant_that_the_figure_knows() -> None:
    assert tuple(bench_model._kinds(torch.device("cuda"))) == VARIANTS
    assert tuple(bench_model._kinds(CPU)) == VARIANTS[:2]


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two repetitions, and no search for what the machine does at best."""
    samples = functools.partial(protocol.take_samples, repetitions=2)
    monkeypatch.setattr(gpu_sections, "take_samples", samples)
    monkeypatch.setattr(bench_gpu, "rates", lambda device: {"matmul_f32": 1.0, "matmul_bf16": 1.0, "copy": 1.0})


def test_without_a_gpu_the_command_says_so_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments in ([], ["--quick"], ["--tiny"], ["--device", "cpu"]):
        with pytest.raises(SystemExit) as stopped:
            bench_gpu.main(arguments)
        assert stopped.value.code == 2
        assert capsys.readouterr().err == bench_gpu.NO_DEVICE


@pytest.mark.usefixtures("_short")
def test_a_tiny_run_on_a_cpu_proves_that_all_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)  # it is slow, and how failures are recorded is seen too
    record = bench_gpu.main(["--device", "cpu", "--tiny", "--output", str(tmp_path)])
    assert not record["left_out"]
    failed = {row["variant"] for row in record["rows"] if row.get("failed")}
    assert {"union, Triton", "two products, Triton"} < failed
    assert all("Triton" in name or name == "dense, graph" for name in failed)
    assert {row["bench"] for row in record["rows"]} == {"check", "block", "MLP", "capture", "graph"}
    assert {row["variant"] for row in record["rows"] if row["bench"] == "block"} == set(RACED)
    assert all(row["is_right"] for row in record["rows"] if "is_right" in row)
    text = capsys.readouterr().out
    assert "not measured on GPU yet" in text
    assert " ms" not in text
    written = tmp_path / "gpu-cpu.json"
    assert json.loads(written.read_text()) == json.loads(json.dumps(record))
    assert bench_gpu.main(["--print", str(written)]) == json.loads(written.read_text())
    assert capsys.readouterr().out in text


@pytest.mark.usefixtures("_short")
def test_what_does_not_begin_in_time_is_left_out_by_name_and_a_proof_writes_nothing_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_gpu, "RESULTS", tmp_path / "results")
    record = bench_gpu.main(["--device", "cpu", "--tiny", "--minutes", "1e-9"])
    assert record["rows"] == []
    assert set(record["left_out"].values()) == {"the 1e-09 minutes were over"}
    assert list(tmp_path.iterdir()) == []


def test_a_lost_device_ends_the_run_with_its_record(tmp_path: Path) -> None:
    def lost() -> list[dict[str, Any]]:
        raise protocol.DeviceLostError("illegal address")

    record: dict[str, Any] = {"device": "cpu", "device_type": "cpu", "left_out": {}, "rows": [], "aa_spread": None}
    row = {"bench": "check", "variant": "union"}
    cases = iter([("one", lambda: [row]), ("two", lost), ("three", lambda: [row])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_gpu, "attempt", lambda case, device: (case(), None))
        bench_gpu.run(cases, record, 1, tmp_path)
    assert len(record["rows"]) == 1
    assert list(record["left_out"]) == ["two"]
    assert json.loads((tmp_path / "gpu-cpu.json").read_text())["left_out"] == record["left_out"]


ROW = {
    "bench": "block",
    "variant": "union, Triton",
    "config": "paper scale, top-4",
    "S": 4096,
    "dtype": "bfloat16",
    "direction": "forward",
    "median_ms": 1.0,
    "ratio": 0.45,
    "ratio_p10": 0.44,
    "ratio_p90": 0.46,
    "launches": 30,
    "kernel_us": {"expert_gemm": 80.0},
}


def test_targets_are_met_missed_or_not_measured() -> None:
    capture = {
        "bench": "capture",
        "variant": "stack",
        "copies_forward": 3,
        "copies_captured": 4,
        "isolated_percent": 1.5,
    }
    lines = target_lines([ROW, capture])
    assert "0.450 (must be <= 0.5) met" in lines[0]
    assert "not measured (must be <= 0.5)" in lines[1]
    assert any("30 (must be <= 24) MISSED" in line for line in lines)
    assert any("1 (must be <= 1) met" in line for line in lines)


def test_a_ratio_within_the_spread_of_the_control_is_marked() -> None:
    assert "ratio 0.45 [" in row_line(ROW, 0.02)
    assert "ratio 0.45= [" in row_line(ROW, 0.6)


def test_a_record_of_a_gpu_is_printed_with_times_kernels_and_targets() -> None:
    names = ("device", "torch", "triton", "cuda", "clocks_before", "clocks_after", "rates")
    record = dict.fromkeys(names, "known") | {"gpu": None, "aa_spread": 0.01, "left_out": {"graph": "too late"}}
    text = printed(record | {"rows": [ROW]})
    for part in ("1.000 ms", "80.0  expert_gemm", "left out: graph: too late", "targets\n"):
        assert part in text


@pytest.mark.gpu
def test_everything_runs_on_a_gpu_too() -> None:
    record = bench_gpu.main(["--tiny"])
    assert not record["left_out"]
    assert [row for row in record["rows"] if row.get("failed")] == []
    assert all(row["is_right"] for row in record["rows"] if "is_right" in row)
