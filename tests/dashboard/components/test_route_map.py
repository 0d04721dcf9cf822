import json

import pytest
from streamlit.testing.v1 import AppTest

from analysis.figures.route_columns import build_route_columns
from analysis.selection import MAX_IDS, Selection
from dashboard.components.route_map import read_selection
from tests.traces import make_trace

ROUTES = build_route_columns(make_trace("L0.attention: 0>E0 1>E1; L0.mlp: 0>E0 1>E1", num_experts=2))
FULL = {
    "version": "run",
    "turn": 7,
    "site": 0,
    "experts": [1, 0],
    "units": [1],
    "status": "dropped",
    "pinned": [[1, 0]],
}


def read(**changes: object) -> Selection | None:
    return read_selection(FULL | changes, ROUTES, version="run")


def test_a_choice_is_taken_as_made():
    assert read() == Selection(site_id=0, experts=(1, 0), units=(1,), status="dropped", pinned=((1, 0),))
    bare = read_selection({"version": "run", "site": 1}, ROUTES, version="run")
    assert bare == Selection(site_id=1)


@pytest.mark.parametrize("raw", [None, "nonsense", 5, [], {}, FULL | {"version": "an older run"}])
def test_what_is_no_choice_on_this_run_changes_nothing(raw):
    assert read_selection(raw, ROUTES, version="run") is None


@pytest.mark.parametrize("site", [2, 9, -1, None, "0", 0.5, True, [0], {}])
def test_a_choice_at_a_site_the_trace_does_not_have_changes_nothing(site):
    assert read(site=site) is None


@pytest.mark.parametrize("ids", [[2], [-1], ["1"], [0.0], [True], [[1]], [{}], [None], "01", 1, None, {"a": 1}])
def test_experts_and_units_the_trace_does_not_have_are_left_out(ids):
    choice = read(experts=ids, units=ids)
    assert choice is not None
    assert (choice.experts, choice.units) == ((), ())


@pytest.mark.parametrize("pinned", [[[0, 2]], [[9, 0]], [[0]], [[0, 1, 0]], [0, 1], ["01"], [[0, True]], [["0", 0]], 7])
def test_pins_the_trace_does_not_have_are_left_out(pinned):
    choice = read(pinned=pinned)
    assert choice is not None
    assert choice.pinned == ()


@pytest.mark.parametrize("status", ["kept", "", None, 0, ["dropped"], {"dropped": 1}])
def test_an_unknown_status_is_none(status):
    choice = read(status=status)
    assert choice is not None
    assert choice.status is None


def test_repeats_count_once_and_lists_have_an_end():
    many = build_route_columns(make_trace("L0.mlp: 99>E0", num_experts=1))
    raw = {"version": "run", "site": 0, "units": [3, 3, *range(100)]}
    choice = read_selection(raw, many, version="run")
    assert choice is not None
    assert choice.units[:3] == (3, 0, 1)
    assert len(choice.units) == MAX_IDS


def test_a_trace_without_sites_has_no_choice():
    empty = build_route_columns(make_trace("", num_experts=1))
    assert read_selection(FULL, empty, version="run") is None


def page_with_a_map() -> None:
    import streamlit as st

    from analysis.figures.theme import focus_palette
    from analysis.figures.token_map import build_token_map
    from analysis.selection import Selection
    from dashboard.components.route_map import heard_selection, skip_choice
    from dashboard.components.token_map import token_map
    from tests.traces import make_trace

    tokens = build_token_map(make_trace("L0.attention: 0>E0 1>E1; L0.mlp: 0>E0 1>E1", num_experts=2))
    if asked := st.session_state.pop("asked", None):
        st.session_state["now"] = asked
        skip_choice("map")
    now = st.session_state.get("now", Selection(site_id=1))
    now = heard_selection("map", tokens.routes, now, version="run")
    palettes = {0: focus_palette(2), 1: focus_palette(2, pinned=now.pinned_by_site().get(1, ()))}
    st.session_state["now"] = token_map(tokens, palettes, now, key="map", version="run")
    st.text(str(st.session_state["now"].site_id))


def choice(site: int, turn: int) -> dict[str, object]:
    return {"choice": {"site": site, "units": [1], "version": "run", "turn": turn, "pinned": [[1, 1]]}}


def sent(page: AppTest) -> tuple[bytes, dict[str, object]]:
    """What the browser gets: the map's bytes, and the news of what is selected."""
    drawn, news = page.get("bidi_component")[:2]
    return drawn.proto.bytes, json.loads(news.proto.json)


def test_the_page_can_move_the_map_after_a_choice_was_made_on_it():
    page = AppTest.from_function(page_with_a_map, default_timeout=120).run()
    assert page.text[0].value == "1"
    page.session_state["map"] = choice(site=0, turn=1)
    assert page.run().text[0].value == "0"
    assert sent(page)[1]["value"]["heard"] == 1
    page.session_state["asked"] = Selection(site_id=1)
    assert page.run().text[0].value == "1", "a choice that was heard before must not undo a later one"
    page.session_state["map"] = choice(site=0, turn=2)
    page.session_state["asked"] = Selection(site_id=1)
    assert page.run().text[0].value == "1", "nor one that the page decided to skip"
    page.session_state["map"] = choice(site=0, turn=3)
    assert page.run().text[0].value == "0"
    assert not page.exception


def test_a_change_of_the_selection_does_not_send_the_run_again():
    page = AppTest.from_function(page_with_a_map, default_timeout=120).run()
    drawn, news = sent(page)
    assert b"t0 " in drawn
    assert "t0" not in page.get("bidi_component")[0].proto.html_content, "text of the input is data, never markup"
    page.session_state["map"] = choice(site=0, turn=1)
    drawn_again, news_again = sent(page.run())
    assert drawn_again == drawn
    assert news_again != news
    assert (news_again["value"]["site"], news_again["value"]["pinned"]) == (0, [[1, 1]])
    assert list(news_again["value"]["palettes"]["1"]) == ["1"]
    assert page.get("bidi_component")[1].proto.ByteSize() < 5000
