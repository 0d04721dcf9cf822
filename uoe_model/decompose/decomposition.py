"""From a dense checkpoint to a folder that holds its Union of Experts, and the record of what that cost."""

import dataclasses
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from uoe_model.bundle import DAMAGED, loading_quietly
from uoe_model.checkpoint_json import DECOMPOSITION
from uoe_model.decompose.calibrate import Batch, blocks_of, calibrate_routers, hidden_activations, site_inputs
from uoe_model.decompose.clusters import co_activation_order
from uoe_model.decompose.curve import each_record, measure_curve
from uoe_model.decompose.cut import cut
from uoe_model.decompose.dense import DenseModel
from uoe_model.decompose.families import READERS
from uoe_model.errors import CheckpointError, ConfigError, InputError
from uoe_model.processors.image import ImageLike, UoEImageProcessor
from uoe_model.processors.text import context_windows, encode, frame_of
from uoe_model.scoring import pad_examples
from uoe_model.watch import UNWATCHED, Watch, check_cancelled

Slices = Literal["contiguous", "co_activation"]
Routers = Literal["calibrated", "zero"]

MAX_CALIBRATION_UNITS: Final = 8192
"""Units of text or picture cells that routers are fitted on; a quarter more is held out to measure on."""

CALIBRATION_CONTEXT: Final = 256
"""Longest example of calibration text, in tokens."""

