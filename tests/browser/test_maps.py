"""The maps as the browser draws them, without the page around them: the module runs in an empty document."""

import base64
import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from analysis.figures.picture_map import build_picture_map
from analysis.figures.theme import IDENTITIES, focus_palette
from analysis.figures.token_map import build_token_map
from dashboard.components import picture_map, token_map
from dashboard.components.route_map import build_skeleton, read_script, read_style, shared_payload
from tests.traces import make_trace, random_trace

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=\"document.title='run'\">"
PIECES = ["The", " old", EVIL, "\n", " harbour", "&amp;", "\x00"]
TEXT_TRACE = make_trace(
    """
    L0.attention: 0>E0 1>E0 2>E1 3>E1 4>E2 5>E2 6>E0
    L0.mlp:       0>E1,E0! 1>E2! 2>E0,E1 3>E0 4>E11 5 6>E0
    """,
    num_experts={"L0.attention": 3, "L0.mlp": 20},
    pieces=PIECES,
)

MOUNT = """
async ([html, css, js, data]) => {
  document.body.innerHTML = `<style>:root {
    --st-background-color: #fff; --st-text-color: #222; --st-primary-color: #06c; --st-font: sans-serif;
  }</style><div id="host"></div>`;
  const host = document.getElementById('host');
  host.innerHTML = `<style>${css}</style>${html}`;
  window.choices = [];
  const { default: draw } = await import(URL.createObjectURL(new Blob([js], { type: 'text/javascript' })));
  window.draw = (next) => draw({
    data: next, parentElement: host, setStateValue: (name, value) => window.choices.push(value),
  });
  window.sent = data;
  window.draw(data);
}
"""


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"], timeout=180_000)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 900, "height": 700})
    opened.set_default_timeout(60_000)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield opened
    opened.close()
    assert not errors


def shared(num_experts: dict[int, int], **wanted: int | None) -> dict[str, Any]:
    wanted = {"site_id": None, "unit_id": None, "expert_id": None} | wanted
    palettes = {site: focus_palette(experts) for site, experts in num_experts.items()}
    return shared_payload(palettes=palettes, version="run", name="t", **wanted)


def mount_tokens(page: Page, data: dict[str, Any]) -> None:
    html = build_skeleton(options=token_map._OPTIONS, body=token_map._BODY)
    page.evaluate(MOUNT, [html, read_style("token_map"), read_script("token_map"), data])


def mount_text(page: Page, **wanted: int | None) -> None:
    mount_tokens(page, build_token_map(TEXT_TRACE).payload() | shared({0: 3, 1: 20}, **({"site_id": 1} | wanted)))


def attributes(page: Page, selector: str, *names: str) -> list[tuple[str, ...]]:
    found = page.locator(selector).evaluate_all(
        "(all, names) => all.map((one) => names.map((n) => one.dataset[n]))", names
    )
    return [tuple(row) for row in found]


def last_choice(page: Page, count: int) -> dict[str, Any]:
    page.wait_for_function("(count) => window.choices.length >= count", arg=count)
    choice: dict[str, Any] = page.evaluate("window.choices.at(-1)")
    return choice


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


def test_text_of_the_input_is_text_and_its_line_breaks_are_line_breaks(page):
    mount_text(page)
    assert page.locator(".body img").count() == 0
    assert page.title() == ""
    texts = page.locator(".token .text").all_text_contents()
    assert texts == ["The", "·old", EVIL, "⏎", "·harbour", "&amp;", "␀"]
    tops = [page.locator(".token").nth(unit).bounding_box()["y"] for unit in (3, 4)]
    assert tops[1] > tops[0]


def test_colours_belong_to_the_site_and_experts_without_one_carry_their_number(page):
    mount_text(page)
    fill = "(one) => getComputedStyle(one).getPropertyValue('--fill').trim()"
    assert page.locator(".token").nth(0).evaluate(fill) == IDENTITIES[1]
    number = page.locator(".token").nth(4).locator(".number")
    assert (number.text_content(), number.is_visible()) == ("11", True)
    assert not page.locator(".token").nth(0).locator(".number").is_visible()
    page.locator(".numbers").check()
    assert page.locator(".token").nth(0).locator(".number").is_visible()


def test_changing_the_site_happens_in_the_browser_and_is_told_once(page):
    mount_text(page)
    page.locator(".blocks button", has_text="Attention").click()
    assert page.locator(".map").get_attribute("data-site") == "0"
    assert attributes(page, ".token", "expert") == [("0",), ("0",), ("1",), ("1",), ("2",), ("2",), ("0",)]
    assert page.locator(".site").input_value() == "0"
    choice = last_choice(page, 1)
    assert (choice["site"], choice["unit"]) == (0, None)
    page.evaluate("window.draw({ ...window.sent, wanted: { site: 0, unit: null, expert: null } })")
    assert page.locator(".map").get_attribute("data-site") == "0"
    assert page.evaluate("window.choices.length") == 1


