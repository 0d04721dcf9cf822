"""The address: a link shows somebody else the same, and nonsense in it shows the page as it is."""

import time

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import address, cache
from dashboard.state import PageState
from tests.dashboard.conftest import TEXT, boxes, charts, open_page, run_text_on_page, shown_key, state_of, words_on


def test_the_first_paint_writes_its_address(page: AppTest) -> None:
    assert page.query_params["show"] == "text"
    assert set(page.query_params) <= {"show", "site"}


def test_a_link_brings_somebody_else_to_the_same_view(page: AppTest) -> None:
    run_text_on_page(page, TEXT)
    page.button(key="pin").click().run()
    state_of(page).select(site_id=2, experts=(1, 3), units=(4, 2), status="partly dropped", pinned=((2, 1), (0, 0)))
    page.segmented_control(key="atlas_value").set_value("Dropped share").run()
    link = dict(page.query_params)
    other = open_page(**link)
    assert boxes(other) == []
    assert shown_key(other) == shown_key(page)
    mine, theirs = state_of(page), state_of(other)
    assert (theirs.selection, theirs.options, theirs.pinned) == (mine.selection, mine.options, mine.pinned)
    assert dict(other.query_params) == link
    assert charts(other) == charts(page)


def test_a_link_to_a_forgotten_run_says_so_and_shows_the_example() -> None:
    page = open_page(show="0123456789abcdef", site="2")
    [box] = boxes(page)
    assert "no longer holds" in box
    assert "run bundle" in box
    assert shown_key(page) == "text"
    assert page.query_params["show"] == "text"
    page.run()
    assert len(boxes(page)) == 1


def test_a_selection_alone_is_of_the_example() -> None:
    page = open_page(show="text", site="5", experts="1")
    assert state_of(page).selection.site_id == 5
    assert state_of(page).selection.experts == (1,)


def test_going_back_in_the_browser_goes_back_on_the_page(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dict(page.query_params)
    page.button(key="other_example").click().run()
    assert page.query_params["show"] == "picture"
    later = time.monotonic() + 60
    monkeypatch.setattr(address.time, "monotonic", lambda: later)
    page.query_params.clear()
    page.query_params.update(first)
    page.run()
    assert boxes(page) == []
    assert shown_key(page) == "text"


def test_an_address_that_the_browser_reports_late_changes_nothing(
    page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "ECHO_S", 600)
    first = dict(page.query_params)
    page.button(key="other_example").click().run()
    page.query_params.clear()
    page.query_params.update(first)
    page.run()
    assert shown_key(page) == "picture"


def test_parameters_of_others_are_left_alone() -> None:
    page = open_page(utm_source="mail", show="picture")
    assert page.query_params["utm_source"] == "mail"
    assert shown_key(page) == "picture"


def test_nothing_in_a_link_becomes_part_of_the_page() -> None:
    page = open_page(show="text", site="<b>9</b>", status="<i>dropped</i>", pinned="<script>.1", atlas="[x](y)")
    assert boxes(page) == []
    assert "script" not in words_on(page)
    assert set(page.query_params) == {"show", "site"}


@pytest.mark.parametrize(
    ("number", "place"), [("0", 0), ("2", 2), ("3", None), ("", None), ("-1", None), ("²", None), ("9" * 5000, None)]
)
def test_a_number_of_a_run_is_one_of_those_there_are(number: str, place: int | None) -> None:
    assert address._place(number, 3) == place


def test_a_pinned_run_is_found_by_its_key_and_number() -> None:
    state = PageState()
    state.show(cache.example("text"))
    address._adopt(state, {"show": "text", "a": "picture.0"})
    assert state.pinned is cache.example("picture").runs[0]
    assert state.pinned_key == "picture.0"
