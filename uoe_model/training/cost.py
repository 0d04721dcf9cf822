"""What a model costs: parameters, and multiply-adds per unit of its dense form and of what routing leaves active."""

import dataclasses
from collections.abc import Mapping

from torch import nn

from uoe_model.config import BLOCKS, UoEConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MultiplyAdds:
    """Multiply-adds of one forward pass per unit, in one part of the model.

    Attributes:
        dense: with every expert always active (k = E, no capacity).
        requested: with the k requested experts. kept: with the share of requests that was kept on the test set.
    """

    part: str
    dense: float
    requested: float
    kept: float


def multiply_adds(
    config: UoEConfig,
    *,
    units: int,
    kept_share: Mapping[str, float],
    requested_share: Mapping[str, float] | None = None,
) -> list[MultiplyAdds]:
    """Count by hand from the configuration: matrix products and convolutions, no norms, softmax or biases.

    Per unit and layer, with a the share of experts that is active (1 if dense, k / E if requested, times the kept
    share if kept), T units per example, D, F, E as in the configuration:

    - attention projections: a * 4 D^2
    - attention scores and sums: a * 2 D * (a * keys), keys = T, or (T + 1) / 2 if causal: an expert's units attend to
      the units that it kept (to all of an example that it takes as a whole, with selection `expert`)
    - MLP: a * 2 D F, or a * 3 D F for SwiGLU
    - routers: D E per site (the dense form has none, and one expert needs none)

    Args:
        config: of the model.
        units: T, per example.
        kept_share: by kind of block, kept requests / requests.
        requested_share: by kind of block, requests / (units * E) as they were counted; None: k / E, which
            `expert_choice` exceeds by its capacity factor.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    keys = (units + 1) / 2 if config.is_causal else units
    matrices = 3 if config.hidden_act == "swiglu" else 2
    active: dict[str, tuple[float, float, float]] = {}
    routers = 0.0
    for block in BLOCKS:
        router = config.router_config(block)
        requested = router.num_experts_per_tok / router.num_experts
        if requested_share is not None:
            requested = requested_share[block]
        active[block] = (1.0, requested, requested * kept_share[block])
        if router.num_experts > 1:
            routers += layers * width * router.num_experts / router.patch_len
    takes_all = config.router_config("attention").selection == "expert"
    sums = [a * 2 * width * (1 if takes_all else a) * keys for a in active["attention"]]
    rows = [
        _row("attention projections", [layers * a * 4 * width**2 for a in active["attention"]]),
        _row(
            "attention scores and sums",
            [layers * number for number in sums],
        ),
        _row("mlp", [layers * a * matrices * width * config.intermediate_size for a in active["mlp"]]),
        _row("routers", [0.0, routers, routers]),
    ]
    if config.is_causal:
        rows.append(_row("output head", [float(width * config.vocab_size)] * 3))
    else:
        rows.append(_row("stem", [_stem(config) / units] * 3))
        labels = config.num_labels or 0
        rows.append(_row("classifier", [width * labels / units] * 3))
    totals = [sum(getattr(row, name) for row in rows) for name in ("dense", "requested", "kept")]
    return [*rows, _row("total", totals)]


def _row(part: str, numbers: list[float]) -> MultiplyAdds:
    dense, requested, kept = numbers
    return MultiplyAdds(part=part, dense=dense, requested=requested, kept=kept)


def _stem(config: UoEConfig) -> float:
    """Multiply-adds of the stem per image; its rule of strides is that of `ImageStem`."""
    total, channels, side = 0.0, config.num_channels, config.image_size
    for width in config.stem_channels:
        side //= 2 if side > config.grid_size and width != channels else 1
        total += side**2 * 9 * channels * width
        channels = width
    stride = side // config.grid_size
    return total + config.grid_size**2 * channels * config.hidden_size * stride**2


def parameter_counts(model: nn.Module, config: UoEConfig) -> dict[str, int]:
    """Parameters in all, in routers, in experts of each kind of block, and those that one unit's requests use."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    counts = {
        "total": sum(sizes.values()),
        "routers": sum(size for name, size in sizes.items() if "router" in name),
    }
    active = counts["total"]
    for block in BLOCKS:
        router = config.router_config(block)
        experts = sum(
            parameter.numel()
            for name, parameter in model.named_parameters()
            if f".{block}." in name
            and "router" not in name
            and parameter.ndim > 1
            and (parameter.shape[0] == router.num_experts or ".experts." in name)
        )
        counts[f"{block} experts"] = experts
        active -= experts - experts * router.num_experts_per_tok // router.num_experts
    counts["active per unit"] = active
    return counts
