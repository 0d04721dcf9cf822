"""Two visitors at once: one device, one queue, and nobody sees anything of the other."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.visitor import (
    open_link,
    press_run,
    set_new_tokens,
    shown_version,
    type_text,
    wait_for_other_run,
    words_on_map,
)

pytestmark = pytest.mark.browser

FIRST, SECOND, THIRD = "Anna counts apples.", "Ben mends boats.", "Anna counts again."


@pytest.fixture
def visitors(window: BrowserContext, address: str) -> Iterator[tuple[Page, Page]]:
    pages = window.new_page(), window.new_page()
    for page in pages:
        open_link(page, address)
    yield pages
    for page in pages:
        page.close()


def test_runs_wait_their_turn_and_a_cancelled_one_leaves_everything_as_it_was(visitors: tuple[Page, Page]) -> None:
    anna, ben = visitors
    for page, text, count in ((anna, FIRST, 200), (ben, SECOND, 0)):
        type_text(page, text)
        set_new_tokens(page, count)
    examples = [shown_version(page) for page in visitors]

    press_run(anna)
    anna.locator(".stream .word").nth(1).wait_for()
    press_run(ben)
    expect(ben.get_by_text("Waiting: 1 before this one.")).to_be_visible()
    expect(anna.get_by_text("Waiting")).to_have_count(0)
    assert [shown_version(page) for page in visitors] == examples

    anna.get_by_role("button", name="Cancel").click()
    wait_for_other_run(ben, examples[1])
    assert words_on_map(ben) == SECOND
    expect(anna.get_by_role("button", name="Cancel")).to_have_count(0)
    assert shown_version(anna) == examples[0]
    expect(anna.get_by_text("example; live model ready")).to_be_visible()

    set_new_tokens(anna, 0)  # and now both, at the same time, to the end
    type_text(anna, THIRD)
    type_text(ben, FIRST)
    before = shown_version(ben)
    press_run(anna)
    press_run(ben)
    for page, text, old in ((anna, THIRD, examples[0]), (ben, FIRST, before)):
        wait_for_other_run(page, old)
        assert words_on_map(page) == text
    assert _key(anna) != _key(ben)


def _key(page: Page) -> str:
    found = re.search(r"show=(\w+)", page.url)
    assert found is not None
    return found.group(1)
