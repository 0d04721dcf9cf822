"""The checkpoints a visitor may choose from: the bundled ones and the folders of `--models`; nothing is loaded here."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Final, Literal

from dashboard.settings import Settings
from uoe_model.errors import CheckpointError

Kind = Literal["text", "image"]

MAX_CONFIG_BYTES: Final = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainedRouting:
    """Routing of one kind of block as trained; `capacity_factor` None: never full."""

    num_experts: int
    top_k: int
    capacity_factor: float | None
    gate: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """One checkpoint, not loaded yet: what its config.json says, which is checked when it is loaded.

    Attributes:
        label: what the visitor picks. context: longest example in tokens (text models).
        stamp: time of the last change of its weights; with the folder it names what is loaded.
    """

    folder: Path
    label: str
    kind: Kind
    num_layers: int
    context: int
    attention: TrainedRouting
    mlp: TrainedRouting
    stamp: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """Checkpoints in the order of the picker, and one sentence for each folder that is none."""

    models: tuple[ModelEntry, ...]
    problems: tuple[str, ...]

    def of_kind(self, kind: Kind) -> tuple[ModelEntry, ...]:
        """Checkpoints for text or for pictures."""
        return tuple(model for model in self.models if model.kind == kind)


def find_models(settings: Settings) -> Catalogue:
    """Look into the folders of the settings."""
    models: list[ModelEntry] = []
    problems = [settings.problem] if settings.problem else []
    chosen, own = settings.models_dir, list[Path]()
    if chosen is not None:
        if (chosen / "config.json").is_file():
            own = [chosen.resolve()]
        elif not chosen.is_dir():
            problems.append(f"{chosen.name} is no folder: give the folder of your checkpoints after --models.")
        elif not (own := _folders(chosen)):
            problems.append(f"{chosen.name} holds no folders: put each checkpoint into a folder of its own there.")
    bundled = _folders(settings.bundled)
    own = [folder for folder in own if folder.resolve() not in bundled]
    taken = {folder.name for folder in bundled}
    for folder in (*bundled, *own):
        is_twin = folder in own and folder.name in taken
        try:
            models.append(read_entry(folder, f"{folder.name} ({folder.parent.name})" if is_twin else folder.name))
        except CheckpointError as error:
            problems.append(str(error))
    return Catalogue(models=tuple(models), problems=tuple(problems))


def read_entry(folder: Path, label: str) -> ModelEntry:
    """Read what the picker needs to know about a folder.

    Raises:
        CheckpointError: it is no checkpoint of this project.
    """
    config, weights = _read_config(folder), folder / "model.safetensors"
    if config.get("model_type") != "uoe":
        raise CheckpointError(
            f"{folder.name} holds no 'uoe' model (its config.json says otherwise): choose a UoE model."
        )
    if not weights.is_file():
        raise CheckpointError(f"{folder.name} has no {weights.name}: save the model with save_pretrained.")
    try:
        return ModelEntry(
            folder=folder,
            label=label,
            kind="text" if config["is_causal"] else "image",
            num_layers=int(config["num_hidden_layers"]),
            context=int(config["max_position_embeddings"]),
            attention=_routing(config["attention_router"]),
            mlp=_routing(config["mlp_router"]),
            stamp=weights.stat().st_mtime,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder.name} cannot be used: its config.json lacks or distorts {error}.") from error


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder.name} is no checkpoint: it has no config.json, which save_pretrained writes.")
    try:
        content = json.loads(path.read_bytes()[:MAX_CONFIG_BYTES])
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder.name} is no checkpoint: its config.json cannot be read.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{folder.name} is no checkpoint: its config.json holds no JSON object.")
    return content


def _routing(fields: dict[str, Any]) -> TrainedRouting:
    factor = fields.get("capacity_factor")
    return TrainedRouting(
        num_experts=int(fields["num_experts"]),
        top_k=int(fields["num_experts_per_tok"]),
        capacity_factor=None if factor is None else float(factor),
        gate=str(fields.get("gate", "mean_one")),
    )
