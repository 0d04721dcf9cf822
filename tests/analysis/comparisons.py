"""Made-up results of a comparison, in the shape of comparison.json."""

import random
from typing import Any

VARIANTS = ("dense", "data", "frozen", "expert_choice", "expert", "switch")
TARGETS = ("L0.attention", "L0.mlp", "L1.attention", "L1.mlp", "attention", "mlp", "both")
REPLACEMENTS = ("balanced_random", "permuted", "untrained_router")


def make_comparison(kind: str = "image", *, seeds: tuple[int, ...] = (0, 1, 2), number: int = 0) -> dict[str, Any]:
    """Text has no expert choice and no expert selection; of `switch` only the first seed was run."""
    dice = random.Random(number)
    not_causal = ("expert_choice", "expert") if kind == "text" else ()
    ran = [(v, s) for s in seeds for v in VARIANTS if v not in not_causal and (v != "switch" or s == seeds[0])]
    runs = [_run(kind, variant, seed, dice) for variant, seed in ran]
    pairs = [(variant, base, seed) for variant, seed in ran for base in ("dense", "frozen") if variant == "data"]
    differences = []
    for variant, baseline, seed in pairs:
        middle = dice.uniform(-0.1, 0.05)
        row = {"variant": variant, "baseline": baseline, "seed": seed, "difference": middle}
        differences.append(row | {"low": middle - 0.01, "high": middle + 0.01})
    return {
        "kind": kind,
        "dataset": "made up",
        "steps": 5,
        "variants": [{"variant": name, "reason": "not causal" if name in not_causal else ""} for name in VARIANTS],
        "runs": runs,
        "differences": differences,
        "step_seconds": {"rows": [{"variant": name, "step_seconds": dice.random()} for name in VARIANTS[:2]]},
    }


def _run(kind: str, variant: str, seed: int, dice: random.Random) -> dict[str, Any]:
    quality: dict[str, Any] = {"accuracy": dice.random()}
    if kind == "text":
        buckets = [(0, 7), (8, 31)]
        positions = [{"first": a, "last": b, "tokens": 9, "loss": dice.uniform(3, 5)} for a, b in buckets]
        quality = {"bits_per_byte": dice.uniform(1, 2), "positions": positions}
    routed = {"dense": (), "switch": TARGETS[1:4:2]}.get(variant, TARGETS[:4])
    share = "dropped_assignment_share"
    return {
        "variant": variant,
        "seed": seed,
        "loss": dice.uniform(1, 2),
        **quality,
        "parameters": {"total": dice.randrange(10_000), "active": dice.randrange(5_000)},
        "multiply_adds": [
            {"part": part, "requested": dice.uniform(5, 9), "kept": dice.uniform(1, 5)} for part in ("mlp", "total")
        ],
        "drops": [{"site": site, share: dice.random()} for site in routed],
        "training_seconds": dice.uniform(100, 300),
        "dependence": [_dependence(variant, r, t, dice) for t in TARGETS for r in REPLACEMENTS],
    }


def _dependence(variant: str, replacement: str, target: str, dice: random.Random) -> dict[str, Any]:
    row: dict[str, Any] = {"replacement": replacement, "target": target}
    reason = "nothing is routed here" if variant == "dense" else ""
    if variant == "frozen" and replacement == "untrained_router":
        reason = "these routers are the untrained ones, so nothing would change"
    if reason:
        return row | {"loss_change": None, "low": None, "high": None, "examples": 0, "reason": reason}
    change = dice.uniform(-0.01, 0.5)
    return row | {"loss_change": change, "low": change - 0.02, "high": change + 0.02, "examples": 9, "reason": ""}
