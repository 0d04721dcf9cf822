"""The checkpoints a visitor may choose from: the bundled ones and the folders of `--models`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dashboard.settings import Settings
from uoe_model.errors import UoEError

if TYPE_CHECKING:
    from uoe_model.config import RouterConfig

Kind = Literal["text", "image"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """One checkpoint, not loaded yet.

    Attributes:
        label: what the visitor picks. context: longest example in tokens (text models).
        attention, mlp: routing as trained.
        stamp: time of the last change of its weights; with the folder it names what is loaded.
    """

    folder: Path
    label: str
    kind: Kind
    num_layers: int
    context: int
    attention: "RouterConfig"
    mlp: "RouterConfig"
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
    """Look into the folders of the settings, without loading weights."""
    models: list[ModelEntry] = []
    problems = [settings.problem] if settings.problem else []
    for folder in _folders(settings.bundled):
        _add(folder, folder.name, models, problems)
    chosen = settings.models_dir
    if chosen is not None:
        if (chosen / "config.json").is_file():
            folders = [chosen.resolve()]
        elif chosen.is_dir():
            folders = _folders(chosen)
            if not folders:
                problems.append(f"{chosen.name} holds no folders: put each checkpoint into a folder of its own there.")
        else:
            folders = []
            problems.append(f"{chosen.name} is no folder: give the folder of your checkpoints after --models.")
        taken = {model.label for model in models}
        for folder in folders:
            label = f"{folder.name} ({chosen.resolve().name})" if folder.name in taken else folder.name
            _add(folder, label, models, problems)
    return Catalogue(models=tuple(models), problems=tuple(problems))


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))


def _add(folder: Path, label: str, models: list[ModelEntry], problems: list[str]) -> None:
    from uoe_model.bundle import WEIGHTS, folder_kind, read_json  # imports torch: after the header is drawn
    from uoe_model.config import UoEConfig

    try:
        kind = folder_kind(folder)
        config = UoEConfig(**read_json(folder / "config.json"))
        models.append(
            ModelEntry(
                folder=folder,
                label=label,
                kind=kind,
                num_layers=config.num_hidden_layers,
                context=config.max_position_embeddings,
                attention=config.router_config("attention"),
                mlp=config.router_config("mlp"),
                stamp=(folder / WEIGHTS).stat().st_mtime,
            )
        )
    except UoEError as error:
        problems.append(str(error))
    except (TypeError, ValueError, ArithmeticError, AttributeError, OSError) as error:  # a config by somebody else
        problems.append(f"{folder.name} cannot be used, its config.json does not fit this model ({error}).")
