"""What a router or model configuration may not say, and that every problem is named at once."""

import re

import pytest

from tests.uoe_model.models import build_classifier, build_lm, causal_router, free_router, small_config
from uoe_model.config import RouterConfig
from uoe_model.errors import ConfigError


def test_mean_one_with_a_single_expert_is_an_error_that_says_why():
    with pytest.raises(ConfigError, match="gradient"):
        small_config(mlp_router=causal_router(num_experts_per_tok=1), attention_router=causal_router())


@pytest.mark.parametrize("gate", ["probability", "one"])
def test_other_gates_allow_a_single_expert(gate):
    router = causal_router(num_experts_per_tok=1, gate=gate)
    assert small_config(mlp_router=router, attention_router=causal_router()).mlp_router["gate"] == gate


@pytest.mark.parametrize(
    "router",
    [
        free_router(),
        free_router(selection="expert_choice"),
        causal_router(selection="expert_choice"),
        free_router(selection="expert", capacity_factor=None),
    ],
)
@pytest.mark.parametrize("site", ["attention_router", "mlp_router"])
def test_a_causal_model_takes_data_with_position_and_nothing_else(router, site):
    routers = {"attention_router": causal_router(), "mlp_router": causal_router()} | {site: router}
    with pytest.raises(ConfigError, match=r"causal.*position"):
        small_config(is_causal=True, **routers)


def test_experts_that_choose_admit_by_score_alone():
    with pytest.raises(ConfigError, match=r"selection='expert_choice'.*never causal.*set admission='score'"):
        RouterConfig(selection="expert_choice", admission="position", num_experts=4, num_experts_per_tok=2)
    assert RouterConfig(selection="expert_choice", num_experts=4, num_experts_per_tok=2).admission == "score"


def test_a_language_model_must_be_causal_and_a_classifier_must_not():
    with pytest.raises(ConfigError, match="is_causal"):
        build_lm(is_causal=False)
    with pytest.raises(ConfigError, match="is_causal"):
        build_classifier(is_causal=True, attention_router=causal_router(), mlp_router=causal_router())


def test_all_problems_of_a_router_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        RouterConfig(num_experts=8, num_experts_per_tok=9, capacity_factor=-1.0, gate="loud", patch_len=0)
    for part in ("num_experts_per_tok=9", "1..num_experts=8", "capacity_factor=-1.0", "gate='loud'", "patch_len=0"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads=3"),
        ({"attention_router": causal_router(num_experts=8)}, "attention experts=8"),
        ({"intermediate_size": 30}, "intermediate_size=30"),
        ({"hidden_act": "relu"}, "gelu, gelu_tanh, swiglu"),
        ({"mlp_router": causal_router(experts=4)}, "experts"),
    ],
)
def test_a_model_that_cannot_be_cut_names_the_value(fields, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        small_config(**({"attention_router": causal_router(), "mlp_router": causal_router()} | fields))


def test_sites_are_layer_by_layer_attention_first():
    config = small_config(attention_router=causal_router(), mlp_router=causal_router(num_experts=8))
    assert [router.num_experts for router in config.site_configs()] == [4, 8, 4, 8]
