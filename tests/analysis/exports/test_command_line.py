"""`python -m analysis.exports`: the files that the page makes, byte by byte, or one sentence and no file."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.decomposition import decomposition_curve
from analysis.exhibit import Exhibit, ViewOptions
from analysis.exports.__main__ import main
from analysis.exports.bundle import load_bundle, save_bundle
from analysis.exports.files import FORMATS, export_view, write_rows
from analysis.exports.presets import PRESETS
from analysis.selection import Selection
from analysis.views import VIEWS, missing
from dashboard.showing import EXAMPLES
from tests.analysis.curves import curve_record

ROOT = Path(__file__).parents[3]


def filtered(kind: str) -> Exhibit:
    """A bundled example as a visitor left it: another site, an expert, a unit, and other options."""
    with EXAMPLES[kind].open("rb") as file:
        found = load_bundle(file)
    return Exhibit(
        runs=found.runs,
        selection=Selection(site_id=1, experts=(2, 0), units=(4,), pinned=((1, 2), (0, 0))).fitted(found.trace),
        options=ViewOptions(atlas="drop_share", strip_sites="all"),
        routing_value=found.routing_value,
    )


@pytest.fixture(params=list(EXAMPLES))
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Exhibit, Path]:
    exhibit, path = filtered(request.param), tmp_path / "run.zip"
    with path.open("wb") as file:
        save_bundle(exhibit, file)
    return exhibit, path


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def test_every_view_is_the_file_of_the_page(saved: tuple[Exhibit, Path], tmp_path: Path):
    exhibit, path = saved
    assert main([str(path), "--output", str(tmp_path / "out")]) == 0
    expected = {
        f"uoe-{name}.{kind}": export_view(exhibit, name, kind, preset=PRESETS["icml"])
        for name in VIEWS
        if not missing(exhibit, name)
        for kind in ("svg", "pdf", "csv")
    }
    assert files_in(tmp_path / "out") == expected


def test_one_view_in_every_format_for_a_wide_page(tmp_path: Path):
    exhibit, path = filtered("text"), tmp_path / "run.zip"
    with path.open("wb") as file:
        save_bundle(exhibit, file)
    words = ["--view", "flow", "--preset", "acl", "--span", "full", "--dpi", "72", "--output", str(tmp_path / "out")]
    assert main([str(path), *words, "--format", *FORMATS]) == 0
    found = files_in(tmp_path / "out")
    assert set(found) == {f"uoe-flow.{kind}" for kind in FORMATS}
    for kind in FORMATS:
        made = export_view(exhibit, "flow", kind, preset=PRESETS["acl"], span="full", dpi=72)
        assert found[f"uoe-flow.{kind}"] == made, kind


def test_another_process_makes_the_same_bytes(tmp_path: Path):
    exhibit, path = filtered("text"), tmp_path / "run.zip"
    with path.open("wb") as file:
        save_bundle(exhibit, file)
    command = [sys.executable, "-m", "analysis.exports", str(path), "--view", "map", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = files_in(tmp_path / "out")
    assert [Path(line).name for line in done.stdout.splitlines()] == ["uoe-map.svg", "uoe-map.pdf", "uoe-map.csv"]
    for kind in ("svg", "csv", "pdf"):
        assert found[f"uoe-map.{kind}"] == export_view(exhibit, "map", kind, preset=PRESETS["icml"]), kind


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "decomposition.json").write_text(json.dumps(curve_record()))
    return folder


def test_a_decomposed_models_folder_gives_its_curve(model: Path, tmp_path: Path):
    words = ["--format", *FORMATS, "--dpi", "72", "--output"]
    assert main([str(model), *words, str(tmp_path / "out")]) == 0
    found = files_in(tmp_path / "out")
    assert set(found) == {f"uoe-decomposition.{kind}" for kind in FORMATS}
    table = decomposition_curve(curve_record())
    assert found["uoe-decomposition.csv"] == write_rows(table, "csv")
    assert pd.read_parquet(io.BytesIO(found["uoe-decomposition.parquet"])).equals(table)
    assert found["uoe-decomposition.pdf"].startswith(b"%PDF")
    assert found["uoe-decomposition.png"].startswith(b"\x89PNG")
    assert 'width="234pt"' in found["uoe-decomposition.svg"].decode()[:600]
    assert "Plotly.newPlot" in found["uoe-decomposition.html"].decode()
    latex = found["uoe-decomposition.tex"].decode()
    assert r"\caption{Cut from \{tiny\} at 5 \%. Curve over 70 held-out units.}" in latex
    assert "{uoe-decomposition.pdf}" in latex
    assert main([str(model), "--view", "decomposition", "--format", "svg", "--output", str(tmp_path / "again")]) == 0
    assert files_in(tmp_path / "again") == {"uoe-decomposition.svg": found["uoe-decomposition.svg"]}


@pytest.mark.parametrize(
    ("words", "content", "says"),
    [
        (["--view", "map"], b"{}", "view='map' is one of a run bundle"),
        ([], b"{}", "options must be an object"),
        ([], b"[]", "model/decomposition.json holds no JSON object"),
        ([], None, "model has no decomposition.json"),
    ],
)
def test_a_folder_of_something_else_is_one_sentence(
    words: list[str],
    content: bytes | None,
    says: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    (model / "decomposition.json").unlink()
    if content is not None:
        (model / "decomposition.json").write_bytes(content)
    assert main([str(model), *words, "--output", str(tmp_path / "out")]) == 2
    assert_one_sentence(capsys, says)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--view", "unit"], "No unit is selected"),
        (["--view", "atlas-difference"], "No run is pinned as A"),
        (["--view", "decomposition"], "must be one of"),
        (["--preset", "neurips", "--span", "column"], "NeurIPS"),
        (["--view", "map", "--format", "png", "--dpi", "5"], "36..1200"),
    ],
)
def test_what_cannot_be_made_is_one_sentence_and_nothing_is_written(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([str(EXAMPLES["text"]), *words, "--output", str(tmp_path / "out")]) == 2
    assert_one_sentence(capsys, says)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b"", "no run bundle"), (b"PK\x03\x04", "no run bundle"), (b"text", "no run bundle")],
)
def test_a_bad_bundle_is_one_sentence_and_nothing_is_written(
    content: bytes | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "run.zip"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path), "--output", str(tmp_path / "out")]) == 2
    assert_one_sentence(capsys, says)
    assert not (tmp_path / "out").exists()


def test_half_a_bundle_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stream = io.BytesIO()
    save_bundle(filtered("text"), stream)
    (tmp_path / "half.zip").write_bytes(stream.getvalue()[:-500])
    assert main([str(tmp_path / "half.zip"), "--output", str(tmp_path / "out")]) == 2
    assert_one_sentence(capsys, "no run bundle")


@pytest.mark.parametrize("words", [["--view", "mapp"], ["--preset", "nature"], ["--format", "gif"], ["--dpi", "many"]])
def test_an_unknown_word_is_named_and_nothing_is_written(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main([str(EXAMPLES["text"]), *words, "--output", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def assert_one_sentence(capsys: pytest.CaptureFixture[str], says: str) -> None:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Nothing was written: ")
    assert says in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
