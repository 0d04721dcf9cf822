"""What the released code does differently from what it should: one named switch each, all on as released."""

import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from uoe_model.errors import ConfigError

TieRule = Literal["torch", "lowest"]
"""Which of equal gates fill a slot: as torch.topk on a float32 [n, B, S] tensor happens to take them, or the lower
position first."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Quirks:
    """Switches; False is our repair.

    Attributes:
        filler: free slots hold units that did not ask; they are attended to and written back (L3, M2, M12).
        batch_gate: MLP gates are normalised over the batch, so that neighbours decide who is dropped (L2, M7).
        half_capacity: an MLP expert takes half of the sequence whatever k and n are (L5); else ceil(k * units / n).
        routed_padding: padding is routed, takes slots, and counts in the mean over the sequence (L9).
        early_rotation: positions are rotated into the block's input, before router and projections, values included,
            and the halves of each head change places (L8); else queries and keys are rotated.
        unweighted: gates only choose rows and routers never learn (L1, L6, M10); else outputs are weighted by
            k * p / sum of requested p.
        additive_mask: masked keys get -1e6 added in float32 (L10); else they are hidden.
        wide_scores: scores are divided by the root of width / num_heads, not of the expert's head width (L11).
        summed_gates: the SwiGLU MLP is scaled once by the sum of all gates (L13); else expert by expert.
        across_batch: the language model's MLP takes positions for samples and samples for positions (M1).
        slot_positions: rotary positions count slots, not units (M3).
        mask_from_length: the causal mask of the current units starts at column S, not behind the memory (M4).
    """

    filler: bool = True
    batch_gate: bool = True
    half_capacity: bool = True
    routed_padding: bool = True
    early_rotation: bool = True
    unweighted: bool = True
    additive_mask: bool = True
    wide_scores: bool = True
    summed_gates: bool = True
    across_batch: bool = True
    slot_positions: bool = True
    mask_from_length: bool = True

    def without(self, names: Iterable[str]) -> "Quirks":
        """The same with these switched off.

        Raises:
            ConfigError: there is no quirk of that name.
        """
        known = [field.name for field in dataclasses.fields(self)]
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise ConfigError(f"there is no quirk called {', '.join(unknown)}: choose from {', '.join(known)}")
        return dataclasses.replace(self, **dict.fromkeys(names, False))

    def names_off(self) -> tuple[str, ...]:
        """Those that are switched off."""
        return tuple(field.name for field in dataclasses.fields(self) if not getattr(self, field.name))


CLASSIFIER_QUIRKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "filler": "Free slots hold units that did not ask; others attend to them, and they are written back (L3).",
        "batch_gate": "MLP gates are normalised over the batch, so neighbours decide who is dropped (L2).",
        "half_capacity": "An MLP expert takes half of the padded sequence, however many experts there are (L5).",
        "routed_padding": "Padding is routed, takes slots, and counts in the mean that is classified (L9).",
        "early_rotation": "Positions are rotated into the block's input, before router, queries, keys and values (L8).",
        "unweighted": "Gates choose rows and weigh nothing, so routers never learn (L1, L6).",
        "additive_mask": "Masked keys get -1e6 added instead of being hidden (L10).",
    }
)
"""Those that change the released classifier, with a sentence each; the others belong to parts that it does not have, or
change nothing at its sizes."""
