"""What the person who starts the page may set, on the command line or in the environment."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

PRETRAINED: Final = Path(__file__).resolve().parent.parent / "uoe_model" / "pretrained"
"""The bundled checkpoints."""

MODELS_VARIABLE: Final = "UOE_MODELS"
"""Environment variable with the same meaning as `--models`."""

BACKEND_VARIABLE: Final = "UOE_BACKEND"
"""Environment variable with the same meaning as `--backend`."""

BACKENDS: Final = ("auto", "plain")
"""Triton kernels where there is a GPU for them, or plain PyTorch everywhere."""

MAX_TEXT_UPLOAD_MB: Final = 16
MAX_PICTURE_UPLOAD_MB: Final = 32
MAX_TRACE_UPLOAD_MB: Final = 64
MAX_TRACE_BYTES: Final = 256 * 1024**2  # unpacked
MAX_NEW_TOKENS: Final = 200
DEFAULT_NEW_TOKENS: Final = 24
MAX_INPUTS: Final = 64  # of one run
MAX_KEPT_RUNS: Final = 64  # runs that the server remembers for links, over all visitors
MAX_KEPT_UNITS: Final = 400_000  # and their units together


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Where checkpoints are, what computes experts, and what was wrong with the command line ("" if nothing)."""

    bundled: Path
    models_dir: Path | None
    problem: str
    backend: str = "auto"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it on the page instead of ending the server."""
        raise ValueError(message)


def read_settings(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read `--models DIR` and `--backend NAME` after `--` on Streamlit's command line, else from the environment."""
    argv = sys.argv if argv is None else argv
    environ = os.environ if environ is None else environ
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--backend", choices=BACKENDS)
    models_dir = Path(environ[MODELS_VARIABLE]) if environ.get(MODELS_VARIABLE) else None
    backend = environ.get(BACKEND_VARIABLE) or "auto"
    problem = ""
    if backend not in BACKENDS:
        problem, backend = f"{BACKEND_VARIABLE}={backend} is unknown: set it to auto or plain.", "auto"
    if argv and Path(argv[0]).name == "app.py":  # under pytest the command line is pytest's
        try:
            given = parser.parse_args(list(argv[1:]))
            models_dir, backend = given.models or models_dir, given.backend or backend
        except ValueError as error:
            problem = f"The command line was not understood ({error}): write `-- --models DIR` after the file name."
    return Settings(bundled=PRETRAINED, models_dir=models_dir, problem=problem, backend=backend)
