"""What is raced computes the right thing: differences from slow loops in float64, found before anything is timed."""

import copy
import dataclasses
from typing import Final

import torch
from torch import Tensor

from tests.benchmarks.blocks.sublayers import SUBLAYERS, ExpertWeights, Routing, loop_sublayer, route
from tests.benchmarks.blocks.variants import LoopBlock, Prepared, Setting, UnionBlock, draw_weights
from uoe_model.kernels.backend import Backend

SHORT = {"batch": 2, "length": 48}
ALLOWED: Final = {torch.float32: 0.01, torch.bfloat16: 0.1}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """From the float64 loop: the largest of all numbers, and the 90% quantile over units of their largest.

    Both in units of the root mean square of what is expected. In bfloat16 a unit whose last experts are nearly tied
    may be sent elsewhere, which makes `largest` large: the quantile does not see those few.
    """

    largest: float
    p90: float

    def is_right(self, dtype: torch.dtype) -> bool:
        """Whether rounding explains it; float32 may have been multiplied as TF32."""
        return self.p90 <= ALLOWED[dtype]


@torch.no_grad()
def check_block(setting: Setting, device: torch.device, dtype: torch.dtype, backend: Backend) -> Difference:
    """Our block against a loop over experts with the same (rounded) weights, on a short input of this kind."""
    short = dataclasses.replace(setting, **SHORT)
    torch.manual_seed(0)
    union = UnionBlock(short, backend)
    draw_weights(union)
    union.to(dtype)
    x_BTD = _input(2, short).view(SHORT["batch"], SHORT["length"], -1).to(dtype)
    cpu = torch.device("cpu")
    plain = copy.deepcopy(union).double()
    plain.backend = "plain"
    expected = LoopBlock(plain)(x_BTD.double(), Prepared(short, cpu, torch.float64))
    found = union.to(device)(x_BTD.to(device), Prepared(short, device, dtype))
    return _difference(found, expected)


@torch.no_grad()
def check_sublayer(name: str, setting: Setting, kind: Routing, device: torch.device, dtype: torch.dtype) -> Difference:
    """One form of the MLP against a loop over experts, with the same routing, on a short input of this kind."""
    short = dataclasses.replace(setting, **SHORT)
    torch.manual_seed(0)
    weights, rows = ExpertWeights(short).to(device, dtype), route(short, kind, device)
    x_ND = _input(4, short).to(device, dtype)
    return _difference(SUBLAYERS[name](x_ND, weights, rows), loop_sublayer(x_ND, weights, rows))


def _input(seed: int, setting: Setting) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(setting.batch * setting.length, setting.width, generator=generator)


def _difference(found: Tensor, expected: Tensor) -> Difference:
    expected = expected.cpu()
    of_units = (found.double().cpu() - expected).abs().flatten(0, -2).amax(-1) / expected.square().mean().sqrt()
    return Difference(largest=float(of_units.max()), p90=float(of_units.quantile(0.9)))
