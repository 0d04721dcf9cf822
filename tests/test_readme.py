"""The README's Python example runs as printed, and its test command is what continuous integration runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BUNDLED = ROOT / "uoe_model" / "pretrained" / "uoe-text" / "model.safetensors"


@pytest.mark.slow
@pytest.mark.skipif(not BUNDLED.exists(), reason="no bundled text checkpoint yet")
def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example.replace("wall.zip", f"{tmp_path}/wall.zip"), "README.md", "exec"), names)  # noqa: S102
    assert (tmp_path / "wall.zip").is_file()
    assert names["trace"].run.input_digest == names["result"].trace.run.input_digest


def test_continuous_integration_runs_the_test_command():
    assert "\nbash tests/run\n" in README
    assert "tests/run" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert README.count("pip install") == 1
