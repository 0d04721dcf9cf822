"""Which units are padding, and how the maps set them apart."""

import dataclasses

import numpy as np

from analysis.figures.token_map import build_token_map
from analysis.padding import padding_units
from tests.traces import make_trace, mark_padding

TRACE = make_trace("L0.mlp: 0>E0 1>E1 2>E0 3>E0", num_experts=2)


def test_padding_is_special_and_called_so():
    assert padding_units(mark_padding(TRACE, 3)).tolist() == [False, False, False, True]
    units = mark_padding(TRACE, 3).units
    plain = dataclasses.replace(TRACE, units=dataclasses.replace(units, is_special=np.zeros(4, dtype=np.bool_)))
    assert not padding_units(plain).any()  # a label of that name is not enough
    assert not padding_units(TRACE).any()


def test_the_token_map_knows_padding_and_sends_it_only_where_there_is_some():
    assert build_token_map(mark_padding(TRACE, 2)).is_padding.tolist() == [0, 0, 1, 1]
    assert b"is_padding" in build_token_map(mark_padding(TRACE, 2)).packed(channel="map", version="run")
    assert b"is_padding" not in build_token_map(TRACE).packed(channel="map", version="run")
