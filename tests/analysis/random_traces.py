"""The random traces that statistics are compared with their oracles on, drawn once per test run."""

import functools

import numpy as np

from tests.oracles.records import Records, read
from tests.traces import random_trace
from uoe_model.trace import RoutingTrace

NUM_TRACES = 120


@functools.cache
def random_traces() -> tuple[tuple[RoutingTrace, Records], ...]:
    """Traces of every kind, each with its plain records; equal in every run."""
    drawn = [random_trace(np.random.default_rng([2503, seed])) for seed in range(NUM_TRACES)]
    return tuple((trace, read(trace)) for trace in drawn)
