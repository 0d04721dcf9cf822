"""The tables of `bench_gpu`, printed from its record, and what its targets came to."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tests.benchmarks.bench_block import BASELINE, OURS, TRITON
from tests.benchmarks.blocks.sublayers import PRODUCTS_TRITON
from tests.benchmarks.gpu_cases import COMPILED, DEEPSEEK_SCORES

Row = Mapping[str, Any]
MISSING: Final = "not measured"
KERNELS_SHOWN: Final = 8


def printed(record: Mapping[str, Any]) -> str:
    """Everything a reader wants of a record. That of a CPU proves that all runs, so that its times are not shown."""
    rows, is_proof = record["rows"], record["gpu"] is not None
    head = f"{record['device']}, torch {record['torch']}, triton {record['triton']}, cuda {record['cuda']}\n"
    left_out = [f"left out: {name}: {reason}\n" for name, reason in record["left_out"].items()]
    if is_proof:
        return "".join([head, f"{record['gpu']}; what runs:\n", *map(proof_line, rows), *left_out])
    head += f"clocks: {record['clocks_before']}; {record['clocks_after']}\n"
    head += f"rates (GFLOP/s, GB/s): {record['rates']}\nA/A spread: {_number(record['aa_spread'])}\n"
    lines = [row_line(row, record["aa_spread"]) for row in rows]
    kernels = [line for row in rows if row["variant"] == TRITON for line in kernel_lines(row)]
    return "".join([head, *lines, *left_out, *kernels, "targets\n", *target_lines(rows)])


def proof_line(row: Row) -> str:
    """That a variant ran, or why not."""
    if row.get("failed") or row["bench"] == "check":
        return row_line(row)
    saved = f", saved {row['saved_ratio']:.2f} of dense" if row.get("saved_ratio") else ""
    return f"{_start(row)} runs{saved}\n"


def row_line(row: Row, spread: float | None = None) -> str:
    """One line of any section; ratios nearer to 1 than the same block is to itself are marked with "="."""
    if row.get("failed"):
        return f"{_start(row)} {row['failed']}\n"
    if row["bench"] == "check":
        verdict = "" if row["is_right"] else "  WRONG"
        return f"{_start(row)} off by {row['largest']:.1e} at most, {row['p90']:.1e} in nine of ten units{verdict}\n"
    if row["bench"] == "capture":
        return f"{_start(row)} {_captured(row)}\n"
    same = "=" if spread is not None and abs(row["ratio"] - 1) <= spread else ""
    parts = [
        f"{row['median_ms']:9.3f} ms",
        f"ratio {row['ratio']:.2f}{same} [{row['ratio_p10']:.2f}, {row['ratio_p90']:.2f}]",
        *(f"{label} {_number(row[name])}" for name, label in LABELS.items() if row.get(name) is not None),
    ]
    return f"{_start(row)} {'  '.join(parts)}{'  NOISY' if row.get('noisy') else ''}\n"


def _start(row: Row) -> str:
    known = (row.get("config"), f"S {row['S']}" if "S" in row else None, row.get("dtype"), row.get("direction"))
    place = " ".join(part for part in (*known, row.get("routing")) if part)
    return f"{row['bench']:8} {place:44} {row['variant']:36}"


def kernel_lines(row: Row) -> list[str]:
    """The longest kernels of a profiled call."""
    longest = list(row.get("kernel_us", {}).items())[:KERNELS_SHOWN]
    return [f"{_start(row)} kernels, us\n", *(f"{us:12.1f}  {name[:90]}\n" for name, us in longest)] if longest else []


LABELS: Final = {
    "floor_share": "of floor",
    "share_of_rate": "of matmul rate",
    "launches": "launches",
    "copies_to_host": "copies to host",
    "waits": "waits",
    "why_it_waits": "waits for:",
    "saved_ratio": "saved",
    "peak_ratio": "peak",
    "units_per_s": "units/s",
}


def _captured(row: Row) -> str:
    return (
        f"ratio {row['ratio']['median']:.3f} (A/A {row['aa_ratio']['median']:.3f}), isolated "
        f"{row['isolated_us']:.0f} us ({row['isolated_percent']:.2f} %), copies to host "
        f"{_number(row['copies_forward'])} without and {_number(row['copies_captured'])} with it"
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One promise of the design: `find` takes its value from the rows (None: it was not measured)."""

    text: str
    limit: float
    at_least: bool = False
    find: Callable[[Sequence[Row]], float | None]


def _of(rows: Sequence[Row], variant: str, bench: str = "block", **wanted: object) -> Row:
    """The row of a variant in bfloat16, or an empty one."""
    wanted |= {"variant": variant, "bench": bench, "dtype": "bfloat16"}
    return next((row for row in rows if all(row.get(name) == value for name, value in wanted.items())), {})


