"""Compile every kernel, as the model launches it, for GPUs that are not there.

    python -m tests.uoe_model.kernels.compile_all

Blocks are run forward and backward on CPU tensors, and every launch is compiled instead of executed: with the argument
types, tile sizes and options it would have on a GPU. That nothing is computed does not stop them, which shows that
nothing between the first launch and the last waits for a number from the device. Prints one line per compiled kernel
and target, and fails with the first that does not compile.
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

os.environ.pop("TRITON_INTERPRET", None)  # read when kernels are decorated

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from uoe_model.config import UoEConfig
from uoe_model.kernels import backend
from uoe_model.layout import build_layout
from uoe_model.modeling import UoEModel

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
BINARY = {"cuda": "cubin", "hip": "hsaco"}
TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.bool: "*i1",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


def signature_of(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def is_aligned(value: object) -> bool:
    """What a launch tells the compiler of its arguments: multiples of 16, and addresses that are."""
    number = value.data_ptr() if isinstance(value, torch.Tensor) else value
    return isinstance(number, int) and number % 16 == 0


class Recorder:
    """Compiles launches, each different one once per target."""

    def __init__(self, targets: dict[str, GPUTarget]) -> None:
        self.targets, self.seen = targets, set[object]()
        self.lines: list[str] = []

    def launch(self, kernel: JITFunction, *values: Any, grid: Any = None, warmup: bool = False, **named: Any) -> None:
        del grid, warmup
        options = {name: named.pop(name) for name in ("num_warps", "num_stages") if name in named}
        bound = inspect.signature(kernel.fn).bind(*values, **named).arguments
        constant = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
        constant |= {name for name in bound if type(bound[name]) is int and bound[name] == 1}
        signature = {name: "constexpr" if name in constant else signature_of(bound[name]) for name in bound}
        constants = {name: bound[name] for name in bound if name in constant}
        aligned = [i for i, name in enumerate(bound) if name not in constant and is_aligned(bound[name])]
        key = (kernel.__name__, *signature.items(), *constants.items(), *options.items(), *aligned)
        if key in self.seen:
            return
        self.seen.add(key)
        for name, target in self.targets.items():
            hints = {(i,): [["tt.divisibility", 16]] for i in aligned}
            source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=hints)
            built = triton.compile(source, target=target, options=options)
            size = len(built.asm[BINARY[target.backend]])
            shared = built.metadata.shared
            self.lines.append(f"{name} {kernel.__name__} {shared}")
            assert size > 0


@contextmanager
def recording(targets: dict[str, GPUTarget]) -> Iterator[Recorder]:
    recorder = Recorder(targets)

    def run(self: JITFunction, *values: Any, **named: Any) -> None:
        recorder.launch(self, *values, **named)

    with (
        mock.patch.object(JITFunction, "run", run),
        mock.patch.object(backend, "_is_interpreted", return_value=True),
        backend.use_backend("triton"),
    ):
        yield recorder


def forward_and_backward(dtype: torch.dtype, *, causal: bool, **changes: Any) -> None:
    """A block of the size that the benchmarks use, on an input that nothing computes with."""
    router = {
        "num_experts": 8,
        "num_experts_per_tok": 4,
        "admission": "position" if causal else "score",
        "gate_keys": True,
        **changes.pop("router", {}),
    }
    mlp_router = {name: value for name, value in router.items() if name != "gate_keys"}
    config = UoEConfig(
        vocab_size=8,
        hidden_size=512,
        num_hidden_layers=1,
        num_attention_heads=8,
        intermediate_size=2048,
        is_causal=causal,
        max_position_embeddings=1024,
        attention_router=router,
        mlp_router=mlp_router,
        **changes,
    )
    model = UoEModel(config).to(dtype)
    layout = build_layout(torch.ones(2, 512, dtype=torch.bool), 1)
    x = torch.zeros(1024, 512, dtype=dtype, requires_grad=True)
    out, _, _ = model.blocks[0](x, layout, model.rotation(layout, dtype), None, None)
    out.backward(torch.zeros_like(out))


def causal(dtype: torch.dtype) -> None:
    """Rotary, admission by position."""
    forward_and_backward(dtype, causal=True)


def looking_ahead(dtype: torch.dtype) -> None:
    """SwiGLU, learned positions, admission by score."""
    forward_and_backward(dtype, causal=False, hidden_act="swiglu", position_embedding="learned")


def rarer(dtype: torch.dtype) -> None:
    """Other gates, activations and ways to decide."""
    forward_and_backward(dtype, causal=True, hidden_act="gelu_tanh", router={"gate": "one"})
    forward_and_backward(dtype, causal=False, router={"gate": "probability", "capacity_factor": None})
    forward_and_backward(dtype, causal=False, router={"selection": "expert_choice", "gate_keys": False})


PLAN: list[tuple[Callable[[torch.dtype], None], torch.dtype, tuple[str, ...]]] = [
    (causal, torch.bfloat16, ("sm_80", "sm_90", "gfx942")),
    (looking_ahead, torch.bfloat16, ("sm_80", "sm_90", "gfx942")),
    (causal, torch.float32, ("sm_80", "sm_90", "gfx942")),
    (looking_ahead, torch.float16, ("sm_90",)),
    (rarer, torch.bfloat16, ("sm_90",)),
]


def main() -> None:
    """Every kernel for every target in bfloat16 and float32; what differs in detail for one."""
    for case, dtype, targets in PLAN:
        with recording({name: TARGETS[name] for name in targets}) as recorder:
            case(dtype)
        for line in recorder.lines:
            sys.stdout.write(f"{line} {str(dtype).removeprefix('torch.')}\n")


if __name__ == "__main__":
    main()
