"""RunResult: what one run hands to the page. Trace, prediction, the input for overlays, timings; immutable."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from uoe_model.errors import CaptureError
from uoe_model.trace import RoutingTrace, read_only


@dataclass(frozen=True, kw_only=True, slots=True)
class TextInput:
    """The text that was run, as typed or decoded."""

    text: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageInput:
    """The picture that was run: as uploaded, for drawing on, and as the model saw it.

    `pixels` is uint8 (H, W, 3), EXIF rotation applied, downscaled to at most 2048 pixels a side; boxes in the trace
    are in pixels of the original, `original_width` x `original_height`.
    """

    pixels: NDArray[np.uint8]
    model_pixels: NDArray[np.uint8]  # (h, w, 3)
    name: str
    fit: Literal["crop", "letterbox"]
    original_width: int
    original_height: int

    def __post_init__(self) -> None:
        problems = []
        for name in ("pixels", "model_pixels"):
            pixels = getattr(self, name)
            if type(pixels) is not np.ndarray or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
                problems.append(f"{name} must be a uint8 array of shape (height, width, 3)")
            else:
                object.__setattr__(self, name, read_only(pixels))
        if self.fit not in ("crop", "letterbox"):
            problems.append(f"fit={self.fit!r} must be 'crop' or 'letterbox'")
        if self.original_width < 1 or self.original_height < 1:
            problems.append(f"original size {self.original_width}x{self.original_height} must be at least 1x1")
        _raise("ImageInput", problems)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClassPrediction:
    """Probabilities over classes, in the order of the labels."""

    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]  # (num_labels,), sums to 1

    def __post_init__(self) -> None:
        probabilities = self.probabilities
        problems = []
        if type(probabilities) is not np.ndarray or probabilities.dtype != np.float64:
            problems.append("probabilities must be an array of float64")
        elif probabilities.shape != (len(self.labels),):
            problems.append(
                f"probabilities have shape {probabilities.shape}, must be ({len(self.labels)},), one per label"
            )
        elif not ((probabilities >= 0).all() and abs(probabilities.sum() - 1) < 1e-4):
            problems.append(f"probabilities must not be negative and sum to 1, not {probabilities.sum()}")
        _raise("ClassPrediction", problems)
        object.__setattr__(self, "probabilities", read_only(probabilities))


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One token that could come next."""

    token_id: int
    text: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPrediction:
    """What a language model says about a text and after it."""

    next_candidates: tuple[Candidate, ...]  # most probable first
    continuation: str  # "" when nothing was generated
    mean_loss: float  # nats per token; NaN when no token had a target
    bits_per_byte: float  # NaN likewise


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EmbeddingPrediction:
    """The vector that a text encoder makes of a text; of a long one, the mean over its examples."""

    vector: NDArray[np.float32]  # (D,)

    def __post_init__(self) -> None:
        vector = self.vector
        problems = []
        if type(vector) is not np.ndarray or vector.dtype != np.float32 or vector.ndim != 1 or not len(vector):
            problems.append("vector must be an array (D,) of float32")
        elif not np.isfinite(vector).all():
            problems.append("vector must be finite")
        _raise("EmbeddingPrediction", problems)
        object.__setattr__(self, "vector", read_only(vector))

    @property
    def length(self) -> float:
        """Its Euclidean length."""
        return float(np.linalg.norm(self.vector.astype(np.float64)))


Prediction: TypeAlias = ClassPrediction | TextPrediction | EmbeddingPrediction
"""What a model says about an input."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunResult:
    """One run, shared by reference: nobody changes it."""

    trace: RoutingTrace
    prediction: Prediction
    input: TextInput | ImageInput
    timings_ms: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "timings_ms", MappingProxyType(dict(self.timings_ms)))


def _raise(where: str, problems: list[str]) -> None:
    if problems:
        raise CaptureError(f"{where}: " + "; ".join(problems))
