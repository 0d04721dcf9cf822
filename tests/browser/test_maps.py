"""The token map as the browser draws it, without the page around it: its module runs in an empty document."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page

from analysis.confidence import missing_logits
from analysis.figures.route_changes import RouteChanges
from analysis.figures.route_columns import build_route_columns
from analysis.figures.theme import IDENTITIES, focus_palette
from analysis.figures.token_map import TokenMap, build_token_map
from analysis.selection import Selection
from dashboard.components import token_map
from tests.browser.page_modules import (
    attributes,
    bare_page,
    draw,
    last_choice,
    mount_map,
    started_browser,
    tell,
    tell_changes,
)
from tests.traces import make_trace, mark_padding
from uoe_model.trace import text_column

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=\"document.title='run'\">"
PIECES = ["The", " old", EVIL, "\n", " harbour", "&amp;", "\x00"]
ROUTES = """
    L0.attention: 0>E0 1>E0 2>E1 3>E1 4>E2 5>E2 6>E0
    L0.mlp:       0>E1,E0! 1>E2! 2>E0,E1 3>E0 4>E11 5 6>E0
"""
EXPERTS = {"L0.attention": 3, "L0.mlp": 20}
LOGITS = np.log(np.array([[0.5, 0.375, 0.125]] * 7, dtype=np.float32))
TEXT_TRACE = make_trace(ROUTES, num_experts=EXPERTS, pieces=PIECES, logits={0: LOGITS})
PALETTES = {0: focus_palette(3), 1: focus_palette(20)}


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    with started_browser(browser_path) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with bare_page(browser) as page:
        yield page


def mount_tokens(page: Page, tokens: TokenMap, selection: Selection, palettes: Any = PALETTES) -> None:
    mount_map(page, token_map, "token_map", "token_steps.js", "token_map.js")
    draw(page, tokens.packed(channel="map", version="run"))
    tell(page, selection, palettes=palettes)


def mount_text(page: Page, **selected: Any) -> None:
    mount_tokens(page, build_token_map(TEXT_TRACE), Selection(**({"site_id": 1} | selected)))


def lit(page: Page) -> list[int]:
    return [int(unit) for (unit,) in attributes(page, ".token:not(.dim)", "unit")]


def key(page: Page, name: str) -> Locator:
    return page.locator(f".key[data-key='{name}']")


def test_every_token_says_who_was_asked_and_what_became_of_it(page):
    mount_text(page)
    assert attributes(page, ".token", "unit", "expert", "experts", "kept", "status") == [
        ("0", "1", "1 0", "1", "partly dropped"),
        ("1", "-1", "2", "", "dropped"),
        ("2", "0", "0 1", "0 1", "kept"),
        ("3", "0", "0", "0", "kept"),
        ("4", "11", "11", "11", "kept"),
        ("5", "-1", "", "", "unrouted"),
        ("6", "0", "0", "0", "kept"),
    ]
    assert page.locator(".token").nth(1).get_attribute("aria-label") == "·old, dropped, E2 full"


def test_the_map_waits_for_the_news_of_its_own_run_in_whatever_order_they_come(page):
    mount_map(page, token_map, "token_map", "token_steps.js", "token_map.js")
    packed = build_token_map(TEXT_TRACE).packed(channel="map", version="run")
    tell(page, Selection(site_id=0), version="another run", palettes=PALETTES)
    draw(page, packed)
    assert page.locator(".token").count() == 0
    tell(page, Selection(site_id=1), palettes=PALETTES)
    assert page.locator(".map").get_attribute("data-ready") == "run"
    mount_map(page, token_map, "token_map", "token_steps.js", "token_map.js")
    tell(page, Selection(site_id=0), palettes=PALETTES)
    draw(page, packed)
    assert page.locator(".map[data-site='0'] .token").count() == 7


def test_text_of_the_input_is_text_and_its_line_breaks_are_line_breaks(page):
    mount_text(page)
    assert page.locator(".body img").count() == 0
    assert page.title() == ""
    assert page.locator(".token").all_text_contents() == ["The", "·old", EVIL, "⏎", "·harbour", "&amp;", "␀"]
    tops = [page.locator(".token").nth(unit).bounding_box()["y"] for unit in (3, 4)]
    assert tops[1] > tops[0]


def test_colours_belong_to_the_site_and_experts_without_one_carry_their_number(page):
    mount_text(page)
    fill = "(one) => getComputedStyle(one).getPropertyValue('--fill').trim()"
    number = "(one) => getComputedStyle(one, '::after').content"
    token = page.locator(".token")
    assert token.nth(0).evaluate(fill) == IDENTITIES[1]
    assert token.nth(4).evaluate(fill) == "#C9CDD3"
    assert (token.nth(4).evaluate(number), token.nth(0).evaluate(number)) == ('"11"', "none")
    page.locator(".numbers").check()
    assert (token.nth(0).evaluate(number), token.nth(1).evaluate(number)) == ('"1"', "none")


def test_changing_the_site_happens_in_the_browser_and_is_told_once(page):
    mount_text(page, experts=(0,))
    page.locator(".blocks button", has_text="Attention").click()
    assert page.locator(".map").get_attribute("data-site") == "0"
    assert attributes(page, ".token", "expert") == [("0",), ("0",), ("1",), ("1",), ("2",), ("2",), ("0",)]
    assert page.locator(".site").input_value() == "0"
    choice = last_choice(page, 1)
    assert (choice["site"], choice["experts"], choice["units"]) == (0, [], [])
    tell(page, Selection(site_id=0), heard=choice["turn"], palettes=PALETTES)
    assert page.locator(".map").get_attribute("data-site") == "0"
    assert page.evaluate("window.choices.length") == 1


def test_news_from_before_the_last_choice_do_not_take_a_visitor_back(page):
    mount_text(page)
    page.locator(".site").select_option("0")
    first = last_choice(page, 1)
    page.locator(".site").select_option("1")
    tell(page, Selection(site_id=0), heard=first["turn"], palettes=PALETTES)
    assert page.locator(".map").get_attribute("data-site") == "1"
    assert last_choice(page, 2)["site"] == 1


def test_the_page_can_move_the_map_and_light_up_what_experts_took(page):
    mount_text(page)
    page.locator(".site").select_option("0")
    turn = last_choice(page, 1)["turn"]
    tell(page, Selection(site_id=1, units=(2, 4), experts=(0, 11)), heard=turn, palettes=PALETTES)
    assert page.locator(".map").get_attribute("data-site") == "1"
    assert attributes(page, ".token[aria-selected=true]", "unit") == [("2",), ("4",)]
    assert lit(page) == [2, 3, 4, 6]
    tell(page, Selection(site_id=1, experts=(1,), status="partly dropped"), heard=turn, palettes=PALETTES)
    assert lit(page) == [0]


def test_clicks_choose_one_token_or_several(page):
    mount_text(page)
    tokens = page.locator(".token")
    tokens.nth(2).click()
    assert last_choice(page, 1)["units"] == [2]
    tokens.nth(0).click(modifiers=["Control"])
    assert last_choice(page, 2)["units"] == [2, 0]
    tokens.nth(2).click(modifiers=["Control"])
    assert last_choice(page, 3)["units"] == [0]
    tokens.nth(4).click(modifiers=["Shift"])
    assert last_choice(page, 4)["units"] == [0, 1, 2, 3, 4]
    tokens.nth(3).click()
    tokens.nth(3).click()
    assert last_choice(page, 6)["units"] == []


def test_the_keyboard_walks_over_tokens_and_chooses(page):
    mount_text(page)
    page.locator(".token").nth(0).focus()
    for name in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowDown", "End", "Home", "ArrowRight", "Enter"):
        page.keyboard.press(name)
    assert last_choice(page, 1)["units"] == [1]
    assert page.locator(".card").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator(".card").is_visible()


def test_keys_change_layer_and_block_and_the_focus_stays(page):
    trace = make_trace("L0.attention: 0>E0 1>E1; L0.mlp: 0>E0 1>E1; L1.mlp: 0>E1 1>E0", num_experts=2)
    mount_tokens(page, build_token_map(trace), Selection(site_id=0), dict.fromkeys(range(3), focus_palette(2)))
    page.locator(".token").nth(1).focus()
    shown = []
    for name in ("m", "]", "PageUp", "PageDown", "PageDown", "[", "m"):
        page.keyboard.press(name)
        shown.append(page.locator(".map").get_attribute("data-site"))
    assert shown == ["1", "2", "1", "2", "2", "1", "0"]
    assert page.evaluate("document.activeElement.dataset.unit") == "1"
    assert page.locator(".keys").is_hidden()
    page.get_by_role("button", name="Keys of the map").click()
    assert "the other block" in page.locator(".keys").inner_text()


def test_the_card_names_ranks_gates_margin_and_the_expert_that_was_full(page):
    mount_text(page)
    page.locator(".token").nth(0).hover()
    rows = page.locator(".card tr").all_inner_texts()
    assert [row.split() for row in rows[1:]] == [
        ["0", "E1", "1.000", "0.500", "kept"],
        ["1", "E0", "0.000", "0.250", "dropped:", "E0", "was", "full"],
    ]
    card = page.locator(".card")
    assert "Loss unknown" in card.inner_text()
    assert f"Margin unknown: {missing_logits(TEXT_TRACE)}." in card.inner_text()
    page.locator(".token").nth(2).hover()
    assert EVIL in page.locator(".card .heading").inner_text()
    assert page.locator(".card img").count() == 0
    assert "Loss 1.000 nats" in card.inner_text()
    page.locator(".site").select_option("0")
    page.locator(".token").nth(1).hover()
    assert "Margin 0.125" in card.inner_text()


def test_the_legend_counts_and_lights_and_tells(page):
    mount_text(page)
    read = "(all) => all.map((k) => [k.dataset.key, k.querySelector('.count').textContent])"
    counts = dict(page.locator(".key").evaluate_all(read))
    assert (counts["E0"], counts["others"]) == ("3", "1")
    assert (counts["dropped"], counts["partly dropped"], counts["unrouted"]) == ("1", "1", "1")
    key(page, "dropped").click()
    assert lit(page) == [1]
    assert last_choice(page, 1)["status"] == "dropped"
    key(page, "dropped").click()
    key(page, "others").click()
    key(page, "E11").click()
    assert lit(page) == [4]
    key(page, "E1").click(modifiers=["Control"])
    assert lit(page) == [0, 2, 4]
    assert last_choice(page, 4)["experts"] == [11, 1]
    assert key(page, "E1").get_attribute("aria-pressed") == "true"
    key(page, "E1").click()
    key(page, "E1").click()
    assert page.locator(".dim").count() == 0
    assert last_choice(page, 6)["experts"] == []


def test_an_expert_is_pinned_by_mouse_or_key_and_unpinned(page):
    mount_text(page)
    page.get_by_role("button", name="Pin the colour of E2", exact=True).click()
    assert last_choice(page, 1)["pinned"] == [[1, 2]]
    key(page, "E0").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("p")
    assert last_choice(page, 2)["pinned"] == [[1, 2], [1, 1]]
    pinned = Selection(site_id=1, pinned=((1, 2), (1, 1)))
    tell(page, pinned, palettes={1: focus_palette(20, pinned=(2, 1))}, heard=last_choice(page, 2)["turn"])
    assert [name for (name,) in attributes(page, ".key", "key")][:3] == ["E1", "E2", "others"]
    page.get_by_role("button", name="Pin the colour of E2", exact=True).click()
    assert last_choice(page, 3)["pinned"] == [[1, 1]]


def test_the_legend_is_one_stop_of_the_tab_key_and_every_control_has_a_name(page):
    mount_text(page)
    stops = page.locator(".legend button").evaluate_all("all => all.filter((one) => one.tabIndex === 0).length")
    assert stops == 1
    for control in page.locator("button:visible, input:visible, select:visible, [role=option]").all():
        named = control.evaluate("one => one.ariaLabel || one.textContent.trim() || one.closest('label')?.textContent")
        assert named


def generated(page: Page) -> None:
    trace = make_trace("L0.mlp: 0>E0 1>E1 2>E0 3>E1 4>E1", num_experts=2)
    phase = text_column(["prefill"] * 2 + ["decode"] * 3)
    trace = dataclasses.replace(trace, units=dataclasses.replace(trace.units, phase=phase))
    mount_tokens(page, build_token_map(trace), Selection(site_id=0), {0: focus_palette(2)})


def test_steps_of_a_generation_hide_what_was_not_written_yet(page):
    generated(page)
    badge, shown = page.locator(".step-badge"), page.locator(".token:not(.later)")
    assert (badge.inner_text(), shown.count()) == ("decode step 3 of 3", 5)
    page.get_by_role("button", name="One step back").click()
    assert (badge.inner_text(), shown.count()) == ("decode step 2 of 3", 4)
    assert not page.locator(".token").nth(4).is_visible()
    assert key(page, "E1").locator(".count").inner_text() == "2"
    page.locator("input.step").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert (badge.inner_text(), shown.count()) == ("prefill", 2)
    page.locator(".token").nth(0).focus()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.unit") == "1"
    tell(page, Selection(site_id=0, units=(3,)), palettes=PALETTES)
    assert badge.inner_text() == "decode step 2 of 3", "a unit that the page selects is shown"
    assert page.evaluate("window.choices.length") == 0


def test_texts_without_a_generation_have_no_steps(page):
    mount_text(page)
    assert page.locator(".steps").is_hidden()


def changes() -> RouteChanges:
    before = make_trace(ROUTES.replace("2>E0,E1", "2>E1,E2").replace("4>E11", "4>E11!"), num_experts=EXPERTS)
    is_changed = np.zeros((2, 7), dtype=np.bool_)
    is_changed[1, [2, 4]] = True
    return RouteChanges(is_changed=is_changed, before=build_route_columns(before))


def test_changed_routes_are_marked_and_named(page):
    mount_text(page)
    assert key(page, "changed").count() == 0
    tell_changes(page, changes())
    assert attributes(page, "[data-changed]", "unit") == [("2",), ("4",)]
    assert page.locator(".token").nth(2).get_attribute("aria-label").endswith("changed since run A")
    page.locator(".token").nth(2).hover()
    assert "A: E1 E2 → B: E0 E1" in page.locator(".card").inner_text()
    page.locator(".token").nth(4).hover()
    assert "A: none → B: E11" in page.locator(".card").inner_text()
    key(page, "changed").click()
    assert lit(page) == [2, 4]
    tell_changes(page, dataclasses.replace(changes(), before=None))
    page.locator(".token").nth(4).hover()
    assert "It went another way in run A." in page.locator(".card").inner_text()
    tell_changes(page, None)
    assert page.locator("[data-changed]").count() == 0


def test_long_texts_come_in_pages_with_a_sentence(page):
    trace = make_trace("L0.mlp: 0>E0 4096>E1", num_experts=2, example_lengths=[3000, 2000])
    mount_tokens(page, build_token_map(trace), Selection(site_id=0), {0: focus_palette(2)})
    assert page.locator(".token").count() == 4096
    assert page.locator(".cut").all_inner_texts() == ["example 0", "example 1"]
    assert page.locator(".pages").inner_text().endswith("these are tokens 0 to 4,095 of 5,000.")
    page.locator(".after").click()
    assert page.locator(".token").count() == 904
    assert attributes(page, ".token >> nth=0", "unit", "expert") == [("4096", "1")]
    tell(page, Selection(site_id=0, units=(7,)), palettes={0: focus_palette(2)})
    assert attributes(page, ".token[aria-selected=true]", "unit") == [("7",)]
    assert page.locator(".body").bounding_box()["height"] <= 300


def test_filler_is_dotted_and_filtered_and_padding_stands_apart(page):
    routes = "L0.mlp: 0>E0,E1~ 1>E1 2>E0,E1~ 3>E0,E1~ 4>E1"
    trace = mark_padding(make_trace(routes, num_experts=2, capacity=4, pieces=["8 ", "3 ", "0 ", "0 ", "0 "]), 2)
    mount_tokens(page, build_token_map(trace), Selection(site_id=0), {0: focus_palette(2)})
    dots = "(one) => getComputedStyle(one).getPropertyValue('--dots')"
    assert ["gradient" in token.evaluate(dots) for token in page.locator(".token").all()] == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert page.locator(".padding .cut").inner_text() == "padding: 3 units behind the end of the example"
    assert attributes(page, ".padding .token", "unit") == [("2",), ("3",), ("4",)]
    counts = page.locator(".key[data-key='filler'] .count, .key[data-key='E1'] .count")
    assert counts.all_inner_texts() == ["2", "3"]
    key(page, "filler").click()
    assert lit(page) == [0, 2, 3]
    assert last_choice(page, 1)["status"] == "filler"
    page.locator(".pads-shown").uncheck()
    assert counts.all_inner_texts() == ["1", "1"]
    assert [token.is_visible() for token in page.locator(".token").all()] == [True, True, False, False, False]
    page.locator(".token").first.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.unit") == "1"
    tell(page, Selection(site_id=0, units=(3,)), palettes={0: focus_palette(2)}, heard=2**52)
    assert page.locator(".pads-shown").is_checked()
    mount_text(page)
    assert page.locator(".pads").is_hidden()


def test_pieces_of_one_character_are_numbered(page):
    tokens = build_token_map(make_trace("L0.mlp: 0>E0 1>E0", num_experts=1))
    place, size = np.array([0, 1], dtype=np.uint16), np.array([2, 2], dtype=np.uint16)
    tokens = dataclasses.replace(tokens, text=("é", ""), part=place, parts=size)
    mount_tokens(page, tokens, Selection(site_id=0), {0: focus_palette(1)})
    assert page.locator(".token").all_inner_texts() == ["é1/2", "2/2"]
    assert page.locator(".token").nth(1).get_attribute("aria-label").startswith("é (piece 2 of 2), kept by E0")


def test_a_trace_without_units_or_without_sites_says_so(page):
    mount_tokens(page, build_token_map(make_trace("L0.mlp:", num_experts=2)), Selection(site_id=0), {})
    assert page.locator(".nothing").is_visible()
    mount_tokens(page, build_token_map(make_trace("", num_experts=1)), Selection(), {})
    assert page.locator(".nothing").is_visible()
