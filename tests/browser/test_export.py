"""A filtered view saved from the page is the file that the command line makes, and what it should be inside."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium
import pytest
from playwright.sync_api import Page, expect

from analysis.exports.files import file_stem
from analysis.views import VIEWS
from tests.browser.server import ROOT
from tests.browser.visitor import chip, download, open_link, pick, settle
from tests.drawings import pdf_object_kinds, pdf_type_sizes

pytestmark = pytest.mark.browser

MIN_PT = 7.0
FORMATS = ("svg", "pdf", "csv")
WAYS = [
    pytest.param("?show=text&site=5&experts=2", "map", "NeurIPS", "neurips", id="tokens of one expert"),
    pytest.param("?show=text&site=4&experts=1-3", "drop-strip", "ICML", "icml", id="drops of two experts"),
    pytest.param("?show=picture&site=3&experts=1", "map", "ICML", "icml", id="cells of one expert"),
]


@pytest.mark.parametrize(("query", "view", "venue", "preset"), WAYS)
def test_the_page_and_the_command_line_make_the_same_files(
    tab: Page, address: str, tmp_path: Path, query: str, view: str, venue: str, preset: str
) -> None:
    open_link(tab, address, query)
    expect(chip(tab, "E")).not_to_have_count(0)
    saved, bundle = save_from_page(tab, tmp_path, view, venue)
    made = tmp_path / "made"
    command = [sys.executable, "-m", "analysis.exports", str(bundle), "--view", view, "--preset", preset]
    subprocess.run([*command, "--output", str(made)], cwd=ROOT, check=True, capture_output=True, timeout=120)
    for kind in FORMATS:
        name = f"{file_stem(view)}.{kind}"
        assert (made / name).read_bytes() == (saved / name).read_bytes(), name

    pdf = saved / f"{file_stem(view)}.pdf"
    assert min(pdf_type_sizes(pdf.read_bytes())) >= MIN_PT - 0.001
    assert fonts_not_embedded(pdf) == []
    assert count_pictures(pdf) == (1 if "picture" in query else 0), "no raster image but the photograph"
    with zipfile.ZipFile(bundle) as archive:
        assert f"tables/{file_stem(view)}.csv" in archive.namelist()


def save_from_page(page: Page, folder: Path, view: str, venue: str) -> tuple[Path, Path]:
    """Save a view in all formats, and the bundle; say where."""
    page.get_by_role("button", name="Export").click()
    dialog = page.get_by_role("dialog")
    preview = dialog.locator("img").first
    for key, choice, default in (("view", VIEWS[view].title, "Map"), ("preset", venue, "ICML")):
        if choice != default:
            before = str(preview.get_attribute("src"))
            pick(page, f"export_{key}", choice)
            expect(preview).not_to_have_attribute("src", before)
    preview.wait_for()
    settle(page)
    saved = folder / "saved"
    for kind in FORMATS:
        file = download(page, page.locator(f".st-key-export_{kind} button"))
        file.save_as(saved / file.suggested_filename)
    dialog.get_by_role("tab", name="The whole run").click()
    bundle = folder / "run.zip"
    download(page, dialog.get_by_role("button", name="Run bundle")).save_as(bundle)
    return saved, bundle


def fonts_not_embedded(pdf: Path) -> list[str]:
    """Names of the fonts that a printer would have to have."""
    if shutil.which("pdffonts"):
        listed = subprocess.run(["pdffonts", str(pdf)], check=True, capture_output=True, text=True).stdout
        head, _, *rows = listed.splitlines()
        place = head.index("emb")
        assert rows
        return [row for row in rows if row[place : place + 3] != "yes"]
    document = pypdfium2.PdfDocument(pdf)
    texts = list(document[0].get_objects(filter=[pdfium.FPDF_PAGEOBJ_TEXT], max_depth=5))
    fonts = [pdfium.FPDFTextObj_GetFont(text.raw) for text in texts]
    assert fonts
    return [str(number) for number, font in enumerate(fonts) if pdfium.FPDFFont_GetIsEmbedded(font) != 1]


def count_pictures(pdf: Path) -> int:
    if shutil.which("pdfimages"):
        listed = subprocess.run(["pdfimages", "-list", str(pdf)], check=True, capture_output=True, text=True).stdout
        return len([row for row in listed.splitlines()[2:] if row.split()[2] == "image"])
    return pdf_object_kinds(pdf.read_bytes()).count(pdfium.FPDF_PAGEOBJ_IMAGE)
