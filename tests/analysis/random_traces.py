"""The random traces that statistics are compared with their oracles on, drawn once per test run."""

import dataclasses
import functools

import numpy as np

from tests.oracles.records import Records, read
from tests.traces import make_reference, make_run, make_trace, random_trace
from uoe_model.trace import RoutingTrace

NUM_TRACES = 80


@functools.cache
def random_traces() -> tuple[tuple[RoutingTrace, Records], ...]:
    """Traces of every kind, each with its plain records; equal in every run. The last ones are no router's work."""
    drawn = [random_trace(np.random.default_rng([2503, seed])) for seed in range(NUM_TRACES)]
    return tuple((trace, read(trace)) for trace in (*drawn, *traces_with_changed_capacity(), *unnatural_traces()))


def traces_with_changed_capacity() -> list[RoutingTrace]:
    """Traces whose reference load was measured with another capacity factor than the run had, at some sites."""
    traces = []
    for seed in range(8):
        rng = np.random.default_rng([2503, 1, seed])
        trace = random_trace(rng, with_reference=True, num_units=int(rng.integers(1, 40)))
        factors = np.where(rng.random(trace.num_sites) < 0.5, 1.25, trace.sites.capacity_factor)
        factors[rng.random(trace.num_sites) < 0.2] = np.nan
        note = {"reference_capacity_factor": " ".join(map(str, factors.tolist()))}
        run = make_run(notes={"router_logits": "a hand-made trace has none", **note})
        traces.append(dataclasses.replace(trace, run=run))
    return traces


def unnatural_traces() -> list[RoutingTrace]:
    """Valid traces in which experts drop whatever they are asked for, and sites that keep nothing."""
    text = "L0.mlp: 0>E0!,E1 1>E0!,E2! 2>E1!,E2~ 3; L1.attention: 0>E0! 1>E0! 2>E1! 3>E2~"
    reference = make_reference({0: [900, 800, 300], 1: [500, 400, 100]}, patches=1000)
    return [
        make_trace(text, num_experts=3, capacity=1),
        make_trace(text, num_experts=3, capacity=2, example_lengths=[1, 3], reference=reference),
        make_trace("L0.mlp: 0>E0!,E1! 2>E1,E0!", num_experts=2, patch_len=2, capacity=1),
    ]
