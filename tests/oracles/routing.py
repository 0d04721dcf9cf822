"""What routing means, as loops over Python lists: slow, and written from the definitions alone.

A *unit* is one row of a flat list; an *example* is the list of its units, in order; a *patch* is the list of its units.
Everything is float64. Capacities are exact: `capacity_factor` is read as the decimal number it is written as.
"""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """How one site routes; `causal` says whether a patch is judged by its first unit or by the mean of its units."""

    selection: str = "data"
    num_experts: int
    top_k: int
    capacity_factor: float | None = None
    admission: str = "score"
    gate: str = "mean_one"
    patch_len: int = 1
    causal: bool = False


@dataclasses.dataclass
class Route:
    """One unit's requested experts in order of preference, with the gate applied and whether the expert kept it."""

    experts: list[int]
    gates: list[float]
    kept: list[bool]
    logits: Array
    inherited: bool

    def gate_of(self, expert: int) -> float | None:
        """The weight of an expert that kept this unit; None if it did not."""
        for chosen, gate, kept in zip(self.experts, self.gates, self.kept, strict=True):
            if chosen == expert and kept:
                return gate
        return None

    @property
    def is_reached(self) -> bool:
        """Whether any expert kept the unit."""
        return any(self.kept)


def examples_of(valid: Sequence[Sequence[int]], documents: Sequence[Sequence[int]] | None = None) -> list[list[int]]:
    """Flat unit numbers (row * length + column) of every example: a row's valid units, or a document's."""
    examples: list[list[int]] = []
    for row, flags in enumerate(valid):
        previous = None
        for column, flag in enumerate(flags):
            if not flag:
                continue
            document = ("row", row) if documents is None else (row, documents[row][column])
            if document != previous:
                examples.append([])
                previous = document
            examples[-1].append(row * len(flags) + column)
    return examples


def patches_of(example: Sequence[int], patch_len: int) -> list[list[int]]:
    """Consecutive units; the last patch may be shorter."""
    return [list(example[start : start + patch_len]) for start in range(0, len(example), patch_len)]


def softmax(logits: Sequence[float] | Array) -> list[float]:
    """Probabilities of one decision."""
    largest = max(logits)
    weights = [math.exp(value - largest) for value in logits]
    return [weight / sum(weights) for weight in weights]


def top_k(probabilities: Sequence[float], k: int) -> list[int]:
    """The k most probable experts, best first; the lower id first where they tie."""
    return sorted(range(len(probabilities)), key=lambda expert: (-probabilities[expert], expert))[:k]


def slots(rule: Rule, patches: int) -> int | None:
    """C = ceil(f * k * patches / E); None if an expert is never full."""
    if rule.capacity_factor is None:
        return None
    return math.ceil(Fraction(str(rule.capacity_factor)) * rule.top_k * patches / rule.num_experts)


def slots_at(rule: Rule, time: int) -> int | None:
    """C(t) = max(4, ceil(f * k * (t + 1) / E)) of `position` admission."""
    so_far = slots(rule, time + 1)
    return None if so_far is None else max(4, so_far)


def gates_of(requested: Sequence[float], mode: str) -> list[float]:
    """Weights of one decision's requested experts, from their probabilities, before capacity."""
    if mode == "one":
        return [1.0 for _ in requested]
    if mode == "probability":
        return list(requested)
    if mode == "mean_one":
        return [len(requested) * p / sum(requested) for p in requested]
    raise ValueError(mode)


def admit_by_score(asked: dict[int, float], capacity: int | None) -> set[int]:
    """The patches (time -> probability) that get a slot: more probable first, then earlier."""
    order = sorted(asked, key=lambda time: (-asked[time], time))
    return set(order if capacity is None else order[:capacity])


def admit_by_position(asked: Sequence[int], rule: Rule) -> set[int]:
    """Scan the asking patches in order; a patch is kept while fewer than C(t) earlier ones are."""
    kept: set[int] = set()
    for time in sorted(asked):
        capacity = slots_at(rule, time)
        if capacity is None or len(kept) < capacity:
            kept.add(time)
    return kept


def route_patches(logits: Sequence[Array], rule: Rule) -> list[tuple[list[int], list[float], list[bool]]]:
    """Decide for all patches of one example: per patch the experts, the gates applied, and whether each is kept."""
    probabilities = [softmax(row) for row in logits]
    times = range(len(logits))
    if rule.selection == "expert_choice":
        capacity = slots(rule, len(logits))
        picked = [
            admit_by_score({time: probabilities[time][expert] for time in times}, capacity)
            for expert in range(rule.num_experts)
        ]
        requests = [[e for e in top_k(probabilities[t], rule.num_experts) if t in picked[e]] for t in times]
        kept = [[True] * len(experts) for experts in requests]
    else:
        requests = [top_k(probabilities[time], rule.top_k) for time in times]
        winners = []
        for expert in range(rule.num_experts):
            asking = [time for time in times if expert in requests[time]]
            if rule.selection == "expert":
                winners.append(set(asking))
            elif rule.admission == "score":
                asked = {time: probabilities[time][expert] for time in asking}
                winners.append(admit_by_score(asked, slots(rule, len(logits))))
            else:
                winners.append(admit_by_position(asking, rule))
        kept = [[time in winners[expert] for expert in requests[time]] for time in times]
    decided = []
    for time in times:
        gates = gates_of([probabilities[time][expert] for expert in requests[time]], rule.gate)
        applied = [gate if keep else 0.0 for gate, keep in zip(gates, kept[time], strict=True)]
        decided.append((requests[time], applied, kept[time]))
    return decided


def decisions_of(example: Sequence[int], rule: Rule) -> list[list[int]]:
    """The units that share one decision: patches, or the whole example for sample-wise expert selection."""
    return [list(example)] if rule.selection == "expert" else patches_of(example, rule.patch_len)


def route_logits(logits: dict[int, Array], examples: Sequence[Sequence[int]], rule: Rule) -> dict[int, Route]:
    """Routes of all units, from the logits of each decision, given at its first unit."""
    routes: dict[int, Route] = {}
    for example in examples:
        groups = decisions_of(example, rule)
        decided = route_patches([logits[group[0]] for group in groups], rule)
        for group, (experts, gates, kept) in zip(groups, decided, strict=True):
            for unit in group:
                inherited = rule.causal and unit != group[0]
                routes[unit] = Route(list(experts), list(gates), list(kept), logits[group[0]], inherited)
    return routes


def route_inputs(x: Array, router: Array, examples: Sequence[Sequence[int]], rule: Rule) -> dict[int, Route]:
    """Routes of all units, from the router's input x (units, D) and its weights (E, D)."""
    logits: dict[int, Array] = {}
    for example in examples:
        for group in decisions_of(example, rule):
            seen = x[group[0]] if rule.causal else sum(x[unit] for unit in group) / len(group)
            logits[group[0]] = np.array([float(np.dot(row, seen)) for row in router])
    return route_logits(logits, examples, rule)
