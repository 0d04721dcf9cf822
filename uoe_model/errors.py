"""Every error a user can cause, as one tree: each message names the value, what is allowed, and what to do next."""

from typing import Final

_MEMORY_WORDS: Final = ("out of memory", "allocate memory", "not enough memory")


class UoEError(Exception):
    """Base of all errors that are shown to a user as a sentence instead of a traceback."""


class ConfigError(UoEError):
    """A model or router configuration contradicts itself or asks for something that cannot be computed."""


class InputError(UoEError):
    """Text or an image that cannot be run: empty, too large, damaged, or not what its name says."""


class CheckpointError(UoEError):
    """A folder is no checkpoint that this project can load."""


class TraceError(UoEError):
    """A routing trace breaks one of its own invariants."""


class TraceFormatError(TraceError):
    """A file is no routing trace, or one that this version cannot read."""


class CaptureError(UoEError):
    """What was captured does not agree with what the model was asked to do."""


class MismatchError(UoEError):
    """Runs that cannot be compared or pooled, because their routers or their inputs differ."""


class DeviceError(UoEError):
    """The device ran out of memory or is not there."""


class Cancelled(UoEError):
    """Somebody asked for this work to stop, and it has stopped."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or torch (on any device) could not get memory."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_WORDS)
    )


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its type if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
