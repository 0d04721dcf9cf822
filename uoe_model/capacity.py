"""How many patches of an example one expert takes: the formula, for tensors and for a single number."""

from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from uoe_model.config import MINIMUM_CAUSAL_CAPACITY, RouterConfig
from uoe_model.decision import UNLIMITED


def example_capacity(config: RouterConfig, patches_G: Tensor) -> Tensor:
    """Patches one expert may take of each example, C = ceil(f * k * patches / E); int64, -1 unlimited.

    Under `position` admission this is the value at the example's last patch, at least 4.
    """
    if config.capacity_factor is None:
        return torch.full_like(patches_G, UNLIMITED)
    return _capacity_of(patches_G, config)


@lru_cache(maxsize=64)
def capacity_table(config: RouterConfig, longest: int, device: torch.device) -> Tensor:
    """`example_capacity` of examples of 0..longest patches, int64 (longest + 1); kept, so do not write to it."""
    with torch.inference_mode(False):
        return example_capacity(config, torch.arange(longest + 1, device=device))


def _capacity_of(patches: Tensor, config: RouterConfig) -> Tensor:
    share = _share(config)
    if share.numerator < 2**31 or not patches.numel():
        capacity = -(-patches * share.numerator // share.denominator)
    else:
        # A factor of many digits would overflow int64: count with Python's integers.
        table = [_ceil(count * share) for count in range(int(patches.max()) + 1)]
        capacity = torch.tensor(table, device=patches.device)[patches]
    return capacity.clamp_min(MINIMUM_CAUSAL_CAPACITY) if config.admission == "position" else capacity


def largest_batch(patches: int, config: RouterConfig) -> int:
    """Patches that one expert can keep at most of an example of so many."""
    if config.capacity_factor is None:
        return patches
    capacity = _ceil(patches * _share(config))
    if config.admission == "position":
        capacity = max(capacity, MINIMUM_CAUSAL_CAPACITY)
    return min(capacity, patches)


def _share(config: RouterConfig) -> Fraction:
    """f * k / E; f is the decimal number that was written, not its binary neighbour."""
    return Fraction(str(config.capacity_factor)) * config.num_experts_per_tok / config.num_experts


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
