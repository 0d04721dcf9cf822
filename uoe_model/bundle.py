"""A checkpoint folder, loaded: model, processor, reference load, and what the folder says about its training."""

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerFast
from transformers.utils.logging import set_tqdm_hook

from uoe_model.capture import site_table
from uoe_model.checkpoint_json import DECOMPOSITION, read_json
from uoe_model.config import UoEConfig
from uoe_model.errors import CheckpointError, ConfigError, DeviceError, first_line
from uoe_model.kernels.backend import pick_device
from uoe_model.modeling import UoEForCausalLM, UoEForImageClassification, UoEModel
from uoe_model.processors.image import UoEImageProcessor
from uoe_model.processors.text import frame_of, load_tokenizer
from uoe_model.trace import ReferenceTable
from uoe_model.trace_check import reference_problems

WEIGHTS: Final = "model.safetensors"
REFERENCE: Final = "routing_reference.json"
TRAINING_RUN: Final = "training_run.json"

Kind = Literal["text", "image"]
Model = UoEForCausalLM | UoEForImageClassification | UoEModel

DAMAGED: Final = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    SafetensorError,
    ConfigError,
)
"""What transformers raises on a folder whose files are damaged or do not fit together."""

_ONE_AT_A_TIME: Final = threading.Lock()
"""While transformers loads a model it changes torch's default dtype and initialisers for the whole process."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bundle:
    """A model that is ready to run; shared by everybody and never changed.

    Attributes:
        name: the folder's name. weights_digest: SHA-256 of the weights file.
        reference: load on the model's own test set; None if the folder ships none.
        training: one sentence on how far the weights were trained.
    """

    folder: Path
    name: str
    kind: Kind
    model: Model
    tokenizer: PreTrainedTokenizerFast | None
    image_processor: UoEImageProcessor | None
    reference: ReferenceTable | None
    weights_digest: str
    training: str
    device: torch.device

    @property
    def config(self) -> UoEConfig:
        """The model's configuration."""
        return self.model.config


