"""A visitor types, uploads, saves and opens; what the page shows is what `run_text` and `run_image` say."""

import random
import re
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect

from analysis.exports.bundle import load_bundle
from dashboard.samples import IMAGE_SAMPLES, TEXT_SAMPLES
from dashboard.showing import EXAMPLES
from tests.browser.visitor import (
    choose_source,
    download,
    open_link,
    routes_of_all_sites,
    routes_of_trace,
    run,
    set_new_tokens,
    shown_routes,
    shown_version,
    type_text,
    upload,
    wait_for_other_run,
)
from uoe_model.run import run_image, run_text
from uoe_model.trace import RoutingTrace

pytestmark = pytest.mark.browser

WORDS = (
    "seven lanterns drift over quiet water while the cook, half asleep, counts odd onions; nobody asks (why) 42 times"
)

REQUESTS_COUNTED = r"""(count) => {
  const [{ customdata }] = document.querySelector('.st-key-chart_atlas .js-plotly-plot').data;
  const ofSite = customdata.filter(([site]) => site === 0);
  return ofSite.reduce((sum, row) => sum + Number(/requested by ([\d]+)/.exec(row[3])[1]), 0) === count;
}"""
"""Whether the atlas counts so many requests at the first site."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # as the server has


def random_sentence() -> str:
    """Another sentence each time; a failing test prints it."""
    words = random.SystemRandom().choices(WORDS.split(), k=18)
    return " ".join(words).capitalize() + "."


def trace_in(bundle: Path) -> RoutingTrace:
    with bundle.open("rb") as file:
        return load_bundle(file).runs[0].trace


def test_the_first_paint_explains_a_recorded_run_and_computes_nothing(page: Page) -> None:
    numbers = ("dropped share", "dropped units", "idle experts", "load CV", r"entropy \(nats\)")
    atlas = page.locator(".st-key-chart_atlas")
    in_sight = (
        page.get_by_text("example; live model ready"),
        page.locator(".map .token").first,
        *(atlas.get_by_text(lane, exact=True) for lane in ("Attention", "MLP")),
        page.locator(".st-key-chart_drop-strip").get_by_text("Dropped share of requests"),
        page.locator(".st-key-chart_output").get_by_text("Next token").first,
        page.get_by_text("nats per token"),
        page.get_by_role("button", name="capture 7 of 7"),
        *(page.get_by_text(re.compile(rf"^[\d.]+(.%)? {name}\s*$")) for name in numbers),
    )
    for part in in_sight:
        expect(part).to_be_in_viewport()
    expect(page.get_by_role("textbox", name="Text", exact=True)).to_have_value(TEXT_SAMPLES[0].read_text())
    assert routes_of_all_sites(page, "token") == routes_of_trace(trace_in(EXAMPLES["text"]))
    expect(page.get_by_text("live run", exact=True)).to_have_count(0)
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_the_picture_is_one_click_away(page: Page) -> None:
    before = shown_version(page)
    page.get_by_role("button", name="Picture example").click()
    wait_for_other_run(page, before)
    expect(page.get_by_text("example; live model ready")).to_be_visible()
    trace = trace_in(EXAMPLES["picture"])
    assert routes_of_all_sites(page, "cell") == routes_of_trace(trace)
    expect(page.locator(".film button")).to_have_count(trace.num_sites // 2)


def test_a_random_sentence_shows_the_experts_of_run_text(
    page: Page, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """And the run bundle opened again, by another visitor, shows the same."""
    sentence = random_sentence()
    type_text(page, sentence)
    run(page)
    shown = routes_of_all_sites(page, "token")
    expected = run_text(checkpoints["text"], sentence, max_new_tokens=24)
    assert shown == routes_of_trace(expected.trace), sentence
    expect(page.get_by_text("live run", exact=True)).to_be_visible()
    expect(page.get_by_text(f"{expected.prediction.mean_loss:.3f}")).to_be_visible()

    page.get_by_role("button", name="Export").click()
    page.get_by_role("tab", name="The whole run").click()
    path = tmp_path / "run.zip"
    download(page, page.get_by_role("button", name="Run bundle")).save_as(path)
    assert routes_of_trace(trace_in(path)) == shown

    open_link(page, page.url.split("/?")[0], "?show=picture")
    before = shown_version(page)
    choose_source(page, "Saved")
    upload(page, path)
    page.get_by_role("button", name="Open", exact=True).click()
    wait_for_other_run(page, before)
    assert routes_of_all_sites(page, "token") == shown
    expect(page.get_by_text("from a file", exact=True)).to_be_visible()


def test_an_uploaded_photograph_shows_the_experts_of_run_image(page: Page, checkpoints: dict[str, Path]) -> None:
    photograph = next(sample.path for sample in IMAGE_SAMPLES if sample.title == "Coffee cup")
    choose_source(page, "Images")
    upload(page, photograph)
    run(page)
    assert routes_of_all_sites(page, "cell") == routes_of_trace(run_image(checkpoints["image"], photograph).trace)
    expect(page.get_by_text("Class probabilities").first).to_be_visible()


def test_several_inputs_are_looked_at_one_by_one_and_counted_together(
    page: Page, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    texts = {"one.txt": "One two three.", "two.txt": "Boats on a river, and nobody to row them."}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    choose_source(page, "Files")
    upload(page, *(tmp_path / name for name in texts))
    set_new_tokens(page, 0)
    run(page)
    expected = [run_text(checkpoints["text"], text).trace for text in texts.values()]
    navigator = page.locator(".st-key-navigator")
    expect(navigator).to_contain_text("Input 1 of 2")
    assert shown_routes(page) == routes_of_trace(expected[0])[0]

    before = shown_version(page)
    navigator.get_by_role("button", name="▶").click()
    wait_for_other_run(page, before)
    expect(navigator).to_contain_text("Input 2 of 2")
    assert shown_routes(page) == routes_of_trace(expected[1])[0]

    asked = [sum(len(experts) for _, experts, _ in routes_of_trace(trace)[0]) for trace in expected]
    page.wait_for_function(REQUESTS_COUNTED, arg=asked[1])
    navigator.get_by_text("Statistics over all 2 inputs").click()
    expect(page).to_have_url(re.compile("pooled=1"))
    page.wait_for_function(REQUESTS_COUNTED, arg=sum(asked))
    assert shown_routes(page) == routes_of_trace(expected[1])[0], "the map stays at one input"


def test_an_empty_text_is_one_sentence_and_the_run_stays(page: Page) -> None:
    version = shown_version(page)
    type_text(page, "")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("is empty: give at least one character")).to_be_visible()
    expect(page.locator(f'.map[data-ready="{version}"]')).to_be_visible()
