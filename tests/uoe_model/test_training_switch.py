"""The Switch model of the comparison: what it does is what transformers does, behind our interface."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers.models.switch_transformers.modeling_switch_transformers import (
    load_balancing_loss_func,
    router_z_loss_func,
)

from tests.uoe_model.models import tokens
from tests.uoe_model.training_data import image_settings, text_settings
from uoe_model.config import UoEConfig
from uoe_model.errors import CheckpointError, ConfigError
from uoe_model.layout import RoutingLayout, build_layout
from uoe_model.replacements import UNTRAINED_ROUTERS
from uoe_model.router import RoutingOverrides
from uoe_model.training.optimiser import router_weights
from uoe_model.training.switch import (
    SwitchForCausalLM,
    SwitchForImageClassification,
    SwitchMLP,
    model_class,
    untrained_switch_weights,
)
from uoe_model.training.variants import variant_settings


def switch_of(kind: str) -> SwitchForCausalLM | SwitchForImageClassification:
    base = image_settings(label_smoothing=0.0) if kind == "image" else text_settings()
    torch.manual_seed(0)
    config = variant_settings(base, kind, "switch", 0).build_config()
    config.num_labels = 3
    model = model_class(kind, "switch")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "router.classifier" in name:
                parameter.normal_()  # the small initial one asks for all experts alike
    return model


def layout_of(rows: int, length: int) -> RoutingLayout:
    return build_layout(torch.ones(rows, length, dtype=torch.bool), 1)


@pytest.fixture(scope="module")
def lm() -> SwitchForCausalLM:
    return switch_of("text")


def first_mlp(model: SwitchForCausalLM) -> SwitchMLP:
    return model.model.blocks[0].mlp


def test_output_gates_and_drops_are_those_of_the_module_of_transformers(lm: SwitchForCausalLM):
    mlp, x_BTD = first_mlp(lm), torch.randn(3, 24, 16)
    out_ND, decision = mlp(x_BTD.flatten(0, 1), layout_of(3, 24))
    assert torch.equal(out_ND.view_as(x_BTD), mlp.sparse(x_BTD))
    selected_BTE, gate_BT1, logits_BTE = mlp.sparse.router(x_BTD)
    kept_N = selected_BTE.flatten(0, 1).any(-1)
    assert torch.equal(decision.kept_NK[:, 0], kept_N)
    assert 0 < int((~kept_N).sum()) < len(kept_N)
    assert torch.equal(decision.gate_NK[kept_N], gate_BT1.flatten(0, 1)[kept_N])
    assert torch.equal(decision.expert_NK[:, 0], logits_BTE.flatten(0, 1).argmax(-1))
    assert decision.capacity_G.tolist() == [mlp.sparse.router.expert_capacity] * 3


def test_router_losses_are_those_of_transformers(lm: SwitchForCausalLM):
    ids = tokens(2, 24)
    out = lm(input_ids=ids, labels=ids)
    logits = [decision.logits_NE.view(2, 24, -1) for decision in out.decisions[1::2]]
    balance = sum(load_balancing_loss_func(site.softmax(-1), site.argmax(-1)) for site in logits)
    z = sum(router_z_loss_func(site) for site in logits)
    config: UoEConfig = lm.config
    expected = out.cross_entropy + config.router_aux_loss_coef * balance + config.router_z_loss_coef * z
    torch.testing.assert_close(out.loss, expected)


def test_later_tokens_and_padding_on_the_right_change_nothing(lm: SwitchForCausalLM):
    ids = tokens(2, 24)
    changed = ids.clone()
    changed[:, 12:] = tokens(2, 12, seed=5)
    before, after = lm(input_ids=ids).logits, lm(input_ids=changed).logits
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])
    mask = torch.ones_like(ids)
    mask[:, 12:] = 0
    torch.testing.assert_close(lm(input_ids=changed, attention_mask=mask).logits[:, :12], before[:, :12])


def test_other_routes_can_be_put_in_and_the_limit_lifted(lm: SwitchForCausalLM):
    mlp, x_ND, layout = first_mlp(lm), torch.randn(24, 16), layout_of(1, 24)

    def to_one(site_id: int, logits_ME: Tensor, layout: RoutingLayout, router_input_MD: Tensor) -> Tensor:
        assert site_id == 1
        return torch.zeros_like(logits_ME).index_fill(1, torch.tensor([3]), 1.0)

    _, decision = mlp(x_ND, layout, RoutingOverrides(replace_logits=to_one))
    assert decision.expert_NK.unique().tolist() == [3]
    capacity = mlp.sparse.router.expert_capacity
    assert decision.kept_NK[:, 0].tolist() == [True] * capacity + [False] * (24 - capacity)
    _, free = mlp(x_ND, layout, RoutingOverrides(replace_logits=to_one, capacity_factor=None))
    assert bool(free.kept_NK.all())


@pytest.mark.parametrize("changes", [{"num_experts_per_tok": 2}, {"gate": "one"}, {"capacity_factor": 2.0}])
def test_what_transformers_does_not_have_is_refused(changes: dict[str, object], lm: SwitchForCausalLM):
    with pytest.raises(ConfigError, match="Switch comparison model"):
        first_mlp(lm)(torch.randn(24, 16), layout_of(1, 24), RoutingOverrides(**changes))


def test_a_cache_is_refused(lm: SwitchForCausalLM):
    with pytest.raises(ConfigError, match="no cache"):
        lm(input_ids=tokens(1, 4), use_cache=True)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_stored_model_computes_the_same(kind: str, tmp_path: Path):
    model = switch_of(kind)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    given = {"pixel_values": torch.randn(2, 3, 8, 8)} if kind == "image" else {"input_ids": tokens(2, 24)}
    assert torch.equal(model(**given).logits, again(**given).logits)


def test_the_untrained_routers_are_found_by_their_site(lm: SwitchForCausalLM, tmp_path: Path):
    from safetensors.torch import save_file

    save_file(router_weights(lm), tmp_path / UNTRAINED_ROUTERS)
    found = untrained_switch_weights(lm, tmp_path)
    assert sorted(found) == [1, 3]
    assert torch.equal(found[3], lm.model.blocks[1].mlp.sparse.router.classifier.weight)
    with pytest.raises(CheckpointError, match="cannot be read"):
        untrained_switch_weights(lm, tmp_path / "nothing")


def test_initial_weights_are_on_the_scale_of_our_own():
    base = text_settings()
    config = variant_settings(base, "text", "switch", 0).build_config()
    torch.manual_seed(0)
    mlp = first_mlp(SwitchForCausalLM(config).requires_grad_(False))
    assert float(mlp.sparse.router.classifier.weight.std()) == pytest.approx(config.router_init_std, rel=0.3)
    out = torch.cat([expert.wo.weight.flatten() for expert in mlp.sparse.experts.values()])
    deep = config.initializer_range / (2 * config.num_hidden_layers) ** 0.5
    assert float(out.std()) == pytest.approx(deep, rel=0.1)
