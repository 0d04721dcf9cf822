"""Memory that training frees and takes again every step stays with the process, where the C library allows it."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # parameters of mallopt(3)


def keep_freed_memory() -> bool:
    """Stop glibc from giving large blocks back to the system, which costs more than half of a training step.

    A text batch makes tensors of hundreds of megabytes (units x vocabulary); by default each is mapped and
    cleared by the kernel anew. The process then holds its peak until it ends.

    Returns:
        Whether it took effect; False without glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(
        mallopt(parameter, value) for parameter, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1))
    )
