import json
from pathlib import Path

import pytest

from analysis.comparison import comparison_table
from analysis.exports.chart.draw import draw_chart
from analysis.exports.comparison import figure_of, main, render_comparison
from analysis.exports.typeface import MIN_TEXT_PT
from tests.analysis.comparisons import make_comparison
from tests.analysis.exports.drawn import texts


@pytest.mark.parametrize("kind", ["image", "text"])
def test_the_files_of_a_column_are_written(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(make_comparison(kind)))
    assert main([str(path), "--output", str(tmp_path / "out")]) == 0
    names = [f"comparison-{kind}.{ending}" for ending in ("svg", "pdf", "png", "md")]
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == names
    starts = [(tmp_path / "out" / name).read_bytes()[:4] for name in names]
    assert starts[1:3] == [b"%PDF", b"\x89PNG"]
    assert b"<svg" in (tmp_path / "out" / names[0]).read_bytes()[:200]


@pytest.mark.parametrize("kind", ["image", "text"])
def test_all_words_fit_the_column_and_can_be_read(kind: str):
    drawing = draw_chart(figure_of(make_comparison(kind)), width_pt=234.0, font_pt=8.0)
    assert not drawing.notes
    assert min(text.size for text in texts(drawing)) >= MIN_TEXT_PT
    said = " ".join(text.text for text in texts(drawing))
    for word in ("UoE data selection", "Switch MLP", "L1 MLP", "seed 2", "frozen routers"):
        assert word in said


def test_the_tables_hold_the_numbers_of_the_statistic():
    result = make_comparison("text")
    text = render_comparison(result)
    row = comparison_table(result).iloc[1]
    line = next(line for line in text.splitlines() if line.startswith("| UoE data selection |"))
    assert f"| {row['test_loss']:.3f} ({row['test_loss_low']:.3f} to {row['test_loss_high']:.3f}) |" in line
    assert f"| {row['bits_per_byte']:.3f} | 3 |" in line
    assert " (one seed) | " in next(line for line in text.splitlines() if line.startswith("| Switch MLP |"))
    assert "| UoE expert choice | not causal | – |" in text
    assert "| UoE data selection minus UoE, frozen routers | 2 |" in text
    assert "| loss by position | 0 to 7 | 8 to 31 |" in text
    widths = [line.count("|") for line in text.split("\n\n")[0].splitlines()]
    assert len(set(widths)) == 1


def test_a_wrong_file_is_one_sentence_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "comparison.json"
    path.write_text("{}")
    assert main([str(path), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("Nothing was written: ")
    assert not (tmp_path / "out").exists()
