"""What the token map draws: the pieces of a text, what the model said about each, and its route through every site."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.packed_columns import narrow, pack
from analysis.figures.route_columns import RouteColumns, build_route_columns
from analysis.loss import loss_of_unit
from analysis.padding import padding_units
from analysis.tables import units_table
from uoe_model.trace import RoutingTrace


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenMap:
    """N tokens in reading order.

    Attributes:
        text: (N,) what is written for a token. Tokens that share a character are one group: its first token carries
            the text of the whole group, the others none.
        part, parts: (N,) uint16, place of a token in its group, from 0, and the size of the group.
        position, example, token_id: (N,) int32.
        loss: (N,) float32, nats, of the token itself; NaN where nothing predicted it.
        output_text: (N,) the token the model would have written next.
        output_probability: (N,) float32, NaN unknown.
        is_decoded: (N,) uint8, 1 for tokens the model wrote itself.
        is_padding: (N,) uint8, 1 for what stands behind the end of an example.
    """

    text: tuple[str, ...]
    part: NDArray[np.uint16]
    parts: NDArray[np.uint16]
    position: NDArray[np.int32]
    example: NDArray[np.int32]
    token_id: NDArray[np.int32]
    loss: NDArray[np.float32]
    output_text: tuple[str, ...]
    output_probability: NDArray[np.float32]
    is_decoded: NDArray[np.uint8]
    is_padding: NDArray[np.uint8]
    routes: RouteColumns

    def packed(self, *, channel: str, version: str) -> bytes:
        """All columns for the browser; `channel` names the map on the page, `version` is the identity of the run."""
        names = ("part", "parts", "position", "example", "token_id", "is_decoded")
        texts = {"text": self.text, "output_text": self.output_text}
        columns = {name: narrow(getattr(self, name)) for name in names}
        columns |= {"is_padding": narrow(self.is_padding)} if self.is_padding.any() else {}
        values = {"loss": self.loss, "output_probability": self.output_probability}
        return pack(
            {"channel": channel, "version": version, **texts, **self.routes.header()},
            columns | values | self.routes.packed(),
        )


def build_token_map(trace: RoutingTrace, *, source_text: str | None = None) -> TokenMap:
    """Collect what the token map needs.

    Args:
        trace: a trace of text.
        source_text: the text that was run; with it, characters that were cut into several tokens are shown whole.
    """
    units = units_table(trace)
    group = _character_groups(units)
    parts = np.bincount(group, minlength=1)[group] if len(group) else group
    first = np.flatnonzero(np.diff(group, prepend=-1))
    part = np.arange(len(group)) - first[group] if len(group) else group
    text = units["text"].tolist()
    starts, ends = units["char_start"].tolist(), units["char_end"].tolist()
    for place in np.flatnonzero((parts > 1) & (part == 0)).tolist():
        members = range(place, place + int(parts[place]))
        end = ends[members[-1]]
        if source_text is not None and end <= len(source_text):
            text[place] = source_text[starts[place] : end]
        else:
            text[place] = "".join(text[member] for member in members)
        for member in members[1:]:
            text[member] = ""
    return TokenMap(
        text=tuple(text),
        part=part.astype(np.uint16),
        parts=parts.astype(np.uint16),
        position=trace.units.position,
        example=trace.units.example_id,
        token_id=trace.units.token_id,
        loss=loss_of_unit(units).to_numpy(dtype=np.float32),
        output_text=tuple(units["output_text"]),
        output_probability=trace.units.output_probability,
        is_decoded=(trace.units.phase == "decode").astype(np.uint8),
        is_padding=padding_units(trace).astype(np.uint8),
        routes=build_route_columns(trace),
    )


def _character_groups(units: pd.DataFrame) -> NDArray[np.int64]:
    """Number tokens so that those that share a character with the token before them share its number."""
    start, end = units["char_start"].to_numpy(np.int64), units["char_end"].to_numpy(np.int64)
    example = units["example_id"].to_numpy(np.int64)
    shares = np.zeros(len(units), dtype=np.bool_)
    shares[1:] = (example[1:] == example[:-1]) & (start[1:] >= 0) & (start[1:] < end[:-1]) & (end[1:] > start[:-1])
    return np.cumsum(~shares) - 1
