"""Every kernel compiles for two NVIDIA architectures and an AMD one, on a machine without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

KERNELS = {
    "_attend_kernel",
    "_choose_backward_kernel",
    "_choose_kernel",
    "_combine_kernel",
    "_expert_product_kernel",
    "_gate_heads_kernel",
    "_hidden_gradient_kernel",
    "_key_gradient_kernel",
    "_place_kernel",
    "_query_gradient_kernel",
    "_rotate_back_kernel",
    "_weight_gradient_kernel",
}
SHARED_BYTES = {"sm_80": 163 << 10, "sm_90": 227 << 10, "gfx942": 64 << 10}
"""What one program may take: NVIDIA's CUDA programming guide, compute capabilities; AMD's guide to CDNA 3."""


@pytest.mark.slow
def test_every_kernel_compiles_for_gpus_that_are_not_there(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.uoe_model.kernels.compile_all"],
        cwd=ROOT,
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    built: dict[tuple[str, str], set[str]] = {}
    for line in done.stdout.splitlines():
        target, kernel, shared, dtype = line.split()
        built.setdefault((target, dtype), set()).add(kernel)
        assert int(shared) <= SHARED_BYTES[target], line
    for target in SHARED_BYTES:
        for dtype in ("bfloat16", "float32"):
            assert built[target, dtype] == KERNELS
    assert KERNELS - built["sm_90", "float16"] == {"_rotate_back_kernel"}  # positions are learned there
