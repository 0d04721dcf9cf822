"""Which implementation of the experts runs. The only file that asks what hardware is there."""

from typing import Final, Literal

import torch

from uoe_model.kernels.reference import combine, expert_attention, expert_mlp, gather

__all__ = ["BACKEND", "Backend", "combine", "expert_attention", "expert_mlp", "gather", "pick_device"]

Backend = Literal["plain"]

BACKEND: Final[Backend] = "plain"
"""Plain PyTorch, on every device."""


def pick_device(wanted: str = "auto") -> torch.device:
    """The device to run on: `auto` is the first CUDA GPU, else the CPU (Apple GPUs lack the float64 of positions)."""
    if wanted != "auto":
        return torch.device(wanted)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
