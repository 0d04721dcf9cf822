"""The page as a visitor meets it: a server on a free port, a real chromium, nothing from outside the machine."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dashboard.settings import PRETRAINED
from tests.checkpoints import save_image_checkpoint, save_text_checkpoint

ROOT = Path(__file__).parents[2]
START_S = 180  # a machine may be busy
WAIT_MS = 60_000


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
    """Address of the page, started as the README says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = sorted({str(folder.parent) for folder in checkpoints.values() if folder.parent != PRETRAINED})
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", "--server.headless", "true"]
    command += ["--server.port", str(port), "--server.address", "127.0.0.1"]
    command += ["--", "--models", own[0]] if own else []
    server = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_until_healthy(server, f"http://127.0.0.1:{port}/_stcore/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The start of the page, in a fresh session; it must ask no other machine for anything and log no error."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    strangers: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: None if _is_ours(request.url, address) else strangers.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    settle(page)
    yield page
    context.close()
    assert not strangers
    assert not errors


def settle(page: Page) -> None:
    """Wait until the server has nothing more to draw, so that nothing moves under the pointer."""
    page.get_by_test_id("stApp").and_(page.locator("[data-test-script-state=notRunning]")).wait_for()


def _is_ours(url: str, address: str) -> bool:
    return url.startswith((address, address.replace("http", "ws", 1), "data:", "blob:"))


def _wait_until_healthy(server: "subprocess.Popen[bytes]", url: str) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert server.poll() is None, "the server ended by itself"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    pytest.fail(f"the server did not start within {START_S} s")
