"""Routes put in the place of learned ones: random but balanced, permuted, of the untrained router, looked up.

Each class makes the logits that a site routes by. They see (site_id, logits_ME, layout, router_input_MD) over the M
patches of a batch, as `RoutingOverrides.replace_logits` passes them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from uoe_model.config import BLOCKS, RouterConfig
from uoe_model.errors import CheckpointError, ConfigError
from uoe_model.layout import RoutingLayout
from uoe_model.router import UNSET, Router, RoutingOverrides

UNTRAINED_ROUTERS: Final = "untrained_routers.safetensors"
"""File of a checkpoint folder: the routers' weights before training."""

LOOKUP_ROUTES: Final = "lookup_routes.safetensors"
"""File of a checkpoint folder: the mean logits of every token id or grid cell at every site."""

REPLACEMENTS: Final = ("balanced_random", "permuted", "untrained_router", "lookup")
TARGETS: Final = ("attention", "mlp", "both")
CAPACITIES: Final = ("as trained", "none")


class Replacement(Protocol):
    """Makes logits for a batch."""

    def start_batch(self, keys_BT: Tensor) -> None:
        """Called before the model runs, with the lookup keys of all units."""

    def __call__(self, site_id: int, logits_ME: Tensor, layout: RoutingLayout, router_input_MD: Tensor) -> Tensor:
        """The logits to route by."""


class BalancedRandom:
    """Each E/k consecutive patches of an example share one random deal of all experts.

    So every expert is asked equally often and none is ever full (f >= 1). The requested experts share the mean
    probability mass that the learned requests have in this batch, evenly: their `mean_one` gates are 1, and their
    `probability` gates sum to what they sum to on average.

    Args:
        configs: of the sites whose routes are dealt, by site id.

    Raises:
        ConfigError: a deal cannot be shared out evenly.
    """

    def __init__(self, configs: Mapping[int, RouterConfig], seed: int) -> None:
        for config in configs.values():
            if config.num_experts % config.num_experts_per_tok:
                raise ConfigError(
                    f"balanced random routes need num_experts={config.num_experts} to be a multiple of "
                    f"num_experts_per_tok={config.num_experts_per_tok}"
                )
        self._configs = configs
        self._generator = torch.Generator().manual_seed(seed)

    def start_batch(self, keys_BT: Tensor) -> None:
        """Nothing to look up."""

    def __call__(self, site_id: int, logits_ME: Tensor, layout: RoutingLayout, router_input_MD: Tensor) -> Tensor:
        """Equal logits for the experts dealt to a patch, equal lower ones for the others."""
        config = self._configs[site_id]
        num_experts, k = config.num_experts, config.num_experts_per_tok
        if k == num_experts:
            return torch.zeros_like(logits_ME)
        hands = num_experts // k
        hand_M = layout.time_M % hands
        starts_M = (hand_M == 0).long()
        deal_M = starts_M.cumsum(0) - 1  # patches of an example are neighbours, its first one has time 0
        num_deals = int(starts_M.sum())
        order = torch.rand(num_deals, num_experts, generator=self._generator).to(logits_ME.device).argsort(dim=1)
        columns_K = torch.arange(k, device=logits_ME.device)
        dealt_MK = order[deal_M].gather(1, hand_M[:, None] * k + columns_K)
        mass = logits_ME.softmax(-1).topk(k, dim=-1).values.sum(-1).mean()
        low = ((1 - mass) / (num_experts - k)).clamp_min(1e-9).log()
        return low.expand_as(logits_ME).scatter(1, dealt_MK, (mass / k).log().expand_as(dealt_MK))


class Permuted:
    """An example's own logits, permuted over its patches; in a causal model this shows patches others' future."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def start_batch(self, keys_BT: Tensor) -> None:
        """Nothing to look up."""

    def __call__(self, site_id: int, logits_ME: Tensor, layout: RoutingLayout, router_input_MD: Tensor) -> Tensor:
        """The logits of another patch of the same example."""
        place_M = torch.rand(layout.num_patches, generator=self._generator, dtype=torch.float64)
        order_M = (layout.group_M.double() + place_M.to(logits_ME.device)).argsort()
        return logits_ME[order_M]


class Untrained:
    """The logits of routers with their initial weights, on the trained model's hidden states."""

    def __init__(self, weights: Mapping[int, Tensor]) -> None:
        self._weights = weights

    def start_batch(self, keys_BT: Tensor) -> None:
        """Nothing to look up."""

    def __call__(self, site_id: int, logits_ME: Tensor, layout: RoutingLayout, router_input_MD: Tensor) -> Tensor:
        """The linear map that the router was before training."""
        weight_ED = self._weights[site_id].to(logits_ME)
        return F.linear(router_input_MD.to(logits_ME.dtype), weight_ED)


