"""Files of views: every view of both bundled examples in every format and at two widths; the same twice."""

import functools
import io

import pandas as pd
import pypdfium2
import pytest
from PIL import Image

from analysis.exhibit import Exhibit
from analysis.exports.bundle import load_bundle
from analysis.exports.files import FORMATS, Format, draw_view, export_view, write_rows
from analysis.exports.presets import PRESETS, Span
from analysis.views import VIEWS, missing
from dashboard.showing import EXAMPLES
from uoe_model.errors import ConfigError

CASES: tuple[tuple[str, Span, float], ...] = (("icml", "column", 3.25), ("neurips", "full", 5.5))


@functools.cache
def exhibit_of(kind: str) -> Exhibit:
    """A bundled example, compared with itself under another name, one unit and one expert selected."""
    with EXAMPLES[kind].open("rb") as file:
        found = load_bundle(file)
    with EXAMPLES[kind].open("rb") as file:
        other = load_bundle(file).run
    return Exhibit(
        runs=found.runs,
        selection=found.selection.__class__(site_id=1, experts=(1,), units=(3,)).fitted(found.trace),
        options=found.options,
        pinned=other,
        routing_value=found.routing_value,
    )


@functools.cache
def file_of(kind: str, name: str, ending: Format, preset: str, span: Span) -> bytes:
    return export_view(exhibit_of(kind), name, ending, preset=PRESETS[preset], span=span, dpi=100)


def shown(kind: str) -> list[str]:
    return [name for name in VIEWS if not missing(exhibit_of(kind), name)]


ALL = [(kind, name) for kind in EXAMPLES for name in VIEWS if not (kind == "picture" and name == "loss-strip")]
parametrize_all = pytest.mark.parametrize(("kind", "name"), ALL)


def test_every_view_can_be_shown_but_the_loss_of_a_picture():
    assert [(kind, name) for kind in EXAMPLES for name in shown(kind)] == ALL


@parametrize_all
@pytest.mark.parametrize(("preset", "span", "width_in"), CASES)
def test_every_format_is_made_at_the_width_of_the_page(kind: str, name: str, preset: str, span: Span, width_in: float):
    files = {ending: file_of(kind, name, ending, preset, span) for ending in FORMATS}
    assert files["svg"].decode().count("<svg") == 1
    assert f'width="{width_in * 72:g}pt"' in files["svg"].decode()[:600]
    with pypdfium2.PdfDocument(files["pdf"]) as document:
        assert len(document) == 1
        assert document[0].get_size()[0] == pytest.approx(width_in * 72, abs=0.01)
    picture = Image.open(io.BytesIO(files["png"]))
    assert picture.width == pytest.approx(width_in * 100, abs=1)
    assert len(set(picture.convert("L").tobytes())) > 10
    assert files["html"].lower().startswith(b"<!doctype html>")
    tex = files["tex"].decode()
    assert "\\begin{figure" in tex
    assert "\\toprule" in tex
    assert f"uoe-{name}.pdf" in tex


@parametrize_all
def test_the_table_of_a_view_is_its_rows(kind: str, name: str):
    rows = VIEWS[name].rows(exhibit_of(kind))
    read = pd.read_parquet(io.BytesIO(file_of(kind, name, "parquet", "icml", "column")))
    assert list(read.columns) == list(rows.columns)
    assert len(read) == len(rows)
    assert write_rows(read.astype(rows.dtypes.to_dict()), "csv") == file_of(kind, name, "csv", "icml", "column")


@parametrize_all
@pytest.mark.parametrize("ending", ["svg", "csv", "pdf"])
def test_the_same_view_gives_the_same_bytes(kind: str, name: str, ending: Format):
    exhibit_of.cache_clear()
    first = file_of(kind, name, ending, "icml", "column")
    assert export_view(exhibit_of(kind), name, ending, preset=PRESETS["icml"], span="column") == first


def test_only_the_photograph_is_a_raster_image():
    for kind, name in ALL:
        with pypdfium2.PdfDocument(file_of(kind, name, "pdf", "icml", "column")) as document:
            images = [one for one in document[0].get_objects() if isinstance(one, pypdfium2.PdfImage)]
        assert bool(images) == (kind == "picture" and name == "map"), (kind, name)


def test_what_is_filtered_changes_the_files():
    exhibit = exhibit_of("text")
    everything = Exhibit(runs=exhibit.runs, selection=exhibit.selection.__class__(site_id=1))
    for name in ("map", "entropy-strip", "drop-strip", "flow", "loss-strip"):
        for ending in ("svg", "csv"):
            whole = export_view(everything, name, ending, preset=PRESETS["icml"])
            assert whole != file_of("text", name, ending, "icml", "column"), (name, ending)


def test_an_unknown_view_and_a_missing_one_are_one_sentence():
    with pytest.raises(ConfigError, match="view='mapp' must be one of map, atlas"):
        export_view(exhibit_of("text"), "mapp", "svg", preset=PRESETS["icml"])
    with pytest.raises(ConfigError, match="Loss strip cannot be drawn: A picture has no loss per cell"):
        export_view(exhibit_of("picture"), "loss-strip", "csv", preset=PRESETS["icml"])
    with pytest.raises(ConfigError, match="column"):
        draw_view(exhibit_of("text"), "atlas", PRESETS["neurips"], "column")
