"""Export on the page: what the visitor sees is what the file holds, in every format, or why there is none."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from analysis.exports.bundle import load_bundle
from analysis.exports.files import FORMATS, export_view
from analysis.exports.presets import PRESETS, spans_of
from analysis.views import VIEWS, missing
from dashboard.widgets.export import bundle_file
from tests.dashboard.conftest import boxes, open_page, state_of, words_on

MARKS = {"svg": b"<?xml", "pdf": b"%PDF-", "png": b"\x89PNG", "html": b"<!DOCTYPE html>", "parquet": b"PAR1"}

Files = dict[str, Callable[[], bytes]]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """What the buttons of the dialog would save, by their key; made only when it is asked for."""
    found: Files = {}
    button = st.download_button

    def remember(*args: Any, **options: Any) -> Any:
        found[options["key"]] = options["data"]
        return button(*args, **options)

    monkeypatch.setattr(st, "download_button", remember)
    return found


def open_dialog(page: AppTest, **choices: Any) -> AppTest:
    for key, value in choices.items():
        page.session_state[key] = value
    return page.button(key="export").click().run()


@pytest.mark.parametrize("example", ["text", "picture"])
@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_drawn_or_says_why_not(files: Files, example: str, name: str) -> None:
    page = open_dialog(open_page(show=example), export_view=name)
    assert boxes(page) == []
    reason = missing(state_of(page).exhibit(), name)
    if reason:
        assert reason in words_on(page)
        assert not [key for key in files if key.startswith("export_")]
        return
    assert "As it will be printed: 3.25 x" in words_on(page)
    assert {f"export_{kind}" for kind in FORMATS} <= set(files)
    assert any("begin{figure}" in code.value and "toprule" in code.value for code in page.code)


def test_every_format_is_the_file_of_what_is_shown_and_chosen(files: Files) -> None:
    page = open_page()
    state_of(page).select(site_id=1, experts=(2,))
    open_dialog(page, export_view="drop-strip", export_preset="neurips", export_dpi=150)
    preset = PRESETS["neurips"]
    for kind in FORMATS:
        data = files[f"export_{kind}"]()
        expected = export_view(
            state_of(page).exhibit(), "drop-strip", kind, preset=preset, span=spans_of(preset)[0], dpi=150
        )
        assert data == expected, kind
        assert data.startswith(MARKS.get(kind, b"")), kind


def test_the_width_of_the_page_is_used(files: Files) -> None:
    page = open_dialog(open_page(), export_view="atlas", export_span_column="full")
    assert boxes(page) == []
    assert "As it will be printed: 6.75 x" in words_on(page)


def test_the_bundle_holds_figures_and_tables_of_every_view_and_opens_again(files: Files) -> None:
    page = open_dialog(open_page(), export_tab="The whole run")
    assert boxes(page) == []
    assert "export_bundle" in files
    exhibit = state_of(page).exhibit()
    data = bundle_file(exhibit)
    shown = [name for name in VIEWS if not missing(exhibit, name)]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        assert archive.read("tables/uoe-atlas.csv") == export_view(exhibit, "atlas", "csv", preset=PRESETS["icml"])
    for folder, kind in (("figures", "svg"), ("figures", "pdf"), ("tables", "csv")):
        found = [name for name in names if name.startswith(f"{folder}/") and name.endswith(f".{kind}")]
        assert found == [f"{folder}/uoe-{name}.{kind}" for name in shown]
    again = load_bundle(io.BytesIO(data))
    assert (again.selection, again.options) == (exhibit.selection, exhibit.options)