def test_a_late_echo_of_the_page_does_not_take_a_visitor_back(page):
    mount_text(page)
    page.locator(".site").select_option("0")
    last_choice(page, 1)
    page.locator(".site").select_option("1")
    page.evaluate("window.draw({ ...window.sent, wanted: { site: 0, unit: null, expert: null } })")
    assert page.locator(".map").get_attribute("data-site") == "1"
    assert last_choice(page, 2)["site"] == 1


def test_the_page_can_move_the_map_and_light_up_what_an_expert_took(page):
    mount_text(page)
    page.locator(".site").select_option("0")
    last_choice(page, 1)
    page.evaluate("window.draw({ ...window.sent, wanted: { site: 1, unit: 2, expert: 0 } })")
    assert page.locator(".map").get_attribute("data-site") == "1"
    assert attributes(page, ".token[aria-selected=true]", "unit") == [("2",)]
    assert attributes(page, ".token:not(.dim)", "unit") == [("2",), ("3",), ("6",)]


def test_a_click_chooses_a_token_and_another_one_takes_it_back(page):
    mount_text(page)
    page.locator(".token").nth(2).click()
    assert last_choice(page, 1)["unit"] == 2
    page.locator(".token").nth(2).click()
    assert last_choice(page, 2)["unit"] is None


def test_the_keyboard_walks_over_tokens_and_chooses(page):
    mount_text(page)
    page.locator(".token").nth(0).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowDown", "End", "Home", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert last_choice(page, 1)["unit"] == 1
    assert page.locator(".card").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator(".card").is_visible()


def test_the_card_names_ranks_gates_and_the_expert_that_was_full(page):
    mount_text(page)
    page.locator(".token").nth(0).hover()
    rows = page.locator(".card tr").all_inner_texts()
    assert [row.split() for row in rows[1:]] == [
        ["0", "E1", "1.000", "0.500", "kept"],
        ["1", "E0", "0.000", "0.250", "dropped:", "E0", "was", "full"],
    ]
    assert "Loss unknown" in page.locator(".card").inner_text()
    page.locator(".token").nth(2).hover()
    assert EVIL in page.locator(".card .heading").inner_text()
    assert page.locator(".card img").count() == 0
    assert "Loss 1.000 nats" in page.locator(".card").inner_text()


def test_the_legend_counts_and_shows_only_one_kind(page):
    mount_text(page)
    counts = dict(attributes_and_counts(page))
    assert counts["E0"] == "3"
    assert counts["others"] == "1"
    assert (counts["dropped"], counts["partly dropped"], counts["unrouted"]) == ("1", "1", "1")
    page.locator(".key[data-key=dropped]").click()
    assert attributes(page, ".token:not(.dim)", "unit") == [("1",)]
    page.locator(".key[data-key=others]").click()
    assert attributes(page, ".token:not(.dim)", "unit") == [("4",)]
    page.locator(".key[data-key=others]").click()
    assert page.locator(".dim").count() == 0


def attributes_and_counts(page: Page) -> list[tuple[str, str]]:
    return page.locator(".key").evaluate_all(
        "(all) => all.map((k) => [k.dataset.key, k.querySelector('.count').textContent])"
    )


