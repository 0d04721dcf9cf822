"""Checkpoints of a running training: written whole or not at all, read without unpickling, the newest few kept."""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from uoe_model.errors import CheckpointError

_NAME = re.compile(r"step_(\d{8})\.pt")


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, ascending."""
    if not folder.is_dir():
        return []
    matches = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in matches if match)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return folder / f"step_{step:08d}.pt"


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write the state of a training after `step` steps; an interrupted write leaves the earlier ones intact."""
    folder.mkdir(parents=True, exist_ok=True)
    path = checkpoint_path(folder, step)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return path


def prune_checkpoints(folder: Path, *, keep: int, milestones: Collection[int]) -> None:
    """Remove all but the newest `keep` checkpoints and those of the milestones."""
    for step in checkpoint_steps(folder)[:-keep]:
        if step not in milestones:
            checkpoint_path(folder, step).unlink()


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Read the newest checkpoint.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    steps = checkpoint_steps(folder)
    if not steps:
        raise CheckpointError(f"{folder}: no checkpoint to resume from; start without --resume")
    path = checkpoint_path(folder, steps[-1])
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the broken part of the file happens to trigger
        raise CheckpointError(f"{path}: cannot be read ({error}); remove it to resume from the one before") from error
    return state
