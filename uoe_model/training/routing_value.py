"""How much a trained model depends on its routes: the change in test loss when they are replaced.

This is dependence, not proof that learning the routes helped: a model trained with frozen random routers loses under
most of these replacements too, since its experts adapt to any fixed rule. That question is answered by `twins.py`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from torch import Tensor, nn

from uoe_model.config import RouterConfig
from uoe_model.replacements import (
    CAPACITIES,
    REPLACEMENTS,
    TARGETS,
    BalancedRandom,
    LogitTable,
    LookedUp,
    Permuted,
    ReplacedRoutes,
    Replacement,
    Untrained,
    draw_seed,
    target_sites,
)
from uoe_model.router import RoutingOverrides
from uoe_model.training.bootstrap import Bootstrap, cluster_sums
from uoe_model.training.probes import FloatArray, Losses, Probe


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RoutingValue:
    """One row of the table: loss under replaced minus loss under learned routes, in nats per prediction.

    Attributes:
        replacement: one of `REPLACEMENTS`.
        block: at whose sites: attention, mlp, both.
        capacity: `as trained`, or `none`: no limit (then the learned routes have none either).
        loss_change: over all predictions; low, high: 95% percentile bootstrap over clusters (images, or documents).
        examples: number of clusters; raised_share: how many of them have a higher loss, 0..1.
    """

    replacement: str
    block: str
    capacity: str
    loss_change: float
    low: float
    high: float
    examples: int
    raised_share: float


def routing_values(
    model: nn.Module,
    configs: tuple[RouterConfig, ...],
    *,
    test: Probe,
    looked_up: Mapping[int, Tensor],
    untrained: Mapping[int, Tensor],
    draws: int = 2,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, float], list[RoutingValue]]:
    """Measure all replacements at all targets, with and without capacity.

    Args:
        model: in evaluation mode.
        configs: its routers in site order.
        test: examples the losses are of.
        looked_up: mean logits (keys, E) by site id, as `learn_lookup` learned them on other examples.
        untrained: initial router weights (E, D) by site id.
        draws: of the random replacements, averaged; the same seeds for every model.
        seed: of these draws and of the bootstrap.
        report: gets a line per finished measurement.

    Returns:
        Loss under learned routes by capacity, and the rows.
    """
    base: dict[str, float] = {}
    rows: list[RoutingValue] = []
    for capacity in CAPACITIES:
        limited = capacity == "as trained"
        learned = test.losses(model, make_routing=None if limited else _unlimited)
        base[capacity] = learned.mean
        bootstrap = Bootstrap(learned, seed)
        for replacement in REPLACEMENTS:
            for block in TARGETS:
                sites = target_sites(block, len(configs))
                dealt = {site: configs[site] for site in sites}
                changed = [
                    test.losses(model, make_routing=ReplacedRoutes(routes, sites, limited=limited)).sums
                    for routes in _build(replacement, dealt, untrained, looked_up, draws=draws, seed=seed)
                ]
                row = _row(replacement, block, capacity, np.mean(changed, axis=0) - learned.sums, learned, bootstrap)
                rows.append(row)
                report(
                    f"{replacement}, {block}, capacity {capacity}: "
                    f"{row.loss_change:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
                )
    return base, rows


def learn_lookup(model: nn.Module, num_sites: int, examples: Probe) -> dict[int, Tensor]:
    """The mean logits of every lookup key at every site, (keys, E), while the model routes as it learned to."""
    table = LogitTable(examples.num_keys)
    examples.losses(model, make_routing=ReplacedRoutes(table, frozenset(range(num_sites)), limited=True))
    return table.means()


def _row(
    replacement: str, block: str, capacity: str, difference: FloatArray, learned: Losses, bootstrap: Bootstrap
) -> RoutingValue:
    low, high = bootstrap.interval(difference)
    by_cluster = cluster_sums(difference, learned.clusters)
    return RoutingValue(
        replacement=replacement,
        block=block,
        capacity=capacity,
        loss_change=float(difference.sum() / learned.counts.sum()),
        low=low,
        high=high,
        examples=len(by_cluster),
        raised_share=float((by_cluster > 0).mean()),
    )


def _unlimited(keys_BT: Tensor) -> RoutingOverrides:
    del keys_BT
    return RoutingOverrides(capacity_factor=None)


def _build(
    replacement: str,
    configs: Mapping[int, RouterConfig],
    untrained: Mapping[int, Tensor],
    looked_up: Mapping[int, Tensor],
    *,
    draws: int,
    seed: int,
) -> Iterator[Replacement]:
    """New replacements of this kind: one per draw if they are random, else one."""
    if replacement == "untrained_router":
        yield Untrained(untrained)
    elif replacement == "lookup":
        yield LookedUp(looked_up)
    else:
        for draw in range(draws):
            number = draw_seed(seed, draw)
            yield BalancedRandom(configs, number) if replacement == "balanced_random" else Permuted(number)
