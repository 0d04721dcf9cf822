"""What `bench_gpu` races, in order of importance, so that what does not fit into the time matters least."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

import torch
from torch import nn

from tests.benchmarks.bench_block import BASELINE, CONTROL, OURS, TRITON
from tests.benchmarks.blocks.deepseek import DeepseekBlock
from tests.benchmarks.blocks.sublayers import Routing
from tests.benchmarks.blocks.variants import DenseBlock, RoutedMLPBlock, Setting, UnionBlock, draw_weights

Direction = Literal["forward", "both"]

LENGTHS: Final = (4096, 1024, 256, 8192, 64, 512, 2048, 128, 16_384, 32_768)
FLOAT32_LENGTHS: Final = (4096, 1024, 256)
COUNTED_LENGTHS: Final = (256, 4096)
"""Kernels are counted here only: a profile takes half a second, and counts hardly change with the length."""

GRAPHED_LENGTHS: Final = (64, 256, 1024, 4096)
MOST_UNITS: Final = 32_768
SCORES, ROUTED, ROUTED_TRITON = "dense, scores in memory", "dense attention, routed MLP", "routed MLP, Triton"
COMPILED: Final = "dense, compiled"
DEEPSEEK, DEEPSEEK_SCORES = "DeepSeek-V3-style", "DeepSeek-V3-style, scores in memory"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BlockCase:
    """All blocks in one setting.

    Attributes:
        counted: whether kernels are counted too. compiled: whether the dense block is also raced compiled, with its
            rotary embedding and norms fused; compiling takes longer than everything else of a case.
    """

    setting: Setting
    dtype: torch.dtype
    direction: Direction
    counted: bool = False
    compiled: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SublayerCase:
    """All forms of the MLP alone."""

    setting: Setting
    dtype: torch.dtype
    direction: Direction
    routing: Routing


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything one run measures. `checked`: settings whose results are compared with float64 loops beforehand."""

    checked: tuple[tuple[Setting, torch.dtype], ...]
    blocks: tuple[BlockCase, ...]
    sublayers: tuple[SublayerCase, ...]
    graphs: tuple[Setting, ...]
    graph_dtype: torch.dtype
    captures: tuple[tuple[int, int], ...]  # examples and length
    capture_repetitions: int


def paper_setting(length: int, top_k: int) -> Setting:
    """D 1024, F 4096, 16 experts of attention and MLP, causal, capacity 1; batch 8, or less where inputs are long."""
    return Setting(
        name=f"paper scale, top-{top_k}",
        batch=min(8, MOST_UNITS // length),
        length=length,
        width=1024,
        hidden=4096,
        attention_experts=16,
        attention_top_k=top_k,
        mlp_experts=16,
        mlp_top_k=top_k,
    )


def build_plan(*, quick: bool) -> Plan:
    """The default set, or its heart: top-4, S 4096 and 256."""
    half, top_ks, lengths = torch.bfloat16, (4,) if quick else (4, 8), COUNTED_LENGTHS if quick else LENGTHS
    kinds: list[tuple[int, int, torch.dtype]] = [(length, k, half) for length in lengths for k in top_ks]
    if not quick:
        kinds += [(length, 4, torch.float32) for length in FLOAT32_LENGTHS]
    blocks = [
        BlockCase(
            setting=paper_setting(length, k),
            dtype=dtype,
            direction=direction,
            counted=length in COUNTED_LENGTHS and dtype == half,
            compiled=length in COUNTED_LENGTHS and dtype == half and k == 4 and not quick,
        )
        for length, k, dtype in kinds
        for direction in ("forward", "both")
    ]
    sublayers = [
        SublayerCase(setting=paper_setting(length, k), dtype=half, direction=direction, routing=routing)
        for length in ((1024,) if quick else (1024, 4096))
        for k in top_ks
        for routing in (("even",) if quick else ("even", "random"))
        for direction in ("forward", "both")
    ]
    return Plan(
        checked=tuple((paper_setting(4096, k), dtype) for dtype in (torch.float32, half) for k in top_ks),
        blocks=tuple(blocks),
        sublayers=tuple(sublayers),
        graphs=tuple(paper_setting(length, 4) for length in (COUNTED_LENGTHS if quick else GRAPHED_LENGTHS)),
        graph_dtype=half,
        captures=((1, 256),) if quick else ((1, 256), (4, 512)),
        capture_repetitions=5 if quick else 20,
    )


def build_tiny_plan(dtype: torch.dtype) -> Plan:
    """Everything once, so small that a CPU proves in seconds that all of it runs."""
    setting = Setting(
        name="tiny", batch=2, length=32, width=64, hidden=128, attention_experts=4, attention_top_k=2, mlp_experts=4
    )
    return Plan(
        checked=((setting, dtype),),
        blocks=tuple(
            BlockCase(setting=setting, dtype=dtype, direction=direction, counted=True)
            for direction in ("forward", "both")
        ),
        sublayers=tuple(
            SublayerCase(setting=setting, dtype=dtype, direction=direction, routing=routing)
            for routing in ("even", "random")
            for direction in ("forward", "both")
        ),
        graphs=(setting,),
        graph_dtype=dtype,
        captures=((1, 16),),
        capture_repetitions=1,
    )


RACED: Final[Mapping[str, Callable[[Setting], nn.Module]]] = {
    BASELINE: DenseBlock,
    CONTROL: DenseBlock,
    SCORES: lambda setting: DenseBlock(setting, "materialised"),
    ROUTED: RoutedMLPBlock,
    ROUTED_TRITON: lambda setting: RoutedMLPBlock(setting, "triton"),
    OURS: UnionBlock,
    TRITON: lambda setting: UnionBlock(setting, "triton"),
    DEEPSEEK: lambda setting: DeepseekBlock(setting, "sdpa"),
    DEEPSEEK_SCORES: lambda setting: DeepseekBlock(setting, "eager"),
}
"""Every block by the name of its variant, the baseline twice."""

MAKERS: Final = {**RACED, COMPILED: lambda setting: torch.compile(DenseBlock(setting), dynamic=False)}


def build_raced_blocks(
    setting: Setting, device: torch.device, dtype: torch.dtype, names: Iterable[str] = RACED
) -> dict[str, nn.Module]:
    """Blocks with random weights of their own."""
    torch.manual_seed(0)
    blocks = {}
    for name in names:
        with torch.device(device):
            block = MAKERS[name](setting)
            draw_weights(block)
        blocks[name] = block.to(device, dtype)
    return blocks