def saved(page: Page, button: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.locator(button).click()
    return waiting.value.suggested_filename, waiting.value.path().read_bytes()


def test_the_saved_drawing_is_clean_xml_with_the_text_and_no_pixels(page):
    mount_text(page)
    name, content = saved(page, ".svg")
    assert name == "t-L0.mlp.svg"
    root = ET.fromstring(content)
    words = "".join(root.itertext())
    assert "L0 MLP" in words
    assert "harbour" in words
    assert "onerror" in words
    kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert kinds <= {"svg", "defs", "pattern", "rect", "g", "text"}
    assert "url(#hatch)" in {element.get("fill") for element in root.iter()}


def test_the_saved_picture_of_the_tokens_has_three_times_the_pixels(page):
    mount_text(page)
    name, content = saved(page, ".png")
    assert name == "t-L0.mlp.png"
    width = page.locator(".map").bounding_box()["width"]
    assert Image.open(io.BytesIO(content)).width == pytest.approx(3 * width, abs=3)


def test_long_texts_come_in_pages_with_a_sentence(page):
    trace = make_trace("L0.mlp: 0>E0 4096>E1", num_experts=2, example_lengths=[3000, 2000])
    mount_tokens(page, build_token_map(trace).payload() | shared({0: 2}, site_id=0))
    assert page.locator(".token").count() == 4096
    assert page.locator(".cut").all_inner_texts() == ["example 0", "example 1"]
    assert page.locator(".pages").inner_text().endswith("these are tokens 0 to 4,095 of 5,000.")
    page.locator(".after").click()
    assert page.locator(".token").count() == 904
    assert attributes(page, ".token >> nth=0", "unit", "expert") == [("4096", "1")]
    page.evaluate("window.draw({ ...window.sent, wanted: { site: 0, unit: 7, expert: null } })")
    assert attributes(page, ".token[aria-selected=true]", "unit") == [("7",)]


def test_pieces_of_one_character_are_numbered(page):
    data = build_token_map(make_trace("L0.mlp: 0>E0 1>E0", num_experts=1)).payload() | shared({0: 1}, site_id=0)
    pack_u2 = lambda values: {"array": "Uint16Array", "base64": base64.b64encode(np.array(values, "<u2")).decode()}  # noqa: E731
    data |= {"text": ["é", ""], "part": pack_u2([0, 1]), "parts": pack_u2([2, 2])}
    mount_tokens(page, data)
    assert page.locator(".token").all_inner_texts() == ["é1/2", "2/2"]
    assert page.locator(".token").nth(1).get_attribute("aria-label").startswith("é (piece 2 of 2), kept by E0")


def mount_cells(page: Page, seed: int = 0, **sizes: int) -> dict[str, Any]:
    rng = np.random.default_rng([11, seed])
    trace = random_trace(rng, num_units=16, num_examples=1, num_sites=2, patch_len=1, selection="data")
    while trace.units.modality[0] != "image":
        trace = random_trace(rng, num_units=16, num_examples=1, num_sites=2, patch_len=1, selection="data")
    sizes = {"width": 34, "height": 34} | sizes
    cells = build_picture_map(trace, **sizes)
    experts = dict(enumerate(trace.sites.num_experts.tolist()))
    pixels = picture_map._data_url(np.full((34, 34, 3), 120, dtype=np.uint8))
    data = cells.payload() | shared(experts, site_id=0) | {"picture": pixels, "model_picture": pixels}
    html = build_skeleton(options=picture_map._OPTIONS, body=picture_map._BODY)
    page.evaluate(MOUNT, [html, read_style("picture_map"), read_script("picture_map"), data])
    return {"trace": trace, "data": data}


def test_cells_lie_where_they_lie_in_the_picture_at_any_size(page):
    mount_cells(page, width=68, height=34)
    for width in (900, 500):
        page.set_viewport_size({"width": width, "height": 700})
        picture = page.locator(".stage").bounding_box()
        cell = page.locator(".cell[data-unit='5'] .tint").bounding_box()
        scale = picture["width"] / 68
        assert cell["x"] - picture["x"] == pytest.approx(8.5 * scale, abs=1)
        assert cell["y"] - picture["y"] == pytest.approx(8.5 * scale, abs=1)
        assert cell["width"] == pytest.approx(8.5 * scale, abs=1)


def test_every_cell_says_who_was_asked(page):
    made = mount_cells(page)
    rows = made["trace"].assignments
    for unit, experts in attributes(page, ".cell", "unit", "experts"):
        of_unit = (rows.site_id == 0) & (rows.unit_id == int(unit)) & (rows.status < 2)
        assert experts == " ".join(str(expert) for expert in rows.expert_id[of_unit])
    assert page.locator(".cell").count() == 16


def test_what_the_model_saw_takes_the_same_place_on_the_page(page):
    mount_cells(page, width=68, height=34)
    before = page.locator(".stage").bounding_box()
    page.locator(".model").check()
    assert page.locator(".stage").bounding_box() == before
    assert page.locator(".overlay").get_attribute("viewBox") == "0 0 400 400"
    assert page.locator(".cell").count() == 16


def test_cells_can_be_chosen_walked_over_and_saved(page):
    mount_cells(page)
    page.locator(".cell[data-unit='5']").click()
    assert last_choice(page, 1)["unit"] == 5
    page.locator(".cell[data-unit='0']").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    assert last_choice(page, 2)["unit"] == 4
    name, content = saved(page, ".svg")
    assert name.startswith("t-L")
    assert len([element for element in ET.fromstring(content).iter() if element.tag.endswith("}image")]) == 1


def test_a_trace_without_units_says_so(page):
    data = build_token_map(make_trace("L0.mlp:", num_experts=2)).payload() | shared({}, site_id=None)
    mount_tokens(page, json.loads(json.dumps(data)))
    assert page.locator(".nothing").is_visible()
