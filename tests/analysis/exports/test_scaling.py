"""The command that turns a benchmark's record into figures."""

import json

import pandas as pd
import pytest

from analysis.exports.scaling import main
from tests.analysis.test_scaling import RECORD


def test_files_hold_the_record(tmp_path):
    path = tmp_path / "model-cpu.json"
    path.write_text(json.dumps(RECORD))
    assert main([str(path), "--output", str(tmp_path / "out")]) == 0
    files = {file.name for file in (tmp_path / "out").iterdir()}
    kinds = [f"scaling-{value}.{kind}" for value in ("milliseconds", "megabytes") for kind in ("svg", "pdf", "png")]
    assert files == {"scaling.csv", *kinds}
    table = pd.read_csv(tmp_path / "out" / "scaling.csv")
    assert list(table["milliseconds"]) == [1.0, 4.0, 2.0]


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_another_file_writes_nothing(tmp_path, capsys, text):
    path = tmp_path / "model-cpu.json"
    path.write_text(text)
    assert main([str(path), "--output", str(tmp_path / "out")]) == 2
    assert "Nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
