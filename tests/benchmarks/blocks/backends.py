"""Which kernels our blocks run on while they are raced: the only file that knows whether there are Triton ones yet."""

import contextlib
from collections.abc import Iterator
from typing import Literal

from uoe_model.errors import ConfigError

Backend = Literal["plain", "triton"]

try:
    from uoe_model.kernels.backend import use_backend
except ImportError:

    @contextlib.contextmanager
    def use_backend(name: str) -> Iterator[None]:
        """Plain PyTorch, whatever is asked for but Triton."""
        if name == "triton":
            raise ConfigError("backend: 'triton' is not part of this version: use 'plain'")
        yield


__all__ = ["Backend", "use_backend"]
