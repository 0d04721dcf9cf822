"""Muon for weight matrices and stacks of them, and AdamW for everything else, as one optimizer.

torch.optim.Muon takes single matrices only; the experts' weights are stacks (experts, rows, columns).
"""

import math
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor

_NEWTON_SCHULZ: Final = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration in Muon (K. Jordan et al., 2024)."""


@torch.no_grad()
def orthogonalised(update: Tensor, iterations: int = 5) -> Tensor:
    """Bring all singular values of each matrix (..., rows, columns) close to 1."""
    tall = update.shape[-2] > update.shape[-1]
    x: Tensor = update.mT if tall else update
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum, scaled so that AdamW's learning rates fit (arXiv 2502.16982, section 2.2).

    Convolution kernels count as matrices of (output channels, everything else).
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update with Nesterov momentum."""
        del closure
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(state["momentum"], group["momentum"])
                update = orthogonalised(update.flatten(1) if update.ndim == 4 else update)
                scale = 0.2 * math.sqrt(max(update.shape[-2:]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)


class MuonWithAdamW:
    """Two optimizers that step together; `param_groups` and `state_dict` hold both."""

    def __init__(self, muon: Muon, adamw: torch.optim.AdamW) -> None:
        self._parts = {"muon": muon, "adamw": adamw}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both."""
        return [group for part in self._parts.values() for group in part.param_groups]

    def step(self) -> None:
        """Update all parameters."""
        for part in self._parts.values():
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for part in self._parts.values():
            part.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
