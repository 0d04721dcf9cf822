"""Routers that predict how large every expert's output is, and the curve of what fewer experts cost."""

import numpy as np
import pytest
import torch

from tests.dense_checkpoints import build_dense
from uoe_model.decompose.calibrate import (
    blocks_of,
    calibrate_routers,
    encode,
    expert_norms,
    hidden_activations,
    site_inputs,
)
from uoe_model.decompose.clusters import co_activation_order
from uoe_model.decompose.curve import measure_curve, steps_of
from uoe_model.decompose.cut import cut
from uoe_model.decompose.families import READERS
from uoe_model.errors import Cancelled
from uoe_model.watch import UNWATCHED, Unwatched


def union_of(family):
    dense = READERS[family][1](build_dense(family), family)
    return cut(dense, attention_experts=4, mlp_experts=4, attention_top_k=4, mlp_top_k=4)


def batches_of(family, count=6):
    generator = torch.Generator().manual_seed(3)
    if family == "vit":
        return [{"pixel_values": torch.randn(4, 3, 16, 16, generator=generator)} for _ in range(count)]
    mask = (torch.arange(20) < torch.tensor([[20], [13]])).long()
    return [
        {"input_ids": torch.randint(0, 60, (2, 20), generator=generator), "attention_mask": mask} for _ in range(count)
    ]


@pytest.mark.parametrize("family", ["bert", "llama", "vit"])
@torch.no_grad()
def test_lengths_are_those_of_the_block_without_the_other_experts(family):
    union, [batch] = union_of(family), batches_of(family, 1)
    seen = site_inputs(union, batch)
    for site, block in enumerate(blocks_of(union)):
        found = expert_norms(union, site, seen[site].x_ND, seen[site].layout)
        bias = block.b_o if site % 2 == 0 else block.b2
        out = block.w_o if site % 2 == 0 else block.w2
        kept = out.clone()
        for expert in range(4):
            out.zero_()
            out[expert] = kept[expert]
            rotation = None
            if site % 2 == 0:
                base = union if family == "bert" else union.model
                rotation = (base.rotation(seen[site].layout, torch.float32),)
            alone, _ = block(seen[site].x_ND, seen[site].layout, *(rotation or ()))
            torch.testing.assert_close(found[:, expert], (alone - bias).norm(dim=-1), rtol=1e-4, atol=1e-5)
            out.copy_(kept)


def test_a_calibrated_router_is_the_ridge_regression_of_those_lengths():
    union, batches = union_of("bert"), batches_of("bert")
    xs, ys = [], []
    with torch.no_grad():
        for batch in batches:
            seen = site_inputs(union, batch)[3]
            xs.append(seen.x_ND.double().numpy())
            ys.append(expert_norms(union, 3, seen.x_ND, seen.layout).double().numpy())
    x, y = np.concatenate(xs), np.concatenate(ys)
    assert calibrate_routers(union, batches, UNWATCHED) == len(x)
    centred = x - x.mean(0)
    gram = centred.T @ centred / len(x)
    gram += 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram))
    weight = np.linalg.solve(gram, centred.T @ (y - y.mean(0)) / len(x))
    predicted = centred @ weight + y.mean(0)
    expected = (predicted - predicted.mean()) / predicted.std()
    with torch.no_grad():
        router = blocks_of(union)[3].router
        logits = torch.from_numpy(x).float() @ router.weight.t() + router.bias
    np.testing.assert_allclose(logits.numpy(), expected, atol=5e-3)


@pytest.mark.parametrize("family", ["bert", "gpt2", "vit"])
def test_the_curve_ends_at_the_dense_model_and_calibrated_routes_beat_random_ones(family):
    union, batches = union_of(family), batches_of(family)
    calibrate_routers(union, batches[:4], UNWATCHED)
    before = [block.router.config for block in blocks_of(union)]
    rows = measure_curve(union, batches[4:], UNWATCHED, chosen=(1, 3))
    assert [block.router.config for block in blocks_of(union)] == before
    assert {row["routes"] for row in rows if (row["attention_top_k"], row["mlp_top_k"]) == (1, 3)} == {
        "calibrated",
        "random",
        "longest",
    }
    ends = [row for row in rows if row["attention_top_k"] == row["mlp_top_k"] == 4]
    assert [row["scope"] for row in ends] == ["both", "attention", "mlp"]
    assert all(row["hidden_error"] == 0 and row["cosine"] == pytest.approx(1) for row in ends)
    error = {
        routes: np.mean([row["hidden_error"] for row in rows if row["routes"] == routes and row not in ends])
        for routes in ("calibrated", "random", "longest")
    }
    assert error["calibrated"] < error["random"]
    given = {"gpt2": "loss", "vit": "agreement"}.get(family)
    assert all((row[name] is not None) == (name == given) for row in rows for name in ("loss", "agreement"))


def test_a_row_of_the_curve_is_the_model_with_so_many_experts():
    union, batches = union_of("gpt2"), batches_of("gpt2", 3)
    calibrate_routers(union, batches[:2], UNWATCHED)
    row = next(
        row
        for row in measure_curve(union, batches[2:], UNWATCHED, chosen=(2, 2))
        if (row["attention_top_k"], row["mlp_top_k"], row["routes"]) == (2, 2, "calibrated")
    )
    with torch.no_grad():
        full = encode(union, batches[2]).last_hidden_state
        dense = READERS["gpt2"][1](build_dense("gpt2"), "gpt2")
        half = cut(dense, attention_experts=4, mlp_experts=4, attention_top_k=2, mlp_top_k=2)
        half.load_state_dict(union.state_dict())
        out = half(**batches[2], labels=batches[2]["input_ids"])
        found = encode(half, batches[2]).last_hidden_state
    assert row["hidden_error"] == pytest.approx(float((found - full).norm() / full.norm()), rel=1e-4)
    assert row["loss"] == pytest.approx(float(out.cross_entropy), rel=1e-4)


def test_steps_reach_all_experts_of_both_blocks_together():
    assert steps_of(4, 8, "both") == [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5), (3, 6), (4, 7), (4, 8)]
    assert steps_of(2, 3, "attention") == [(1, 3), (2, 3)]
    assert steps_of(2, 3, "mlp") == [(2, 1), (2, 2), (2, 3)]


def test_hidden_units_that_are_active_together_become_one_expert():
    generator = torch.Generator().manual_seed(0)
    group_F = torch.arange(12) % 3
    active_N3 = torch.rand(200, 3, generator=generator)
    active_NF = active_N3[:, group_F] + 0.01 * torch.rand(200, 12, generator=generator)
    order = co_activation_order(active_NF, 3)
    assert sorted(order.tolist()) == list(range(12))
    assert sorted(len(set(group_F[run].tolist())) for run in order.chunk(3)) == [1, 1, 1]


@torch.no_grad()
def test_activations_are_those_of_the_dense_mlp():
    union, [batch] = union_of("gpt2"), batches_of("gpt2", 1)
    x = site_inputs(union, batch)[1].x_ND
    mlp = build_dense("gpt2").transformer.h[0].mlp
    expected = mlp.act(mlp.c_fc(x))
    torch.testing.assert_close(hidden_activations(blocks_of(union)[1], x), expected, rtol=1e-4, atol=1e-5)


def test_calibration_can_be_cancelled():
    class Impatient(Unwatched):
        def is_cancelled(self) -> bool:
            return True

    with pytest.raises(Cancelled):
        calibrate_routers(union_of("bert"), batches_of("bert", 2), Impatient())
