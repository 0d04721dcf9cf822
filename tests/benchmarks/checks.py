"""What is raced computes the right thing: differences from slow loops in float64, found before anything is timed."""

import copy
import dataclasses

import torch
from torch import Tensor

from tests.benchmarks.blocks.backends import Backend
from tests.benchmarks.blocks.sublayers import SUBLAYERS, ExpertWeights, Routing, loop_sublayer, route
from tests.benchmarks.blocks.variants import LoopBlock, Prepared, Setting, UnionBlock, draw_weights

SHORT = {"batch": 2, "length": 48}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """From the float64 loop: the largest of all numbers, and the median over units of their largest.

    In bfloat16 a unit whose two best experts are nearly tied may be sent elsewhere: the median does not see those few.
    """

    largest: float
    median: float


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
    weights, rows = ExpertWeights(short).to(device, dtype), route(short, kind, device, dtype)
    x_ND = _input(4, short).to(device, dtype)
    return _difference(SUBLAYERS[name](x_ND, weights, rows), loop_sublayer(x_ND, weights, rows))


def _input(seed: int, setting: Setting) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(setting.batch * setting.length, setting.width, generator=generator)


def _difference(found: Tensor, expected: Tensor) -> Difference:
    of_units = (found.double().cpu() - expected.cpu()).abs().flatten(0, -2).amax(-1)
    return Difference(largest=float(of_units.max()), median=float(of_units.median()))
