"""A visitor types, uploads, saves and opens; what the page shows is what `run_text` and `run_image` say."""

import random
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Locator, Page, expect

from dashboard.samples import IMAGE_SAMPLES
from tests.browser.conftest import settle
from uoe_model.run import run_image, run_text
from uoe_model.trace import KEPT, RoutingTrace
from uoe_model.trace_io import load_trace

pytestmark = pytest.mark.browser

WORDS = (
    "seven lanterns drift over quiet water while the cook, half asleep, counts odd onions; nobody asks (why) 42 times"
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # as the server has


def random_sentence() -> str:
    """Another sentence each time; a failing test prints it."""
    words = random.SystemRandom().choices(WORDS.split(), k=18)
    return " ".join(words).capitalize() + "."


def routes_on_page(page: Page, unit_class: str) -> dict[int, list[tuple[int, list[int], list[int]]]]:
    """Per site: unit, requested experts in order of preference, and those that kept it."""
    picker = page.locator(".map select.site")
    sites = [int(value) for value in picker.locator("option").evaluate_all("all => all.map((one) => one.value)")]
    found = {}
    for site in sites:
        picker.select_option(str(site))
        expect(page.locator(f'.map[data-site="{site}"]')).to_be_visible()
        read = "all => all.map((one) => [one.dataset.unit, one.dataset.experts, one.dataset.kept])"
        rows = page.locator(f".map .{unit_class}").evaluate_all(read)
        found[site] = [(int(unit), _ids(experts), _ids(kept)) for unit, experts, kept in rows]
    return found


def routes_of_trace(trace: RoutingTrace) -> dict[int, list[tuple[int, list[int], list[int]]]]:
    rows = trace.assignments
    routes: dict[int, list[tuple[int, list[int], list[int]]]] = {
        int(site): [(unit, [], []) for unit in range(trace.num_units)] for site in trace.sites.site_id
    }
    for site, unit, expert, status in zip(rows.site_id, rows.unit_id, rows.expert_id, rows.status, strict=True):
        routes[int(site)][int(unit)][1].append(int(expert))
        if status == KEPT:
            routes[int(site)][int(unit)][2].append(int(expert))
    return routes


def _ids(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def choose_source(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebar").get_by_role("radio", name=name, exact=True).click()
    page.wait_for_timeout(300)
    settle(page)


def upload(page: Page, path: Path) -> None:
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_text(path.name).first.wait_for()
    page.wait_for_timeout(300)
    settle(page)


def run_sentence(page: Page, sentence: str) -> Locator:
    type_text(page, sentence)
    page.get_by_role("button", name="Run", exact=True).click()
    drawn = ready_map(page)
    settle(page)
    return drawn


def type_text(page: Page, text: str) -> None:
    box = page.get_by_role("textbox", name="Text", exact=True)
    box.fill(text)
    box.blur()
    page.wait_for_timeout(300)
    settle(page)


def ready_map(page: Page) -> Locator:
    drawn = page.locator(".map[data-ready]")
    drawn.wait_for()
    return drawn


def test_the_first_paint_computes_nothing(page: Page) -> None:
    expect(page.get_by_text("Nothing has run yet")).to_be_visible()
    expect(page.get_by_text("UoE, repaired")).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(0)


def test_a_random_sentence_shows_the_experts_of_run_text(
    page: Page, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    sentence = random_sentence()
    run_sentence(page, sentence)
    shown = routes_on_page(page, "token")
    expected = run_text(checkpoints["text"], sentence, max_new_tokens=24).trace
    assert shown == routes_of_trace(expected), sentence

    with page.expect_download() as download:
        page.get_by_role("button", name="Save trace").click()
    path = tmp_path / "trace.zip"
    download.value.save_as(path)
    assert routes_of_trace(load_trace(path)) == shown

    page.reload()
    settle(page)
    choose_source(page, "Trace")
    upload(page, path)
    page.get_by_role("button", name="Open", exact=True).click()
    ready_map(page)
    assert routes_on_page(page, "token") == shown
    expect(page.get_by_text("Trace from a file")).to_be_visible()


def test_an_uploaded_photograph_shows_the_experts_of_run_image(page: Page, checkpoints: dict[str, Path]) -> None:
    photograph = next(sample.path for sample in IMAGE_SAMPLES if sample.title == "Cat")
    choose_source(page, "Picture")
    upload(page, photograph)
    page.get_by_role("button", name="Run", exact=True).click()
    ready_map(page)
    assert routes_on_page(page, "cell") == routes_of_trace(run_image(checkpoints["image"], photograph).trace)


def test_a_click_on_the_atlas_selects_the_expert_everywhere(page: Page) -> None:
    run_sentence(page, random_sentence())
    cell = page.locator(".st-key-chart_atlas .subplot.x2y2 .barlayer .point path").first
    cell.scroll_into_view_if_needed()
    box = cell.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)  # plotly's own layer lies over the cells and looks for what is under the pointer
    page.wait_for_timeout(300)
    page.mouse.click(x, y)
    expect(page.locator('.map[data-site="1"]')).to_be_visible()  # the first cell of the MLP lane lies in layer 0
    expect(page.locator(".st-key-chart_utilisation").get_by_text("L0 MLP").first).to_be_visible()
    page.locator(".map select.site").select_option("2")  # and the map can be changed afterwards
    expect(page.locator(".st-key-chart_utilisation").get_by_text("L1 attention").first).to_be_visible()
    expect(page.locator('.map[data-site="2"]')).to_be_visible()


def test_an_empty_text_is_one_sentence_and_the_run_stays(page: Page) -> None:
    run_sentence(page, "One two three four five.")
    version = page.locator(".map").get_attribute("data-ready")
    type_text(page, "")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("is empty: give at least one character")).to_be_visible()
    expect(page.locator(f'.map[data-ready="{version}"]')).to_be_visible()
