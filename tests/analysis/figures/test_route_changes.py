import base64

import numpy as np
import pytest

from analysis.figures.route_changes import RouteChanges
from analysis.figures.route_columns import build_route_columns
from tests.analysis.figures.test_packed_columns import unpack
from tests.traces import make_trace

BEFORE = build_route_columns(make_trace("L0.mlp: 0>E0 1>E2,E1! 2; L1.mlp: 0>E3,E0 1>E1 2>E2", num_experts=4))


def mask(*changed: tuple[int, int]) -> np.ndarray:
    is_changed = np.zeros((2, 4), dtype=np.bool_)
    for site, unit in changed:
        is_changed[site, unit] = True
    return is_changed


def test_only_the_routes_of_changed_units_are_sent_in_the_order_site_unit_rank():
    changes = RouteChanges(is_changed=mask((0, 1), (0, 2), (1, 0)), before=BEFORE)
    header, columns = unpack(base64.b64decode(changes.payload()["base64"]))
    assert header == {"has_before": True}
    assert columns["changed"].tolist() == [0b0001_0110]
    assert columns["requested"].tolist() == [2, 0, 2]
    assert columns["expert"].tolist() == [2, 1, 3, 0]
    assert columns["dropped"].tolist() == [0b0010]


def test_marks_go_without_the_routes_of_the_other_run():
    header, columns = unpack(base64.b64decode(RouteChanges(is_changed=mask((1, 3)), before=None).payload()["base64"]))
    assert header == {"has_before": False}
    assert {name: column.tolist() for name, column in columns.items()} == {"changed": [0b1000_0000]}


def test_nothing_changed_is_little_to_send():
    _, columns = unpack(base64.b64decode(RouteChanges(is_changed=mask(), before=BEFORE).payload()["base64"]))
    assert columns["expert"].tolist() == []


def test_a_unit_that_the_other_run_lacks_cannot_have_changed():
    with pytest.raises(ValueError, match="run A does not have"):
        RouteChanges(is_changed=mask((0, 3)), before=BEFORE)