class LogitTable:
    """Mean logits per lookup key, collected while the model routes as it learned to; rare keys lean to the mean.

    The key of a patch is that of its first unit. Its mean is taken with one more observation, the mean over all
    patches: an unseen key gets just that.
    """

    def __init__(self, num_keys: int) -> None:
        self._num_keys = num_keys
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, Tensor] = {}
        self._keys_N = torch.zeros(0, dtype=torch.long)

    def start_batch(self, keys_BT: Tensor) -> None:
        """Remember the keys of this batch's units."""
        self._keys_N = keys_BT.flatten()

    def __call__(self, site_id: int, logits_ME: Tensor, layout: RoutingLayout, router_input_MD: Tensor) -> Tensor:
        """Count the logits in, and leave them as they are."""
        if site_id not in self._sums:
            self._sums[site_id] = logits_ME.new_zeros((self._num_keys, logits_ME.shape[1]), dtype=torch.float64)
            self._counts[site_id] = logits_ME.new_zeros(self._num_keys, dtype=torch.float64)
        keys_M = patch_keys(self._keys_N, layout)
        self._sums[site_id].index_add_(0, keys_M, logits_ME.detach().double())
        self._counts[site_id].index_add_(0, keys_M, torch.ones_like(keys_M, dtype=torch.float64))
        return logits_ME

    def means(self) -> dict[int, Tensor]:
        """Per site, (keys, experts)."""
        tables: dict[int, Tensor] = {}
        for site_id, sums in self._sums.items():
            counts = self._counts[site_id]
            overall = sums.sum(dim=0) / counts.sum().clamp_min(1)
            tables[site_id] = (sums + overall) / (counts[:, None] + 1)
        return tables


class LookedUp:
    """Logits that depend on nothing but the token id or the grid cell."""

    def __init__(self, tables: Mapping[int, Tensor]) -> None:
        self._tables = tables
        self._keys_N = torch.zeros(0, dtype=torch.long)

    def start_batch(self, keys_BT: Tensor) -> None:
        """Remember the keys of this batch's units."""
        self._keys_N = keys_BT.flatten()

    def __call__(self, site_id: int, logits_ME: Tensor, layout: RoutingLayout, router_input_MD: Tensor) -> Tensor:
        """The row of the patch's key."""
        return self._tables[site_id][patch_keys(self._keys_N, layout)].to(logits_ME)


def patch_keys(keys_N: Tensor, layout: RoutingLayout) -> Tensor:
    """The lookup key of every patch: that of its first unit."""
    return keys_N[layout.unit_N[layout.first_M]]


class ReplacedRoutes:
    """Makes the overrides of every batch: other routes at some sites, and the capacity lifted at all or none."""

    def __init__(self, replacement: Replacement, sites: frozenset[int], *, limited: bool) -> None:
        self._replacement = replacement
        self._sites = sites
        self._limited = limited

    def __call__(self, keys_BT: Tensor) -> RoutingOverrides:
        """The overrides of one batch, from the lookup keys of its units."""
        self._replacement.start_batch(keys_BT)
        return RoutingOverrides(capacity_factor=UNSET if self._limited else None, replace_logits=self._replace)

    def _replace(self, site_id: int, logits_ME: Tensor, layout: RoutingLayout, router_input_MD: Tensor) -> Tensor:
        if site_id not in self._sites:
            return logits_ME
        return self._replacement(site_id, logits_ME, layout, router_input_MD)


def target_sites(block: str, num_sites: int) -> frozenset[int]:
    """Site ids of attention, mlp or both."""
    return frozenset(site for site in range(num_sites) if block in ("both", BLOCKS[site % len(BLOCKS)]))


def draw_seed(seed: int, draw: int) -> int:
    """The seed of one of several draws; the same for every model."""
    return 1000 * seed + draw


def untrained_weights(model: nn.Module, folder: Path) -> dict[int, Tensor]:
    """The initial router weights (E, D) that a checkpoint is shipped with, by site id.

    Raises:
        CheckpointError: they are missing, damaged, or belong to another model.
    """
    path = folder / UNTRAINED_ROUTERS
    if not path.is_file():
        raise CheckpointError(f"{folder.name} has no {path.name}: the untrained routers cannot be put back")
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder.name}/{path.name} cannot be read: {error}") from error
    weights: dict[int, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, Router):
            weight = stored.get(f"{name}.weight")
            if weight is None or weight.shape != module.weight.shape:
                raise CheckpointError(f"{folder.name}/{path.name} does not hold the router {name} of this model")
            weights[module.site_id] = weight
    return weights


def save_lookup_routes(tables: Mapping[int, Tensor], folder: Path) -> None:
    """Write the tables of `LookedUp` into a checkpoint folder, in half precision."""
    save_file({str(site): table.half().contiguous() for site, table in tables.items()}, folder / LOOKUP_ROUTES)


def lookup_routes(configs: Sequence[RouterConfig], folder: Path) -> dict[int, Tensor]:
    """The tables (keys, E) by site id that a checkpoint is shipped with.

    Raises:
        CheckpointError: they are missing, damaged, or belong to another model.
    """
    path = folder / LOOKUP_ROUTES
    if not path.is_file():
        raise CheckpointError(f"{folder.name} has no {path.name}: routes cannot be looked up")
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder.name}/{path.name} cannot be read: {error}") from error
    tables: dict[int, Tensor] = {}
    for site, config in enumerate(configs):
        table = stored.get(str(site))
        if table is None or table.ndim != 2 or table.shape[1] != config.num_experts:
            raise CheckpointError(f"{folder.name}/{path.name} does not hold site {site} of this model")
        tables[site] = table.float()
    return tables
