"""JSON files of checkpoint folders, read with a limit; needs no torch."""

import json
from pathlib import Path
from typing import Any, Final

from uoe_model.errors import CheckpointError, first_line

DECOMPOSITION: Final = "decomposition.json"
"""Where a decomposed model keeps what it was cut from and what that cost."""

SCOPES: Final = ("both", "attention", "mlp")
"""Whose experts are fewer, in the curve of a decomposed model."""

ROUTES: Final = ("calibrated", "random", "longest")
"""How they are chosen: by the calibrated routers; by random logits; by the true length of every expert's output, which
no router knows."""

MAX_JSON_BYTES: Final = 16 << 20
"""Largest JSON file of a checkpoint folder that is read."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a checkpoint folder.

    Raises:
        CheckpointError: missing, too large, or no JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path.parent.name}/{path.name} is larger than {MAX_JSON_BYTES >> 20} MB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.parent.name} has no {path.name}: choose a folder that save_pretrained wrote."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.parent.name}/{path.name} cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.parent.name}/{path.name} holds no JSON object")
    return content