WINDOWS_PER_BATCH: Final = 4

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DecomposeOptions:
    """How a dense model is cut.

    Attributes:
        attention_experts, mlp_experts: experts of every layer's blocks.
        attention_top_k, mlp_top_k: experts chosen per unit; None: half of them, rounded up (all with `zero` routers).
        slices: which hidden units make an MLP expert: neighbours, or those that are active together.
        routers: `calibrated` on unlabelled inputs, or `zero`: even, and all experts chosen.
        seed: of clusters and of the random routes that the curve compares with.

    Raises:
        ConfigError: values that contradict each other.
    """

    attention_experts: int
    mlp_experts: int
    attention_top_k: int | None = None
    mlp_top_k: int | None = None
    slices: Slices = "contiguous"
    routers: Routers = "calibrated"
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        for name in ("attention", "mlp"):
            experts, top_k = getattr(self, f"{name}_experts"), getattr(self, f"{name}_top_k")
            if type(experts) is not int or experts < 1:
                problems.append(f"{name}_experts={experts!r} must be a whole number of at least 1")
            elif top_k is not None and (type(top_k) is not int or not 1 <= top_k <= experts):
                problems.append(f"{name}_top_k={top_k!r} must lie in 1..{experts}")
            elif self.routers == "zero" and top_k not in (None, experts):
                problems.append(f"{name}_top_k={top_k} with routers='zero' has nothing to choose by: calibrate them")
        for name, allowed in (("slices", ("contiguous", "co_activation")), ("routers", ("calibrated", "zero"))):
            if getattr(self, name) not in allowed:
                problems.append(f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}")
        if problems:
            raise ConfigError("DecomposeOptions: " + "; ".join(problems))

    def chosen(self, block: str) -> int:
        """Experts that each unit is given to."""
        experts, top_k = getattr(self, f"{block}_experts"), getattr(self, f"{block}_top_k")
        return int(top_k if top_k is not None else experts if self.routers == "zero" else -(-experts // 2))


def decompose(
    source: Path | str,
    target: Path,
    options: DecomposeOptions,
    *,
    texts: Sequence[str] = (),
    images: Sequence[ImageLike] = (),
    watch: Watch = UNWATCHED,
) -> dict[str, Any]:
    """Cut a dense checkpoint, fit its routers, measure what fewer experts cost, and write a checkpoint folder.

    Args:
        source: a folder, or `owner/name` of a hub. target: a folder that does not exist yet.
        texts, images: unlabelled inputs to fit and measure on; texts for text models, images for image models.

    Returns:
        What is stored as `decomposition.json` too: source, family, options, calibration_units, held_out_units, curve
        (records of `measure_curve`), summary (one sentence).

    Raises:
        CheckpointError: the source cannot be loaded or cut, or the target exists.
        ConfigError: options that do not fit the model. InputError: nothing to calibrate on. Cancelled: by the watch.
    """
    if target.exists():
        raise CheckpointError(f"{target.name} exists already: choose another name, or remove it first.")
    watch.report("cutting", 0, 1)
    dense, config, model = _load_dense(source)
    processor = _load_processor(source, dense, config)
    batches = _batches(dense, processor, texts, images)
    needs_inputs = options.routers == "calibrated" or options.slices == "co_activation"
    if needs_inputs and len(batches) < 2:
        wanted = "pictures" if dense.kind == "image" else "text"
        raise InputError(f"There is too little to calibrate {dense.name} on: give more {wanted}.")
    held_out = batches[:: max(len(batches) // max(len(batches) // 5, 1), 2)] if len(batches) > 1 else []
    fitted = [batch for batch in batches if all(batch is not other for other in held_out)]
    check_cancelled(watch)
    union = _cut(dense, options, fitted, watch)
    units = calibrate_routers(union, fitted, watch) if options.routers == "calibrated" else 0
    chosen = (options.chosen("attention"), options.chosen("mlp"))
    curve = measure_curve(union, held_out, watch, chosen=chosen, seed=options.seed) if units else []
    _choose(union, options)
    record = {
        "source": dense.name,
        "family": dense.family,
        "options": dataclasses.asdict(options),
        "calibration_units": units,
        "held_out_units": sum(_units_of(batch) for batch in held_out) if units else 0,
        "curve": curve,
    }
    record["summary"] = summary_of(record)
    check_cancelled(watch)
    _write(union, processor, record, target)
    del model
    return record


def summary_of(record: dict[str, Any]) -> str:
    """One sentence on where a model comes from and what its chosen experts cost."""
    options = DecomposeOptions(**record["options"])
    a, m = options.chosen("attention"), options.chosen("mlp")
    start = f"trained as a dense model ({record['source']}), then decomposed"
    if (a, m) == (options.attention_experts, options.mlp_experts):
        return f"{start}; with all experts chosen it computes what the dense model does"
    wanted = {"attention_top_k": a, "mlp_top_k": m, "routes": "calibrated"}
    row = next(each_record(record["curve"], **wanted), None)
    routed = f"routers calibrated on {record['calibration_units']:,} unlabelled units"
    if row is None:
        return f"{start}; {routed}"
    return (
        f"{start}; {routed}; at {a} of {options.attention_experts} attention and {m} of {options.mlp_experts} MLP "
        f"experts its hidden states differ from the dense model's by {row['hidden_error']:.0%} (held-out inputs)"
    )


def _load_dense(source: Path | str) -> tuple[DenseModel, Any, PreTrainedModel]:
    """The dense model in float32, its matrices, and its configuration."""
    folder = Path(source)
    name = folder.name if folder.is_dir() else str(source)
    if not folder.is_dir() and not _HUB_ID.fullmatch(str(source)):
        raise CheckpointError(f"{name} is neither a folder nor a hub id of the form owner/name.")
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if config.model_type not in READERS:
            raise CheckpointError(
                f"{name} is a {config.model_type!r} model: those that can be cut are {', '.join(sorted(READERS))}."
            )
        class_name, read = READERS[config.model_type]
        with loading_quietly():
            loaded: Any = getattr(transformers, class_name).from_pretrained(
                source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
    except DAMAGED as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{name} cannot be loaded: {first}") from error
    model, info = loaded
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise CheckpointError(f"{name} lacks {len(missing)} weights, for example {missing[0]}: it cannot be cut.")
    return read(model.eval(), name), config, model


def _load_processor(source: Path | str, dense: DenseModel, config: Any) -> PreTrainedTokenizerFast | UoEImageProcessor:
    try:
        if dense.kind != "image":
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, use_fast=True)
            if not isinstance(tokenizer, PreTrainedTokenizerFast):
                raise CheckpointError(f"{dense.name} has no fast tokenizer, which says where tokens stand in the text.")
            return tokenizer
        found = AutoImageProcessor.from_pretrained(source, trust_remote_code=False, backend="pil").to_dict()
    except DAMAGED as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{dense.name}: its tokenizer or image processor cannot be read: {first}") from error
    return UoEImageProcessor(
        image_size=config.image_size,
        grid_size=config.image_size // config.patch_size,
        image_mean=found.get("image_mean") or (0.5, 0.5, 0.5),
        image_std=found.get("image_std") or (0.5, 0.5, 0.5),
    )


def _batches(
    dense: DenseModel,
    processor: PreTrainedTokenizerFast | UoEImageProcessor,
    texts: Sequence[str],
    images: Sequence[ImageLike],
) -> list[Batch]:
    """Calls of the model over the calibration inputs, at most `MAX_CALIBRATION_UNITS` and a quarter more."""
    most = MAX_CALIBRATION_UNITS * 5 // 4
    if isinstance(processor, UoEImageProcessor):
        cells = (dense.config["image_size"] // (dense.config["image_size"] // dense.config["grid_size"])) ** 2 + 1
        pixels = [
            torch.from_numpy(processor.prepare(image).pixel_values.copy()) for image in images[: max(most // cells, 2)]
        ]
        return [{"pixel_values": torch.stack(pixels[i : i + WINDOWS_PER_BATCH])} for i in range(0, len(pixels), 4)]
    frame = frame_of(processor, needs_begin=bool(dense.config["is_causal"]))
    context = min(CALIBRATION_CONTEXT, dense.config["max_position_embeddings"])
    examples, units = [], 0
    for text in texts:
        ids = encode(processor, text).token_ids
        for window in context_windows(len(ids), context - len(frame)):
            examples.append(np.concatenate([frame.before, ids[window], frame.after]).astype(np.int64))
            units += len(examples[-1])
            if units >= most:
                break
        if units >= most:
            break
    rows = [examples[i : i + WINDOWS_PER_BATCH] for i in range(0, len(examples), WINDOWS_PER_BATCH)]
    if len(rows) == 1 and len(examples) > 1:
        rows = [examples[::2], examples[1::2]]
    padded = [pad_examples(row, torch.device("cpu")) for row in rows]
    return [{"input_ids": ids, "attention_mask": mask} for ids, mask in padded]


def _units_of(batch: Batch) -> int:
    return int(batch["attention_mask"].sum()) if "attention_mask" in batch else len(batch["pixel_values"])


def _cut(dense: DenseModel, options: DecomposeOptions, batches: Sequence[Batch], watch: Watch) -> PreTrainedModel:
    """The union with all experts chosen, so that it computes what the dense model does while routers are fitted."""
    counts = {"attention_experts": options.attention_experts, "mlp_experts": options.mlp_experts}
    everything: dict[str, Any] = counts | {
        "attention_top_k": options.attention_experts,
        "mlp_top_k": options.mlp_experts,
    }
    union = cut(dense, **everything)
    if options.slices == "contiguous" or options.mlp_experts == 1:
        return union
    seen: dict[int, list[torch.Tensor]] = {}
    with torch.no_grad():
        for batch in batches:
            check_cancelled(watch)
            inputs = site_inputs(union, batch)
            for layer, block in enumerate(blocks_of(union)[1::2]):
                seen.setdefault(layer, []).append(hidden_activations(block, inputs[2 * layer + 1].x_ND))  # type: ignore[arg-type]
    orders = []
    for layer, parts in seen.items():
        check_cancelled(watch)
        watch.report("cutting", layer, len(seen))
        orders.append(co_activation_order(torch.cat(parts), options.mlp_experts, seed=options.seed))
    return cut(dense, **everything, orders=orders)


def _choose(union: PreTrainedModel, options: DecomposeOptions) -> None:
    """Write the chosen k into configuration and routers."""
    config: Any = union.config
    for site, block in enumerate(blocks_of(union)):
        name = ("attention", "mlp")[site % 2]
        top_k = options.chosen(name)
        getattr(config, f"{name}_router")["num_experts_per_tok"] = top_k
        block.router.config = dataclasses.replace(block.router.config, num_experts_per_tok=top_k)


def _write(
    union: PreTrainedModel,
    processor: PreTrainedTokenizerFast | UoEImageProcessor,
    record: dict[str, Any],
    target: Path,
) -> None:
    """Write the folder beside its place first, so that a half-written one never stands there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        union.save_pretrained(beside)
        processor.save_pretrained(beside)
        (beside / DECOMPOSITION).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        beside.chmod(0o755)
        beside.rename(target)
    except OSError as error:
        raise CheckpointError(f"{target.name} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
