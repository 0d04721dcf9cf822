import json

import pytest
from streamlit.testing.v1 import AppTest

from analysis.figures.route_columns import build_route_columns
from dashboard.components.route_map import MapChoice, read_choice
from tests.traces import make_trace

ROUTES = build_route_columns(make_trace("L0.attention: 0>E0 1>E1; L0.mlp: 0>E0 1>E1", num_experts=2))


def heard(raw: object) -> MapChoice | None:
    return read_choice(raw, ROUTES, version="run", site_id=1, unit_id=0)


def test_a_choice_is_taken_as_made():
    assert heard({"site": 0, "unit": 1, "version": "run"}) == MapChoice(site_id=0, unit_id=1)
    assert heard({"site": 0, "unit": None}) == MapChoice(site_id=0, unit_id=None)


def test_without_a_choice_the_map_shows_what_was_asked_of_it():
    asked = MapChoice(site_id=1, unit_id=0)
    assert heard(None) == asked
    assert heard("nonsense") == asked
    assert heard({"site": 0, "unit": 1, "version": "an older run"}) == asked


@pytest.mark.parametrize("site", [9, -1, None, "0", 0.5, True, [0], {}])
def test_a_site_the_trace_does_not_have_becomes_the_first_one(site):
    assert heard({"site": site, "unit": 1}) == MapChoice(site_id=0, unit_id=1)


@pytest.mark.parametrize("unit", [2, -1, "1", 0.0, True, [1], {"a": 1}])
def test_a_unit_the_trace_does_not_have_is_no_unit(unit):
    assert heard({"site": 1, "unit": unit}) == MapChoice(site_id=1, unit_id=None)


def test_a_trace_without_sites_has_no_choice():
    empty = build_route_columns(make_trace("", num_experts=1))
    assert read_choice({"site": 0, "unit": 0}, empty, version="run", site_id=None, unit_id=None) is None


def page_with_a_map() -> None:
    import streamlit as st

    from analysis.figures.theme import focus_palette
    from analysis.figures.token_map import build_token_map
    from dashboard.components.token_map import token_map
    from tests.traces import make_trace

    trace = make_trace("L0.attention: 0>E0 1>E1; L0.mlp: 0>E0 1>E1", num_experts=2)
    palettes = {0: focus_palette(2), 1: focus_palette(2)}
    asked = st.session_state.get("asked", 1)
    choice = token_map(build_token_map(trace), palettes, key="map", version="run", site_id=asked)
    st.text(str(choice and choice.site_id))


def test_the_page_can_move_the_map_after_a_choice_was_made_on_it():
    page = AppTest.from_function(page_with_a_map, default_timeout=120).run()
    assert page.text[0].value == "1"
    page.session_state["map"] = {"choice": {"site": 0, "unit": 1, "version": "run", "turn": 1}}
    assert page.run().text[0].value == "0"
    page.session_state["asked"] = 1
    assert page.run().text[0].value == "1", "a choice that was heard before must not undo a later one"
    page.session_state["map"] = {"choice": {"site": 0, "unit": 1, "version": "run", "turn": 2}}
    assert page.run().text[0].value == "0"
    assert not page.exception


def test_the_map_is_sent_strict_json_with_its_text_as_data_only():
    page = AppTest.from_function(page_with_a_map, default_timeout=120).run()
    sent = page.get("bidi_component")[0].proto
    data = json.loads(sent.json)
    assert data["text"] == ["t0 ", "t1 "]
    assert data["wanted"] == {"site": 1, "unit": None, "expert": None}
    assert "t0" not in sent.html_content
