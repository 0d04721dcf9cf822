"""Which implementation of the experts runs. The only file that asks what hardware is there."""

from typing import Final, Literal

import torch

from uoe_model.kernels.plain_attention import AttentionRows, HeadShape, Rotation, expert_attention, project_slots
from uoe_model.kernels.plain_mlp import activate, expert_mlp
from uoe_model.kernels.plain_rows import compute_dtype, weighted_sum

__all__ = [
    "BACKEND",
    "AttentionRows",
    "Backend",
    "HeadShape",
    "Rotation",
    "activate",
    "compute_dtype",
    "expert_attention",
    "expert_mlp",
    "pick_device",
    "project_slots",
    "weighted_sum",
]

Backend = Literal["plain"]

BACKEND: Final[Backend] = "plain"
"""Plain PyTorch, on every device."""


def pick_device(wanted: str = "auto") -> torch.device:
    """The device to run on: `auto` is the first CUDA GPU, else the CPU (Apple GPUs lack the float64 of positions)."""
    if wanted != "auto":
        return torch.device(wanted)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
