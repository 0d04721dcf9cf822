"""The page in one process, without a browser, over tiny untrained checkpoints."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from dashboard.settings import MODELS_VARIABLE
from dashboard.state import KEY, PageState
from tests.checkpoints import save_image_checkpoint, save_text_checkpoint

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
TEXT_MODEL, IMAGE_MODEL = "tiny-text", "tiny-image"


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
    """A page nobody has touched."""
    return open_page()


@pytest.fixture(scope="module")
def page_with_run() -> AppTest:
    """A page with a finished run of a text; tests of one module share it and must leave the run alone."""
    return run_text_on_page(open_page(), "Ten small experts sat on a wall, and ten more came by.")


def open_page() -> AppTest:
    return AppTest.from_file(str(APP), default_timeout=120).run()


def run_text_on_page(page: AppTest, text: str, *, new_tokens: int = 3) -> AppTest:
    choose_source(page, "Text")
    page.selectbox(key="model_text").set_value(TEXT_MODEL)
    page.number_input(key="new_tokens").set_value(new_tokens)
    page.text_area(key="text").set_value(text)
    return page.button(key="run").click().run()


def choose_source(page: AppTest, source: str) -> AppTest:
    if page.segmented_control(key="source").value == source:
        return page
    page.segmented_control(key="source").set_value(source)
    return page.run()


def upload(page: AppTest, source: str, name: str, content: bytes) -> AppTest:
    """Upload a file and press the button that uses it."""
    choose_source(page, source)
    if source == "Picture":
        page.selectbox(key="model_image").set_value(IMAGE_MODEL)
    key = {"File": "text_file", "Picture": "picture_file", "Trace": "trace_file"}[source]
    page.file_uploader(key=key).upload(name, content, mime_type="application/octet-stream")
    return page.button(key="open_trace" if source == "Trace" else "run").click().run()


def state_of(page: AppTest) -> PageState:
    state: PageState = page.session_state[KEY]
    return state


def boxes(page: AppTest) -> list[str]:
    """Text of the error boxes, without the backslashes that keep it from being markup."""
    assert not page.exception
    return [error.value.replace("\\", "") for error in page.error]
