"""The folder that a training leaves behind: weights in half precision, processor, initial routers, settings."""

import json
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from uoe_model.replacements import UNTRAINED_ROUTERS
from uoe_model.training.settings import Training

if TYPE_CHECKING:
    from uoe_model.training.tasks import Task

TRAINING_CONFIG: Final = "training_config.json"
TRAINING_RUN: Final = "training_run.json"


def export_model(
    model: PreTrainedModel, task: "Task", settings: Training, output: Path, *, step: int, seconds: float
) -> Path:
    """Write OUTPUT/final, replacing what an earlier milestone wrote there.

    The configuration keeps dtype float32, so that `from_pretrained` computes in float32 whatever is stored.
    """
    folder = output / "final"
    folder.mkdir(parents=True, exist_ok=True)
    dtype: torch.dtype = getattr(torch, settings.weights_dtype)
    model.save_pretrained(folder, state_dict=_cast(model, dtype))
    task.save_processor(folder)
    shutil.copyfile(output / UNTRAINED_ROUTERS, folder / UNTRAINED_ROUTERS)
    settings.save(folder / TRAINING_CONFIG)
    run = {
        "steps": step,
        "seconds": round(seconds, 1),
        "device": str(model.device),
        "processor": _processor_name(model.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    (folder / TRAINING_RUN).write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    return folder


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, Tensor]:
    cast: dict[tuple[int, torch.Size], Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if value.is_floating_point():  # weights that are tied stay one tensor
            value = cast.setdefault((value.data_ptr(), value.shape), value.to(dtype))
        state[name] = value
    return state


def _processor_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} logical cores" if names else platform.machine()
