"""Every hyper-parameter of a training run, as one frozen object that reads and writes JSON."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from uoe_model.config import UoEConfig
from uoe_model.errors import ConfigError

Kind = Literal["image", "text"]

_DEFAULTS: Final = Path(__file__).parent


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What both kinds of training share.

    Attributes:
        model: arguments of `UoEConfig`.
        seed: decides the initial weights and the order and augmentation of the data, nothing else.
        steps: length of the schedule in optimizer steps.
        batch_size: images, or windows of text, per step.
        learning_rate: peak rate; warm_up_steps: linear rise to it; final_learning_rate_share: where the cosine ends.
        matrix_optimizer: what updates weight matrices; everything else is updated by AdamW.
        matrix_learning_rate_scale: rate of the matrices under Muon, relative to the rest.
        router_learning_rate_scale: rate of the routers relative to all other weights.
        weight_decay: on weight matrices only (not on routers, norms, biases, positions or embeddings).
        clip_norm: largest gradient norm.
        ema_decay: moving average of the weights that is validated and exported; 0 switches it off.
        frozen_routers: routers keep their random initial weights, and the router losses are off.
        mlp_block: `union` (our experts), or `switch`: the Switch MLP of transformers, to compare with.
        device: `auto` (CUDA if there is one), `cpu` or `cuda`; dtype: of autocast, for GPUs.
        log_every, validate_every, checkpoint_every: steps between rows of metrics.csv, of validation.csv, checkpoints.
        keep_checkpoints: newest checkpoints kept; milestones: shares of the schedule whose checkpoints are kept
            besides, and at which OUTPUT/final is written.
        weights_dtype: of the exported safetensors.
    """

    model: Mapping[str, Any]
    seed: int = 0
    steps: int
    batch_size: int
    learning_rate: float
    warm_up_steps: int
    final_learning_rate_share: float = 0.01
    matrix_optimizer: Literal["muon", "adamw"] = "muon"
    matrix_learning_rate_scale: float = 1.0
    router_learning_rate_scale: float = 1.0
    weight_decay: float = 0.05
    betas: tuple[float, float]
    clip_norm: float = 1.0
    ema_decay: float = 0.0
    frozen_routers: bool = False
    mlp_block: Literal["union", "switch"] = "union"
    device: str = "auto"
    dtype: str = "float32"
    log_every: int = 20
    validate_every: int = 250
    checkpoint_every: int = 250
    keep_checkpoints: int = 3
    milestones: tuple[float, ...] = (0.25, 0.5, 0.75)
    weights_dtype: str = "float16"

    def __post_init__(self) -> None:
        positive = ("steps", "batch_size", "learning_rate", "clip_norm", "log_every", "validate_every")
        problems = [
            f"{name}={getattr(self, name)} must be above 0"
            for name in (*positive, "checkpoint_every", "keep_checkpoints")
            if not getattr(self, name) > 0
        ]
        if not 0 <= self.ema_decay < 1:
            problems.append(f"ema_decay={self.ema_decay} must lie in 0..1, 1 excluded; 0 switches it off")
        if not all(0 < share < 1 for share in self.milestones):
            problems.append(f"milestones={self.milestones} must lie between 0 and 1")
        for name, allowed in (
            ("device", ("auto", "cpu", "cuda")),
            ("dtype", ("float32", "bfloat16")),
            ("matrix_optimizer", ("muon", "adamw")),
            ("mlp_block", ("union", "switch")),
            ("weights_dtype", ("float32", "float16", "bfloat16")),
        ):
            if getattr(self, name) not in allowed:
                problems.append(f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}")
        if problems:
            raise ConfigError(f"{type(self).__name__}: " + "; ".join(problems))

    def build_config(self) -> UoEConfig:
        """The model's configuration; with frozen routers, without router losses."""
        fields = dict(self.model)
        if self.frozen_routers:
            fields |= {"router_aux_loss_coef": 0.0, "router_z_loss_coef": 0.0}
        return UoEConfig(**fields)

    def milestone_steps(self) -> tuple[int, ...]:
        """The steps of the milestones, ascending."""
        return tuple(sorted({max(1, round(share * self.steps)) for share in self.milestones}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ConfigError: no JSON object, or fields that do not exist.
        """
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not a readable JSON file ({error})") from error
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Build from plain JSON values; lists become tuples."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise ConfigError(f"{cls.__name__}: unknown fields {unknown}; known are {sorted(known)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {error}") from error

    def save(self, path: Path) -> None:
        """Write as indented JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImageTraining(Training):
    """An image classifier.

    Attributes:
        label_smoothing: share of the target spread over all classes (training loss only).
        crop_padding: pixels of zero padding around an image before a random crop; flip: random mirror images.
        validation_images: the last images of the training file, never trained on.
        image_mean, image_std: of pixel values in 0..1, per channel.
    """

    label_smoothing: float = 0.0
    crop_padding: int = 4
    flip: bool = True
    validation_images: int = 2000
    image_mean: tuple[float, ...] = (0.4913, 0.4821, 0.4465)
    image_std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TextTraining(Training):
    """A causal language model; vocabulary and context length are those of `model`.

    Attributes:
        validation_windows: windows per domain, evenly spaced over valid.parquet, for the numbers seen while training.
    """

    validation_windows: int = 12


def default_settings(kind: Kind) -> Training:
    """The settings of the bundled checkpoint of this kind."""
    return load_settings(kind, _DEFAULTS / f"{kind}.json")


def load_settings(kind: Kind, path: Path) -> Training:
    """Read a settings file of this kind."""
    return (ImageTraining if kind == "image" else TextTraining).load(path)
