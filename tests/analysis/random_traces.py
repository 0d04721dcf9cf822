"""The random traces that statistics are compared with their oracles on, drawn once per test run."""

import functools

import numpy as np

from tests.oracles.records import Records, read
from tests.traces import make_reference, make_trace, random_trace
from uoe_model.trace import RoutingTrace

NUM_TRACES = 80


@functools.cache
def random_traces() -> tuple[tuple[RoutingTrace, Records], ...]:
    """Traces of every kind, each with its plain records; equal in every run. The last ones are no router's work."""
    drawn = [random_trace(np.random.default_rng([2503, seed])) for seed in range(NUM_TRACES)]
    return tuple((trace, read(trace)) for trace in (*drawn, *unnatural_traces()))


def unnatural_traces() -> list[RoutingTrace]:
    """Valid traces in which experts drop whatever they are asked for, and sites that keep nothing."""
    text = "L0.mlp: 0>E0!,E1 1>E0!,E2! 2>E1!,E2~ 3; L1.attention: 0>E0! 1>E0! 2>E1! 3>E2~"
    reference = make_reference({0: [900, 800, 300], 1: [500, 400, 100]}, patches=1000)
    return [
        make_trace(text, num_experts=3, capacity=1),
        make_trace(text, num_experts=3, capacity=2, example_lengths=[1, 3], reference=reference),
        make_trace("L0.mlp: 0>E0!,E1! 2>E1,E0!", num_experts=2, patch_len=2, capacity=1),
    ]
