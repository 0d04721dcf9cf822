"""From a dense checkpoint to a folder that holds its Union of Experts, and the record of what that cost."""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from uoe_model.bundle import load_bundle, loading_quietly
from uoe_model.checkpoint_json import DECOMPOSITION
from uoe_model.decompose.calibrate import Batch, blocks_of, calibrate_routers, hidden_activations, mlps_of, site_inputs
from uoe_model.decompose.clusters import co_activation_order, picked_rows
from uoe_model.decompose.curve import each_record, measure_curve
from uoe_model.decompose.cut import cut
from uoe_model.decompose.dense import DenseModel
from uoe_model.decompose.inputs import prepare_inputs, units_of
from uoe_model.decompose.source import Processor, load_source
from uoe_model.errors import CheckpointError, ConfigError, DeviceError, InputError, is_out_of_memory
from uoe_model.processors.image import ImageLike
from uoe_model.watch import UNWATCHED, Watch, check_cancelled

Slices = Literal["contiguous", "co_activation"]
Routers = Literal["calibrated", "zero"]

MAX_SEED: Final = 2**32 - 1


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
        if type(self.seed) is not int or not 0 <= self.seed <= MAX_SEED:
            problems.append(f"seed={self.seed!r} must lie in 0..{MAX_SEED}")
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
        CheckpointError: the source cannot be loaded or cut, or the target exists or cannot be written.
        ConfigError: options that do not fit the model. InputError: too little to calibrate on, or not to be read.
        DeviceError: out of memory. Cancelled: by the watch.
    """
    if target.exists():
        raise CheckpointError(f"{target.name} exists already: choose another name, or remove it first.")
    watch.report("cutting", 0, 1)
    try:
        return _decompose(source, target, options, texts, images, watch)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"There is not enough memory to cut {source}, which takes twice its size in float32: choose a smaller "
            "checkpoint, or a larger machine."
        ) from error


def _decompose(
    source: Path | str,
    target: Path,
    options: DecomposeOptions,
    texts: Sequence[str],
    images: Sequence[ImageLike],
    watch: Watch,
) -> dict[str, Any]:
    dense, processor = load_source(source)
    fitted, held_out = prepare_inputs(dense, processor, texts, images)
    needs_inputs = options.routers == "calibrated" or options.slices == "co_activation"
    if needs_inputs and not held_out:
        wanted = "pictures" if dense.kind == "image" else "text"
        raise InputError(f"There is too little to calibrate {dense.name} on: give more {wanted}.")
    check_cancelled(watch)
    union = _cut(dense, options, fitted, watch)
    record: dict[str, Any] = {
        "source": dense.name,
        "family": dense.family,
        "options": dataclasses.asdict(options),
        "calibration_units": 0,
        "held_out_units": 0,
        "curve": [],
    }
    if options.routers == "calibrated":
        record["held_out_units"] = sum(units_of(batch, dense) for batch in held_out)
        del dense  # its matrices are in the union now
        record["calibration_units"] = calibrate_routers(union, fitted, watch)
        chosen = (options.chosen("attention"), options.chosen("mlp"))
        record["curve"] = measure_curve(union, held_out, watch, chosen=chosen, seed=options.seed)
    _choose(union, options)
    record["summary"] = summary_of(record)
    check_cancelled(watch)
    _write(union, processor, record, target)
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
    seen: list[list[torch.Tensor]] = []
    counts_of = [units_of(batch, dense) for batch in batches]
    with torch.no_grad():
        for batch, rows in zip(batches, picked_rows(counts_of), strict=True):
            check_cancelled(watch)
            inputs = site_inputs(union, batch)[1::2]
            seen.append(
                [hidden_activations(block, one.x_ND[rows]) for block, one in zip(mlps_of(union), inputs, strict=True)]
            )
    del union
    orders = []
    for layer, parts in enumerate(zip(*seen, strict=True)):
        check_cancelled(watch)
        watch.report("cutting", layer, len(dense.blocks))
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


def _write(union: PreTrainedModel, processor: Processor, record: dict[str, Any], target: Path) -> None:
    """Write the folder beside its place and open it there first: what stands in its place is whole and can be run."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}-", dir=target.parent))
    except OSError as error:
        raise CheckpointError(f"{target.name} cannot be written: {error.strerror or error}.") from error
    folder = beside / target.name
    try:
        with loading_quietly():
            union.save_pretrained(folder)
        processor.save_pretrained(folder)
        (folder / DECOMPOSITION).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        load_bundle(folder, "cpu")
        folder.rename(target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{target.name} cannot be written: {reason}.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
