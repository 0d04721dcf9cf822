"""Settings every test runs under: offline, one thread, repeatable, and no silent skips."""

import os

# Read when torch, tokenizers and huggingface_hub are first imported, so they stand before everything else.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import shutil

import hypothesis
import pytest
import torch

if not torch.cuda.is_available():
    # Read when a kernel is decorated: kernels then run on the CPU, slowly, where a test asks for them.
    os.environ["TRITON_INTERPRET"] = "1"

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    """Path of the chromium that browser tests drive; None if there is none."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _group(items)
    if not torch.cuda.is_available():
        _skip(items, "gpu", "no CUDA device on this machine")
    if find_browser() is None:
        _skip(items, "browser", f"none of {', '.join(BROWSERS)} is installed")


def _group(items: list[pytest.Item]) -> None:
    """Where several processes share the tests, a file stays together, and so do all tests that drive a browser.

    Those take longest and are started first; the order within a file stays.
    """
    for item in items:
        group = "browser" if item.get_closest_marker("browser") else item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: item.get_closest_marker("browser") is None)


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def browser_path() -> str:
    """Executable to pass to playwright's `chromium.launch(executable_path=...)`."""
    path = find_browser()
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return path
