"""How long work tells somebody how far it is, and learns that nobody waits for it any more."""

from typing import Final, Literal, Protocol

from uoe_model.errors import Cancelled

Stage = Literal["reading", "generating", "recording", "measuring", "cutting", "calibrating"]
"""Reads the input, writes tokens, makes the trace of what was decided, measures losses under changed routes; or cuts a
dense model into experts and fits their routers."""


class Watch(Protocol):
    """What a caller may hand to a run; called in the run's own thread, often, so it must be quick."""

    def report(self, stage: Stage, done: int, total: int) -> None:
        """So many windows, tokens or measurements of this stage are done."""

    def token(self, text: str, experts: tuple[int, ...]) -> None:
        """One more token was written: its text as in the trace, and its first kept expert at every site (-1: none)."""

    def is_cancelled(self) -> bool:
        """Whether the work should stop; asked between windows, tokens and measurements."""


class Unwatched:
    """Nobody looks, and nobody cancels."""

    def report(self, stage: Stage, done: int, total: int) -> None:
        """Not told to anybody."""

    def token(self, text: str, experts: tuple[int, ...]) -> None:
        """Not told to anybody."""

    def is_cancelled(self) -> bool:
        """Never."""
        return False


UNWATCHED: Final = Unwatched()


def check_cancelled(watch: Watch) -> None:
    """Stop here if nobody waits any more.

    Raises:
        Cancelled: somebody asked for it.
    """
    if watch.is_cancelled():
        raise Cancelled("This was cancelled: start it again if you still want it.")
