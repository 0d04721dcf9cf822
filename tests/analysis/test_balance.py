import numpy as np
import pytest

from analysis.balance import EVEN_BY_CONSTRUCTION, load_balance
from tests.analysis.random_traces import random_traces
from tests.analysis.tables_equal import SITE, assert_dtypes, assert_missing_is_explained, assert_rows
from tests.oracles import balance as oracle
from tests.traces import make_reference, make_trace

BANDS = ("load_cv_low", "load_cv_high", "max_over_mean_low", "max_over_mean_high")


def test_balance_equals_the_oracle_on_random_traces():
    for trace, records in random_traces():
        assert_rows(load_balance(trace), oracle.load_balance(records), skip=["reason", *BANDS])


def test_columns_and_dtypes_are_the_documented_ones_also_without_units():
    measured = ("balance_loss", "load_cv", "max_over_mean")
    expected = ("reference_load_cv", *BANDS[:2], "reference_max_over_mean", *BANDS[2:])
    numbers = dict.fromkeys((*measured, *expected), "float64")
    for trace, _ in random_traces()[:20]:
        assert_dtypes(load_balance(trace), **SITE, **numbers, reason="str")


def test_whatever_is_missing_is_explained():
    for trace, _ in random_traces():
        assert_missing_is_explained(load_balance(trace))


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_even_routing_has_loss_one_whatever_k_is(top_k):
    requests = [[(unit + rank) % 4 for rank in range(top_k)] for unit in range(4)]
    units = " ".join(f"{unit}>" + ",".join(f"E{expert}" for expert in row) for unit, row in enumerate(requests))
    trace = make_trace(f"L0.mlp: {units}", num_experts=4, logits={0: np.zeros((4, 4), dtype=np.float32)})
    row = load_balance(trace).iloc[0]
    assert row["balance_loss"] == pytest.approx(1)
    assert (row["load_cv"], row["max_over_mean"]) == (0, 1)


def test_everything_in_one_expert():
    logits = np.array([[50, 0, 0, 0]] * 3, dtype=np.float32)
    row = load_balance(make_trace("L0.mlp: 0>E0 1>E0 2>E0", num_experts=4, logits={0: logits})).iloc[0]
    assert row["balance_loss"] == pytest.approx(4)
    assert row["load_cv"] == pytest.approx(3**0.5)
    assert row["max_over_mean"] == 4


def test_the_loss_counts_requests_and_unevenness_counts_load():
    logits = np.zeros((4, 2), dtype=np.float32)
    logits[:, 0] = np.log(3)
    trace = make_trace("L0.mlp: 0>E0 1>E0! 2>E0! 3>E1", num_experts=2, capacity=1, logits={0: logits})
    row = load_balance(trace).iloc[0]
    assert row["balance_loss"] == pytest.approx(2 * (0.75 * 0.75 + 0.25 * 0.25))
    assert (row["load_cv"], row["max_over_mean"]) == (0, 1)


def test_a_choice_per_example_counts_once_however_long_the_example_is():
    logits = np.array([[9, -9]] * 3 + [[-9, 9]], dtype=np.float32)
    trace = make_trace(
        "L0.mlp: 0>E0 1>E0 2>E0 3>E1", num_experts=2, selection="expert", example_lengths=[3, 1], logits={0: logits}
    )
    assert load_balance(trace)["balance_loss"].tolist() == pytest.approx([1])


def test_experts_that_pick_have_no_balance_loss():
    logits = np.zeros((2, 2), dtype=np.float32)
    trace = make_trace("L0.mlp: 0>E0,E1 1", num_experts=2, selection="expert_choice", logits={0: logits})
    row = load_balance(trace).iloc[0]
    assert np.isnan(row["balance_loss"])
    assert EVEN_BY_CONSTRUCTION in row["reason"]
    assert row["load_cv"] == 0


def test_the_loss_of_the_model_is_the_same_number():
    torch = pytest.importorskip("torch")
    from uoe_model.config import RouterConfig
    from uoe_model.layout import build_layout
    from uoe_model.losses import load_balancing_loss
    from uoe_model.router import decide

    torch.set_num_threads(1)
    logits = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    config = RouterConfig(num_experts=5, num_experts_per_tok=2)
    layout = build_layout(torch.ones(1, 12, dtype=torch.bool), patch_len=1)
    decision = decide(logits, config, layout)
    units = " ".join(f"{u}>" + ",".join(f"E{e}" for e in row) for u, row in enumerate(decision.expert_NK.tolist()))
    trace = make_trace(f"L0.mlp: {units}", num_experts=5, logits={0: logits.numpy().copy()})
    expected = load_balancing_loss(decision, config, layout)
    assert expected is not None
    assert load_balance(trace)["balance_loss"].tolist() == pytest.approx([expected.item()], rel=1e-6)


def test_a_small_input_is_uneven_by_chance_and_a_long_one_less():
    reference = make_reference({0: [250] * 4}, patches=1000)
    bands = []
    for length in (8, 200):
        units = " ".join(f"{unit}>E{unit % 4}" for unit in range(length))
        bands.append(load_balance(make_trace(f"L0.mlp: {units}", num_experts=4, reference=reference)).iloc[0])
    small, large = bands
    assert small["reference_load_cv"] == large["reference_load_cv"] == 0
    assert 0 < large["load_cv_high"] < small["load_cv_high"]
    assert 1 < large["max_over_mean_high"] < small["max_over_mean_high"]


def test_one_patch_is_as_uneven_as_it_must_be():
    reference = make_reference({0: [250] * 4}, patches=1000)
    row = load_balance(make_trace("L0.mlp: 0>E2", num_experts=4, reference=reference)).iloc[0]
    assert row["load_cv"] == row["load_cv_low"] == row["load_cv_high"] == pytest.approx(3**0.5)
    assert row["max_over_mean_low"] == row["max_over_mean_high"] == 4
