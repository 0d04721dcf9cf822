"""The picture map as the browser draws it, without the page around it."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from analysis.figures.picture_map import PictureMap, build_picture_map
from analysis.figures.theme import focus_palette
from analysis.selection import Selection
from dashboard.components import picture_map
from tests.browser.page_modules import attributes, bare_page, draw, last_choice, mount_map, started_browser, tell
from tests.traces import random_trace
from uoe_model.trace import FILLER, RoutingTrace

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    with started_browser(browser_path) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with bare_page(browser) as page:
        yield page


def picture_trace(*, with_filler: bool | None = None) -> RoutingTrace:
    rng = np.random.default_rng([11, 0])
    while True:
        trace = random_trace(
            rng, num_units=16, num_examples=1, num_sites=3, patch_len=1, selection="data", with_filler=with_filler
        )
        if trace.units.modality[0] == "image":
            return trace


def mount_cells(
    page: Page, *, width: int = 34, height: int = 34, padding: tuple[int, ...] = (), with_filler: bool | None = None
) -> RoutingTrace:
    trace = picture_trace(with_filler=with_filler)
    cells: PictureMap = build_picture_map(trace, width=width, height=height)
    box = cells.box.copy()
    box[list(padding)] = np.nan
    pixels = picture_map._data_url(np.full((34, 34, 3), 120, dtype=np.uint8))
    packed = dataclasses.replace(cells, box=box).packed(channel="map", version="run", original=pixels, model=pixels)
    mount_map(page, picture_map, "picture_map", "svg.js", "film_strip.js", "picture_map.js")
    draw(page, packed)
    palettes = {site: focus_palette(int(count)) for site, count in enumerate(trace.sites.num_experts)}
    tell(page, Selection(site_id=0), palettes=palettes)
    return trace


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
    trace = mount_cells(page)
    rows = trace.assignments
    for unit, experts in attributes(page, ".cell", "unit", "experts"):
        of_unit = (rows.site_id == 0) & (rows.unit_id == int(unit)) & (rows.status < 2)
        assert experts == " ".join(str(expert) for expert in rows.expert_id[of_unit])
    assert page.locator(".cell").count() == 16


def test_what_the_model_saw_stands_beside_the_picture_with_the_same_cells(page):
    mount_cells(page, width=68, height=34)
    stage, pane = page.locator(".stage").bounding_box(), page.locator(".pane").bounding_box()
    assert pane["x"] >= stage["x"] + stage["width"]
    assert max(stage["height"], pane["height"]) <= 300
    assert page.locator(".twin").count() == 16
    page.locator(".twin[data-of='6']").click()
    assert last_choice(page, 1)["units"] == [6]
    assert page.locator(".cell[data-unit='6']").get_attribute("aria-selected") == "true"
    page.locator(".twin[data-of='5']").hover()
    assert "row 1, column 1" in page.locator(".card .heading").inner_text()
    page.locator(".model").uncheck()
    assert page.locator(".saw").is_hidden()


def test_cells_in_the_padding_are_reached_in_what_the_model_saw(page):
    mount_cells(page, padding=(0, 1))
    assert page.locator(".cell").count() == 14
    assert "2 of 16 cells" in page.locator(".hidden-cells").inner_text()
    page.locator(".twin[data-unit='1']").click()
    assert last_choice(page, 1)["units"] == [1]
    assert "In the padding" in page.locator(".card").inner_text()


def test_cells_that_an_expert_took_unasked_are_dotted_in_both_pictures(page):
    trace = mount_cells(page, with_filler=True)
    rows = trace.assignments
    for site in range(trace.num_sites):
        taken = set(rows.unit_id[(rows.site_id == site) & (rows.status == FILLER)].tolist())
        page.locator(".map select.site").select_option(str(site))
        for mark, name in ((".cell", "unit"), (".twin", "of")):
            dots = page.locator(f"{mark} .dots")
            shown = dots.evaluate_all("all => all.map((one) => getComputedStyle(one).display !== 'none')")
            units = [int(unit) for (unit,) in attributes(page, mark, name)]
            assert {unit for unit, is_shown in zip(units, shown, strict=True) if is_shown} == taken
    assert 0 < len(taken) < 16


def test_cells_can_be_chosen_and_walked_over(page):
    mount_cells(page)
    page.locator(".cell[data-unit='5']").click()
    assert last_choice(page, 1)["units"] == [5]
    page.locator(".cell[data-unit='0']").focus()
    for name in ("ArrowDown", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft", "Enter"):
        page.keyboard.press(name)
    assert last_choice(page, 2)["units"] == [4]


def test_the_film_strip_shows_the_layers_of_the_block_and_chooses_one(page):
    trace = mount_cells(page)
    blocks = trace.sites.block
    of_block = [site for site in range(3) if blocks[site] == blocks[0]]
    frames = page.locator(".film button")
    assert [int(place) for (place,) in attributes(page, ".film button", "place")] == of_block
    assert frames.locator("canvas").count() == len(of_block)
    frames.last.click()
    assert page.locator(".map").get_attribute("data-site") == str(of_block[-1])
    assert frames.last.get_attribute("aria-pressed") == "true"
