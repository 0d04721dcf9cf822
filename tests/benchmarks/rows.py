"""The row that every benchmark of blocks writes: one variant of one case, with or without a time."""

import dataclasses
from typing import Any

from tests.benchmarks.blocks.variants import Setting
from tests.benchmarks.protocol import Timing


def build_row(
    bench: str,
    variant: str,
    setting: Setting,
    timing: Timing | None,
    *,
    baseline: str,
    dtype: str = "float32",
    direction: str = "forward",
) -> dict[str, Any]:
    """The columns that identify it, then those of `Timing` (None where it could not be timed)."""
    times = dict.fromkeys(field.name for field in dataclasses.fields(Timing)) if timing is None else {}
    return {
        "bench": bench,
        "variant": variant,
        "baseline": baseline,
        "config": setting.name,
        "S": setting.length,
        "B": setting.batch,
        "dtype": dtype,
        "direction": direction,
        **(times if timing is None else dataclasses.asdict(timing)),
    }
