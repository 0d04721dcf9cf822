"""The capacity of an expert, for factors of any number of digits."""

import math
from fractions import Fraction

import pytest
import torch

from tests.uoe_model.bundles import LONG_TEXT, assert_checks_pass, image_bundle, picture, text_bundle
from tests.uoe_model.models import causal_router, free_router
from uoe_model.capacity import example_capacity
from uoe_model.config import RouterConfig
from uoe_model.errors import ConfigError
from uoe_model.router import RoutingOverrides
from uoe_model.run import run_image_on, run_text_on

MANY_DIGITS = (4 / 3, 2 / 3, 0.1 + 0.2, math.pi, 1e-7, 999.123456789012)


@pytest.mark.parametrize("admission", ["score", "position"])
@pytest.mark.parametrize("factor", [*MANY_DIGITS, 1.1, 1.25])
def test_capacity_is_exact_for_any_factor(factor, admission):
    config = RouterConfig(num_experts=7, num_experts_per_tok=3, capacity_factor=factor, admission=admission)
    patches = [0, 1, 7, 64, 512, 2048, 100_000]
    expected = [math.ceil(Fraction(str(factor)) * 3 * count / 7) for count in patches]
    if admission == "position":
        expected = [max(4, capacity) for capacity in expected]
    assert example_capacity(config, torch.tensor(patches)).tolist() == expected
    assert example_capacity(config, torch.tensor([], dtype=torch.long)).tolist() == []


@pytest.mark.parametrize("factor", MANY_DIGITS)
def test_runs_with_such_factors_keep_what_they_should(factor):
    overrides = RoutingOverrides(capacity_factor=factor)
    routers = {name: causal_router(num_experts=2) for name in ("attention_router", "mlp_router")}
    assert_checks_pass(run_text_on(text_bundle(**routers), LONG_TEXT, overrides=overrides).trace)
    routers = {name: free_router(num_experts=2) for name in ("attention_router", "mlp_router")}
    assert_checks_pass(run_image_on(image_bundle(**routers), picture(), overrides=overrides).trace)


@pytest.mark.parametrize("factor", [0, -1.0, math.nan, math.inf, 1000.5, "1", True])
def test_a_factor_that_is_no_limit_is_refused(factor):
    with pytest.raises(ConfigError, match="must be a number above 0 and at most 1000, or null for no limit"):
        RouterConfig(num_experts=7, num_experts_per_tok=3, capacity_factor=factor)
