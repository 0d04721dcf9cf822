"""Decisions become a trace: copied exactly, and what is wrong with them is noticed."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.uoe_model.bundles import (
    LONG_TEXT,
    assert_checks_pass,
    examples_of_text,
    image_bundle,
    picture,
    run_alone,
    text_bundle,
)
from uoe_model import capture, router
from uoe_model.capacity import example_capacity
from uoe_model.capture import SiteDecisions, build_trace, join, patch_ids, to_host
from uoe_model.decision import RoutingDecision
from uoe_model.errors import CaptureError, TraceError
from uoe_model.layout import RoutingLayout
from uoe_model.run import run_image_on, run_text_on
from uoe_model.trace import RoutingTrace

FIELDS = ("logits_NE", "expert_NK", "gate_NK", "kept_NK")


def random_decision(
    units: int, experts: int, top_k: int, *, seed: int = 0, dtype: Any = torch.float32
) -> RoutingDecision:
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(units, top_k, generator=generator) < 0.7
    return RoutingDecision(
        logits_NE=torch.randn(units, experts, generator=generator, dtype=dtype),
        expert_NK=torch.randint(-1, experts, (units, top_k), generator=generator),
        gate_NK=torch.rand(units, top_k, generator=generator, dtype=dtype) * kept,
        kept_NK=kept,
        capacity_G=torch.tensor([3]),
    )


def failed(trace: RoutingTrace) -> list[str]:
    return [check.name for check in trace.run.self_check if not check.passed]


# Copying -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decisions_of_all_sites_reach_the_host_unchanged(dtype):
    decisions = [random_decision(7, 4, 2, dtype=dtype), random_decision(7, 300, 5, seed=1, dtype=dtype)]
    for index in (None, torch.tensor([0, 2, 3, 6])):
        host = to_host(decisions, index)
        rows = slice(None) if index is None else index
        for site, decision in zip(host, decisions, strict=True):
            for name, kind in zip(FIELDS, (np.float32, np.int16, np.float32, np.bool_), strict=True):
                column = getattr(site, name)
                assert column.dtype == kind
                np.testing.assert_array_equal(column, getattr(decision, name)[rows].numpy().astype(kind))


def test_decisions_that_would_fill_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr(capture, "LARGEST_GATHERED_BYTES", 4 * 7 * (4 + 2 + 2 + 2) - 1)
    with pytest.raises(CaptureError, match="run a shorter input"):
        to_host([random_decision(7, 4, 2)])
    assert len(to_host([random_decision(6, 4, 2)])) == 1


def test_consecutive_decisions_join_and_missing_choices_are_no_requests():
    narrow, wide = to_host([random_decision(3, 4, 1)]), to_host([random_decision(2, 4, 3, seed=1)])
    (joined,) = join([narrow, wide])
    np.testing.assert_array_equal(joined.logits_NE, np.concatenate([narrow[0].logits_NE, wide[0].logits_NE]))
    np.testing.assert_array_equal(joined.expert_NK[:3, 0], narrow[0].expert_NK[:, 0])
    np.testing.assert_array_equal(joined.expert_NK[3:], wide[0].expert_NK)
    assert (joined.expert_NK[:3, 1:] == -1).all()
    assert not joined.gate_NK[:3, 1:].any()
    assert not joined.kept_NK[:3, 1:].any()
    assert [getattr(joined, name).dtype for name in FIELDS] == [np.float32, np.int16, np.float32, np.bool_]
    assert join([narrow]) == narrow


@pytest.mark.parametrize("patch_len", [1, 2, 4, 100])
def test_patches_are_numbered_through_and_end_with_their_example(patch_len):
    lengths = [1, 5, 8, 2]
    expected, patch = [], -1
    for length in lengths:
        for position in range(length):
            patch += position % patch_len == 0
            expected.append(patch)
    example_id = np.repeat(np.arange(4, dtype=np.int32), lengths)
    position = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    assert patch_ids(example_id, position, patch_len).tolist() == expected


# What is wrong is noticed --------------------------------------------------------------------------------------------


def captured() -> tuple[Any, RoutingTrace, tuple[SiteDecisions, ...]]:
    """A bundle, its trace of a long text, and the decisions the trace was made of."""
    bundle = text_bundle()
    trace = run_text_on(bundle, LONG_TEXT).trace
    parts = [to_host(output.decisions) for output in run_alone(bundle, examples_of_text(LONG_TEXT), None)]
    return bundle, trace, join(parts)


def build(bundle: Any, trace: RoutingTrace, decisions: tuple[SiteDecisions, ...]) -> RoutingTrace:
    fields = {field.name: getattr(trace.run, field.name) for field in dataclasses.fields(trace.run)}
    record = {name: value for name, value in fields.items() if name not in ("schema_version", "self_check")}
    return build_trace(bundle.config, None, trace.units, decisions, None, record)


def corrupted(decisions: tuple[SiteDecisions, ...], site_id: int, **columns: np.ndarray) -> tuple[SiteDecisions, ...]:
    return tuple(
        dataclasses.replace(site, **columns) if number == site_id else site for number, site in enumerate(decisions)
    )


def test_decisions_make_the_trace_they_came_from():
    bundle, trace, decisions = captured()
    rebuilt = build(bundle, trace, decisions)
    assert_checks_pass(rebuilt)
    np.testing.assert_array_equal(rebuilt.assignments.expert_id, trace.assignments.expert_id)
    np.testing.assert_array_equal(rebuilt.assignments.status, trace.assignments.status)


def test_another_number_of_sites_or_units_is_refused():
    bundle, trace, decisions = captured()
    with pytest.raises(CaptureError, match="3 routers were captured, the model has 4"):
        build(bundle, trace, decisions[:3])
    units = len(trace.units)
    shorter = tuple(SiteDecisions(**{name: getattr(site, name)[:-1] for name in FIELDS}) for site in decisions)
    with pytest.raises(CaptureError, match=f"site 0: {units - 1} rows were captured for {units} units"):
        build(bundle, trace, shorter)


def test_requests_that_do_not_follow_the_logits_are_noticed():
    bundle, trace, decisions = captured()
    shifted = (decisions[1].expert_NK + 1) % 4
    assert "requests follow logits" in failed(build(bundle, trace, corrupted(decisions, 1, expert_NK=shifted)))


def test_lost_requests_are_noticed():
    bundle, trace, decisions = captured()
    expert, kept, gate = (getattr(decisions[2], name).copy() for name in ("expert_NK", "kept_NK", "gate_NK"))
    expert[5, 1], kept[5, 1], gate[5, 1] = -1, False, 0
    assert "rows" in failed(build(bundle, trace, corrupted(decisions, 2, expert_NK=expert, kept_NK=kept, gate_NK=gate)))


def test_a_drop_where_there_was_room_is_noticed():
    bundle, trace, decisions = captured()
    kept, gate = decisions[0].kept_NK.copy(), decisions[0].gate_NK.copy()
    kept[0], gate[0] = False, 0  # the first unit of a text is always kept
    found = failed(build(bundle, trace, corrupted(decisions, 0, kept_NK=kept, gate_NK=gate)))
    assert found == ["dropped only where full"]


@pytest.mark.parametrize(
    ("gate", "sentence"), [(0.5, "gate must be 0 where dropped"), (0.0, "gate must not be 0 where kept")]
)
def test_gates_that_contradict_the_slots_make_no_trace(gate, sentence):
    bundle, trace, decisions = captured()
    gates = np.full_like(decisions[3].gate_NK, gate)
    with pytest.raises(TraceError, match=sentence):
        build(bundle, trace, corrupted(decisions, 3, gate_NK=gates))


def test_another_capacity_than_the_formulas_is_noticed(monkeypatch):
    def one_more(config: Any, patches_G: Tensor) -> Tensor:
        return example_capacity(config, patches_G) + 1

    monkeypatch.setattr(capture, "example_capacity", one_more)
    assert failed(run_text_on(text_bundle(), LONG_TEXT).trace) == ["capacities"]


def test_admission_that_looks_only_at_the_last_capacity_is_noticed(monkeypatch):
    def too_early(
        p: Tensor, requested_ME: Tensor, capacity_G: Tensor, how: str, config: Any, layout: RoutingLayout
    ) -> Any:
        asked_GEP = layout.to_grid(requested_ME.int(), 0)
        return layout.from_grid(asked_GEP.cumsum(-1) <= capacity_G.view(-1, 1, 1)) & requested_ME

    monkeypatch.setattr(router, "admit", too_early)
    found = failed(run_text_on(text_bundle(), LONG_TEXT).trace)
    assert found == ["kept within capacity", "dropped only where full"] or found == ["kept within capacity"]


def test_admission_that_keeps_nothing_is_noticed(monkeypatch):
    monkeypatch.setattr(router, "admit", lambda p, requested_ME, *_: torch.zeros_like(requested_ME))
    assert failed(run_text_on(text_bundle(), LONG_TEXT).trace) == ["dropped only where full"]


@pytest.mark.parametrize("kind", ["text", "image"])
def test_admission_that_ignores_capacity_makes_no_trace(kind, monkeypatch):
    monkeypatch.setattr(router, "admit", lambda p, requested_ME, *_: requested_ME)
    sentence = re.compile(r"expert \d at site \d keeps \d+ patches of example \d, must be at most its capacity \d")
    run = {
        "text": lambda: run_text_on(text_bundle(), LONG_TEXT),
        "image": lambda: run_image_on(image_bundle(), picture()),
    }
    with pytest.raises(TraceError, match=sentence):
        run[kind]()
