"""The strip of a text that is being written, in an empty document."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from analysis.figures.theme import IDENTITIES
from dashboard.components.route_map import read_asset
from dashboard.components.stream_strip import STREAM_HTML, STREAM_SCRIPTS
from tests.browser.page_modules import bare_page, mount_module, started_browser

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser_path: str) -> Iterator[Page]:
    with started_browser(browser_path) as browser, bare_page(browser) as page:
        mount_module(page, STREAM_HTML, read_asset("stream_strip.css"), "\n".join(map(read_asset, STREAM_SCRIPTS)))
        yield page


def tell(page: Page, tokens: list[str], experts: list[int], *, is_done: bool = False) -> None:
    value = {"label": "L0 MLP", "tokens": tokens, "experts": experts, "written": 1, "done": is_done}
    page.evaluate("(value) => window.tell('stream', value)", value | {"colours": {"0": IDENTITIES[0]}})


def test_a_text_grows_at_its_end_and_what_stood_there_is_left_alone(page):
    tell(page, ["The", " <b>"], [0, 7])
    page.evaluate("window.drawJson({ channel: 'map' })")
    words = page.locator(".word")
    assert words.all_text_contents() == ["The", "·<b>7"]
    assert page.locator(".words b").count() == 0
    fill = "(one) => one.style.getPropertyValue('--fill')"
    assert [words.nth(place).evaluate(fill) for place in (0, 1)] == [IDENTITIES[0], "var(--neutral)"]
    page.evaluate("window.first = document.querySelector('.word')")
    tell(page, ["The", " <b>", "!"], [0, 7, -1], is_done=True)
    assert words.all_text_contents() == ["The", "·<b>7", "!"]
    assert page.evaluate("window.first === document.querySelector('.word')")
    assert page.locator(".word.nobody").count() == 1
    assert page.locator(".word.written").count() == 2
    assert page.locator(".caret").is_hidden()


def test_another_text_starts_anew(page):
    page.evaluate("window.drawJson({ channel: 'map' })")
    tell(page, ["One", " two"], [0, 0])
    tell(page, ["Two"], [0])
    assert page.locator(".word").all_text_contents() == ["Two"]
