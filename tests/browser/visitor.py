"""What a visitor does on the page, and what they read there."""

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Download, Locator, Page, WebSocket, expect

from uoe_model.trace import KEPT, RoutingTrace

Routes = list[tuple[int, list[int], list[int]]]
"""Per unit: its id, the requested experts in order of preference, and those that kept it."""

HOLD_SOCKET = """
const send = WebSocket.prototype.send;
const held = [];
WebSocket.prototype.send = function (...message) {
  if (window.isHeld) held.push(() => send.apply(this, message));
  else send.apply(this, message);
};
window.release = () => {
  window.isHeld = false;
  held.splice(0).forEach((send) => send());
};
"""
"""While `window.isHeld`, the server hears nothing from this page."""


# ---------------------------------------------------------------- the page


def settle(page: Page) -> None:
    """Wait until the server has nothing more to draw, so that nothing moves under the pointer."""
    page.get_by_test_id("stApp").and_(page.locator("[data-test-script-state=notRunning]")).wait_for()


def ready_map(page: Page) -> Locator:
    drawn = page.locator(".map[data-ready]")
    drawn.wait_for()
    return drawn


def open_link(page: Page, address: str, query: str = "") -> None:
    """Open a link to Explore and wait until it is drawn."""
    page.goto(f"{address}/{query}")
    ready_map(page)
    page.locator(".st-key-chart_atlas .barlayer .point path").first.wait_for()
    settle(page)


def choose_source(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebar").get_by_role("radio", name=name, exact=True).click()
    expect(page.get_by_test_id("stSidebar").get_by_role("radio", name=name, exact=True)).to_be_checked()
    settle(page)


def upload(page: Page, *paths: Path) -> None:
    page.locator("input[type=file]").set_input_files(list(paths))
    for path in paths:
        page.get_by_text(path.name).first.wait_for()
    page.wait_for_timeout(300)  # the names stand there before the server has the files
    settle(page)


def type_text(page: Page, text: str) -> None:
    box = page.get_by_role("textbox", name="Text", exact=True)
    box.fill(text)
    box.blur()
    page.wait_for_timeout(300)
    settle(page)


def unfold(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebar").get_by_text(name, exact=True).click()


def pick(page: Page, key: str, option: str) -> None:
    """Pick an entry of a select box; what was just unfolded may not listen yet."""
    box = page.locator(f".st-key-{key} input").first
    while box.get_attribute("aria-expanded") != "true":
        box.press("ArrowDown")
        page.wait_for_timeout(200)
    page.get_by_role("option", name=option).first.click()
    expect(box).to_have_value(re.compile(re.escape(option)))
    settle(page)


def set_new_tokens(page: Page, count: int) -> None:
    box = page.locator(".st-key-new_tokens input")
    if not box.is_visible():
        unfold(page, "Generation")
    box.fill(str(count))
    box.press("Enter")
    page.wait_for_timeout(300)
    settle(page)


def press_run(page: Page) -> None:
    page.get_by_role("button", name="Run", exact=True).click()


def run(page: Page) -> None:
    """Run what is in the panel, and wait until its map is there."""
    before = shown_version(page)
    press_run(page)
    wait_for_other_run(page, before)


def wait_for_other_run(page: Page, before: str) -> None:
    page.locator(f'.map[data-ready]:not([data-ready="{before}"])').wait_for()
    settle(page)


def shown_version(page: Page) -> str:
    return str(ready_map(page).get_attribute("data-ready"))


def chip(page: Page, name: str) -> Locator:
    """A chip of the selection."""
    return page.locator(".st-key-chips").get_by_role("button").filter(has_text=name)


def open_panel(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")
    settle(page)


def download(page: Page, button: Locator) -> Download:
    with page.expect_download() as started:
        button.click()
    return started.value


def count_messages(page: Page) -> list[Any]:
    """A list that grows with every message that the page sends or receives; call it before the page is opened."""
    messages: list[Any] = []

    def follow(socket: WebSocket) -> None:
        socket.on("framesent", lambda message: messages.append(message))
        socket.on("framereceived", lambda message: messages.append(message))

    page.on("websocket", follow)
    return messages


# ---------------------------------------------------------------- charts


def click_expert(page: Page, chart: str, site: int, expert: int) -> None:
    """Click the cell, the bar or the node of an expert."""
    find = """([chart, site, expert]) => {
      const points = [...document.querySelectorAll(`.st-key-chart_${chart} .barlayer .point`)];
      return points.findIndex((point) => {
        const { customdata } = point.closest('.trace').__data__[0].trace;
        const [ofSite, ofExpert] = customdata?.[point.__data__.i] ?? [];
        return ofSite === site && ofExpert === expert;
      });
    }"""
    points = page.locator(f".st-key-chart_{chart} .barlayer .point")
    points.first.wait_for()
    place = page.evaluate(find, [chart, site, expert])
    assert place >= 0, f"{chart} has no expert {expert} of site {site}"
    click_in_chart(page, points.nth(place))


def click_in_chart(page: Page, mark: Locator) -> None:
    """Click the middle of a mark; plotly's own layer lies over it and looks for what is under the pointer."""
    mark.scroll_into_view_if_needed()
    settle(page)
    box = mark.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 2, y - 2)
    page.mouse.move(x, y)
    page.wait_for_timeout(250)  # plotly looks a few times a second
    page.mouse.click(x, y)


# ---------------------------------------------------------------- what the map says


def shown_routes(page: Page, unit_class: str = "token") -> Routes:
    read = "all => all.map((one) => [one.dataset.unit, one.dataset.experts, one.dataset.kept])"
    rows = page.locator(f".map .{unit_class}").evaluate_all(read)
    return [(int(unit), _ids(experts), _ids(kept)) for unit, experts, kept in rows]


def routes_of_all_sites(page: Page, unit_class: str) -> dict[int, Routes]:
    picker = page.locator(".map select.site")
    sites = [int(value) for value in picker.locator("option").evaluate_all("all => all.map((one) => one.value)")]
    found = {}
    for site in sites:
        picker.select_option(str(site))
        expect(page.locator(f'.map[data-site="{site}"]')).to_be_visible()
        found[site] = shown_routes(page, unit_class)
    return found


def routes_of_trace(trace: RoutingTrace) -> dict[int, Routes]:
    rows = trace.assignments
    routes: dict[int, Routes] = {
        int(site): [(unit, [], []) for unit in range(trace.num_units)] for site in trace.sites.site_id
    }
    for site, unit, expert, status in zip(rows.site_id, rows.unit_id, rows.expert_id, rows.status, strict=True):
        routes[int(site)][int(unit)][1].append(int(expert))
        if status == KEPT:
            routes[int(site)][int(unit)][2].append(int(expert))
    return routes


def lit_units_shown(page: Page) -> list[int]:
    """Units of the map that are not dimmed."""
    lit = page.locator(".map :is(.token, .cell):not(.dim)")
    return [int(unit) for unit in lit.evaluate_all("all => all.map((one) => one.dataset.unit)")]


def words_on_map(page: Page) -> str:
    """The text of the tokens behind the begin token."""
    return "".join(page.locator(".map .token").all_text_contents()[1:]).replace("·", " ")


def _ids(text: str) -> list[int]:
    return [int(word) for word in text.split()]
