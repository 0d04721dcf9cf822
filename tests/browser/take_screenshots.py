"""Pictures of the page for the README and for talks: `python -m tests.browser.take_screenshots [--output FOLDER]`."""

import argparse
import io
import sys
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.server import serve_page
from tests.browser.visitor import open_link, open_panel, pick, run, set_new_tokens, settle, unfold
from tests.conftest import find_browser

SIZES: Final = ((1440, 900), (1280, 720))
THEMES: Final = ("light", "dark")
TEXT: Final = "?show=text&site=2"
FILTERED: Final = "?show=text&site=5&experts=2"
PICTURE: Final = "?show=picture&site=1"


def main() -> int:
    """Take them all; 0 if it worked."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.take_screenshots", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "screenshots", help="folder of the PNGs")
    folder: Path = parser.parse_args().output
    path = find_browser()
    if path is None:
        print("No chromium was found: install one, then try again.", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    with serve_page() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for theme in THEMES:
            for size in SIZES:
                _take_first_screens(browser, address, folder, theme, size)
        _take_filtered(browser, address, folder)
        _take_comparison(browser, address, folder)
        browser.close()
    return 0


def _take_first_screens(browser: Browser, address: str, folder: Path, theme: str, size: tuple[int, int]) -> None:
    page = _new_page(browser, theme, size)
    for name, query in (("text", TEXT), ("picture", PICTURE)):
        open_link(page, address, query)
        _save(page, folder / f"{name}-{theme}-{size[0]}x{size[1]}.png")
    page.context.close()


def _take_filtered(browser: Browser, address: str, folder: Path) -> None:
    """The tokens of one expert, the flow through it, and the export of that view."""
    page = _new_page(browser, "light", SIZES[0])
    open_link(page, address, FILTERED)
    _save(page, folder / "expert-light.png")
    open_panel(page, "Flow")
    _show_panel(page, "flow")
    _save(page, folder / "flow-light.png")
    page.get_by_role("button", name="Export").click()
    expect(page.get_by_role("dialog").locator("img").first).to_be_visible()
    _save(page, folder / "export-light.png")
    page.context.close()


def _take_comparison(browser: Browser, address: str, folder: Path) -> None:
    """The example as A, the same text with half the room as B."""
    page = _new_page(browser, "light", SIZES[0])
    open_link(page, address, TEXT)
    page.get_by_role("button", name="Pin as A").click()
    set_new_tokens(page, 24)
    unfold(page, "Change the routing")
    pick(page, "knob_capacity_factor", "0.5")
    run(page)
    expect(page.get_by_text("this change alone moved the loss by")).to_be_visible()
    _save(page, folder / "changed-light.png")
    open_panel(page, "A and B")
    _show_panel(page, "atlas-difference")
    _save(page, folder / "comparison-light.png")
    page.context.close()


def _new_page(browser: Browser, theme: str, size: tuple[int, int]) -> Page:
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if theme == "dark" else "light"
    )
    context.set_default_timeout(90_000)
    return context.new_page()


def _show_panel(page: Page, chart: str) -> None:
    page.locator(f".st-key-chart_{chart} .barlayer").first.wait_for()
    page.get_by_role("tablist").last.evaluate("(tabs) => tabs.scrollIntoView({ block: 'start' })")


def _save(page: Page, path: Path) -> None:
    """Save what is in sight, colour for colour, with the pointer where it hovers over nothing."""
    settle(page)
    page.mouse.move(page.evaluate("innerWidth") - 2, 2)
    page.wait_for_timeout(300)
    data = page.screenshot(animations="disabled", caret="hide")
    Image.open(io.BytesIO(data)).convert("RGB").save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    sys.exit(main())
