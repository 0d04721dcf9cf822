"""Which units are real, which example and patch each belongs to: computed once per forward, shared by all sites.

Shape letters, here and in the whole model: B rows, T units per row, N valid units of all rows, G examples (a row, or
a document of a packed row), M patches of all examples, P patches of the longest example, D width, E experts, K top-k.
"""

import dataclasses
from functools import cached_property

import torch
from torch import Tensor

from uoe_model.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoutingLayout:
    """Where the valid units of a batch stand. Padding is not in it, so it can never be routed or counted.

    Attributes:
        num_rows, row_length: B and T.
        num_groups: G; groups are numbered in the order of their first unit.
        unit_N: int64, index of each valid unit into the flattened B * T grid, ascending.
        group_N: int64, example of each unit. position_N: int64, position within its example, 0-based.
        patch_len: units per patch. patch_N: int64, patch of each unit (0..M-1).
        first_M: int64, index into N of each patch's first unit. group_M: int64, example of each patch.
        time_M: int64, index of each patch within its example.
        patches_G: int64, patches of each example.
    """

    num_rows: int
    row_length: int
    num_groups: int
    unit_N: Tensor
    group_N: Tensor
    position_N: Tensor
    patch_len: int
    patch_N: Tensor
    first_M: Tensor
    group_M: Tensor
    time_M: Tensor
    patches_G: Tensor

    @property
    def num_units(self) -> int:
        """N, valid units."""
        return self.unit_N.shape[0]

    @property
    def num_patches(self) -> int:
        """M, patches of all examples."""
        return self.first_M.shape[0]

    @property
    def is_full(self) -> bool:
        """Whether there is no padding, so that N = B * T."""
        return self.num_units == self.num_rows * self.row_length

    @cached_property
    def longest(self) -> int:
        """P, patches of the longest example (0 if there is none)."""
        return int(self.patches_G.max()) if self.num_groups else 0

    @cached_property
    def is_grid(self) -> bool:
        """Whether all examples have the same number of patches, so that M is the grid G x P."""
        return self.num_groups * self.longest == self.num_patches

    @cached_property
    def cell_M(self) -> Tensor:
        """int64, where each patch stands in the flattened grid G x P."""
        return self.group_M * self.longest + self.time_M

    @cached_property
    def first_patch_X(self) -> Tensor:
        """int32 (G + 1), first patch of every example, and M."""
        zero = self.patches_G.new_zeros(1)
        return torch.cat([zero, self.patches_G.cumsum(0)]).int()

    @cached_property
    def first_unit_X(self) -> Tensor:
        """int32 (G + 1), first unit of every example, and N."""
        ends = self.first_M.new_full((1,), self.num_units)
        return torch.cat([self.first_M, ends]).index_select(0, self.first_patch_X).int()

    def to_grid(self, values_ME: Tensor, fill: float) -> Tensor:
        """Lay (M, E) out as (G, E, P), with `fill` where an example has no further patch."""
        num_experts = values_ME.shape[1]
        if not self.is_grid:
            grid = values_ME.new_full((self.num_groups * self.longest, num_experts), fill)
            values_ME = grid.index_copy(0, self.cell_M, values_ME)
        return values_ME.view(self.num_groups, self.longest, num_experts).transpose(1, 2)

    def from_grid(self, values_GEP: Tensor) -> Tensor:
        """Undo `to_grid`: (G, E, P) to (M, E)."""
        values = values_GEP.transpose(1, 2).reshape(-1, values_GEP.shape[1])
        return values if self.is_grid else values.index_select(0, self.cell_M)

    def select(self, values_BTX: Tensor) -> Tensor:
        """Take the valid units of a (B, T, ...) tensor: (N, ...)."""
        flat = values_BTX.reshape(-1, *values_BTX.shape[2:])
        return flat if self.is_full else flat.index_select(0, self.unit_N)

    def spread(self, values_NX: Tensor, fill: float = 0) -> Tensor:
        """Put (N, ...) back on the flattened grid: (B * T, ...), padding holding `fill`."""
        if self.is_full:
            return values_NX
        grid = values_NX.new_full((self.num_rows * self.row_length, *values_NX.shape[1:]), fill)
        return grid.index_copy(0, self.unit_N, values_NX)

    @cached_property
    def whole_examples(self) -> "RoutingLayout":
        """The same units with each example as one patch, for sample-wise expert selection."""
        start_N = self.position_N == 0
        groups = torch.arange(self.num_groups, device=self.group_N.device)
        return dataclasses.replace(
            self,
            patch_len=max(self.row_length, 1),
            patch_N=self.group_N,
            first_M=start_N.nonzero().squeeze(1),
            group_M=groups,
            time_M=torch.zeros_like(groups),
            patches_G=torch.ones_like(groups),
        )


def build_layout(valid_BT: Tensor, patch_len: int, document_BT: Tensor | None = None) -> RoutingLayout:
    """Number the valid units of a batch.

    Args:
        valid_BT: bool; False is padding, anywhere in the row.
        patch_len: units per patch; the last patch of an example may be shorter.
        document_BT: int, optional: units of one row with different values are different examples. The units of a
            document must be neighbours.

    Raises:
        InputError: a row without a valid unit, or a document that is interrupted by another one.
    """
    num_rows, row_length = valid_BT.shape
    device = valid_BT.device
    flat_valid = valid_BT.reshape(-1)
    if document_BT is None and bool(flat_valid.all()):
        unit_N = torch.arange(num_rows * row_length, device=device)
    else:
        unit_N = flat_valid.nonzero().squeeze(1)
    row_N = unit_N // max(row_length, 1)
    start_N = torch.ones_like(unit_N, dtype=torch.bool)
    start_N[1:] = row_N[1:] != row_N[:-1]
    if document_BT is not None:
        document_N = document_BT.reshape(-1).index_select(0, unit_N)
        start_N[1:] |= document_N[1:] != document_N[:-1]
        named = torch.stack([row_N[start_N], document_N[start_N]])
        if torch.unique(named, dim=1).shape[1] != named.shape[1]:
            raise InputError("document_ids: the tokens of one document must be neighbours within their row")
    group_N = start_N.cumsum(0) - 1
    num_groups = int(group_N[-1]) + 1 if unit_N.numel() else 0
    if document_BT is None and num_groups != num_rows:
        raise InputError("attention_mask: every row needs at least one token that is not padding")
    index_N = torch.arange(unit_N.numel(), device=device)
    position_N = index_N - index_N[start_N][group_N]
    first_N = position_N % patch_len == 0
    group_M = group_N[first_N]
    return RoutingLayout(
        num_rows=num_rows,
        row_length=row_length,
        num_groups=num_groups,
        unit_N=unit_N,
        group_N=group_N,
        position_N=position_N,
        patch_len=patch_len,
        patch_N=index_N if patch_len == 1 else first_N.cumsum(0) - 1,
        first_M=index_N[first_N],
        group_M=group_M,
        time_M=position_N[first_N] // patch_len,
        patches_G=torch.bincount(group_M, minlength=num_groups),
    )
