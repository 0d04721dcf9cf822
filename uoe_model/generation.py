"""How a text is to be continued; plain data, the drawing itself is in `scoring.py`."""

import dataclasses
import math
from typing import Final

from uoe_model.errors import ConfigError

MAXIMUM_TEMPERATURE: Final = 100
"""Far beyond what still differs from an even draw."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GenerationSettings:
    """Settings of one continuation; those after `temperature` matter only when tokens are drawn.

    Attributes:
        max_new_tokens: at most so many; the model's context or its end token may come first. 0: no continuation.
        temperature: divides the logits; 0 takes the most probable token instead of drawing (greedy).
        top_p: draw from the most probable tokens that together reach this probability, above 0 and at most 1. The
            probabilities are those after temperature and top_k.
        top_k: draw from the k most probable tokens; 0: from all.
        seed: of the draws; equal seeds give equal texts on one device.
        stop_at_eos: whether the end token ends the text; if not it is a token like any other.

    Raises:
        ConfigError: values that cannot be, all named together.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop_at_eos: bool = True

    def __post_init__(self) -> None:
        problems = [
            f"{name}={getattr(self, name)!r} must be 0 or more, and a whole number"
            for name in ("max_new_tokens", "top_k", "seed")
            if not (type(getattr(self, name)) is int and getattr(self, name) >= 0)
        ]
        if not problems and self.seed >= 2**63:
            problems.append(f"seed={self.seed} must be below 2**63")
        if not (_is_number(self.temperature) and 0 <= self.temperature <= MAXIMUM_TEMPERATURE):
            problems.append(
                f"temperature={self.temperature!r} must lie in 0..{MAXIMUM_TEMPERATURE}; 0 is the most probable token"
            )
        if not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            problems.append(f"top_p={self.top_p!r} must be above 0 and at most 1; 1 leaves no token out")
        if type(self.stop_at_eos) is not bool:
            problems.append(f"stop_at_eos={self.stop_at_eos!r} must be true or false")
        if problems:
            raise ConfigError("GenerationSettings: " + "; ".join(problems))

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn at random, so that the seed matters."""
        return self.max_new_tokens > 0 and self.temperature > 0

    def describe(self) -> str:
        """The settings in words; "" if there is no continuation."""
        if not self.max_new_tokens:
            return ""
        parts = [f"at most {self.max_new_tokens} tokens"]
        if not self.draws:
            parts.append("always the most probable one")
        else:
            parts.append(f"drawn at temperature {self.temperature:g}")
            parts += [f"from the {self.top_k} most probable"] if self.top_k else []
            parts += [f"within top-p {self.top_p:g}"] if self.top_p < 1 else []
            parts.append(f"seed {self.seed}")
        return ", ".join(parts) + ("" if self.stop_at_eos else ", not stopping at the end token")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)
