"""Identities of the released blocks, slots counted by hand, and what each repair repairs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.uoe_model.reference.released import released_model, released_parameters
from uoe_model.errors import ConfigError, InputError
from uoe_model.reference.blocks import How, attention, expert_selection, mlp_v2, mlp_v3, rotate_input
from uoe_model.reference.language import attention as language_attention
from uoe_model.reference.language import decoder_layer, mlp_ds, mlp_es
from uoe_model.reference.quirks import CLASSIFIER_QUIRKS, Quirks
from uoe_model.reference.selection import Requests, fill_slots

LOWEST = How(ties="lowest")


def under(prefix):
    return {key.removeprefix(prefix): value for key, value in released_parameters().items() if key.startswith(prefix)}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def requests_of(gate_BSE, valid_BS=None):
    gate_BSE = torch.tensor(gate_BSE)
    valid = torch.ones(gate_BSE.shape[:2], dtype=torch.bool) if valid_BS is None else torch.tensor(valid_BS)
    return Requests(
        logits_BSE=gate_BSE,
        p_BSE=gate_BSE,
        gate_BSE=gate_BSE,
        order_BSK=torch.zeros(*gate_BSE.shape[:2], 1, dtype=torch.long),
        valid_BS=valid,
    )


def test_free_slots_take_the_first_units_that_did_not_ask():
    requests = requests_of([[[0.0, 0.9], [0.8, 0.0], [0.0, 0.7], [0.0, 0.6]]])
    slots = fill_slots(requests, None, filler=True, weighted=False, ties="lowest")
    assert slots.ids_EBL.tolist() == [[[0, 1, 2]], [[0, 2, 3]]]
    assert slots.kept_EBL.tolist() == [[[False, True, False]], [[True, True, True]]]
    assert slots.live_EBL.all()
    repaired = fill_slots(requests, None, filler=False, weighted=False, ties="lowest")
    assert repaired.live_EBL.tolist() == slots.kept_EBL.tolist()


def test_the_smallest_gates_are_dropped():
    requests = requests_of([[[0.5], [0.9], [0.7], [0.9]]])
    slots = fill_slots(requests, torch.tensor([2]), filler=True, weighted=False, ties="lowest")
    assert slots.ids_EBL.tolist() == [[[1, 3]]]


def test_units_that_are_not_routed_fill_nothing():
    requests = requests_of([[[0.5], [0.0], [0.0]]], [[True, False, True]])
    slots = fill_slots(requests, torch.tensor([3]), filler=True, weighted=False, ties="lowest")
    assert slots.ids_EBL[slots.live_EBL].tolist() == [0, 2]


@pytest.mark.parametrize("num_heads", [2, 4])
def test_attention_with_all_experts_is_dense_attention_over_the_rotated_input(num_heads):
    parameters, u = under("model.transformer_0.mha."), normal(2, 9, 16)
    mask = torch.ones(2, 9, dtype=torch.long)
    found = attention(u, mask, parameters, top_k=2, num_heads=num_heads, how=LOWEST).out_BSD
    x = rotate_input(u, 2)
    expected = torch.zeros_like(u)
    for expert in range(2):
        q, k, v = (x @ parameters["W_qkv.weight.0"][expert] + parameters["W_qkv.bias.0"][expert]).chunk(3, -1)
        heads = (q @ k.transpose(1, 2) / (16 / num_heads) ** 0.5).softmax(-1) @ v
        expected = expected + heads @ parameters["ff.weight.0"][expert] + parameters["ff.bias"][expert]
    torch.testing.assert_close(found, expected, rtol=0, atol=4e-6)


def test_positions_are_rotated_in_pairs_and_halves_change_places():
    u = normal(1, 5, 8)
    found = rotate_input(u, 1)[0].numpy()
    for t in range(5):
        plain, turned = u[0, t, :4].numpy(), u[0, t, 4:].numpy()
        pairs = (turned[0::2] + 1j * turned[1::2]) * np.exp(1j * t * 10000.0 ** (-np.arange(0, 4, 2) / 4))
        np.testing.assert_allclose(found[t, 4:], plain)
        np.testing.assert_allclose(found[t, 0:4:2] + 1j * found[t, 1:4:2], pairs, rtol=1e-5)


def test_swiglu_with_all_experts_is_half_of_the_dense_block():
    parameters = {
        "switch_gate.weight": normal(4, 16),
        "switch_gate.bias": normal(4),
        "linear1.weight.0": normal(4, 16, 8),
        "linear1.bias.0": normal(4, 1, 8),
        "linear2.weight.0": normal(4, 16, 8, seed=1),
        "linear2.bias.0": normal(4, 1, 8, seed=1),
        "linear3.weight.0": normal(4, 8, 16),
        "linear3.bias": normal(4, 16),
    }
    u = normal(2, 7, 16)
    w1, w2, w3 = (torch.cat(list(parameters[f"linear{i}.weight.0"]), d) for i, d in ((1, 1), (2, 1), (3, 0)))
    b1, b2 = (parameters[f"linear{i}.bias.0"].flatten() for i in (1, 2))
    dense = (F.silu(u @ w1 + b1) * (u @ w2 + b2)) @ w3 + parameters["linear3.bias"].sum(0)
    found = mlp_v3(u, parameters, top_k=4, how=LOWEST).out_BSD
    torch.testing.assert_close(found, 0.5 * dense, rtol=1e-5, atol=1e-4)


def test_a_sample_that_chooses_all_experts_passes_the_dense_mlp():
    parameters = {"switch.weight": normal(3, 5 * 8), "switch.bias": normal(3), "linear2.bias": normal(8)}
    for expert in range(3):
        parameters[f"linear1.weight.{expert}"] = normal(4, 8, seed=expert)
        parameters[f"linear1.bias.{expert}"] = normal(4, seed=expert)
        parameters[f"linear2.weight.{expert}"] = normal(8, 4, seed=expert)
    x = normal(2, 5, 8)
    dense = sum(
        F.gelu(x @ parameters[f"linear1.weight.{e}"].t() + parameters[f"linear1.bias.{e}"])
        @ parameters[f"linear2.weight.{e}"].t()
        + parameters["linear2.bias"]
        for e in range(3)
    )
    found, p, chosen = expert_selection(x, parameters, top_k=3)
    torch.testing.assert_close(found, dense, rtol=1e-5, atol=1e-5)
    assert chosen.eq(1).all()
    torch.testing.assert_close(p.sum(-1), torch.ones(2))


def test_the_mlp_takes_half_of_the_sequence_or_an_even_share():
    parameters, u = under("model.transformer_0.mlpblock."), normal(1, 20, 16)
    mask = torch.ones(1, 20, dtype=torch.long)
    released = mlp_v2(u, mask, parameters, top_k=2, how=LOWEST).slots
    assert released.ids_EBL.shape == (4, 1, 10)
    how = How(ties="lowest", quirks=Quirks(half_capacity=False))
    mask[0, 13:] = 0
    how = How(ties="lowest", quirks=Quirks(half_capacity=False, routed_padding=False, filler=False))
    repaired = mlp_v2(u, mask, parameters, top_k=2, how=how).slots
    assert repaired.capacity_B.tolist() == [7]  # ceil(2 * 13 / 4)
    assert int(repaired.ids_EBL[repaired.live_EBL].max()) < 13


def test_no_quirk_left_an_example_is_the_same_alone_in_a_batch_and_at_any_padding():
    model, how = released_model(), How(ties="lowest", quirks=Quirks().without(CLASSIFIER_QUIRKS))
    ids = torch.randint(1, 20, (3, 32), generator=torch.Generator().manual_seed(1))
    ids[0, 11:] = 0
    ids[1, 25:] = 0
    together = model(ids, (ids != 0).long(), how).logits_BV
    for row, length in enumerate((11, 25, 32)):
        alone = model(ids[row : row + 1, :length], None, how).logits_BV
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-5)


def test_as_released_neighbours_and_padding_matter():
    model = released_model()
    ids = torch.randint(1, 20, (3, 32), generator=torch.Generator().manual_seed(1))
    ids[0, 11:] = 0
    together = model(ids, (ids != 0).long(), LOWEST).logits_BV
    alone = model(ids[:1], (ids[:1] != 0).long(), LOWEST).logits_BV
    assert (alone[0] - together[0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name in CLASSIFIER_QUIRKS if name != "additive_mask"])
def test_every_switch_changes_the_answer(name):
    model = released_model(experts=(2, 8))  # with 4 of them an even share is half of the sequence too
    ids = torch.randint(1, 20, (3, 32), generator=torch.Generator().manual_seed(1))
    ids[0, 11:] = 0
    released = model(ids, (ids != 0).long(), LOWEST).logits_BV
    repaired = model(ids, (ids != 0).long(), How(ties="lowest", quirks=Quirks().without([name]))).logits_BV
    assert (released - repaired).abs().max() > 1e-5


def test_a_mask_that_is_added_loses_digits_where_every_key_is_masked():
    parameters, u = under("model.transformer_0.mha."), normal(1, 6, 16)
    mask = torch.zeros(1, 6, dtype=torch.long)
    added, hidden = (
        attention(u, mask, parameters, top_k=2, num_heads=2, how=How(ties="lowest", quirks=Quirks(additive_mask=on)))
        for on in (True, False)
    )
    assert (added.out_BSD - hidden.out_BSD).abs().max() > 1e-4


def test_only_repaired_gates_reach_the_routers():
    for unweighted, reaches in ((True, False), (False, True)):
        parameters = {k: v.clone().requires_grad_() for k, v in under("model.transformer_0.mlpblock.").items()}
        how = How(ties="lowest", quirks=Quirks(unweighted=unweighted))
        mask = torch.ones(2, 12, dtype=torch.long)
        mlp_v2(normal(2, 12, 16), mask, parameters, top_k=2, how=how).out_BSD.square().sum().backward()
        gradient = parameters["switch_gate.w_gate.weight"].grad
        assert (gradient is not None and bool(gradient.abs().max() > 0)) == reaches


def language_parameters(num_experts=4, width=16):
    head = width // num_experts
    return {
        "switch_gate.w_gate.weight": normal(num_experts, width),
        "switch_gate.w_gate.bias": normal(num_experts),
        "W_q.weight.0": normal(num_experts, width, head),
        "W_q.bias.0": normal(num_experts, 1, head),
        "W_kv.weight.0": normal(num_experts, width, 2 * head),
        "W_kv.bias.0": normal(num_experts, 1, 2 * head),
        "ff.weight.0": normal(num_experts, head, width),
        "ff.bias": normal(num_experts, width),
        "layer_norm.weight": 1 + 0.1 * normal(width),
        "layer_norm.bias": normal(width),
    }


@pytest.mark.parametrize("memory", [0, 12])
def test_without_filler_and_at_original_positions_the_language_model_is_causal(memory):
    quirks = Quirks(filler=False, slot_positions=False, mask_from_length=False, batch_gate=False)
    how, parameters = How(ties="lowest", quirks=quirks), language_parameters()
    x, past = normal(2, 10, 16), normal(2, memory, 16, seed=5) if memory else None
    forbidden = torch.triu(torch.ones(10, memory + 10), 1 + memory)
    before = language_attention(x, forbidden, parameters, memory_BMD=past, how=how).out_BSD
    changed = x.clone()
    changed[:, 6:] += 1
    after = language_attention(changed, forbidden, parameters, memory_BMD=past, how=how).out_BSD
    torch.testing.assert_close(after[:, :6], before[:, :6], rtol=0, atol=1e-6)
    assert (after[:, 6:] - before[:, 6:]).abs().max() > 1e-3
    released = language_attention(changed, forbidden, parameters, memory_BMD=past, how=LOWEST).out_BSD
    reference = language_attention(x, forbidden, parameters, memory_BMD=past, how=LOWEST).out_BSD
    assert (released[:, :6] - reference[:, :6]).abs().max() > 1e-4


def test_the_language_models_mlp_routes_across_the_batch_unless_repaired():
    attention_part = {f"dec_attn.{key}": value for key, value in language_parameters().items()}
    mlp_part = {
        "pos_ff.switch_gate.w_gate.weight": normal(4, 16, seed=2),
        "pos_ff.switch_gate.w_gate.bias": normal(4, seed=2),
        "pos_ff.linear1.weight.0": normal(4, 16, 8),
        "pos_ff.linear1.bias.0": normal(4, 1, 8),
        "pos_ff.linear2.weight.0": normal(4, 8, 16),
        "pos_ff.linear2.bias": normal(4, 16),
        "pos_ff.layer_norm.weight": torch.ones(16),
        "pos_ff.layer_norm.bias": torch.zeros(16),
    }
    x = normal(12, 6, 16)
    other = x.clone()
    other[:, 1] = normal(12, 16, seed=9)
    for across in (True, False):
        quirks = Quirks(filler=False, batch_gate=False, across_batch=across)
        before, after = (
            decoder_layer(
                value,
                torch.triu(torch.ones(12, 12), 1),
                attention_part | mlp_part,
                how=How(ties="lowest", quirks=quirks),
            ).out_SBD[:, 0]
            for value in (x, other)
        )
        assert bool(((before - after).abs().max() > 1e-3).item()) == across


def test_a_sample_wise_router_takes_one_length_only():
    parameters = {"switch.weight": normal(4, 60 * 8), "switch.bias": normal(4)}
    with pytest.raises(ConfigError, match="was made for 480 features of a whole sample, not 400"):
        mlp_es(normal(2, 50, 8), parameters, top_k=4)


def test_rows_of_a_language_models_mlp_are_half_of_its_sequence():
    parameters = {
        "switch_gate.w_gate.weight": normal(4, 16),
        "switch_gate.w_gate.bias": normal(4),
        "linear1.weight.0": normal(4, 16, 8),
        "linear1.bias.0": normal(4, 1, 8),
        "linear2.weight.0": normal(4, 8, 16),
        "linear2.bias": normal(4, 16),
    }
    assert mlp_ds(normal(2, 33, 16), parameters, post_norm=False, how=LOWEST).slots.ids_EBL.shape == (4, 2, 16)


def test_ids_outside_the_vocabulary_and_unknown_quirks_are_sentences():
    model = released_model()
    with pytest.raises(InputError, match=r"token ids must lie in 0\.\.19"):
        model(torch.full((1, 4), 20))
    with pytest.raises(InputError, match="must be rows of 1 to 32 ids"):
        model(torch.ones(1, 33, dtype=torch.long))
    with pytest.raises(ConfigError, match="no quirk called fillers: choose from filler, "):
        Quirks().without(["fillers"])
