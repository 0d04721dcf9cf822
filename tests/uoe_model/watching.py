"""A watch that remembers what it was told, and cancels when it was asked so often."""

import dataclasses


@dataclasses.dataclass
class Recorder:
    """Attributes: cancel_at, the number of the question (from 1) that is answered with yes; 0: never."""

    cancel_at: int = 0
    asked: int = 0
    reports: list[tuple[str, int, int]] = dataclasses.field(default_factory=list)
    tokens: list[tuple[str, tuple[int, ...]]] = dataclasses.field(default_factory=list)

    def report(self, stage: str, done: int, total: int) -> None:
        self.reports.append((stage, done, total))

    def token(self, text: str, experts: tuple[int, ...]) -> None:
        self.tokens.append((text, experts))

    def is_cancelled(self) -> bool:
        self.asked += 1
        return 0 < self.cancel_at <= self.asked
