"""The page as a visitor meets it: a server on a free port, a real chromium, nothing from outside the machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from dashboard.settings import PRETRAINED
from tests.browser.server import serve_page
from tests.browser.visitor import HOLD_SOCKET, open_link
from tests.checkpoints import save_image_checkpoint, save_text_checkpoint

WAIT_MS = 40_000


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder of the model that the page picks by itself, per kind: the bundled one, else a tiny untrained one."""
    folders = {"text": PRETRAINED / "uoe-text", "image": PRETRAINED / "uoe-image"}
    tiny = tmp_path_factory.mktemp("models")
    if not (folders["text"] / "model.safetensors").is_file():
        folders["text"] = save_text_checkpoint(tiny / "tiny-text")
    if not (folders["image"] / "model.safetensors").is_file():
        folders["image"] = save_image_checkpoint(tiny / "tiny-image")
    return folders


@pytest.fixture(scope="session")
def address(checkpoints: dict[str, Path]) -> Iterator[str]:
    own = sorted({folder.parent for folder in checkpoints.values() if folder.parent != PRETRAINED})
    with serve_page(own[0] if own else None) as address:
        yield address


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def window(browser: Browser) -> Iterator[BrowserContext]:
    """One window for all tests of a module: scripts are fetched and compiled once, every tab is another visitor."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    context.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    context.add_init_script(HOLD_SOCKET)
    yield context
    context.close()


@pytest.fixture
def tab(window: BrowserContext, address: str) -> Iterator[Page]:
    """An empty tab; what is opened in it must ask no other machine for anything and log no error."""
    page = window.new_page()
    strangers: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: None if _is_ours(request.url, address) else strangers.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert not strangers
    assert not errors


@pytest.fixture
def page(tab: Page, address: str) -> Page:
    """The page as a visitor finds it: the recorded example."""
    open_link(tab, address)
    return tab


def _is_ours(url: str, address: str) -> bool:
    return url.startswith((address, address.replace("http", "ws", 1), "data:", "blob:"))
