"""Every bad input is one box with one sentence; the run on the page stays, and nothing is left on disk."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.settings import MAX_NEW_TOKENS
from tests.dashboard.bad_inputs import BAD_INPUTS, BadInput
from tests.dashboard.conftest import (
    TEXT_MODEL,
    boxes,
    maps,
    open_page,
    press,
    run_text_on_page,
    shown_key,
    state_of,
    upload,
)

MAX_LETTERS = 600
OF_PROGRAMMERS = re.compile(
    r"Traceback|mistake in the program|\b[A-Z]\w*(Error|Exception|Warning)\b|0x[0-9a-f]{6}|\.py\b"
)
PATHS = re.compile(r"/(tmp|home|root|usr|work)/")


@pytest.fixture(autouse=True)
def _nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Paths that leave the folder, and files that are put aside, would show up here."""
    here, aside = tmp_path / "deep" / "here", tmp_path / "aside"
    here.mkdir(parents=True)
    aside.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(aside))
    yield
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["aside", "deep", "here"]
    assert not Path("/elsewhere").exists()


def give(page: AppTest, bad: BadInput) -> AppTest:
    """Do with the input what a visitor would do."""
    if bad.kind == "link":
        return open_page(**bad.make())
    if bad.kind == "Text":
        return run_text_on_page(page, bad.make(), new_tokens=0)
    if bad.kind == "settings":
        page = open_page()
        page.selectbox(key="model_text").set_value(TEXT_MODEL)
        page.number_input(key="new_tokens").set_value(2)
        for key, value in bad.make().items():
            page.number_input(key=key).set_value(value)
        return press(page, "run")
    return upload(page, bad.kind, (bad.name, bad.make()))


def assert_settings_are_allowed(page: AppTest) -> None:
    showing = state_of(page).showing
    assert showing is not None
    assert showing.request is not None
    used = showing.request.generation
    assert 0 <= used.max_new_tokens <= MAX_NEW_TOKENS
    assert 0 <= used.temperature <= 5
    assert 0 < used.top_p <= 1
    assert min(used.top_k, used.seed) >= 0


def test_there_are_a_hundred_and_they_differ() -> None:
    assert len({(bad.kind, bad.name, bad.case) for bad in BAD_INPUTS}) == len(BAD_INPUTS) >= 100


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=[f"{bad.kind}: {bad.case}" for bad in BAD_INPUTS])
def test_a_bad_input_is_one_sentence_and_the_run_stays(page_with_run: AppTest, bad: BadInput) -> None:
    page, before = page_with_run, shown_key(page_with_run)
    page = give(page, bad)
    found = boxes(page)
    if bad.kind == "link":
        assert shown_key(page) == "text"
    elif bad.kind == "settings":
        assert_settings_are_allowed(page)
    else:
        assert shown_key(page) == before
        assert "still the previous one" in found[0]
    assert maps(page) == ["token_map"]
    assert state_of(page).job is None
    assert len(found) == (1 if bad.words else 0)
    for box in found:
        assert bad.words in box
        assert "\n" not in box
        assert len(box) <= MAX_LETTERS
        assert box.endswith(".")
        assert not OF_PROGRAMMERS.search(box)
        assert not PATHS.search(box)
