"""What generation remembers: keys, values and every router's decision for all units so far."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from uoe_model.capacity import example_capacity
from uoe_model.config import RouterConfig
from uoe_model.decision import NOBODY, RoutingDecision
from uoe_model.errors import ConfigError
from uoe_model.layout import RoutingLayout, build_layout
from uoe_model.router import Router, RoutingOverrides, decide

_GRID_FILL = {"logits_NE": 0, "expert_NK": NOBODY, "gate_NK": 0, "kept_NK": False}


class UoECache(Cache):
    """Keys, values and decisions on the grid of B rows x T units, grown by every call.

    Earlier decisions are never made again differently: with `position` admission they do not depend on later units.
    Beam search reorders it, assisted decoding crops it, and both take the decisions along.
    """

    is_compileable = False

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.valid_BT: Tensor | None = None
        self.keys: dict[int, tuple[Tensor, Tensor]] = {}
        self.sites: dict[int, dict[str, Tensor]] = {}
        self.configs: dict[int, RouterConfig] = {}

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Units per row so far, padding included."""
        return 0 if self.valid_BT is None else self.valid_BT.shape[1]

    def decisions(self) -> tuple[RoutingDecision, ...]:
        """The decision of every site, in site order, over all B * T units so far."""
        if self.valid_BT is None:
            return ()
        decisions = []
        for site_id, grids in sorted(self.sites.items()):
            config = self.configs[site_id]
            patches_G = build_layout(self.valid_BT, config.patch_len).patches_G
            rows = {name: grid.flatten(0, 1) for name, grid in grids.items()}
            decisions.append(RoutingDecision(**rows, capacity_G=example_capacity(config, patches_G), slots=None))
        return tuple(decisions)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let row i continue from row beam_idx[i]."""
        self._map(lambda grid: grid.index_select(0, beam_idx.to(grid.device)))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only some rows."""
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        self._map(lambda grid: grid.repeat_interleave(repeats, dim=0))

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last units: as in transformers, a negative number says how many.

        Raises:
            ConfigError: a positive number, or more units than there are.
        """
        if tokens_to_remove > 0 or -tokens_to_remove > self.get_seq_length():
            raise ConfigError(
                f"UoECache.crop({tokens_to_remove}): give minus the number of tokens to remove, "
                f"-{self.get_seq_length()}..0"
            )
        length = self.get_seq_length() + tokens_to_remove
        if self.valid_BT is not None:
            self.valid_BT = self.valid_BT[:, :length]
        self.keys = {layer: (k[:, :length], v[:, :length]) for layer, (k, v) in self.keys.items()}
        for site in self.sites.values():
            site.update({name: grid[:, :length] for name, grid in site.items()})

    def reset(self) -> None:
        """Forget everything."""
        self.valid_BT, self.keys, self.sites, self.configs = None, {}, {}, {}

    def _map(self, change: Callable[[Tensor], Tensor]) -> None:
        if self.valid_BT is not None:
            self.valid_BT = change(self.valid_BT)
        self.keys = {layer: (change(k), change(v)) for layer, (k, v) in self.keys.items()}
        self.sites = {site_id: {n: change(g) for n, g in site.items()} for site_id, site in self.sites.items()}


@dataclasses.dataclass(kw_only=True)
class CacheStep:
    """One call of a model with a cache: what is new, and how it joins what is there.

    Attributes:
        layout: of the new units only (rows x new columns). everything: of all units so far.
        new_N: int64, index of each new unit into the units of `everything`.
        new_column_N: int64, column of each new unit in the whole grid.
    """

    cache: UoECache
    layout: RoutingLayout
    everything: RoutingLayout
    new_N: Tensor
    new_column_N: Tensor

    @property
    def is_first(self) -> bool:
        """Whether nothing was cached before."""
        return self.everything.row_length == self.layout.row_length

    def store(self, router: Router, overrides: RoutingOverrides | None, decision: RoutingDecision) -> None:
        """Append the decision for the new units."""
        site_id = router.site_id
        self.cache.configs[site_id] = router.config_of_call(overrides)
        rows, columns = self.layout.num_rows, self.layout.row_length
        grids = {
            name: self.layout.spread(getattr(decision, name), fill).view(rows, columns, -1)
            for name, fill in _GRID_FILL.items()
        }
        past = self.cache.sites.get(site_id)
        if past is not None:
            grids = {name: torch.cat([past[name], grid], 1) for name, grid in grids.items()}
        self.cache.sites[site_id] = grids

    def decide(self, router: Router, x_ND: Tensor, overrides: RoutingOverrides | None) -> RoutingDecision:
        """The decision for all units so far; the part of the new units is stored.

        Raises:
            ConfigError: replaced logits, whose replacement would need the inputs of earlier units too.
        """
        if overrides is not None and overrides.touches(router.site_id) and overrides.replace_logits is not None:
            raise ConfigError("RoutingOverrides.replace_logits needs the whole input at once: pass use_cache=False")
        config = router.config_of_call(overrides)
        new_NE = router.logits(x_ND, dataclasses.replace(self.layout, first_M=self.new_N), causal=False)
        past_BTE = self.cache.sites[router.site_id]["logits_NE"]
        rows, columns = self.layout.num_rows, self.layout.row_length
        all_BTE = torch.cat([past_BTE, self.layout.spread(new_NE).view(rows, columns, -1)], 1)
        logits_NE = self.everything.select(all_BTE)
        decision = decide(logits_NE.index_select(0, self.everything.first_M), config, self.everything)
        self.store(router, overrides, self.new_part(decision))
        return decision

    def new_part(self, decision: RoutingDecision) -> RoutingDecision:
        """The rows of the new units."""
        rows = {name: getattr(decision, name).index_select(0, self.new_N) for name in _GRID_FILL}
        return RoutingDecision(**rows, capacity_G=decision.capacity_G)

    def store_keys(self, layer: int, k_NHd: Tensor, v_NHd: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values; returns all of them (B, T, H, head width)."""
        rows, columns = self.layout.num_rows, self.layout.row_length
        k, v = (self.layout.spread(part).view(rows, columns, *part.shape[1:]) for part in (k_NHd, v_NHd))
        past = self.cache.keys.get(layer)
        if past is not None:
            k, v = torch.cat([past[0], k], 1), torch.cat([past[1], v], 1)
        self.cache.keys[layer] = (k, v)
        return k, v

    def on_grid(self, values_NE: Tensor, fill: float) -> Tensor:
        """(N, E) of all units so far on the grid (B, T, E)."""
        grid = self.everything.spread(values_NE, fill)
        return grid.view(self.everything.num_rows, self.everything.row_length, -1)


def begin_step(cache: UoECache, valid_BT: Tensor, patch_len: int) -> CacheStep:
    """Join the columns of `valid_BT` that are new to what the cache holds.

    Args:
        valid_BT: bool over all columns so far, cached and new.
    """
    past = cache.get_seq_length()
    everything = build_layout(valid_BT, patch_len)
    column_N = everything.unit_N % everything.row_length
    is_new_N = column_N >= past
    new_N = is_new_N.nonzero().squeeze(1)
    new_valid = valid_BT[:, past:]
    unit_N = new_valid.reshape(-1).nonzero().squeeze(1)
    # Requests and slots are taken from `everything`; of the new units only places and positions are needed.
    layout = dataclasses.replace(
        everything,
        row_length=new_valid.shape[1],
        unit_N=unit_N,
        group_N=everything.group_N[new_N],
        position_N=everything.position_N[new_N],
    )
    if past == 0:
        layout = everything
    cache.valid_BT = valid_BT
    return CacheStep(
        cache=cache, layout=layout, everything=everything, new_N=new_N, new_column_N=column_N.index_select(0, new_N)
    )
