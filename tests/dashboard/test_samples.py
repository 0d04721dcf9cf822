import pytest

from dashboard.samples import FOLDER, IMAGE_SAMPLES, TEXT_SAMPLES
from uoe_model.processors.image_input import read_image
from uoe_model.processors.text_input import decode_text

SAMPLES = (*TEXT_SAMPLES, *IMAGE_SAMPLES)


@pytest.mark.parametrize("sample", TEXT_SAMPLES, ids=lambda sample: sample.file_name)
def test_every_text_can_be_run(sample):
    assert sample.kind == "text"
    assert decode_text(sample.read_bytes()) == sample.read_text() + "\n"


@pytest.mark.parametrize("sample", IMAGE_SAMPLES, ids=lambda sample: sample.file_name)
def test_every_picture_opens_and_is_small(sample):
    assert sample.kind == "image"
    assert len(sample.read_bytes()) < 100_000
    opened = read_image(sample.read_bytes())
    assert max(opened.image.size) <= 640
    assert opened.notes == ()


def test_every_file_has_a_sample_and_a_source():
    sources = (FOLDER / "SOURCES.md").read_text(encoding="utf-8")
    files = {path.name for path in FOLDER.iterdir() if path.suffix in {".txt", ".jpg"}}
    assert files == {sample.file_name for sample in SAMPLES}
    assert all(f"`{name}`" in sources for name in files)


def test_titles_differ():
    assert len({sample.title for sample in SAMPLES}) == len(SAMPLES)
