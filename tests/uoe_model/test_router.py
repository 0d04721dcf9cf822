"""Decisions from given logits: top-k, gates, capacity; by hand, against the oracle, and as promises about f."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracles.routing import Rule, decisions_of, examples_of, patches_of, route_logits, slots, slots_at
from tests.uoe_model.models import assert_routes, dropped
from uoe_model.config import RouterConfig
from uoe_model.decision import RoutingDecision
from uoe_model.layout import build_layout
from uoe_model.router import decide

EVERY_ROUTE = [
    pytest.param(selection, admission, factor, id=f"{selection}-{admission}-{factor}")
    for selection, admission, factor in (
        ("data", "score", None),
        ("data", "score", 0.7),
        ("data", "score", 1.25),
        ("data", "position", 0.7),
        ("data", "position", 1.1),
        ("expert_choice", "score", 1.0),
        ("expert_choice", "score", 0.3),
        ("expert", "score", None),
    )
]


def route(logits: Tensor, config: RouterConfig, valid: Tensor, documents: Tensor | None = None) -> RoutingDecision:
    """Decide for logits of all decisions in order, on the grid of rows and columns."""
    layout = build_layout(valid, config.patch_len, documents)
    patches = layout.whole_examples if config.selection == "expert" else layout
    return decide(logits, config, patches).spread(layout)


def one_example(rows: list[list[float]], **fields: object) -> RoutingDecision:
    """Decide for one example of single units; `fields` are those of `RouterConfig`."""
    config = RouterConfig(num_experts=len(rows[0]), **fields)
    return route(torch.tensor(rows, dtype=torch.float64), config, torch.ones(1, len(rows), dtype=torch.bool))


def kept_units(decision: RoutingDecision, expert: int) -> list[int]:
    """Units whose request to this expert was kept."""
    return ((decision.expert_NK == expert) & decision.kept_NK).any(-1).nonzero().flatten().tolist()


def tied_logits(rows: int, num_experts: int, rng: np.random.Generator) -> Tensor:
    """Logits with repeated rows and repeated values within rows."""
    pool = rng.normal(size=(3, num_experts)).round(1)
    pool[0] = 0.0
    pool[1, -1] = pool[1, 0]
    fresh = rng.normal(size=(rows, num_experts))
    chosen = np.where(rng.random((rows, 1)) < 0.7, pool[rng.integers(3, size=rows)], fresh)
    return torch.from_numpy(chosen)


def test_experts_are_ranked_by_probability_and_ties_go_to_the_lower_id():
    decision = one_example([[0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 1.0, 2.0]], num_experts_per_tok=3)
    assert decision.expert_NK.tolist() == [[0, 1, 2], [1, 3, 2]]


def test_score_admission_gives_slots_to_the_most_probable_and_then_to_the_earlier():
    rows = [[1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [3.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    decision = one_example(rows, num_experts_per_tok=1, capacity_factor=1.0, gate="probability")
    assert decision.capacity_G.tolist() == [3]
    assert kept_units(decision, 0) == [0, 1, 3]
    assert kept_units(decision, 1) == [5]


def test_position_admission_loses_only_the_excess_of_an_expert_that_everybody_wants():
    decision = one_example(
        [[1.0, 0.0, 0.0, 0.0]] * 24,
        num_experts_per_tok=1,
        capacity_factor=1.0,
        admission="position",
        gate="probability",
    )
    # Four from the start; C(t) reaches 5 with the 17th patch and 6 with the 21st.
    assert kept_units(decision, 0) == [0, 1, 2, 3, 16, 20]
    assert decision.capacity_G.tolist() == [6]


def test_position_admission_counts_kept_patches_and_not_requests():
    wants_0, wants_1 = [1.0, 0.0], [0.0, 1.0]
    decision = one_example(
        [wants_0] * 8 + [wants_1] * 8 + [wants_0],
        num_experts_per_tok=1,
        capacity_factor=0.6,
        admission="position",
        gate="probability",
    )
    # At t = 16 the capacity is ceil(0.6 * 17 / 2) = 6: expert 0 kept 4 of its 8 requests and takes another.
    assert kept_units(decision, 0) == [0, 1, 2, 3, 16]


def test_capacity_is_exact_for_decimal_factors():
    rows = [[1.0, 1.0, 0.0, 0.0]] * 20
    decision = one_example(rows, num_experts_per_tok=2, capacity_factor=1.1)
    assert decision.capacity_G.tolist() == [11]
    for factor in (0.1, 0.3, 0.7, 1.1, 1.15, 1.25, 1.7, 2.3):
        for patches in (1, 3, 10, 20, 25, 50, 100):
            rule = Rule(num_experts=5, top_k=3, capacity_factor=factor)
            decision = one_example([[0.0] * 5] * patches, num_experts_per_tok=3, capacity_factor=factor)
            assert decision.capacity_G.tolist() == [slots(rule, patches)], (factor, patches)


def test_mean_one_gates_are_all_one_when_the_router_is_even_and_average_one_otherwise():
    decision = one_example([[0.0, 0.0, 0.0, 0.0], [3.0, 1.0, 2.0, -1.0]], num_experts_per_tok=3)
    assert decision.gate_NK[0].tolist() == [1.0, 1.0, 1.0]
    assert decision.gate_NK[1].mean().item() == pytest.approx(1.0)
    e3, e2, e1 = np.exp([3.0, 2.0, 1.0])
    assert decision.gate_NK[1].tolist() == pytest.approx([3 * e / (e1 + e2 + e3) for e in (e3, e2, e1)])


def test_probability_gates_are_the_probabilities_and_one_is_one():
    row = [2.0, 1.0, 0.0]
    p = (np.exp(row) / np.exp(row).sum()).tolist()
    assert one_example([row], num_experts_per_tok=2, gate="probability").gate_NK[0].tolist() == pytest.approx(p[:2])
    assert one_example([row], num_experts_per_tok=1, gate="one").gate_NK.tolist() == [[1.0]]


@pytest.mark.parametrize("gate", ["mean_one", "probability", "one"])
@pytest.mark.parametrize("admission", ["score", "position"])
def test_gates_come_before_capacity_and_are_not_rescaled_after_it(gate, admission):
    rows = torch.randn(40, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rows[:, 0] += 1
    free = one_example(rows.tolist(), num_experts_per_tok=2, gate=gate, admission=admission)
    tight = one_example(rows.tolist(), num_experts_per_tok=2, gate=gate, admission=admission, capacity_factor=0.7)
    assert dropped(tight) > 0
    assert torch.equal(tight.expert_NK, free.expert_NK)
    assert torch.equal(tight.gate_NK, free.gate_NK * tight.kept_NK)


def test_an_expert_that_chooses_takes_its_best_patches_and_others_stay_unrouted():
    rows = [[4.0, 0.0], [0.0, 4.0], [0.0, 0.0], [3.0, 0.0]]
    choice = {"selection": "expert_choice", "num_experts_per_tok": 1, "gate": "probability"}
    decision = one_example(rows, capacity_factor=1.0, **choice)
    assert kept_units(decision, 0) == [0, 3]
    assert kept_units(decision, 1) == [1, 2]
    decision = one_example(rows, capacity_factor=0.5, **choice)
    assert kept_units(decision, 0) == [0]
    assert kept_units(decision, 1) == [1]
    assert (decision.expert_NK[2:] == -1).all()
    assert dropped(decision) == 0


def test_sample_wise_selection_gives_all_units_of_an_example_to_the_same_experts():
    valid = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]], dtype=torch.bool)
    config = RouterConfig(selection="expert", num_experts=3, num_experts_per_tok=2)
    decision = route(torch.tensor([[0.0, 1.0, 2.0], [5.0, 0.0, 1.0]]), config, valid)
    nobody = [-1, -1]
    assert decision.expert_NK.tolist() == [*[[2, 1]] * 3, nobody, nobody, *[[0, 2]] * 3]
    assert decision.kept_NK.sum().item() == 12
    assert decision.capacity_G.tolist() == [-1, -1]


@pytest.mark.parametrize("patch_len", [1, 3])
@pytest.mark.parametrize("gate", ["mean_one", "probability", "one"])
@pytest.mark.parametrize(("selection", "admission", "factor"), EVERY_ROUTE)
def test_decisions_equal_the_oracle(selection, admission, factor, gate, patch_len):
    config = RouterConfig(
        selection=selection,
        num_experts=5,
        num_experts_per_tok=2,
        capacity_factor=factor,
        admission=admission,
        gate=gate,
        patch_len=patch_len,
    )
    rule = Rule(
        selection=selection,
        num_experts=5,
        top_k=2,
        capacity_factor=factor,
        admission=admission,
        gate=gate,
        patch_len=patch_len,
    )
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rows, columns = int(rng.integers(1, 4)), int(rng.integers(1, 50))
        valid = rng.random((rows, columns)) < rng.choice([0.6, 1.0])
        valid[:, int(rng.integers(columns))] = True
        documents = np.sort(rng.integers(3, size=(rows, columns)), axis=1) if seed % 2 else None
        examples = examples_of(valid.tolist(), None if documents is None else documents.tolist())
        firsts = [group[0] for example in examples for group in decisions_of(example, rule)]
        logits = tied_logits(len(firsts), 5, rng)
        expected = route_logits(dict(zip(firsts, logits.numpy(), strict=True)), examples, rule)
        document_ids = None if documents is None else torch.from_numpy(documents)
        decision = route(logits, config, torch.from_numpy(valid), document_ids)
        assert_routes(decision, expected, rows * columns)
        for example, capacity in zip(examples, decision.capacity_G.tolist(), strict=True):
            patches = len(patches_of(example, patch_len))
            limit = slots_at(rule, patches - 1) if admission == "position" else slots(rule, patches)
            assert capacity == (-1 if limit is None else limit)


@pytest.mark.parametrize(
    ("selection", "admission"), [("data", "score"), ("data", "position"), ("expert_choice", "score")]
)
def test_no_expert_ever_exceeds_its_capacity(selection, admission):
    for seed, factor in itertools.product(range(8), (0.2, 0.5, 0.9, 1.3)):
        rng = np.random.default_rng(seed)
        rule = Rule(num_experts=4, top_k=2, capacity_factor=factor)
        rows = rng.normal(loc=[2, 1, 0, 0], size=(60, 4)).tolist()
        decision = one_example(
            rows, selection=selection, admission=admission, num_experts_per_tok=2, capacity_factor=factor
        )
        for expert in range(4):
            units = kept_units(decision, expert)
            assert len(units) <= (slots(rule, 60) if admission == "score" else slots_at(rule, 59))
            if admission == "position":
                for time in range(60):
                    assert sum(unit <= time for unit in units) <= slots_at(rule, time)


def test_score_admission_keeps_a_superset_when_the_factor_grows():
    for seed in range(20):
        logits = tied_logits(50, 4, np.random.default_rng(seed)).tolist()
        kept = [
            one_example(logits, num_experts_per_tok=2, capacity_factor=factor).kept_NK
            for factor in (0.1, 0.25, 0.5, 0.8, 1.0, 1.1, 1.5, 2.0, None)
        ]
        assert all(bool((fewer <= more).all()) for fewer, more in itertools.pairwise(kept))
        assert kept[0].sum() < kept[-1].sum() == 100


def test_position_admission_never_keeps_fewer_per_expert_up_to_any_time_when_the_factor_grows():
    seen_a_loss = False
    for seed in range(20):
        logits = tied_logits(80, 4, np.random.default_rng(seed)).tolist()
        kept, totals = [], []
        for factor in (0.1, 0.25, 0.5, 0.8, 1.0, 1.1, 1.5, 2.0, None):
            decision = one_example(logits, num_experts_per_tok=2, capacity_factor=factor, admission="position")
            hits = torch.zeros(80, 4, dtype=torch.long)
            kept.append(hits.scatter_(1, decision.expert_NK, decision.kept_NK.long()))
            totals.append(kept[-1].cumsum(0))
        assert all(bool((fewer <= more).all()) for fewer, more in itertools.pairwise(totals))
        seen_a_loss |= any(bool((fewer > more).any()) for fewer, more in itertools.pairwise(kept))
    assert seen_a_loss, "the cases are too easy: a larger factor may lose single units that a smaller one kept"
