"""The checkpoints a visitor may choose from: the bundled ones and what `--models` holds; nothing is loaded here."""

import dataclasses
from pathlib import Path
from typing import Any, Final, Literal

from dashboard.settings import Settings
from uoe_model.checkpoint_json import read_json
from uoe_model.errors import CheckpointError

Kind = Literal["text", "image"]

DENSE_FAMILIES: Final = ("bert", "gpt2", "llama", "mistral", "qwen2", "vit")
"""Dense checkpoints that can be cut into experts, as config.json names them."""

REFERENCE_ENDINGS: Final = (".model", ".pt", ".pth")
"""Files that may hold the authors' released model; only opening one tells."""


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
        writes: whether it predicts the next token, so that a text can be continued; else a text model is an encoder.
        stamp: time of the last change of its weights; with the folder it names what is loaded.
    """

    folder: Path
    label: str
    kind: Kind
    num_layers: int
    context: int
    writes: bool
    attention: TrainedRouting
    mlp: TrainedRouting
    stamp: float

    @property
    def has_loss(self) -> bool:
        """Whether it predicts something that a loss can be taken of; a text encoder does not."""
        return self.writes or self.kind == "image"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DenseEntry:
    """A dense checkpoint that can be cut into a Union of Experts.

    Attributes:
        head_groups: groups of heads that an expert cannot share: key/value heads. hidden_units: of each MLP.
    """

    folder: Path
    label: str
    family: str
    kind: Kind
    head_groups: int
    hidden_units: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceEntry:
    """A torch file that may hold the authors' released model."""

    path: Path
    label: str
    stamp: float


Loadable = ModelEntry | ReferenceEntry | None
"""What is loaded before work is done with it; None: nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """Checkpoints in the order of the picker, and one sentence for each folder that is none.

    Attributes:
        target: folder that new checkpoints go to; None if there is none.
    """

    models: tuple[ModelEntry, ...] = ()
    dense: tuple[DenseEntry, ...] = ()
    references: tuple[ReferenceEntry, ...] = ()
    problems: tuple[str, ...] = ()
    target: Path | None = None

    def of_kind(self, kind: Kind) -> tuple[ModelEntry, ...]:
        """Checkpoints for text or for pictures."""
        return tuple(model for model in self.models if model.kind == kind)


def find_models(settings: Settings) -> Catalogue:
    """Look into the folders of the settings."""
    models: list[ModelEntry] = []
    dense: list[DenseEntry] = []
    problems = [settings.problem] if settings.problem else []
    chosen, own, references = settings.models_dir, list[Path](), list[Path]()
    target = None
    if chosen is not None:
        if (chosen / "config.json").is_file():
            own = [chosen.resolve()]
        elif not chosen.is_dir():
            problems.append(f"{chosen.name} is no folder: give the folder of your checkpoints after --models.")
        else:
            target, own, references = chosen.resolve(), _folders(chosen), _reference_files(chosen)
            if not own and not references:
                problems.append(f"{chosen.name} holds no checkpoints: put each one into a folder of its own there.")
    bundled = _folders(settings.bundled)
    own = [folder for folder in own if folder.resolve() not in bundled]
    taken = {folder.name for folder in bundled}
    for folder in (*bundled, *own):
        is_twin = folder in own and folder.name in taken
        label = f"{folder.name} ({folder.parent.name})" if is_twin else folder.name
        try:
            config = _read_config(folder)
            if config.get("model_type") in DENSE_FAMILIES:
                dense.append(_read_dense(folder, label, config))
            else:
                models.append(_read_entry(folder, label, config))
        except CheckpointError as error:
            problems.append(str(error))
    return Catalogue(
        models=tuple(models),
        dense=tuple(dense),
        references=tuple(ReferenceEntry(path=path, label=path.name, stamp=path.stat().st_mtime) for path in references),
        problems=tuple(problems),
        target=target,
    )


def read_entry(folder: Path, label: str) -> ModelEntry:
    """Read what the picker needs to know about a folder.

    Raises:
        CheckpointError: it is no checkpoint of this project.
    """
    return _read_entry(folder, label, _read_config(folder))


def _read_entry(folder: Path, label: str, config: dict[str, Any]) -> ModelEntry:
    weights = folder / "model.safetensors"
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
            kind="text" if config["is_causal"] or config["vocab_size"] else "image",
            num_layers=int(config["num_hidden_layers"]),
            context=int(config["max_position_embeddings"]),
            writes=bool(config["is_causal"]),
            attention=_routing(config["attention_router"]),
            mlp=_routing(config["mlp_router"]),
            stamp=weights.stat().st_mtime,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder.name} cannot be used: its config.json lacks or distorts {error}.") from error


def _read_dense(folder: Path, label: str, config: dict[str, Any]) -> DenseEntry:
    """What can be cut of a dense checkpoint; what else it needs is checked when it is cut."""
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder.name} has no .safetensors file: save the dense model with save_pretrained.")
    heads = config.get("num_key_value_heads") or config.get("num_attention_heads") or config.get("n_head")
    width = config.get("n_embd")
    hidden = config.get("intermediate_size") or config.get("n_inner") or (4 * width if type(width) is int else 0)
    if not (type(heads) is int and type(hidden) is int and heads > 0 and hidden > 0):
        raise CheckpointError(f"{folder.name} cannot be cut: its config.json does not say how many heads it has.")
    family = str(config["model_type"])
    kind: Kind = "image" if family == "vit" else "text"
    return DenseEntry(folder=folder, label=label, family=family, kind=kind, head_groups=heads, hidden_units=hidden)


def _reference_files(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_file() and path.suffix in REFERENCE_ENDINGS)


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder.name} is no checkpoint: it has no config.json, which save_pretrained writes.")
    try:
        return read_json(path)
    except CheckpointError as error:
        raise CheckpointError(f"{folder.name} is no checkpoint: {error}") from error


def _routing(fields: dict[str, Any]) -> TrainedRouting:
    factor = fields.get("capacity_factor")
    return TrainedRouting(
        num_experts=int(fields["num_experts"]),
        top_k=int(fields["num_experts_per_tok"]),
        capacity_factor=None if factor is None else float(factor),
        gate=str(fields.get("gate", "mean_one")),
    )
