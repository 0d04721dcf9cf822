"""Modules of our page elements in an empty document: how tests put them there, feed them and hear from them."""

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from analysis.figures.route_changes import RouteChanges
from analysis.selection import Selection
from dashboard.components.route_map import build_skeleton, read_script, read_style
from dashboard.components.selection_signal import SIGNAL_SCRIPT, selection_payload

MOUNT = """
async ([html, css, js, signal]) => {
  document.body.innerHTML = `<style>:root {
    --st-background-color: #fff; --st-text-color: #222; --st-primary-color: #06c; --st-font: sans-serif;
  }</style><div id="host"></div>`;
  const host = document.getElementById('host');
  host.innerHTML = `<style>${css}</style>${html}`;
  window.choices = [];
  const load = async (code) =>
    (await import(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })))).default;
  const [draw, post] = [await load(js), await load(signal)];
  const setStateValue = (name, value) => window.choices.push(value);
  window.drawJson = (data) => draw({ data, parentElement: host, setStateValue });
  window.draw = (base64) => window.drawJson(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)));
  window.tell = (topic, value) => post({ data: { channel: 'map', topic, value } });
}
"""


@contextlib.contextmanager
def started_browser(path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=180_000)
        yield started
        started.close()


@contextlib.contextmanager
def bare_page(browser: Browser) -> Iterator[Page]:
    """An empty page; whatever it runs must log no error."""
    opened = browser.new_page(viewport={"width": 900, "height": 700})
    opened.set_default_timeout(60_000)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield opened
    opened.close()
    assert not errors


def mount_module(page: Page, html: str, css: str, script: str) -> None:
    page.evaluate(MOUNT, [html, css, script, SIGNAL_SCRIPT])


def mount_map(page: Page, module: Any, name: str, *scripts: str) -> None:
    """Put the module of a map on the page, without data."""
    html = build_skeleton(options=module._OPTIONS, body=module._BODY)
    mount_module(page, html, read_style(name), read_script(*scripts))


def draw(page: Page, packed: bytes) -> None:
    page.evaluate("(base64) => window.draw(base64)", base64.b64encode(packed).decode())


def tell(page: Page, selection: Selection, *, palettes: Any, version: str = "run", heard: int = 0) -> None:
    value = selection_payload(selection, palettes, version=version, heard=heard, height_px=300)
    page.evaluate("(value) => window.tell('selection', value)", value)


def tell_changes(page: Page, changes: RouteChanges | None) -> None:
    value = {"version": "run", "packed": changes.payload()["base64"] if changes else None}
    page.evaluate("(value) => window.tell('changes', value)", value)


def attributes(page: Page, selector: str, *names: str) -> list[tuple[str, ...]]:
    read = "(all, names) => all.map((one) => names.map((n) => one.dataset[n]))"
    return [tuple(row) for row in page.locator(selector).evaluate_all(read, names)]


def last_choice(page: Page, count: int) -> dict[str, Any]:
    page.wait_for_function("(count) => window.choices.length >= count", arg=count)
    choice: dict[str, Any] = page.evaluate("window.choices.at(-1)")
    return choice
