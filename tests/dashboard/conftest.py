"""The page in one process, without a browser, over tiny untrained checkpoints."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from dashboard.settings import MODELS_VARIABLE
from dashboard.state import KEY, PageState
from dashboard.widgets.panels import KEY as PANEL_KEY
from tests.checkpoints import save_image_checkpoint, save_text_checkpoint

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
TEXT_MODEL, IMAGE_MODEL = "tiny-text", "tiny-image"
TEXT = "Ten small experts sat on a wall, and ten more came by."
PATIENCE_S = 60.0
UPLOADERS = {"Files": "text_file", "Images": "picture_file", "Saved": "trace_file"}


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both tiny checkpoints and a folder that is none."""
    folder = tmp_path_factory.mktemp("models")
    save_text_checkpoint(folder / TEXT_MODEL)
    save_image_checkpoint(folder / IMAGE_MODEL)
    (folder / "holiday").mkdir()
    return folder


@pytest.fixture(scope="session", autouse=True)
def _page_settings(models_dir: Path) -> Iterator[None]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MODELS_VARIABLE, str(models_dir))
        yield


@pytest.fixture
def page() -> AppTest:
    """A page nobody has touched: the recorded text is on show."""
    return open_page()


@pytest.fixture(scope="module")
def page_with_run() -> AppTest:
    """A page with a finished run of a text; tests of one module share it and must leave the run alone."""
    return run_text_on_page(open_page(), TEXT)


def open_page(**params: str) -> AppTest:
    """The page as a link with these parameters opens it."""
    page = AppTest.from_file(str(APP), default_timeout=120)
    for name, value in params.items():
        page.query_params[name] = value
    return page.run()


def settle(page: AppTest) -> AppTest:
    """Look again, as the page itself does every moment in a browser, until the visitor's work is done."""
    until = time.monotonic() + PATIENCE_S
    while state_of(page).job is not None:
        assert time.monotonic() < until, f"not finished within {PATIENCE_S} s"
        page.run()
    return page


def run_text_on_page(page: AppTest, text: str, *, new_tokens: int = 3) -> AppTest:
    """Run a text with the tiny model, and wait for it."""
    choose_source(page, "Text")
    page.selectbox(key="model_text").set_value(TEXT_MODEL)
    page.number_input(key="new_tokens").set_value(new_tokens)
    page.text_area(key="text").set_value(text)
    return press(page, "run")


def press(page: AppTest, key: str) -> AppTest:
    """Click a button, and wait for what it started."""
    return settle(page.button(key=key).click().run())


def choose_source(page: AppTest, source: str) -> AppTest:
    if page.segmented_control(key="source").value == source:
        return page
    page.segmented_control(key="source").set_value(source)
    return page.run()


def upload(page: AppTest, source: str, *files: tuple[str, bytes], new_tokens: int = 0) -> AppTest:
    """Choose files (name, content) in place of those chosen before, press the button that uses them, and wait."""
    choose_source(page, source)
    if source == "Images":
        page.selectbox(key="model_image").set_value(IMAGE_MODEL)
    elif source == "Files":
        page.selectbox(key="model_text").set_value(TEXT_MODEL)
        page.number_input(key="new_tokens").set_value(new_tokens)
    chosen = [(name, content, "application/octet-stream") for name, content in files]
    page.file_uploader(key=UPLOADERS[source]).set_value(chosen)
    return press(page, "open_trace" if source == "Saved" else "run")


def open_panel(page: AppTest, name: str) -> AppTest:
    """Open one of the tabs below the map."""
    page.session_state[PANEL_KEY] = name
    return page.run()


def state_of(page: AppTest) -> PageState:
    state: PageState = page.session_state[KEY]
    return state


def shown_key(page: AppTest) -> str:
    """Identity of what is on show."""
    showing = state_of(page).showing
    assert showing is not None
    return showing.key


def boxes(page: AppTest) -> list[str]:
    """Text of the error boxes, without the backslashes that keep it from being markup."""
    assert not page.exception
    return [plain(error.value) for error in page.error]


def plain(markdown: str) -> str:
    return markdown.replace("\\", "").replace("\N{NO-BREAK SPACE}", " ")


def words_on(page: AppTest) -> str:
    """All running text of the page."""
    kinds = (page.markdown, page.caption, page.info, page.warning, page.error)
    return "\n".join(plain(element.value) for kind in kinds for element in kind)


def charts(page: AppTest) -> dict[str, dict[str, Any]]:
    """The plotly figures of the page by the name of their view."""
    return {
        chart.key.removeprefix("chart_"): json.loads(chart.proto.spec)
        for chart in page.get("plotly_chart")
        if chart.key is not None
    }


def maps(page: AppTest) -> list[str]:
    """The maps on the page: of tokens, or of a picture."""
    keys = [component.key for component in page.get("bidi_component")]
    return [key for key in keys if key in ("token_map", "picture_map")]
