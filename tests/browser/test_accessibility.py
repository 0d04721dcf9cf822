"""axe over every part of the page, in both themes: nothing serious in what is ours."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import WAIT_MS
from tests.browser.visitor import open_link, open_panel, settle

pytestmark = pytest.mark.browser

GRAVE: Final = ("serious", "critical")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KnownFault:
    """What Streamlit's own elements do and we cannot change.

    Attributes:
        rule: of axe. html: a part of the element's HTML. reason: why it is not ours.
    """

    rule: str
    html: str
    reason: str


KNOWN: Final = (
    KnownFault(
        rule="scrollable-region-focusable",
        html='height="420px"',
        reason="st.container with a height takes no focus; it holds the preview of the export, which has an alt text",
    ),
)


@pytest.fixture(params=["light", "dark"])
def themed(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=request.param)
    context.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    yield context.new_page()
    context.close()


def test_nothing_serious_is_wrong_anywhere(themed: Page, address: str) -> None:
    open_link(themed, address, "?show=text&site=1&experts=2&units=7")
    found = {"text": violations(themed)}
    for panel in ("Flow", "Who was full", "What routing buys", "Numbers"):
        open_panel(themed, panel)
        found[panel] = violations(themed, "[role=tabpanel]")
    themed.get_by_role("button", name="Export").click()
    expect(themed.get_by_role("dialog").locator("img").first).to_be_visible()
    settle(themed)
    found["export"] = violations(themed, "[role=dialog]")
    open_link(themed, address, "?show=picture&site=1&status=partly-dropped")
    found["picture"] = violations(themed)
    themed.goto(f"{address}/guide")
    themed.get_by_role("link", name="Show me").first.wait_for()
    settle(themed)
    found["guide"] = violations(themed)
    assert {place: serious for place, serious in found.items() if serious} == {}


def violations(page: Page, part: str | None = None) -> list[tuple[str, str, str]]:
    """Rule, element and its HTML of everything grave on the page, or in a part of it, that is not a known fault."""
    answer: dict[str, Any] = Axe().run(page, context=part).response
    return [
        (rule["id"], str(node["target"]), node["html"][:200])
        for rule in answer["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
        if not any(known.rule == rule["id"] and known.html in node["html"] for known in KNOWN)
    ]
