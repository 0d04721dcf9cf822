"""A text on the page while the model writes it, coloured by the expert that kept every token at one site."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import streamlit as st

from analysis.figures.theme import FocusPalette
from dashboard.components.selection_signal import post

_FOLDER: Final = Path(__file__).parent
STREAM_HTML: Final = """
<div class="stream">
  <div class="label"></div>
  <div class="words" role="log" aria-live="off" aria-label="The text as it is written" tabindex="0"><span
       class="caret"></span></div>
</div>
"""
STREAM_SCRIPTS: Final = ("map_board.js", "text.js", "stream_strip.js")

_mount = st.components.v2.component(
    "uoe_stream_strip",
    html=STREAM_HTML,
    css=(_FOLDER / "stream_strip.css").read_text(encoding="utf-8"),
    js="\n".join((_FOLDER / part).read_text(encoding="utf-8") for part in STREAM_SCRIPTS),
)


class StreamStrip:
    """A strip that stands on the page once and grows with every `show`, also within one run of the script."""

    def __init__(self, palette: FocusPalette, *, key: str, site_label: str) -> None:
        self._palette, self._channel, self._label = palette, key, site_label
        with st.container(gap=None):
            _mount(key=key, data={"channel": key})
            self._news = st.empty()

    def show(self, tokens: Sequence[str], experts: Sequence[int], *, num_given: int = 0, is_done: bool = False) -> None:
        """Show the text so far; what stands there already is left alone.

        Args:
            tokens: all tokens so far.
            experts: per token the kept expert it preferred most at the site, -1 if none kept it.
            num_given: the first so many tokens were given, the others are written by the model.
        """
        palette = self._palette
        value = {
            "label": f"{self._label} · {len(tokens) - num_given} tokens written" + ("" if is_done else " …"),
            "tokens": list(tokens),
            "experts": [int(expert) for expert in experts],
            "written": num_given,
            "colours": {str(expert): palette.colour(expert, "light") for expert in palette.in_focus()},
            "done": is_done,
        }
        with self._news:
            post(self._channel, "stream", value)


def stream_strip(
    tokens: Sequence[str],
    experts: Sequence[int],
    palette: FocusPalette,
    *,
    key: str,
    site_label: str,
    num_given: int = 0,
    is_done: bool = False,
) -> None:
    """Draw the strip in a fragment that runs again and again; a loop makes one `StreamStrip` and calls `show`."""
    StreamStrip(palette, key=key, site_label=site_label).show(tokens, experts, num_given=num_given, is_done=is_done)