def folder_kind(folder: Path) -> Kind:
    """Whether a folder holds a text or an image model, without loading its weights.

    Raises:
        CheckpointError: it is no checkpoint of this project.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder.name} is no folder: choose the folder of a checkpoint.")
    config = read_json(folder / "config.json")
    if config.get("model_type") != UoEConfig.model_type:
        found = config.get("model_type", "nameless")
        raise CheckpointError(f"{folder.name} holds a {found!r} model, not a 'uoe' one: choose a UoE model.")
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder.name} has no {WEIGHTS}: save the model with save_pretrained.")
    return "text" if config.get("is_causal", True) or config.get("vocab_size") else "image"


def load_bundle(folder: Path | str, device: str = "auto") -> Bundle:
    """Load a checkpoint folder for running.

    Weights are read from safetensors only, and computed with in float32 whatever they are stored in.

    Raises:
        CheckpointError: the folder is no checkpoint, or its files do not fit together.
        DeviceError: the device is not there or too small.
    """
    folder = Path(folder).absolute()
    kind = folder_kind(folder)
    model = _load_model(folder, kind)
    tokenizer = load_tokenizer(folder) if kind == "text" else None
    image_processor = _load_image_processor(folder) if kind == "image" else None
    _check_fit(folder, model.config, tokenizer, image_processor)
    try:
        target = pick_device(device)
        model.to(target)  # type: ignore[arg-type]  # transformers wraps nn.Module.to
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device {device!r} cannot hold {folder.name}: {first_line(error)}") from error
    return Bundle(
        folder=folder,
        name=folder.name,
        kind=kind,
        model=model,
        tokenizer=tokenizer,
        image_processor=image_processor,
        reference=load_reference(folder, model.config),
        weights_digest=_sha256(folder / WEIGHTS),
        training=_training(folder),
        device=target,
    )


def load_reference(folder: Path, config: UoEConfig) -> ReferenceTable | None:
    """Read a checkpoint's load on its test set; None if it ships none.

    Raises:
        CheckpointError: the file does not fit the model.
    """
    if not (folder / REFERENCE).is_file():
        return None
    content = read_json(folder / REFERENCE)
    routers = config.site_configs()
    try:
        sites = sorted(content["sites"], key=lambda site: site["site_id"])
        if [site["site_id"] for site in sites] != list(range(len(routers))):
            raise ValueError("its sites are not the model's")
        for site, router in zip(sites, routers, strict=True):
            if not len(site["requested"]) == len(site["kept"]) == router.num_experts:
                raise ValueError(f"site {site['site_id']} does not list {router.num_experts} experts")
            if any(type(count) is not int for count in (site["patches"], *site["requested"], *site["kept"])):
                raise ValueError(f"site {site['site_id']} has counts that are no whole numbers")
        experts = [router.num_experts for router in routers]
        table = ReferenceTable(
            dataset=str(content["dataset"]),
            site_id=np.repeat(np.arange(len(experts), dtype=np.int16), experts),
            expert_id=np.concatenate([np.arange(count, dtype=np.int16) for count in experts]),
            requested=np.concatenate([np.asarray(site["requested"], dtype=np.int64) for site in sites]),
            kept=np.concatenate([np.asarray(site["kept"], dtype=np.int64) for site in sites]),
            patches=np.repeat(np.asarray([site["patches"] for site in sites], dtype=np.int64), experts),
        )
        problems = reference_problems(site_table(routers), table)
        if problems:
            raise ValueError("; ".join(problems))
        return table
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{folder.name}/{REFERENCE} does not fit the model: {first_line(error)}") from error


def _load_model(folder: Path, kind: Kind) -> Model:
    """The model in evaluation mode, every weight of it from the folder."""
    model_class: type[Model] = UoEForImageClassification
    config = read_json(folder / "config.json")
    if kind == "text":  # without a head, a text encoder
        model_class = UoEForCausalLM if config.get("is_causal", True) else UoEModel
    stored = config.get("architectures") or [model_class.__name__]
    if kind == "text" and model_class.__name__ not in stored:
        raise CheckpointError(
            f"{folder.name} holds a {stored[0]}, but its config.json describes a {model_class.__name__}: is_causal was "
            "changed."
        )
    try:
        with loading_quietly():
            loaded: Any = model_class.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # told apart below, by name
                output_loading_info=True,
            )
    except DAMAGED as error:
        raise CheckpointError(f"{folder.name} cannot be loaded: {first_line(error)}") from error
    model: Model = loaded[0].eval()
    info: Mapping[str, Any] = loaded[1]
    problems = [
        f"{len(names)} weights {what}, for example {names[0]}"
        for what, names in (
            ("are missing", sorted(info["missing_keys"])),
            ("belong to no part of the model", sorted(info["unexpected_keys"])),
            ("have another shape than in config.json", sorted(key for key, *_ in info["mismatched_keys"])),
            ("are not finite", [name for name, value in model.named_parameters() if not value.isfinite().all()]),
        )
        if names
    ]
    if problems:
        raise CheckpointError(f"{folder.name}/{WEIGHTS} does not fit config.json: {'; '.join(problems)}")
    return model


@contextlib.contextmanager
def loading_quietly() -> Iterator[None]:
    """One model of transformers at a time, without its progress bars."""
    with _ONE_AT_A_TIME, _without_progress_bars():
        yield


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    """No bars of transformers in this thread; elsewhere, and afterwards, all is as before."""
    here = threading.get_ident()

    def make_bar(factory: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if threading.get_ident() == here:
            return factory(*args, **options | {"disable": True})
        return factory(*args, **options) if previous is None else previous(factory, args, options)

    previous = set_tqdm_hook(make_bar)
    try:
        yield
    finally:
        set_tqdm_hook(previous)


def _check_fit(
    folder: Path,
    config: UoEConfig,
    tokenizer: PreTrainedTokenizerFast | None,
    image_processor: UoEImageProcessor | None,
) -> None:
    """What goes into the model must be what the model takes."""
    problems = []
    if tokenizer is not None:
        if len(tokenizer) > config.vocab_size:
            problems.append(f"the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}")
        frame = frame_of(tokenizer, needs_begin=config.is_causal)
        if config.is_causal and not frame.before:
            problems.append("the tokenizer has no begin token")
        if len(frame) >= config.max_position_embeddings:
            problems.append("the context holds nothing but special tokens")
    if image_processor is not None:
        for name in ("image_size", "grid_size"):
            found, expected = getattr(image_processor, name), getattr(config, name)
            if found != expected:
                problems.append(f"{name} is {found} in the image processor and {expected} in the model")
        if config.num_channels != 3:
            problems.append(f"the model takes {config.num_channels} channels, pictures have 3")
    if problems:
        raise CheckpointError(f"{folder.name}: its files do not fit together: {'; '.join(problems)}")


def _load_image_processor(folder: Path) -> UoEImageProcessor:
    try:
        return UoEImageProcessor.from_pretrained(folder, local_files_only=True)
    except DAMAGED as error:
        raise CheckpointError(f"{folder.name}: the image processor cannot be read: {first_line(error)}") from error


def _training(folder: Path) -> str:
    if (folder / DECOMPOSITION).is_file():
        return str(read_json(folder / DECOMPOSITION).get("summary", "decomposed from a dense model"))
    if not (folder / TRAINING_RUN).is_file():
        return f"unknown: the folder has no {TRAINING_RUN}; the weights may be untrained"
    steps = read_json(folder / TRAINING_RUN).get("steps", 0)
    return f"trained for {steps} steps" if steps else "untrained"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