def _paper(rows: Sequence[Row], direction: str, top_k: int = 4, length: int = 4096) -> Row:
    return _of(rows, TRITON, config=f"paper scale, top-{top_k}", S=length, direction=direction)


def _mlp(rows: Sequence[Row], variant: str) -> Row:
    return _of(rows, variant, "MLP", config="paper scale, top-4", S=1024, direction="forward", routing="even")


def _peak_against(rows: Sequence[Row], baseline: str) -> float | None:
    own = _paper(rows, "both").get("peak_bytes")
    other = _of(rows, baseline, config="paper scale, top-4", S=4096, direction="both").get("peak_bytes")
    return own / other if own and other else None


def _worst_against(rows: Sequence[Row], others: str) -> float | None:
    found = [ratio for name, ratio in _mlp(rows, TRITON).get("ratios", {}).items() if name.startswith(others)]
    return max(found, default=None)


def _copies_of_capture(rows: Sequence[Row]) -> int | None:
    found = [row for row in rows if row.get("copies_captured") is not None]
    return max((row["copies_captured"] - row["copies_forward"] for row in found), default=None)


TARGETS: Final = (
    Target(text="forward, top-4, S 4096 / dense", limit=0.50, find=lambda rows: _paper(rows, "forward").get("ratio")),
    Target(
        text="the same / dense, compiled",
        limit=0.50,
        find=lambda rows: _paper(rows, "forward").get("ratios", {}).get(COMPILED),
    ),
    Target(
        text="the same, share of its floor",
        limit=0.55,
        at_least=True,
        find=lambda rows: _paper(rows, "forward").get("floor_share"),
    ),
    Target(
        text="forward, top-8, S 4096 / dense", limit=0.80, find=lambda rows: _paper(rows, "forward", 8).get("ratio")
    ),
    Target(
        text="forward and backward, S 4096 / DeepSeek-V3-style with scores in memory",
        limit=0.46,
        find=lambda rows: _paper(rows, "both").get("ratios", {}).get(DEEPSEEK_SCORES),
    ),
    Target(
        text="forward and backward, S 256 / the same",
        limit=0.46,
        find=lambda rows: _paper(rows, "both", length=256).get("ratios", {}).get(DEEPSEEK_SCORES),
    ),
    Target(text="peak memory / the same", limit=0.40, find=lambda rows: _peak_against(rows, DEEPSEEK_SCORES)),
    Target(text="peak memory / dense", limit=0.60, find=lambda rows: _peak_against(rows, BASELINE)),
    Target(
        text="MLP, gather to combine, 8k units, share of the matmul rate",
        limit=0.45,
        at_least=True,
        find=lambda rows: _mlp(rows, TRITON).get("share_of_rate"),
    ),
    Target(
        text="MLP, the two products alone, 8k units, share of the matmul rate",
        limit=0.60,
        at_least=True,
        find=lambda rows: _mlp(rows, PRODUCTS_TRITON).get("share_of_rate"),
    ),
    Target(
        text="MLP, 8k units / grouped_mm, the best form", limit=1, find=lambda rows: _worst_against(rows, "grouped")
    ),
    Target(text="MLP, 8k units / plain", limit=1, find=lambda rows: _worst_against(rows, OURS)),
    Target(text="launches per block", limit=24, find=lambda rows: _paper(rows, "forward").get("launches")),
    Target(text="waits in a block", limit=0, find=lambda rows: _paper(rows, "forward").get("waits")),
    Target(text="capture, copies to the host per forward pass", limit=1, find=_copies_of_capture),
    Target(
        text="capture, percent of a forward pass",
        limit=2,
        find=lambda rows: max((row["isolated_percent"] for row in rows if "isolated_percent" in row), default=None),
    ),
)
"""What the design asks of an H200 at least; time ratios are ours over theirs."""


def target_lines(rows: Sequence[Row]) -> list[str]:
    """One line per target: value, limit, whether it is met."""
    lines = []
    for target in TARGETS:
        value = target.find(rows)
        sign = ">=" if target.at_least else "<="
        if value is None:
            lines.append(f"  {target.text}: {MISSING} (must be {sign} {target.limit:g})\n")
            continue
        is_met = value >= target.limit if target.at_least else value <= target.limit
        verdict = "met" if is_met else "MISSED"
        lines.append(f"  {target.text}: {_number(value)} (must be {sign} {target.limit:g}) {verdict}\n")
    return lines


def _number(value: object) -> str:
    if value is None:
        return MISSING
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"
    return str(value)
