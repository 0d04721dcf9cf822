"""Every bad input is one box with one sentence, and the run on the page stays."""

import io

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import uoe_model.run
from tests.dashboard.conftest import boxes, run_text_on_page, state_of, upload
from tests.uoe_model.test_processors_image_input import png_promising


def jpeg(width: int = 40, height: int = 30) -> bytes:
    stream = io.BytesIO()
    Image.radial_gradient("L").resize((width, height)).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()


BAD_FILES = {
    "ten megabytes of text": ("File", "long.txt", b"words " * 1_700_000, "10,200,000 bytes"),
    "a NUL byte": ("File", "nul.txt", b"one\0two", "holds a NUL byte at position 3"),
    "invalid UTF-8": ("File", "latin.txt", "café".encode("latin-1"), "is not UTF-8 text"),
    "a picture called .txt": ("File", "photo.txt", jpeg(), "is not UTF-8 text"),
    "an empty text file": ("File", "empty.txt", b"", "is empty"),
    "a text called .jpg": ("Picture", "notes.jpg", b"shopping list", "holds plain text, not a picture"),
    "a truncated JPEG": ("Picture", "half.jpg", jpeg()[:300], "damaged or incomplete"),
    "an empty picture": ("Picture", "empty.png", b"", "is an empty file"),
    "400 million pixels": ("Picture", "vast.png", png_promising(20_000, 20_000), "400,000,000 pixels"),
    "a decompression bomb": ("Picture", "bomb.png", png_promising(60_000, 60_000), "3,600,000,000 pixels"),
    "no trace": ("Trace", "trace.zip", b"PK\x03\x04 something else", "is no routing trace"),
    "a text as a trace": ("Trace", "trace.zip", b"hello", "this is something else"),
    "an empty trace": ("Trace", "trace.zip", b"", "it is empty"),
}


def assert_one_box_and_the_run_stays(page: AppTest, before: str, *words: str) -> None:
    [box] = boxes(page)
    for word in words:
        assert word in box
    assert "Traceback" not in box
    assert "still the previous one" in box
    run = state_of(page).run
    assert run is not None
    assert run.run_id == before
    assert len(page.get("plotly_chart")) == 6


def run_id(page: AppTest) -> str:
    run = state_of(page).run
    assert run is not None
    return run.run_id


@pytest.mark.parametrize(("source", "name", "content", "words"), BAD_FILES.values(), ids=list(BAD_FILES))
def test_a_bad_file_is_one_sentence(page_with_run: AppTest, source: str, name: str, content: bytes, words: str) -> None:
    before = run_id(page_with_run)
    upload(page_with_run, source, name, content)
    assert_one_box_and_the_run_stays(page_with_run, before, name, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "is empty"), ("a\0b", "NUL character at position 1"), ("word " * 2_000_000, "10,000,000 characters")],
    ids=["empty", "NUL", "ten megabytes"],
)
def test_a_bad_text_is_one_sentence(page_with_run: AppTest, text: str, words: str) -> None:
    before = run_id(page_with_run)
    run_text_on_page(page_with_run, text)
    assert_one_box_and_the_run_stays(page_with_run, before, words)


def test_a_missing_file_is_one_sentence(page: AppTest) -> None:
    page.segmented_control(key="source").set_value("Trace").run()
    page.button(key="open_trace").click().run()
    [box] = boxes(page)
    assert "choose a saved trace" in box


def test_running_out_of_memory_is_one_sentence(page_with_run: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    before = run_id(page_with_run)
    monkeypatch.setattr(uoe_model.run, "run_text_on", fail)
    run_text_on_page(page_with_run, "too much")
    assert_one_box_and_the_run_stays(page_with_run, before, "not enough memory", "shorten the input")


def test_a_mistake_of_ours_is_one_sentence_without_its_text(
    page_with_run: AppTest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("secret detail")

    before = run_id(page_with_run)
    monkeypatch.setattr(uoe_model.run, "run_text_on", fail)
    run_text_on_page(page_with_run, "hello")
    assert_one_box_and_the_run_stays(page_with_run, before, "mistake in the program")
    assert "secret" not in boxes(page_with_run)[0]
    assert "secret detail" in caplog.text


def test_a_picture_of_one_pixel_runs_and_the_page_says_what_that_means(page: AppTest) -> None:
    upload(page, "Picture", "dot.png", png_of_one_pixel())
    assert boxes(page) == []
    assert state_of(page).run is not None
    assert any("1 x 1 pixels" in caption.value.replace("\\", "") for caption in page.caption)


def png_of_one_pixel() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (1, 1), "red").save(stream, "PNG")
    return stream.getvalue()


def test_markup_in_a_file_name_stays_text(page: AppTest) -> None:
    upload(page, "File", "![x](http://elsewhere.example/a.png) :red[hi] $x$.txt", b"")
    [error] = page.error
    assert "![x](" not in error.value
    assert ":red[" not in error.value
