"""The optimizer over matrices, other weights and routers; its schedule; and the moving average of weights."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from uoe_model.training.muon import Muon, MuonWithAdamW
from uoe_model.training.settings import Training

_NO_MATRIX: Final = ("router", "norm", "bias", ".b1", ".b_qkv", "position", "classifier", "lm_head")
"""Parts of the names of parameters that are no hidden weight matrices, whatever their shape."""


def is_router(name: str) -> bool:
    """Whether a parameter of this name belongs to a router."""
    return "router" in name


def router_weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all router parameters by name."""
    named = model.named_parameters()
    return {name: parameter.detach().clone().contiguous() for name, parameter in named if is_router(name)}


def _is_hidden_matrix(name: str, parameter: Tensor, embeddings: set[int]) -> bool:
    return parameter.ndim >= 2 and id(parameter) not in embeddings and not any(word in name for word in _NO_MATRIX)


def build_optimizer(model: nn.Module, settings: Training) -> torch.optim.AdamW | MuonWithAdamW:
    """Matrices with weight decay, by Muon or AdamW; the rest and the routers by AdamW without decay.

    Embeddings and classifier heads are left to AdamW in any case; frozen parameters are left out.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    routers: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if is_router(name):
            routers.append(parameter)
        else:
            (matrices if _is_hidden_matrix(name, parameter, embeddings) else plain).append(parameter)
    rest: list[dict[str, Any]] = [
        {"params": plain, "weight_decay": 0.0, "rate_scale": 1.0},
        {"params": routers, "weight_decay": 0.0, "rate_scale": settings.router_learning_rate_scale},
    ]
    rest = [group for group in rest if group["params"]]
    decayed = {"params": matrices, "weight_decay": settings.weight_decay, "rate_scale": 1.0}
    if settings.matrix_optimizer == "adamw":
        return torch.optim.AdamW([decayed, *rest], lr=settings.learning_rate, betas=settings.betas)
    muon = Muon([decayed | {"rate_scale": settings.matrix_learning_rate_scale}], lr=settings.learning_rate)
    return MuonWithAdamW(muon, torch.optim.AdamW(rest, lr=settings.learning_rate, betas=settings.betas))


def learning_rate(settings: Training, step: int) -> float:
    """Rate of the step with this number (0-based): linear warm-up, then a cosine to the final share of the peak."""
    if step < settings.warm_up_steps:
        return settings.learning_rate * (step + 1) / settings.warm_up_steps
    progress = (step - settings.warm_up_steps) / max(1, settings.steps - settings.warm_up_steps)
    floor = settings.final_learning_rate_share
    return settings.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def set_learning_rate(optimizer: torch.optim.Optimizer | MuonWithAdamW, rate: float) -> None:
    """Give every group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_scale"]


class AveragedWeights:
    """Exponential moving average of a model's floating-point state, warmed up so that early weights are forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in _floating_state(model).items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in _floating_state(model).items():
            self.state[name].lerp_(value.detach(), 1 - decay)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a stored average."""
        for name, value in state.items():
            self.state[name].copy_(value)

    @contextlib.contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """The model holds the averaged weights inside the block, and its own again after it."""
        current = _floating_state(model)
        own = {name: value.detach().clone() for name, value in current.items()}
        try:
            _write(current, self.state)
            yield
        finally:
            _write(current, own)


def _floating_state(model: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if value.is_floating_point() and id(value) not in seen:
            seen.add(id(value))
            state[name] = value
    return state


@torch.no_grad()
def _write(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    for name, value in target.items():
        value.copy_(source[name])
