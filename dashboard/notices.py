"""Error boxes: the only place where an error becomes something a visitor reads."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from typing import Final

import streamlit as st

from dashboard.widgets.words import plain_markdown
from uoe_model.errors import (
    CaptureError,
    CheckpointError,
    ConfigError,
    DeviceError,
    InputError,
    TraceError,
    UoEError,
)

LOG: Final = logging.getLogger(__name__)

_TITLES: Final[tuple[tuple[type[UoEError], str], ...]] = (
    (InputError, "This input cannot be used"),
    (ConfigError, "These settings do not fit the model"),
    (CheckpointError, "This model cannot be used"),
    (TraceError, "This file cannot be opened as a trace"),
    (CaptureError, "What was captured contradicts itself, so it is not shown"),
    (DeviceError, "The machine could not run this"),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """What happened, and one sentence that says why and what to do next."""

    title: str
    sentence: str


def notice_of(error: BaseException) -> Notice:
    """Turn an error of a run into a notice; what is no `UoEError` is our mistake, and its text goes to the log only."""
    if isinstance(error, UoEError):
        title = next((title for kind, title in _TITLES if isinstance(error, kind)), "This did not work")
        return Notice(title=title, sentence=str(error))
    LOG.error("unexpected error", exc_info=error)
    return Notice(
        title="Something went wrong that should not",
        sentence="This is a mistake in the program, not in your input; the server's log says more.",
    )


def render_notice(notice: Notice, *, keeps_run: bool = False) -> None:
    """Draw a notice as one box."""
    end = "" if notice.sentence.endswith((".", "!", "?")) else "."
    rest = " The run below is still the previous one." if keeps_run else ""
    st.error(
        f"**{plain_markdown(notice.title)}.** {plain_markdown(notice.sentence)}{end}{rest}",
        icon=":material/error_outline:",
    )


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Draw something; if that fails, say so in its place and leave the rest of the page alone."""
    try:
        yield
    except UoEError as error:
        render_notice(notice_of(error))
    except Exception:
        LOG.exception("%s failed", what)
        st.error(
            f"{what} could not be drawn: this is a mistake in the program, and the server's log says more. The rest of "
            "the page still holds.",
            icon=":material/error_outline:",
        )
