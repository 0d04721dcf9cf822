"""The released language model and the replay of recordings, against slow loops: memory, stacks, sequence first."""

import pytest
import torch
import torch.nn.functional as F

from tests.uoe_model.reference.golden import replay
from tests.uoe_model.reference.recorded import FORCED, LOWEST, TORCH, Case
from tests.uoe_model.reference.recordings import attention_case, causal, data_case, model_case, stack_case
from tests.uoe_model.reference.released import released_model
from uoe_model.errors import ConfigError
from uoe_model.reference.blocks import How
from uoe_model.reference.language import attention

KINDS = {
    "smha_b1_s7": lambda: attention_case(size=1, length=7),
    "smha_b3_s8_prenorm": lambda: attention_case(size=3, length=8, post_norm=False),
    "smha_b3_s6_mem6": lambda: attention_case(size=3, length=6, memory=6),
    "smha_b3_s6_mem10": lambda: attention_case(size=3, length=6, memory=10),
    "ds_b3_s10_prenorm": lambda: data_case(first=3, second=10, post_norm=False),
    "ds_s12_b6_seqfirst": lambda: data_case(first=12, second=6),
    "ds_stack": lambda: stack_case(length=7, size=4),
    "es_stack": lambda: stack_case(length=6, size=5, sample=5),
    "lm_postnorm_mem0": lambda: model_case(memory=0),
    "lm_postnorm_mem6": lambda: model_case(memory=6),
    "lm_postnorm_mem9": lambda: model_case(memory=9),
    "lm_prenorm_mem6": lambda: model_case(memory=6, post_norm=False),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_language_model_computes_what_slow_loops_do_under_every_target(name):
    case = KINDS[name]()
    found = list(replay(name, case, {}, released_model()))
    assert {one.target for one in found} == {FORCED, LOWEST, TORCH}
    assert not [one for one in found if one.error > 1e-10]
    assert case.unread() == []


def test_gates_of_one_sample_alone_are_compared_with_forced_ids_only():
    case = data_case(first=1, second=17)
    found = list(replay("ds_b1_s17_degenerate", case, {}, released_model()))
    assert {one.target for one in found} == {FORCED}
    assert all(one.is_right for one in found)


@pytest.mark.parametrize("key", ["seg1/loss", "seg2/mems1", "seg1/l0_attn_mem_seq_ids", "seg0/l0_mlp_gate"])
def test_a_wrong_number_of_a_later_segment_is_noticed(key):
    case = model_case(memory=6)
    changed = Case({**case, key: case[key][::-1].copy() if "ids" in key else case[key] + 1e-3})
    assert any(not one.is_right for one in replay("lm_postnorm_mem6", changed, {}, released_model()))


def test_the_mask_of_memory_longer_than_the_segment_lets_units_see_later_ones_unless_repaired():
    case = attention_case(size=1, length=6, memory=10)
    parameters = {key: torch.from_numpy(value) for key, value in case.under("param/").items()}
    x, memory = torch.from_numpy(case["x"]), torch.from_numpy(case["mems"]).transpose(0, 1)
    louder = x.clone()
    louder[:, -1] *= 1.001  # the same routes, another value
    forced = {"": torch.arange(6).expand(4, 1, -1), "_mem": torch.arange(10).expand(4, 1, -1)}
    for repaired in (False, True):
        quirks = How().quirks.without(["mask_from_length"] if repaired else [])
        how = How(quirks=quirks, forced=forced)
        before, after = (
            attention(value, causal(6, 10), parameters, memory_BMD=memory, how=how).out_BSD[:, :-1]
            for value in (x, louder)
        )
        assert bool(((after - before).abs().max() == 0).item()) == repaired


def test_memory_shorter_than_the_segment_is_a_sentence():
    case = attention_case(size=1, length=6, memory=6)
    parameters = {key: torch.from_numpy(value) for key, value in case.under("param/").items()}
    x, memory = torch.from_numpy(case["x"]), torch.from_numpy(case["mems"]).transpose(0, 1)[:, :3]
    with pytest.raises(ConfigError, match=r"3 steps of memory are fewer than the \d slots of an expert"):
        attention(x, causal(6, 3), parameters, memory_BMD=memory, how=How())
    quirks = How().quirks.without(["mask_from_length"])
    assert attention(x, causal(6, 3), parameters, memory_BMD=memory, how=How(quirks=quirks)).out_BSD.isfinite().all()


def test_recorded_gradients_of_the_classifier_are_its_differences():
    model = released_model()
    parameters = {key: value.double() for key, value in model.parameters.items()}
    model = type(model)(parameters=parameters)
    ids = torch.randint(1, 20, (2, 16), generator=torch.Generator().manual_seed(3))
    ids[1, 11:] = 0
    labels = torch.tensor([4, 1])

    def loss():
        with torch.no_grad():
            return float(F.cross_entropy(model(ids, (ids != 0).long()).logits_BV, labels))

    recorded = {"labels": labels.numpy()}
    rows = {"model.embeddings.position_embeddings.weight": 3, "model.embeddings.word_embeddings.weight": 2}
    for key in (*rows, "model.transformer_0.mha.ff.bias", "model.transformer_1.norm2.weight"):
        values = parameters[key].view(-1)
        slopes = torch.zeros_like(parameters[key]).view(-1)
        for at in range(len(values) if key not in rows else rows[key] * parameters[key].shape[1]):
            middle = float(values[at])
            values[at] = middle + 1e-6
            above = loss()
            values[at] = middle - 1e-6
            slopes[at] = (above - loss()) / 2e-6
            values[at] = middle
        recorded[f"grad/{key}"] = slopes.view_as(parameters[key])[: rows.get(key)].numpy()
    router = ("switch_gate", "linear3", "kv_norm", "layer_norm")
    recorded["params_without_gradient"] = [key for key in parameters if any(word in key for word in router)]
    given = Case({"input_ids": ids.numpy(), "mask": (ids != 0).float().numpy()})
    case = Case(recorded)
    found = list(replay("grad_s16_b2", case, {"ext_s16_b2": given}, model))
    assert len(found) == 5
    assert all(one.is_right for one in found)
    assert case.unread() == []
    recorded["params_without_gradient"] = recorded["params_without_gradient"][1:]
    wrong = replay("grad_s16_b2", Case(recorded), {"ext_s16_b2": given}, model)
    assert [one.what for one in wrong if not one.is_right] == ["parameters without gradient"]
